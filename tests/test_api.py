"""The public API: what `import deeplens` offers, and that it computes what the command line does."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import deeplens
from deeplens.runtimes.disparity import nearest_subject
from tests.conftest import ROOT, Command

DEPTH = np.tile(np.linspace(0, 1, 48, dtype=np.float32), (36, 1))
"""Far on the left, near on the right."""


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (36, 48, 3), dtype=np.uint8)


@pytest.fixture
def options(artifacts: Path) -> dict[str, object]:
    return {"runtime": "onnx", "artifacts": artifacts, "depth": DEPTH, "f_number": 1.4}


def test_all_that_is_named_is_there() -> None:
    for name in deeplens.__all__:
        assert getattr(deeplens, name) is not None
    assert set(dir(deeplens)) == set(deeplens.__all__)
    with pytest.raises(AttributeError, match="no attribute 'refocuss'"):
        _ = deeplens.refocuss


def test_importing_it_is_light() -> None:
    code = "import sys, deeplens; print({'numpy', 'PIL', 'typer', 'torch', 'onnxruntime'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


def test_it_gives_what_the_command_gives(
    deeplens: Command, tmp_path: Path, pixels: np.ndarray, options: dict[str, object], artifacts: Path
) -> None:
    import deeplens as library

    Image.fromarray(pixels).save(tmp_path / "photo.png")
    np.save(tmp_path / "depth.npy", DEPTH)
    done = deeplens(
        "refocus", tmp_path / "photo.png", "-o", tmp_path / "out.png", "--focus", "0.2,0.5", "--f-number", 1.4,
        "--depth", tmp_path / "depth.npy", "--runtime", "onnx", "--artifacts", artifacts,
    )  # fmt: skip
    assert done.status == 0, done.err
    expected = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.abs(expected.astype(int) - pixels).max() > 20, "the control: something is blurred"
    for photo in (str(tmp_path / "photo.png"), tmp_path / "photo.png", Image.fromarray(pixels), pixels):
        found = library.refocus(photo, focus=(0.2, 0.5), **options)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.pixels, expected)
    with library.Refocuser(pixels, runtime="onnx", artifacts=artifacts, depth=DEPTH) as refocuser:
        assert refocuser.runtime == "onnx"
        again = refocuser.refocus(focus=(0.2, 0.5), f_number=1.4)
        other = refocuser.refocus(focus=(0.9, 0.5), f_number=1.4)
    assert np.abs(again.pixels.astype(int) - expected).max() <= 1
    assert np.abs(other.pixels.astype(int) - expected).max() > 20


def test_a_preview_ends_with_what_refocus_gives(artifacts: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (400, 700, 3), dtype=np.uint8)
    with deeplens.Refocuser(pixels, runtime="onnx", artifacts=artifacts, depth=np.tile(DEPTH, (1, 1))[:27]) as photo:
        levels = list(photo.preview(focus=(0.2, 0.5), f_number=1.4))
        assert len(levels) == photo.last_level + 1 == 3
        np.testing.assert_array_equal(levels[-1], photo.refocus(focus=(0.2, 0.5), f_number=1.4).pixels)
        (base,) = photo.preview(0, focus=(0.2, 0.5), f_number=1.4)
        np.testing.assert_array_equal(base, levels[0])
        older = photo.preview(focus=(0.9, 0.5))
        photo.preview(focus=(0.8, 0.5))
        with pytest.raises(deeplens.Cancelled):
            next(older)
        with pytest.raises(deeplens.InputError, match="go from 0 to 2"):
            photo.preview(7)


def test_without_a_focus_it_is_the_nearest_subject(pixels: np.ndarray, options: dict[str, object]) -> None:
    found = deeplens.refocus(pixels, **options)  # type: ignore[arg-type]
    expected = deeplens.refocus(pixels, focus_depth=nearest_subject(DEPTH), **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_several_points_keep_all_between_them_sharp(pixels: np.ndarray, options: dict[str, object]) -> None:
    found = deeplens.refocus(pixels, focus=[(0.0, 0.5), (1.0, 0.5)], **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.pixels, pixels)


def test_a_pillow_image_is_turned_as_its_exif_says(pixels: np.ndarray, options: dict[str, object]) -> None:
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = 6
    before = image.copy()
    found = deeplens.refocus(image, **(options | {"depth": np.rot90(DEPTH, -1)}))  # type: ignore[arg-type]
    assert found.pixels.shape == (48, 36, 3)
    assert image == before, "the caller's image stays as it is"


@pytest.mark.parametrize("kind", ["grey", "alpha", "deep", "L", "RGBA"])
def test_kinds_of_pictures(kind: str, pixels: np.ndarray, options: dict[str, object], tmp_path: Path) -> None:
    alpha = np.full((36, 48, 1), 255, np.uint8)
    alpha[:5] = 7
    photo: object = {
        "grey": pixels[..., 0],
        "alpha": np.dstack((pixels, alpha)),
        "deep": pixels.astype(np.uint16) * 257,
        "L": Image.fromarray(pixels[..., 0]),
        "RGBA": Image.fromarray(np.dstack((pixels, alpha))),
    }[kind]
    found = deeplens.refocus(photo, focus=(0.2, 0.5), **options)  # type: ignore[arg-type]
    assert found.pixels.shape == pixels.shape
    assert found.pixels.dtype == (np.uint16 if kind == "deep" else np.uint8)
    if kind in ("alpha", "RGBA"):
        assert found.image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(found.image)[..., 3:], alpha)
    if kind in ("grey", "L"):
        np.testing.assert_array_equal(found.pixels[..., 0], found.pixels[..., 1])
    assert found.save(tmp_path / "out.png") is not None
    assert Image.open(tmp_path / "out.png").size == (48, 36)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"photo": np.zeros((4, 4, 2), np.uint8)}, "H×W×3 or H×W×4, not of 4×4×2"),
        ({"photo": np.zeros((4, 4, 3))}, "uint8 or uint16, not float64"),
        ({"photo": "nothing.jpg"}, "nothing.jpg does not exist"),
        ({"focus": (0.5, 0.5), "focus_depth": 0.5}, "not both"),
        ({"focus": 3}, "a point"),
        ({"focus": (0.1, 0.2, 0.3)}, "a point"),
        ({"focus": (2.0, 0.5)}, "outside the picture"),
        ({"focus_depth": 2.0}, "from 0"),
        ({"depth": "embedded"}, "give the path of the photo"),
        ({"f_number": 0.5}, "1.4 or more"),
        ({"runtime": "tpu"}, "choose auto or torch"),
        ({"precision": "int3"}, "no precision 'int3'"),
    ],
)
def test_what_makes_no_sense_is_said(
    change: dict[str, object], said: str, pixels: np.ndarray, options: dict[str, object]
) -> None:
    with pytest.raises(deeplens.InputError, match=said):
        deeplens.refocus(**({"photo": pixels} | options | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("document", ["README.md", "docs/quickstart.md", "docs/api.md"])
def test_the_examples_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts: Path) -> None:
    block = re.compile(r"^```python\n(import deeplens\n.*?)^```$", re.DOTALL | re.MULTILINE)
    examples = block.findall((ROOT / document).read_text())
    assert examples
    shutil.copytree(artifacts, tmp_path / "artifacts")
    Image.open(ROOT / "samples" / "drum.jpg").resize((60, 90)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, document, "exec"), {})
    assert Image.open(tmp_path / "out.jpg").size == (60, 90)
