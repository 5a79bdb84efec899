import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export import onnx_check, onnx_graph
from deeplens.model import build, shipped
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

FIXED = (40, 48)
UPSAMPLE = CONTRACTS["upsample"]


@dataclass(frozen=True)
class Exported:
    folder: Path
    free: manifest.Entry
    fixed: manifest.Entry

    @property
    def path(self) -> Path:
        return self.folder / self.free.path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The trained edge step, with free sizes and at `FIXED`: a last layer of zeros would hide faults."""
    folder = tmp_path_factory.mktemp("artifacts")
    lines: list[str] = []
    free, fixed = onnx_graph.export_all(
        variants=["edge"], networks=["upsample"], out=folder, weights="shipped", shapes=[FIXED], report=lines.append
    )
    assert [line.split()[0] for line in lines] == [str(folder / free.path), str(folder / fixed.path)]
    return Exported(folder, free, fixed)


class StandIn(nn.Module):
    """A small network that keeps the contract of the lens blur; each option is something the exporter must refuse."""

    def __init__(self, *, lone_norm: bool = False, nan: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8, 3, 1)
        self.lone = nn.BatchNorm2d(3) if lone_norm else None
        self.nan = nan
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            self.norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]

    def forward(self, picture: Tensor, signed_depth: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(torch.cat((picture, signed_depth), 1))))
        x = F.interpolate(self.out(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        if self.lone is not None:
            x = self.lone(torch.sigmoid(x))
        return torch.sqrt(x - 100.0) if self.nan else x


class Swapped(nn.Module):
    """The step with its low pictures swapped."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, picture_high: Tensor, picture: Tensor, blurred: Tensor, signed_depth: Tensor) -> Tensor:
        return self.step(picture_high, blurred, picture, signed_depth)


def test_the_graph_computes_what_pytorch_does_at_several_sizes(exported: Exported) -> None:
    step = build.load("edge", "upsample")
    sizes = [(32, 32), (48, 104), (96, 40)]
    assert onnx_check.compare(exported.path, step, UPSAMPLE, sizes=sizes, seed=7) <= 1e-5
    fixed = exported.folder / exported.fixed.path
    assert onnx_check.compare(fixed, step, UPSAMPLE, sizes=[FIXED], seed=8) <= 1e-5
    with pytest.raises(MismatchError, match="doesn't run"):
        onnx_check.compare(fixed, step, UPSAMPLE, sizes=[(48, 48)])


def assert_differs(exported: Exported, step: nn.Module) -> None:
    with pytest.raises(MismatchError, match="graph and PyTorch differ"):
        onnx_check.compare(exported.path, step, UPSAMPLE, sizes=[(40, 72)])


def test_swapped_inputs_exceed_the_tolerance(exported: Exported) -> None:
    assert_differs(exported, Swapped(build.load("edge", "upsample")))


def test_another_resize_mode_exceeds_the_tolerance(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    def corners(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)

    monkeypatch.setattr("deeplens.model.upsampler.upsample_2x", corners)
    assert_differs(exported, build.load("edge", "upsample"))


def test_five_per_cent_in_any_convolution_exceed_the_tolerance(exported: Exported) -> None:
    step = build.load("edge", "upsample")
    convolutions = [module for module in step.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 7
    for convolution in convolutions:
        before = convolution.weight.detach().clone()
        with torch.no_grad():
            convolution.weight.mul_(1.05)
        assert_differs(exported, step)
        with torch.no_grad():
            convolution.weight.copy_(before)
    onnx_check.compare(exported.path, step, UPSAMPLE, sizes=[(40, 72)])


def test_the_file_says_what_it_is(exported: Exported) -> None:
    for entry, sizes in ((exported.free, ("8*h", "8*w", "16*h", "16*w")), (exported.fixed, (40, 48, 80, 96))):
        path = exported.folder / entry.path
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", entry.opset)]
        assert not {"BatchNormalization", "GridSample"} & {node.op_type for node in model.graph.node}
        assert all(
            {"mode": b"linear", "coordinate_transformation_mode": b"half_pixel"}.items()
            <= {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}.items()
            for node in model.graph.node
            if node.op_type == "Resize"
        )
        about = {each.key: each.value for each in model.metadata_props}
        assert (about["network"], about["variant"]) == ("upsample", "edge")
        assert about["weights_sha256"] == entry.weights_sha256 == build.weights_sha256(build.load("edge", "upsample"))
        assert about["harness"] == "harness.json"
        inputs = {each["name"]: each["meaning"] for each in json.loads(about["contract"])["inputs"]}
        assert "times 2^k" in inputs["signed_depth"]
        assert next(iter(inputs)) == "picture_high"
        assert {tool: about[tool] for tool in entry.tools} == entry.tools
        low = (1, 3, *sizes[:2])
        assert [each.shape for each in entry.inputs] == [(1, 3, *sizes[2:]), low, low, (1, 1, *sizes[:2])]
        assert [each.name for each in entry.outputs] == ["blurred_high"]
        assert str(ROOT).encode() not in path.read_bytes()


def test_the_manifest_lists_both_files_and_nothing_else_lies_there(exported: Exported) -> None:
    assert manifest.read(exported.folder) == [exported.free, exported.fixed]
    assert exported.free.path == "onnx/edge_upsample.onnx"
    assert exported.fixed.path == "onnx/edge_upsample_40x48.onnx"
    for entry in (exported.free, exported.fixed):
        assert manifest.verify(exported.folder, entry) == exported.folder / entry.path
    files = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    own = {manifest.FILE_NAME, manifest.LOCK_NAME, manifest.HARNESS}
    assert files == {exported.free.path, exported.fixed.path, *own}


def test_a_frozen_size_is_seen(exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx_check.check_structure(model, UPSAMPLE, size=None)
    model.graph.input[1].type.tensor_type.shape.dim[3].dim_value = 96
    with pytest.raises(MismatchError, match="expected"):
        onnx_check.check_structure(model, UPSAMPLE, size=None)


def test_batch_norm_after_a_convolution_is_folded(tmp_path: Path) -> None:
    entry = onnx_graph.export_module(StandIn().eval(), variant="edge", network="lens_blur", out=tmp_path, shape=FIXED)
    operations = [node.op_type for node in onnx.load(tmp_path / entry.path).graph.node]
    assert operations.count("Conv") == 2
    assert "BatchNormalization" not in operations


@pytest.mark.parametrize(
    ("module", "message"),
    [(StandIn(lone_norm=True), "batch norm was not folded"), (StandIn(nan=True), "differ by nan")],
    ids=["lone_norm", "nan"],
)
def test_a_refused_graph_leaves_nothing_behind(tmp_path: Path, module: nn.Module, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        onnx_graph.export_module(module.eval(), variant="edge", network="lens_blur", out=tmp_path, shape=FIXED)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_random_inputs_keep_the_contract() -> None:
    feed = onnx_check.random_inputs(UPSAMPLE, (40, 72), np.random.default_rng(0))
    for tensor in UPSAMPLE.inputs:
        array = feed[tensor.name]
        assert array.shape == tensor.shape(40, 72)
        assert array.dtype == np.float32
        assert tensor.low is not None
        assert tensor.high is not None
        assert tensor.low <= array.min() < array.max() <= tensor.high
        assert array.std() > 0.2


def test_what_cannot_be_exported_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variant, network, shape, message in (
        ("huge", "depth", None, "unknown variant 'huge': choose paper, edge"),
        ("edge", "denoise", None, "unknown network 'denoise'"),
        ("edge", "lens_blur", (100, 256), "multiples of 8"),
        ("edge", "lens_blur", (24, 256), "from 32 up"),
        ("edge", "depth", (256, 256), "depth has only one size, 320x320"),
    ):
        with pytest.raises(InputError, match=message):
            onnx_graph.export(variant, network, out=tmp_path, weights="initial", shape=shape)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "none")
    with pytest.raises(MissingError, match="--weights initial"):
        onnx_graph.export("edge", "lens_blur", out=tmp_path)
    (tmp_path / "weights").mkdir()
    save_file(build.build("edge", "depth").state_dict(), tmp_path / "weights" / "edge_depth.safetensors")
    with pytest.raises(MissingError, match=r"edge_lens_blur\.safetensors"):
        onnx_graph.export_all(
            variants=["edge"],
            networks=["depth", "lens_blur"],
            out=tmp_path / "out",
            weights=tmp_path / "weights",
            report=print,
        )
    assert {path.name for path in tmp_path.iterdir()} == {"weights"}


def test_a_foreign_manifest_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / manifest.FILE_NAME).write_text("something else")
    with pytest.raises(InputError, match="not a manifest"):
        onnx_graph.export("edge", "upsample", out=tmp_path, weights="initial")
    assert (tmp_path / manifest.FILE_NAME).read_text() == "something else"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--size", "100x100"], 3, "multiples of 8"),
        (["--network", "denoise"], 3, "unknown network"),
        (["--format", "onnx"], 2, "--format"),
    ],
)
def test_run_as_a_file_it_fails_with_one_line(tmp_path: Path, options: list[str], status: int, message: str) -> None:
    """Also where the project is not installed and the working directory is another one."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "export" / "onnx_graph.py"), "--out", "art", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
