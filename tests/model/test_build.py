"""Making and loading networks: the same weights each time, and one clear line when a file is not the right one."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model import shipped
from deeplens.model.build import build, load, weights_sha256
from deeplens.model.contract import NETWORKS, VARIANTS
from deeplens.model.shipped import weights_file, weights_from
from tests.conftest import ROOT
from tests.support.tiny import random_inputs


def save(module: nn.Module, path: Path, *, without: str = "nothing") -> Path:
    state = {name: value for name, value in module.state_dict().items() if not name.startswith(without)}
    save_file(state, path)
    return path


@pytest.fixture
def step() -> nn.Module:
    """The edge step with weights of its own."""
    module = build("edge", "upsample")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.01)
    return module


@pytest.mark.parametrize(("variant", "network"), [(v, n) for v in VARIANTS for n in NETWORKS])
def test_initial_weights_are_always_the_same(variant: str, network: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(variant, network)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are left alone"
    torch.manual_seed(6)
    assert weights_sha256(build(variant, network)) == weights_sha256(first)
    assert weights_sha256(load(variant, network, "initial")) == weights_sha256(first)
    assert not any(module.training for module in first.modules())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown variant 'small': choose one of paper, edge"):
        build("small", "depth")
    with pytest.raises(InputError, match=r"unknown network 'blur': choose one of depth, lens_blur, upsample"):
        load("edge", "blur")


def test_load_from_a_file_and_from_a_folder(tmp_path: Path, step: nn.Module) -> None:
    path = save(step, tmp_path / "edge_upsample.safetensors")
    inputs = random_inputs("upsample", 32, 32)
    for weights in (path, tmp_path):
        loaded = load("edge", "upsample", weights)
        assert weights_sha256(loaded) == weights_sha256(step)
        assert torch.equal(loaded(*inputs), step(*inputs))
        assert not loaded.training
    assert weights_sha256(build("edge", "upsample")) != weights_sha256(step)
    assert weights_file("edge", "upsample", tmp_path) == path
    assert weights_file("edge", "upsample", "initial") is None


def test_what_a_person_types_for_weights(tmp_path: Path) -> None:
    assert weights_from("shipped") == "shipped"
    assert weights_from("initial") == "initial"
    assert weights_from(str(tmp_path)) == tmp_path
    with pytest.raises(
        MissingError, match="there are no weights at trained: give 'shipped', 'initial', a safetensors file"
    ):
        weights_from("trained")


def test_one_place_reads_weights() -> None:
    """Files of weights are read, and options that name them parsed, in one place."""
    rooms = [link.name for link in (ROOT / "src" / "deeplens").iterdir() if link.is_symlink()]
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py") if not path.name.startswith("test_")]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    assert [name for name, text in texts.items() if "safetensors.torch import load" in text] == ["model/build.py"]
    assert [name for name, text in texts.items() if "weights_from(text" in text] == ["model/shipped.py"]


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(MissingError, match=r"no trained weights are shipped for the paper depth network: .*--weights"):
        load("paper", "depth")
    with pytest.raises(MissingError, match=r"no weights at .*absent\.safetensors: give a \.safetensors file"):
        load("edge", "upsample", tmp_path / "absent.safetensors")
    with pytest.raises(MissingError, match=r"no weights at .*edge_upsample\.safetensors"):
        load("edge", "upsample", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 64])
def test_a_file_that_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors can't be read as safetensors") as caught:
        load("edge", "upsample", tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_a_file_cut_short(tmp_path: Path, step: nn.Module) -> None:
    path = save(step, tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="can't be read"):
        load("edge", "upsample", path)


def test_weights_of_another_network(tmp_path: Path, step: nn.Module) -> None:
    path = save(step, tmp_path / "a.safetensors")
    with pytest.raises(MismatchError, match=r"does not hold the weights of the edge lens_blur network: \d+ tensors"):
        load("edge", "lens_blur", path)
    with pytest.raises(MismatchError, match="paper upsample"):
        load("paper", "upsample", path)


def test_a_wrong_shape_a_missing_and_an_extra_tensor(tmp_path: Path, step: nn.Module) -> None:
    state = step.state_dict()
    shaped = dict(state, **{"stem.weight": torch.zeros(1)})
    fewer = {name: value for name, value in state.items() if name != "fuse.bias"}
    more = dict(state, extra=torch.zeros(1))
    for wrong, name in ((shaped, "stem.weight"), (fewer, "fuse.bias"), (more, "extra")):
        save_file(wrong, tmp_path / "a.safetensors")
        with pytest.raises(MismatchError, match=rf"1 tensors differ, the first is {name}$"):
            load("edge", "upsample", tmp_path / "a.safetensors")


def test_one_weight_changes_the_hash(step: nn.Module) -> None:
    before = weights_sha256(step)
    bias = step.get_parameter("fuse.bias")
    with torch.no_grad():
        bias[3] = torch.nextafter(bias[3], torch.tensor(9.0))
    assert weights_sha256(step) != before
    assert weights_sha256(build("edge", "upsample").double()) != weights_sha256(build("edge", "upsample"))


def test_the_segmentation_head_is_not_part_of_the_weights(tmp_path: Path) -> None:
    depth = build("edge", "depth")
    before = weights_sha256(depth)
    with torch.no_grad():
        depth.get_parameter("segmentation_head.1.bias").add_(1.0)
    assert weights_sha256(depth) == before
    with torch.no_grad():
        depth.get_parameter("depth_head.1.bias").add_(1.0)
    assert weights_sha256(depth) != before
    path = save(depth, tmp_path / "a.safetensors", without="segmentation_head.")
    assert weights_sha256(load("edge", "depth", path)) == weights_sha256(depth)
    save_file({"depth_head.1.bias": torch.zeros(1)}, path)
    with pytest.raises(MismatchError):
        load("edge", "depth", path)


def test_weights_are_those_of_their_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped weights need a card; those of a person are held to one that lies beside them."""
    name = "edge_upsample"
    data = (shipped.WEIGHTS / f"{name}.safetensors").read_bytes()
    (tmp_path / f"{name}.safetensors").write_bytes(data)
    load("edge", "upsample", tmp_path)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(MissingError, match="has no card beside it"):
        load("edge", "upsample")
    card = tmp_path / f"{name}.md"
    card.write_text(f"SHA-256: {hashlib.sha256(data).hexdigest()}")
    load("edge", "upsample")
    altered = bytearray(data)
    altered[-1] ^= 1
    (tmp_path / f"{name}.safetensors").write_bytes(altered)
    for weights in ("shipped", tmp_path):
        with pytest.raises(MismatchError, match=r"its card edge_upsample\.md lists another"):
            load("edge", "upsample", weights)
