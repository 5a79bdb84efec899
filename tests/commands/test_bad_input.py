"""Photos, depth maps and options that can't be used: one clear line, a status, and nothing written."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import InputError, MismatchError, MissingError
from tests.conftest import Command, png
from tests.support.device import needs_torch
from tests.support.project_file import EXTRAS

INPUT, MISSING, MISMATCH, USAGE = InputError.exit_code, MissingError.exit_code, MismatchError.exit_code, 2


def jpeg(folder: Path, pixels: np.ndarray) -> bytes:
    path = folder / "whole.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    return path.read_bytes()


class TestPhotosThatCannotBeUsed:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("missing", "does not exist"),
            ("text", "not an image"),
            ("truncated", "truncated"),
            ("empty", "empty"),
            ("bomb", "megapixels"),
            ("folder", "folder"),
            ("header only", "can't be opened"),
        ],
    )
    @pytest.mark.parametrize("run", ["deeplens", "deeplens_process"])
    def test_one_line_and_nothing_written(
        self,
        request: pytest.FixtureRequest,
        pixels: np.ndarray,
        artifacts: Path,
        tmp_path: Path,
        folder: Path,
        name: str,
        text: str,
        run: str,
    ) -> None:
        path = tmp_path / f"{name}.jpg"
        whole = jpeg(tmp_path, pixels)
        contents = {
            "text": b"not a picture at all\n" * 20,
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "bomb": png(60_000, 60_000, bits=8, lines=b"\0" * 1000),
            "header only": whole[:400],
        }
        if name == "folder":
            path.mkdir()
        elif name != "missing":
            path.write_bytes(contents[name])
        result = request.getfixturevalue(run)(
            "refocus", path, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "-o", folder / "out.png", "--save-depth", folder / "depth.png", "--side-by-side", folder / "both.png",
        )  # fmt: skip
        assert result.status == INPUT
        assert text in result.error
        assert str(path) in result.error
        assert list(folder.iterdir()) == []


class TestFocusAndFNumber:
    @pytest.mark.parametrize(
        ("option", "status"),
        [
            ("--focus=1.5,0.5", INPUT),
            ("--focus=0.5,-0.1", INPUT),
            ("--focus=nan,0.5", INPUT),
            ("--focus=left,top", INPUT),
            ("--focus=0.5", INPUT),
            ("--focus=0.1,0.2,0.3", INPUT),
            ("--focus=", INPUT),
            ("--focus-depth=1.5", USAGE),
            ("--focus-depth=nan", USAGE),
            ("--focus-depth=near", USAGE),
            ("--focus-range=1.5", USAGE),
        ],
    )
    def test_focus(
        self, deeplens: Command, photo: Path, artifacts: Path, folder: Path, option: str, status: int
    ) -> None:
        result = deeplens(
            "refocus", photo, option, "--runtime", "onnx", "--artifacts", artifacts, "-o", folder / "o.png"
        )
        assert result.status == status
        assert "focus" in result.error
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("options", [(), ("--focus", "0.5,0.5", "--focus-depth", "0.5")])
    def test_one_of_the_two(self, deeplens: Command, photo: Path, folder: Path, options: tuple[str, ...]) -> None:
        result = deeplens("refocus", photo, *options, "-o", folder / "o.png")
        assert result.status == USAGE
        assert "'--focus' / '--focus-depth' / '--focus-file': give exactly one of these options" in result.error

    @pytest.mark.parametrize("number", ["0", "-2.8", "nan", "inf", "1.3"])
    def test_f_number(self, deeplens: Command, photo: Path, artifacts: Path, folder: Path, number: str) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", f"--f-number={number}",
            "--runtime", "onnx", "--artifacts", artifacts, "-o", folder / "o.png",
        )  # fmt: skip
        assert result.status == INPUT
        assert "f-number" in result.error

    def test_tile(self, deeplens: Command, photo: Path, artifacts: Path, folder: Path) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--tile", 100,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", folder / "o.png",
        )  # fmt: skip
        assert result.status == INPUT
        assert "tile" in result.error


class TestDepthMaps:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("nan", "not finite"),
            ("infinite", "not finite"),
            ("wrong size", "does not fit the photo"),
            ("three axes", "shape"),
            ("text", "not a NumPy file"),
            ("pickle", "not a NumPy file"),
            ("missing", "does not exist"),
            ("colour", "coloured"),
        ],
    )
    def test_refused(
        self, deeplens: Command, photo: Path, artifacts: Path, tmp_path: Path, folder: Path, name: str, text: str
    ) -> None:
        values = np.ones((48, 72), np.float32)
        path = tmp_path / f"{name}.npy"
        if name == "nan":
            values[3, 4] = np.nan
        elif name == "infinite":
            values[3, 4] = np.inf
        elif name == "wrong size":
            values = np.ones((72, 48), np.float32)
        elif name == "three axes":
            values = np.ones((48, 72, 3), np.float32)
        if name == "text":
            path.write_text("0 1 2 3")
        elif name == "pickle":
            np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        elif name == "colour":
            path = photo
        elif name != "missing":
            np.save(path, values)
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--depth", path,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", folder / "o.png",
        )  # fmt: skip
        assert result.status == INPUT
        assert text in result.error
        assert list(folder.iterdir()) == []


class TestOutputs:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("no/such/out.png", "does not exist"),
            ("out.xyz", "this file type can't be written"),
            ("out", "this file type can't be written"),
            ("taken.png", "is a folder"),
            ("photo.png", "is also an input"),
            ("../" + "x" * 300 + ".png", "written"),
        ],
    )
    @pytest.mark.parametrize("option", ["-o", "--save-depth", "--side-by-side"])
    def test_refused(
        self, deeplens: Command, photo: Path, artifacts: Path, tmp_path: Path, folder: Path, name: str, text: str,
        option: str,
    ) -> None:  # fmt: skip
        (folder / "taken.png").mkdir()
        before = photo.read_bytes()
        path = photo if name == "photo.png" else folder / name
        outputs = {"-o": folder / "out.png", option: path}
        arguments = [each for pair in outputs.items() for each in pair]
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts, *arguments
        )
        assert result.status == INPUT
        assert text in result.error
        assert photo.read_bytes() == before
        assert [each.name for each in folder.iterdir()] == ["taken.png"]
        assert list(tmp_path.glob(".*")) == []

    def test_a_file_named_twice(self, deeplens: Command, photo: Path, artifacts: Path, folder: Path) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "-o", folder / "a.png", "--save-depth", folder / "." / "a.png",
        )  # fmt: skip
        assert (result.status, "named twice" in result.error) == (INPUT, True)

    @pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid"), reason="permissions of POSIX")
    def test_a_folder_that_can_not_be_written_to(
        self, deeplens: Command, photo: Path, artifacts: Path, tmp_path: Path
    ) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        target = closed if os.geteuid() else Path("/proc")  # the superuser may write everywhere but there
        if not target.is_dir():
            pytest.skip("no folder is closed to the superuser")
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "-o", target / "deeplens_out.png",
        )  # fmt: skip
        assert result.status == INPUT
        assert "written" in result.error

    def test_a_full_disk(
        self, deeplens: Command, photo: Path, artifacts: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "out.png").write_text("what was there before")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        result = deeplens(
            "refocus",
            photo,
            "--focus",
            "0.5,0.5",
            "--runtime",
            "onnx",
            "--artifacts",
            artifacts,
            "-o",
            folder / "out.png",
        )
        assert result.status == INPUT
        assert "No space left on device" in result.error
        assert (folder / "out.png").read_text() == "what was there before"


class TestRuntimes:
    def test_unknown(self, deeplens: Command, photo: Path, folder: Path) -> None:
        for option, name in (("--runtime", "caffe"), ("--variant", "huge")):
            result = deeplens("refocus", photo, "--focus", "0.5,0.5", option, name, "-o", folder / "o.png")
            assert result.status == INPUT
            assert f"'{name}'" in result.error
            assert "choose" in result.error
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize(("runtime", "library"), [("onnx", "onnxruntime"), ("torch", "torch")])
    def test_a_missing_extra_is_named(
        self, deeplens_process: Command, photo: Path, artifacts: Path, folder: Path, runtime: str, library: str
    ) -> None:
        result = deeplens_process(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", runtime, "--weights", "initial",
            "--artifacts", artifacts, "-o", folder / "o.png", without=[library],
        )  # fmt: skip
        assert result.status == MISSING
        assert f"pip install 'deeplens-edge[{runtime}]'" in result.error
        assert any(each.startswith(library) for each in EXTRAS[runtime])
        assert list(folder.iterdir()) == []

    def test_no_artefacts(self, deeplens: Command, photo: Path, tmp_path: Path, folder: Path) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", tmp_path, "-o", folder / "o.png"
        )
        assert result.status == MISSING
        assert "deeplens export onnx" in result.error

    def test_weights_that_are_not_there(self, deeplens: Command, photo: Path, tmp_path: Path, folder: Path) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--weights", tmp_path / "none", "-o", folder / "o.png"
        )
        assert result.status == MISSING
        assert "no weights at" in result.error

    @needs_torch
    def test_weights_of_another_kind(self, deeplens: Command, photo: Path, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--weights", tmp_path / "bad.safetensors", "-o", folder / "o.png"
        )
        assert result.status == INPUT
        assert "safetensors" in result.error

    def test_a_broken_manifest(self, deeplens: Command, photo: Path, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "manifest.json").write_text("{")
        for arguments in (("refocus", photo, "--focus", "0,0", "-o", folder / "o.png", "--runtime", "onnx"), ("info",)):
            result = deeplens(*arguments, "--artifacts", tmp_path)
            assert result.status == INPUT
            assert "manifest" in result.error
