"""`--export`: what is made, what is kept, and that one precision that can't be made doesn't stop the others."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deeplens.console.errors import MismatchError, MissingError
from deeplens.model.contract import CONTRACTS
from deeplens.parity_tests import artefacts
from deeplens.parity_tests import request as requests
from deeplens.parity_tests.artefacts import make_missing
from deeplens.parity_tests.conftest import SMALL
from deeplens.parity_tests.lively import lively
from deeplens.parity_tests.request import Request
from deeplens.runtimes import manifest


def _overflowing(folder: Path) -> Path:
    """Weights of the step whose values leave FP16's range, though the next layer brings them back."""
    module = lively("edge", "upsample")
    with torch.no_grad():
        for tensor in module.get_submodule("context").parameters():
            tensor.mul_(1e6)
        module.narrow.weight.div_(1e6)  # type: ignore[union-attr, operator]
    folder.mkdir()
    save_file(module.state_dict(), folder / "edge_upsample.safetensors")
    return folder


@pytest.mark.slow
def test_a_precision_that_can_not_be_made_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    request = Request(
        variants=["edge"],
        runtimes=["onnx"],
        precisions=["fp32", "fp16"],
        artifacts=tmp_path / "artifacts",
        weights=_overflowing(tmp_path / "weights"),
        coverage=SMALL,
        report=said.append,
    )
    make_missing(request)
    assert sum("edge upsample: no fp16 graph (" in line for line in said) == 2, said
    assert any("FP16 ends at 65504" in line for line in said)
    found = manifest.find(tmp_path / "artifacts", network="upsample", variant="edge", runtime="onnx", precision="fp32")
    with pytest.raises(MissingError):
        manifest.find(tmp_path / "artifacts", network="upsample", variant="edge", runtime="onnx", precision="fp16")
    written = found.sha256, len(said)
    make_missing(request)  # FP32 is there and fits
    again = manifest.find(tmp_path / "artifacts", network="upsample", variant="edge", runtime="onnx", precision="fp32")
    assert again.sha256 == written[0]
    assert not any(line == "edge upsample: ONNX of free sizes" for line in said[written[1] :])


@pytest.mark.slow
def test_fp32_that_can_not_be_made_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MismatchError("another result")

    monkeypatch.setattr("deeplens.export.onnx_graph.export", refuse)
    weights = _overflowing(tmp_path / "weights")
    request = Request(variants=["edge"], runtimes=["onnx"], artifacts=tmp_path, weights=weights, coverage=SMALL)
    with pytest.raises(MismatchError, match="another result"):
        make_missing(request)


def test_graphs_in_the_form_that_rows_and_providers_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A depth network of others is exported by its own name; where a form refuses it, the others are still made."""
    made: list[tuple[str, str, str]] = []
    said: list[str] = []

    def export(variant: str, network: str, *, form: str = "cpu", **_: object) -> None:
        made.append((variant, network, form))

    def export_named(name: str, *, form: str = "cpu", **_: object) -> None:
        made.append((name, "depth", form))
        if form != "cpu":
            raise MismatchError("node is refused")

    monkeypatch.setattr("deeplens.export.onnx_graph.export", export)
    monkeypatch.setattr("deeplens.export.onnx_graph.export_named", export_named)
    monkeypatch.setattr(artefacts, "_weights_sha256", lambda *_: "0" * 64)
    monkeypatch.setattr(requests, "check_variant", lambda _: None)
    monkeypatch.setattr(requests, "sized_contract", lambda _, network: CONTRACTS[network])
    for runtimes, providers in ((["onnx"], ["webgpu"]), (["onnx", "onnx-webgpu"], [])):
        made.clear()
        said.clear()
        make_missing(
            Request(
                variants=["edge+mine"], runtimes=runtimes, providers=providers, precisions=["fp32"],
                artifacts=tmp_path, coverage=SMALL, report=said.append,
            )
        )  # fmt: skip
        parts = {("mine", "depth"), ("edge", "lens_blur"), ("edge", "upsample")}
        assert set(made) == {(*part, form) for part in parts for form in ("cpu", "webgpu")}
        assert "mine depth: no graph in the form webgpu (node is refused)" in said
