"""OpenVINO as a runtime: the same contract as all others, several runs at the same time, FP32."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deeplens.benchmarks.candidate import Candidate
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import CONTRACTS, VARIANTS
from deeplens.parity_tests.interop import interop_runtime
from deeplens.runtimes import RUNTIMES, manifest, open_runtime
from deeplens.runtimes.ov import OpenVinoRuntime, import_openvino
from deeplens.runtimes.publish import publish

SIZE = (32, 40)


def inputs(network: str, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {each.name: generator.random(each.shape(*SIZE), np.float32) for each in CONTRACTS[network].inputs}


class TestInstalled:
    @pytest.fixture(autouse=True)
    def _openvino(self) -> None:
        pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'deeplens-edge[interop]'")

    def test_it_computes_what_onnx_runtime_does(self, artifacts: Path) -> None:
        given = [inputs("upsample", seed) for seed in range(8)]
        with (
            OpenVinoRuntime(artifacts=artifacts, threads=2) as runtime,
            open_runtime("onnx", artifacts=artifacts) as judge,
        ):
            session, other = runtime.open("upsample"), judge.open("upsample")
            assert session.lanes == 2
            assert runtime.open("upsample") is session
            assert session.entry == other.entry
            with ThreadPoolExecutor(4) as pool:  # more at a time than there are lanes
                found = list(pool.map(session.run, given))
            for each, made in zip(given, found, strict=True):
                expected = other.run(each)["blurred_high"]
                assert np.abs(made["blurred_high"] - expected).max() < 1e-5
            assert np.abs(found[0]["blurred_high"] - found[1]["blurred_high"]).max() > 0.1
            kept = found[0]["blurred_high"].copy()
            session.run(given[1])
            np.testing.assert_array_equal(found[0]["blurred_high"], kept)  # the caller's own

    def test_what_it_does_not_take_is_said(self, artifacts: Path) -> None:
        runtime = OpenVinoRuntime(artifacts=artifacts)
        session = runtime.open("upsample")
        with pytest.raises(InputError, match="upsample: got the inputs picture, expected"):
            session.run({"picture": inputs("upsample")["picture"]})
        runtime.close()
        with pytest.raises(InputError, match="session is closed"):
            session.run(inputs("upsample"))
        with pytest.raises(MissingError, match="deeplens export onnx"):
            OpenVinoRuntime(artifacts=artifacts, precision="fp16").open("upsample")

    def test_a_graph_that_is_none_is_refused(self, tmp_path: Path, artifacts: Path) -> None:
        entry = manifest.find(artifacts, network="upsample", variant="edge", runtime="onnx")
        with publish(tmp_path, entry.path) as artefact:
            artefact.file.write_bytes(b"no graph")
            artefact.describe(entry)
        with pytest.raises(MismatchError, match=r"is not an ONNX model.*deeplens export onnx"):
            OpenVinoRuntime(artifacts=tmp_path).open("upsample")

    def test_benchmarks_and_parity_open_this_one(self, artifacts: Path) -> None:
        by_bench = Candidate("edge", "openvino", artifacts=artifacts, threads=1).open()
        by_parity = interop_runtime("openvino", variant="edge", artifacts=artifacts, precision="fp32", shapes="dynamic")
        assert type(by_bench) is type(by_parity) is OpenVinoRuntime


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match=r"deeplens-edge\[interop\]"):
        OpenVinoRuntime(variant=next(iter(VARIANTS)))
    assert "openvino" not in RUNTIMES, "a check and a peer, not a runtime of the product"


def test_its_table_of_types_is_made_before_threads_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that make it at once hang: 4 of 12 processes did, with a switch interval of 0.1 ms."""
    asked: list[str] = []
    single = SimpleNamespace(to_dtype=lambda: asked.append("f32"))
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Type=SimpleNamespace(f32=single)))
    import_openvino()
    assert asked == ["f32"]
