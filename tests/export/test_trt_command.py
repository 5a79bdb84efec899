"""`deeplens export trt`: which engines a command means, and what it says where none can be built."""

from pathlib import Path
from typing import Any

import pytest

from deeplens.console.errors import InputError, MissingError
from deeplens.export import trt_engine, whole_trt
from deeplens.export.trt_jobs import TARGETS, jobs
from deeplens.export.whole_sizes import Wanted
from deeplens.model.whole_contract import PIXELS_IN
from deeplens.runtimes.cuda import Cuda
from tests.conftest import Command

DEFAULTS: dict[str, Any] = {
    "variants": ["edge"], "networks": ["upsample"], "target": "rtx", "precision": "fp16", "photos": [], "tile": 256,
    "shapes": [], "dynamic": True, "compute_capabilities": [], "workspace": None, "version_compatible": False,
    "refit": False, "dla_core": None,
}  # fmt: skip


def test_the_plan_of_a_target() -> None:
    names = [job.name for job in jobs(**DEFAULTS)]
    assert names == [f"edge_upsample_fp16_rtx_sm{each}" for each in (75, 86, 89, 120)]
    (orin,) = jobs(**DEFAULTS | {"target": "jetson-orin", "dla_core": 0})
    assert orin.options.workspace == TARGETS["jetson-orin"].workspace
    assert orin.options.flags == {"dla_core": 0, "workspace": 1024}
    (bytes_in,) = jobs(**DEFAULTS | {"target": "jetson-orin", "dla_core": 0, "networks": [PIXELS_IN]})
    assert "dla_core" not in bytes_in.options.flags, "the accelerator has no 8 unsigned bits"
    assert str(orin).startswith("edge_upsample_fp16_jetson-orin: sizes 32x32…256x256")
    (mine,) = jobs(**DEFAULTS | {"target": "jetson-thor", "workspace": 7, "photos": [(480, 640)]})
    assert mine.options.workspace == 7
    assert mine.options.profiles[0].is_static


def test_graphs_of_the_whole_effect_get_an_engine_for_each_size() -> None:
    asked = {"networks": ["whole"], "whole": [(768, 1024), (48, 64)], "compute_capabilities": ["8.9", "12.0"]}
    found = jobs(**DEFAULTS | asked)
    assert [job.name for job in found] == [
        f"edge_whole_{size}_fp16_rtx_sm{sm}" for size in ("768x1024", "48x64") for sm in (89, 120)
    ]
    assert all(job.options.profiles == () for job in found)


def test_without_pytorch_the_graph_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(whole_trt, "_hashes", lambda _wanted: None)
    wanted = Wanted(variant="edge", network="whole", size=(48, 64), target="jetson-orin")
    with pytest.raises(MissingError, match="--precision fp16 --whole 64x48"):
        whole_trt.graph(wanted, "fp16", out=tmp_path)
    with pytest.raises(InputError, match="not in mixed"):
        whole_trt.graph(wanted, "mixed", out=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "tpu"}, "unknown target 'tpu': choose desktop, jetson-orin, jetson-thor, rtx"),
        ({"precision": "fp8"}, "unknown precision 'fp8': choose fp16, fp32, int8, mixed"),
        ({"target": "desktop", "compute_capabilities": ["8.9"]}, "--compute-capability works with --target rtx only"),
        ({"dla_core": 0}, "--dla-core works with --target jetson-orin only"),
        ({"target": "jetson-orin", "dla_core": 0, "precision": "fp32"}, "the accelerator has no FP32"),
        ({"version_compatible": True}, "--version-compatible does not work with TensorRT for RTX"),
    ],
)
def test_options_that_do_not_go_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        jobs(**DEFAULTS | change)


class TestCommand:
    @pytest.mark.parametrize("target", ["desktop", "jetson-orin", "jetson-thor"])
    def test_a_classic_engine_without_a_gpu_names_the_command(
        self, deeplens: Command, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none(*_: object) -> None:
            raise MissingError("no NVIDIA GPU can be used here (cudaErrorNoDevice)")

        monkeypatch.setattr(trt_engine, "Cuda", none)
        out = tmp_path / "new"
        result = deeplens("export", "trt", "--target", target, "--network", "depth", "--refit", "--out", out)
        assert result.status == 4
        assert "no NVIDIA GPU" in result.error
        assert f"run `deeplens export trt --target {target} --network depth --refit --out {out}` on " in result.error
        assert not out.exists()

    def test_a_dry_run_builds_nothing(self, deeplens: Command, tmp_path: Path) -> None:
        out = tmp_path / "new"
        result = deeplens("export", "trt", "--target", "jetson-orin", "--photo", "640x480", "--dry-run", "--out", out)
        assert result.status == 0
        assert result.out.count("\n") == 4
        assert "edge_upsample_fp16_jetson-orin: sizes 240x176, " in result.out
        assert "32x32…256x256, best 256x256; flags workspace 1024" in result.out
        assert "3 engines" in result.out
        assert not out.exists()

    @pytest.mark.parametrize(
        "arguments",
        [("--variant", "huge"), ("--network", "denoise"), ("--target", "tpu"), ("--photo", "big"), ("--size", "40x41"),
         ("--photo", "0x5"), ("--precision", "fp64"), ("--target", "desktop", "--compute-capability", "8.9")],
    )  # fmt: skip
    def test_bad_options(self, deeplens: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        result = deeplens("export", "trt", *arguments, "--out", tmp_path / "new")
        assert result.status == 3, result.error
        assert not (tmp_path / "new").exists()

    @pytest.mark.slow
    def test_int8_of_weights_that_the_plan_is_not_of(self, deeplens: Command, tmp_path: Path) -> None:
        pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install 'deeplens-edge[rtx]'")
        arguments = ("--target", "rtx", "--variant", "edge", "--network", "upsample", "--precision", "int8")
        result = deeplens("export", "trt", *arguments, "--weights", "initial", "--out", tmp_path / "new")
        assert result.status == 5
        assert "to other upsample weights" in result.error
        assert "deeplens calibrate" in result.error

    def test_a_plan_for_a_precision_that_follows_none(self, deeplens: Command, tmp_path: Path) -> None:
        result = deeplens("export", "trt", "--precision", "fp16", "--plan", tmp_path / "plan.json", "--dry-run")
        assert result.status == 3
        assert "--plan works with --precision int8 or mixed only" in result.error

    def test_the_runtime_without_a_gpu(self, deeplens: Command, photo: Path, folder: Path) -> None:
        if _has_gpu():
            pytest.skip("there is a GPU here")
        result = deeplens("refocus", photo, "--focus", "0.5,0.5", "--runtime", "trt", "-o", folder / "x.png")
        assert result.status == 4
        assert "--runtime onnx" in result.error or "pip install" in result.error
        assert not (folder / "x.png").exists()


def _has_gpu() -> bool:
    try:
        Cuda()
    except MissingError:
        return False
    return True
