"""The command line: what it writes, what it says, with which status it ends, and what it imports."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.guard import FAULT, INTERRUPTED, NO_MEMORY, SYSTEM, TERMINATED, guarded
from deeplens.console.machine import version
from deeplens.console.package import VERSION
from deeplens.model.contract import NETWORKS, VARIANTS
from deeplens.model.shipped import shipped_weights
from tests.conftest import ROOT, Command
from tests.support.device import needs_torch
from tests.support.project_file import EXTRAS


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


class TestRefocus:
    def test_all_in_focus_is_the_photo(
        self, deeplens: Command, photo: Path, flat_depth: Path, artifacts: Path, pixels: np.ndarray, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.png"
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--depth", flat_depth, "--f-number", 1.4,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", out,
        )  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert str(out) in result.out
        np.testing.assert_array_equal(read(out), pixels)

    @pytest.mark.parametrize(("focus", "sharp"), [("0.1,0.5", slice(0, 30)), ("0.9,0.5", slice(42, 72))])
    def test_the_chosen_point_is_sharp_and_the_rest_is_not(
        self,
        deeplens: Command,
        photo: Path,
        artifacts: Path,
        pixels: np.ndarray,
        tmp_path: Path,
        focus: str,
        sharp: slice,
    ) -> None:
        depth = tmp_path / "depth.png"
        Image.fromarray(np.repeat(np.where(np.arange(72) < 36, 255, 0)[None], 48, axis=0).astype(np.uint8)).save(depth)
        out = tmp_path / "out.png"
        result = deeplens(
            "refocus", photo, "--focus", focus, "--depth", depth, "--f-number", 1.4,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", out,
        )  # fmt: skip
        assert result.status == 0, result.err
        expected = pixels.astype(float)
        blurred = slice(42, 72) if sharp.start == 0 else slice(0, 30)
        expected[:, blurred] *= 1 - 72 / 320  # (D − d_f)·α = ±1 of a photo that is 72 pixels long, at a base of 320
        np.testing.assert_allclose(read(out)[:, sharp], expected[:, sharp], atol=0)
        np.testing.assert_allclose(read(out)[:, blurred], expected[:, blurred], atol=1)

    def test_all_between_two_points_is_sharp(
        self, deeplens: Command, photo: Path, artifacts: Path, pixels: np.ndarray, tmp_path: Path
    ) -> None:
        """Stripes at disparity 0, 0.4, 0.6 and 1: points on the middle two, then a range around one of them."""
        stripes = np.array([0.0, 0.4, 0.6, 1.0], np.float32).repeat(18)
        np.save(tmp_path / "depth.npy", np.repeat(stripes[None], 48, axis=0))
        shared = ("--depth", tmp_path / "depth.npy", "--runtime", "onnx", "--artifacts", artifacts, "--f-number", 1.4)
        runs = {
            "points.png": ("--focus", "0.4,0.5", "--focus", "0.6,0.5"),
            "range.png": ("--focus-depth", 0.5, "--focus-range", 0.2),
            "one.png": ("--focus", "0.4,0.5"),
        }
        for name, options in runs.items():
            result = deeplens("refocus", photo, *options, *shared, "-o", tmp_path / name)
            assert result.status == 0, result.err
        points, widened, one = (read(tmp_path / name) for name in runs)
        np.testing.assert_array_equal(points, widened)
        np.testing.assert_array_equal(points[:, 22:50], pixels[:, 22:50])
        assert (points[:, :14] < pixels[:, :14]).mean() > 0.5
        assert (one[:, 40:50] < pixels[:, 40:50]).mean() > 0.5, "one point alone leaves the other blurred"

    def test_half_the_aperture_is_half_the_blur(
        self, deeplens: Command, photo: Path, artifacts: Path, pixels: np.ndarray, tmp_path: Path
    ) -> None:
        depth = tmp_path / "depth.npy"
        np.save(depth, np.repeat((np.arange(72) < 36)[None], 48, axis=0))
        for number, name in ((1.4, "open.png"), (2.8, "half.png")):
            result = deeplens(
                "refocus", photo, "--focus-depth", 1, "--depth", depth, "--f-number", number,
                "--runtime", "onnx", "--artifacts", artifacts, "-o", tmp_path / name,
            )  # fmt: skip
            assert result.status == 0, result.err
        lost = [pixels.astype(int) - read(tmp_path / name) for name in ("open.png", "half.png")]
        np.testing.assert_allclose(lost[0], 2 * lost[1], atol=2)
        assert lost[0].max() > 20

    def test_json_depth_map_and_before_after(
        self, deeplens: Command, photo: Path, artifacts: Path, tmp_path: Path
    ) -> None:
        depth, both, out = tmp_path / "d.png", tmp_path / "both.png", tmp_path / "out.png"
        common = ("refocus", photo, "--focus", "0.25,0.5", "--runtime", "onnx", "--artifacts", artifacts)
        result = deeplens(*common, "-o", out, "--save-depth", depth, "--side-by-side", both, "--json", "-")
        assert result.status == 0, result.err
        report = json.loads(result.out)  # nothing else on standard output
        assert (report["width"], report["height"], report["runtime"], report["variant"]) == (72, 48, "onnx", "edge")
        assert report["aperture"] == pytest.approx(0.5)
        assert set(report["seconds"]) == {"read", "open", "depth", "refocus", "write"}
        saved = read(depth) / 65535
        assert saved.shape == (320, 320)
        assert report["focal_disparity"] == pytest.approx(saved[160, 80], abs=1e-4)
        pair = read(both)
        np.testing.assert_array_equal(pair[:, :72], read(photo))
        np.testing.assert_array_equal(pair[:, -72:], read(out))

        again = tmp_path / "again.png"
        assert deeplens(*common, "-o", again, "--depth", depth, "--json", tmp_path / "again.json").status == 0
        assert json.loads((tmp_path / "again.json").read_text())["depth"] == str(depth)
        assert np.abs(read(again) - read(out)).max() <= 1  # the file has 16 bits

    def test_the_photo_is_taken_as_shown(
        self, deeplens: Command, pixels: np.ndarray, artifacts: Path, tmp_path: Path
    ) -> None:
        lying, out, depth = tmp_path / "lying.png", tmp_path / "out.png", tmp_path / "depth.npy"
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by 90° clockwise: 72×48 → 48×72
        Image.fromarray(pixels).save(lying, exif=exif)
        shown = np.rot90(pixels, -1)
        np.save(depth, np.repeat((np.arange(72) < 36)[:, None], 48, axis=1))  # the upper half as shown is near
        result = deeplens(
            "refocus", lying, "--focus", "0.5,0.1", "--depth", depth, "--f-number", 1.4,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", out,
        )  # fmt: skip
        assert result.status == 0, result.err
        assert Image.open(out).getexif().get(0x0112, 1) == 1
        np.testing.assert_array_equal(read(out)[:30], shown[:30])
        assert (read(out)[42:] < shown[42:])[shown[42:] > 20].all()

    @pytest.mark.slow
    @needs_torch
    def test_pytorch_with_initial_weights(self, deeplens: Command, photo: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.webp"
        result = deeplens("refocus", photo, "--focus", "0.5,0.5", "--weights", "initial", "-o", out)
        assert result.status == 0, result.err
        assert Image.open(out).size == (72, 48)

    def test_an_existing_output_is_replaced(
        self, deeplens: Command, photo: Path, flat_depth: Path, artifacts: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.png"
        out.write_text("old")
        result = deeplens(
            "refocus", photo, "--focus-depth", 0, "--depth", flat_depth,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", out,
        )  # fmt: skip
        assert result.status == 0, result.err
        assert Image.open(out).size == (72, 48)


class TestImports:
    @pytest.mark.slow
    def test_help_imports_no_runtime(self, deeplens_process: Command) -> None:
        for arguments in (["--help"], ["refocus", "--help"], ["export", "onnx", "--help"], ["--version"]):
            result = deeplens_process(*arguments)
            assert (result.status, result.err, result.loaded) == (0, "", frozenset()), arguments

    @pytest.mark.slow
    def test_info_and_verify_import_no_runtime(self, deeplens_process: Command, artifacts: Path) -> None:
        for command in ("info", "verify"):
            result = deeplens_process(command, "--artifacts", artifacts)
            assert (result.status, result.loaded) == (0, frozenset()), result.err

    def test_a_device_without_torch(
        self, deeplens_process: Command, photo: Path, artifacts: Path, tmp_path: Path
    ) -> None:
        result = deeplens_process(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts, "-o", "out.jpg",
            without=("torch", "onnx", "onnxscript", "onnxsim", "safetensors", "scipy", "skimage", "lightning_fabric"),
        )  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert result.loaded == {"onnxruntime"}
        assert Image.open(tmp_path / "out.jpg").size == (72, 48)


class TestInfo:
    def test_extras_are_those_of_the_project(self, deeplens: Command) -> None:
        report = json.loads(deeplens("info", "--json", "-").out)
        assert set(report["extras"]) == {"", *EXTRAS}
        assert report["extras"]["onnx"].keys() == {"onnxruntime"}
        assert report["extras"]["onnx"]["onnxruntime"] is not None
        assert report["extras"]["export"].keys() >= {"torch", "safetensors", "onnxruntime", "onnx"}
        assert report["deeplens"] == VERSION

    def test_text(self, deeplens: Command, artifacts: Path) -> None:
        result = deeplens("info", "--artifacts", artifacts)
        assert (result.status, result.err) == (0, "")
        assert "edge_lens_blur.onnx" in result.out
        assert "pip install 'deeplens-edge[tensorrt]'" in result.out or version("tensorrt")

    @pytest.mark.slow
    @needs_torch
    def test_cost(self, deeplens: Command, deeplens_process: Command, tmp_path: Path) -> None:
        result = deeplens("info", "--cost", "--json", tmp_path / "info.json")
        assert result.status == 0, result.err
        rows = json.loads((tmp_path / "info.json").read_text())["cost"]
        assert {(row["variant"], row["network"]) for row in rows} == {(v, n) for v in VARIANTS for n in NETWORKS}
        assert f"{rows[0]['parameters']:,}" in result.out
        missing = deeplens_process("info", "--cost", without=["torch"])
        assert (missing.status, "deeplens-edge[torch]" in missing.error) == (MissingError.exit_code, True)


class TestVerify:
    def test_good_and_tampered(self, deeplens: Command, artifacts: Path, tmp_path: Path) -> None:
        folder = tmp_path / "artifacts"
        shutil.copytree(artifacts, folder)
        assert deeplens("verify", "--artifacts", folder).status == 0
        with (folder / "onnx" / "edge_depth.onnx").open("ab") as file:
            file.write(b"\0")
        result = deeplens("verify", "--artifacts", folder, "--json", tmp_path / "report.json")
        assert (result.status, "edge_depth.onnx" in result.error) == (MismatchError.exit_code, True)
        report = json.loads((tmp_path / "report.json").read_text())
        wrong = [Path(each["path"]).name for each in report["files"] if not each["ok"]]
        assert (report["ok"], wrong) == (False, ["edge_depth.onnx"])

    def test_weights_against_their_card(self, tmp_path: Path) -> None:
        weights, card = tmp_path / "edge_depth.safetensors", tmp_path / "edge_depth.md"
        weights.write_bytes(b"weights")
        (shipped,) = shipped_weights(tmp_path)
        with pytest.raises(MissingError, match="no card"):
            shipped.verify()
        card.write_text(f"SHA-256: {shipped.sha256}\n")
        shipped_weights(tmp_path)[0].verify()
        weights.write_bytes(b"other weights")
        with pytest.raises(MismatchError, match="edge_depth"):
            shipped_weights(tmp_path)[0].verify()

    def test_the_weights_that_are_shipped(self) -> None:
        for shipped in shipped_weights():
            shipped.verify()


class TestGuard:
    @pytest.mark.parametrize(
        ("error", "status", "text"),
        [
            (InputError("bad photo"), 3, "bad photo"),
            (MissingError("no runtime"), 4, "no runtime"),
            (MismatchError("other\nhash"), 5, "other hash"),
            (MemoryError(), NO_MEMORY, "out of memory"),
            (OSError(28, "No space left on device", "out.png"), SYSTEM, "out.png: No space left on device"),
            (PermissionError(13, "Permission denied", "out.png"), SYSTEM, "out.png: Permission denied"),
            (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
            (ZeroDivisionError("division by zero"), FAULT, "DEEPLENS_DEBUG=1"),
        ],
    )
    def test_each_error_is_one_line_and_a_status(
        self, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, text: str
    ) -> None:
        def fail() -> None:
            raise error

        assert guarded(fail) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert text in line

    def test_debug_adds_the_traceback(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DEEPLENS_DEBUG", "1")
        assert guarded(lambda: 1 // 0) == FAULT
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("error: ZeroDivisionError")

    def test_termination_runs_what_cleans_up(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        cleaned = []

        def work() -> None:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                cleaned.append(True)

        with pytest.raises(SystemExit) as stop:
            guarded(work)
        assert (stop.value.code, cleaned) == (TERMINATED, [True])
        assert signal.getsignal(signal.SIGTERM) == before

    def test_usage_errors(self, deeplens: Command) -> None:
        for arguments, text in (
            (["refocus"], "PHOTO"),
            (["refocus", "a.jpg", "--focus", "0,0"], "'--output'"),
            (["refocus", "a.jpg", "--unknown"], "--unknown"),
            (["nothing"], "nothing"),
            (["export"], "deeplens export --help"),
        ):
            result = deeplens(*arguments)
            assert (result.status, text in result.error) == (2, True), result.err

    def test_no_command_shows_the_help(self, deeplens: Command) -> None:
        result = deeplens()
        assert (result.status, result.err) == (2, "")
        assert "refocus" in result.out

    def test_version(self, deeplens: Command) -> None:
        assert deeplens("--version").out == f"deeplens {VERSION}\n"

    def test_a_reader_that_goes_away(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "deeplens", "info"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 1

    def test_typer_exit_codes_are_kept(self) -> None:
        app = typer.Typer(add_completion=False)

        @app.command()
        def leave() -> None:
            raise typer.Exit(7)

        assert guarded(lambda: app([], standalone_mode=False)) == 7


class TestExport:
    def test_options_reach_the_exporter(self, deeplens: Command, tmp_path: Path) -> None:
        unknown = deeplens("export", "onnx", "--variant", "huge", "--out", tmp_path)
        assert (unknown.status, "huge" in unknown.error) == (InputError.exit_code, True)
        shape = deeplens("export", "onnx", "--size", "33x33", "--weights", "initial", "--out", tmp_path)
        assert (shape.status, "33x33" in shape.error) == (InputError.exit_code, True)
        assert list(tmp_path.iterdir()) == []
