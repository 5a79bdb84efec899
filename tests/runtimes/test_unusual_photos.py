"""Photos of every kind through the command line: each comes out as a viewer shows it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Command, png


class TestPhotosThatAreUnusual:
    """All in focus, each comes out as a viewer shows it: the runtime of these tests changes nothing that is sharp."""

    def refocused(
        self, deeplens: Command, path: Path, *, depth: Path, artifacts: Path, out: Path
    ) -> tuple[Image.Image, str]:
        result = deeplens(
            "refocus", path, "--focus", "0.5,0.5", "--depth", depth,
            "--runtime", "onnx", "--artifacts", artifacts, "-o", out,
        )  # fmt: skip
        assert result.status == 0, result.err
        with Image.open(out) as image:
            image.load()
            return image, result.err

    @pytest.mark.parametrize(
        ("mode", "suffix"), [("L", "png"), ("1", "png"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("CMYK", "jpg")]
    )
    def test_colour_modes(
        self, deeplens: Command, pixels: np.ndarray, flat_depth: Path, artifacts: Path, tmp_path: Path, folder: Path,
        mode: str, suffix: str,
    ) -> None:  # fmt: skip
        path = tmp_path / f"in.{suffix}"
        image = Image.fromarray(pixels)
        if mode.endswith("A"):
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.convert(mode).save(path)
        found, err = self.refocused(deeplens, path, depth=flat_depth, artifacts=artifacts, out=folder / "out.png")
        shown = Image.open(path)
        assert err == ""
        assert found.size == shown.size
        assert found.mode == ("RGBA" if mode.endswith("A") else "RGB")
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(shown.convert("RGB")))
        if mode.endswith("A"):
            np.testing.assert_array_equal(np.asarray(found.getchannel("A")), np.asarray(shown.getchannel("A")))

    def test_grey_of_16_bits(
        self, deeplens: Command, pixels: np.ndarray, flat_depth: Path, artifacts: Path, tmp_path: Path, folder: Path
    ) -> None:
        path = tmp_path / "in.png"
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(path)
        found, err = self.refocused(deeplens, path, depth=flat_depth, artifacts=artifacts, out=folder / "out.png")
        np.testing.assert_array_equal(np.asarray(found.convert("RGB"))[:, :, 1], pixels[:, :, 0])
        assert all(line.startswith("note: ") for line in err.splitlines())

    def test_colour_of_16_bits(
        self, deeplens: Command, pixels: np.ndarray, flat_depth: Path, artifacts: Path, tmp_path: Path, folder: Path
    ) -> None:
        path = tmp_path / "in.png"
        lines = b"".join(b"\0" + (line.astype(">u2") * 257).tobytes() for line in pixels)
        path.write_bytes(png(72, 48, bits=16, lines=lines))
        found, err = self.refocused(deeplens, path, depth=flat_depth, artifacts=artifacts, out=folder / "out.png")
        np.testing.assert_array_equal(np.asarray(found), pixels)
        assert err.startswith("note: ")
        assert "16 bits" in err

    def test_of_an_animation_the_first_frame(
        self, deeplens: Command, pixels: np.ndarray, flat_depth: Path, artifacts: Path, tmp_path: Path, folder: Path
    ) -> None:
        path = tmp_path / "in.webp"
        first = Image.fromarray(pixels)
        first.save(path, save_all=True, append_images=[Image.fromarray(255 - pixels)], lossless=True)
        found, err = self.refocused(deeplens, path, depth=flat_depth, artifacts=artifacts, out=folder / "out.png")
        np.testing.assert_array_equal(np.asarray(found), pixels)
        assert "first is used" in err

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turned_by_exif(
        self, deeplens: Command, pixels: np.ndarray, flat_depth: Path, artifacts: Path, tmp_path: Path, folder: Path,
        orientation: int,
    ) -> None:  # fmt: skip
        path = tmp_path / "in.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(path, exif=exif)
        shown = {
            1: pixels,
            2: pixels[:, ::-1],
            3: pixels[::-1, ::-1],
            4: pixels[::-1],
            5: pixels.transpose(1, 0, 2),
            6: np.rot90(pixels, -1),
            7: np.rot90(pixels.transpose(1, 0, 2), 2),
            8: np.rot90(pixels),
        }[orientation]
        found, _ = self.refocused(deeplens, path, depth=flat_depth, artifacts=artifacts, out=folder / "out.png")
        np.testing.assert_array_equal(np.asarray(found), shown)
        assert found.getexif().get(0x0112, 1) == 1

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (333, 7), (700, 450)])
    def test_sizes(
        self,
        deeplens: Command,
        flat_depth: Path,
        artifacts: Path,
        tmp_path: Path,
        folder: Path,
        width: int,
        height: int,
    ) -> None:
        path = tmp_path / "in.png"
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(path)
        found, _ = self.refocused(deeplens, path, depth=flat_depth, artifacts=artifacts, out=folder / "out.png")
        np.testing.assert_array_equal(np.asarray(found), noise)
