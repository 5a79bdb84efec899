"""The source table, the shipped samples, and the loaders, against arrays built by hand."""

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from deeplens.console.errors import InputError, MissingError
from deeplens.scenes.sources import SPLITS, TABLE, Entry, folder, load_background, load_cutout, read_table, shipped
from tests.conftest import ROOT

SAMPLES = ROOT / "samples"
SERIES = ("gnu-", "pig_golden", "cow_white|bull", "bradley|infantry", "drum")


def shared(entries: list[Entry]) -> list[str]:
    """What occurs in more than one split: a path in a package, or a file's bytes."""
    splits = defaultdict(set)
    for entry in entries:
        splits[entry.package, entry.file].add(entry.split)
        splits["bytes", entry.sha256].add(entry.split)
    return [str(key) for key, found in splits.items() if len(found) > 1]


def test_table_is_well_formed() -> None:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == list(Entry.__dataclass_fields__)
    assert {line.count("\t") for line in lines} == {11}
    for entry in read_table():
        assert (entry.kind, entry.archive) in (
            *(("photo", archive) for archive in ("debian", "pypi")),
            ("subject", "debian"),
            ("cutout", "debian"),
            ("teacher", "pypi"),
            *(("rgbd", archive) for archive in ("debian", "pypi", "sdist")),
            ("furniture", "debian"),
        ), entry
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256), entry
        assert all((entry.package, entry.version, entry.file, entry.licence, entry.note)), entry
        assert "-" not in (entry.licence, entry.note), entry
        assert Path(entry.name).name == entry.name, entry
        assert not entry.file.startswith("/"), entry
        assert entry.split in (*SPLITS, "-")
        unsplit = entry.kind in ("teacher", "furniture")
        unused = unsplit or entry.note == "unfit" or (entry.kind, entry.note) == ("photo", "shallow")
        assert (entry.split == "-") == unused, entry
        assert entry.kind != "subject" or (entry.note == "shallow" and entry.split in ("train", "val", "test")), entry
        assert entry.note != "any" or (entry.kind, entry.split) == ("photo", "calibration"), entry
        if not unsplit:
            assert min(int(entry.width), int(entry.height)) >= 100, entry


def test_no_file_or_name_twice() -> None:
    entries = read_table()
    assert len({(entry.package, entry.file) for entry in entries}) == len(entries)
    assert len({entry.sha256 for entry in entries}) == len(entries)
    assert len({(entry.kind, entry.name.lower()) for entry in entries}) == len(entries)


def test_splits_are_disjoint_and_filled() -> None:
    entries = read_table()
    assert shared(entries) == []
    used = next(entry for entry in entries if entry.split == "train")
    assert shared([*entries, replace(used, split="test", file="elsewhere.png")]), "the check must see a shared picture"
    for kind, least in {"photo": (15, 2, 6, 64), "subject": (20, 3, 0, 0), "cutout": (50, 5, 12, 3)}.items():
        counts = tuple(sum(entry.kind == kind and entry.split == split for entry in entries) for split in SPLITS)
        assert all(count >= floor for count, floor in zip(counts, least, strict=True)), (kind, counts)


@pytest.mark.parametrize("pattern", SERIES)
def test_a_series_stays_in_one_split(pattern: str) -> None:
    members = [entry for entry in read_table() if entry.kind == "cutout" and re.match(pattern, entry.name)]
    assert len(members) >= 2
    assert len({entry.split for entry in members}) == 1


def test_samples_are_listed_with_their_licence() -> None:
    by_name = {entry.name: entry for entry in read_table()}
    rows = re.findall(
        r"^\| `(\S+\.jpg)` \| ([^|]+) \| © ([^|]+) \| `([^`]+)` \| \[([^]]+)\]\((https://creativecommons\.org/[^)]+)\)",
        (SAMPLES / "README.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    photos = sorted(path for path in SAMPLES.iterdir() if path.is_file() and path.name != "README.md")
    assert [path.name for path in photos] == sorted(row[0] for row in rows)
    assert 4 <= len(photos) <= 6
    assert sum(path.stat().st_size for path in photos) < 6e6
    for name, _, _, original, licence, link in rows:
        entry = by_name[original]
        assert entry.licence == licence
        assert licence.startswith(("CC-BY", "CC0"))
        assert entry.split not in ("train", "val", "calibration"), original
        kind, version = re.fullmatch(r"CC-(BY(?:-SA)?)-(\d\.\d)", licence).groups()  # type: ignore[union-attr]
        assert link == f"https://creativecommons.org/licenses/{kind.lower()}/{version}/"
        with Image.open(SAMPLES / name) as photo:
            assert max(photo.size) == 2048
            assert photo.mode == "RGB"
            assert photo.width / photo.height == pytest.approx(int(entry.width) / int(entry.height), rel=1e-3)


def test_shipped_lists_what_lies_there(tmp_path: Path) -> None:
    for entry in read_table():
        if (path := entry.target(tmp_path)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = {split: shipped(split, tmp_path) for split in SPLITS}
    for split, sources in found.items():
        assert {path.parent for path in sources.backgrounds} == {tmp_path / "photos" / split}
        assert {path.parent for path in sources.cutouts} == {tmp_path / "cutouts" / split}
        assert {path.parent for path in sources.subjects} <= {tmp_path / "subjects" / split}
        assert bool(sources.subjects) == (split in ("train", "val", "test"))
        assert list(sources.backgrounds) == sorted(sources.backgrounds)
        assert sources == shipped(split, tmp_path)
    for one, other in combinations(found.values(), 2):
        names = [
            {path.name for path in (*sources.backgrounds, *sources.subjects, *sources.cutouts)}
            for sources in (one, other)
        ]
        assert not names[0] & names[1]
    found["val"].cutouts[0].unlink()
    with pytest.raises(MissingError, match="make data"):
        shipped("val", tmp_path)


def test_shipped_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="make data"):
        shipped("train", tmp_path)
    with pytest.raises(InputError, match="train, val, test, calibration"):
        shipped("testing", tmp_path)


def picture(height: int = 5, width: int = 7, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, lambda p: p), (2, np.fliplr), (3, lambda p: np.rot90(p, 2)), (6, lambda p: np.rot90(p, -1)), (8, np.rot90)],
)
def test_background_is_turned_upright(tmp_path: Path, orientation: int, turned) -> None:  # type: ignore[no-untyped-def]
    pixels, exif = picture(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_background(tmp_path / "a.png"), turned(pixels))


def test_background_from_other_modes(tmp_path: Path) -> None:
    grey, colour, path = picture(channels=1), picture(), tmp_path / "a.png"
    repeated = np.repeat(grey[..., None], 3, axis=2)
    Image.fromarray(grey).save(path)
    np.testing.assert_array_equal(load_background(path), repeated)
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    np.testing.assert_array_equal(load_background(path), repeated)
    Image.fromarray(colour).quantize(256).save(path)
    np.testing.assert_array_equal(load_background(path), colour)  # 35 pixels fit a palette
    Image.fromarray(picture(channels=4)).save(path)
    assert load_background(path).shape == (5, 7, 3)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "a.jpg")
    assert load_background(tmp_path / "a.jpg").dtype == np.uint8


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    Image.fromarray(picture(64, 64)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    for name, wrong in {"cut.png": content[: len(content) // 2], "text.png": b"no picture", "zero.png": b""}.items():
        (tmp_path / name).write_bytes(wrong)
    for name in ("cut.png", "text.png", "zero.png", "absent.png"):
        for load in (load_background, load_cutout):
            with pytest.raises(InputError, match=name) as caught:
                load(tmp_path / name)
            assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(
    alpha=npst.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.sampled_from([0, 1, 255]))
)
def test_cutout_is_cropped_to_its_alpha(tmp_path_factory: pytest.TempPathFactory, alpha: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("cutout") / "a.png"
    pixels = np.dstack([picture(*alpha.shape), alpha])
    Image.fromarray(pixels).save(path)
    inside = [(y, x) for y in range(alpha.shape[0]) for x in range(alpha.shape[1]) if alpha[y, x]]
    if alpha.min() == 255:
        with pytest.raises(InputError, match="no transparency"):
            load_cutout(path)
        return
    if not inside:
        with pytest.raises(InputError, match="empty"):
            load_cutout(path)
        return
    top, bottom = min(y for y, _ in inside), max(y for y, _ in inside)
    left, right = min(x for _, x in inside), max(x for _, x in inside)
    found, expected = load_cutout(path), pixels[top : bottom + 1, left : right + 1]
    np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    seen = expected[..., 3] > 0  # what nobody sees gets the colours beside it
    np.testing.assert_array_equal(found[seen], expected[seen])


@pytest.mark.parametrize("place", ["a_mask.png", "masks/a.png", "alpha/a.jpg", "../masks/a.png"])
def test_cutout_with_a_mask_beside_it(tmp_path: Path, place: str) -> None:
    root = tmp_path / "pictures"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    pixels, mask = picture(), np.full((5, 7), 255, np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    Image.fromarray(mask).save(root / place)
    assert folder(root, root).cutouts == (root / "a.png",)
    np.testing.assert_array_equal(load_cutout(root / "a.png"), np.dstack([pixels, mask]))
    Image.fromarray(mask[:-1]).save(root / place)
    for use in (lambda: folder(root, root), lambda: load_cutout(root / "a.png")):
        with pytest.raises(InputError, match=r"has size \(7, 4\)"):
            use()


def test_cutout_lying_on_its_side_with_an_upright_mask(tmp_path: Path) -> None:
    pixels, mask, exif = picture(), np.full((7, 5), 255, np.uint8), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    assert folder(tmp_path, tmp_path).cutouts == (tmp_path / "a.png",)
    np.testing.assert_array_equal(load_cutout(tmp_path / "a.png"), np.dstack([np.rot90(pixels, -1), mask]))


def test_a_folder_of_cutouts_may_be_called_masks(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    pixels = np.dstack([picture(), np.full((5, 7), 255, np.uint8)])
    pixels[0, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "masks" / "a.png")
    np.testing.assert_array_equal(load_cutout(tmp_path / "masks" / "a.png"), pixels[1:])


def test_cutout_from_palette_with_transparency(tmp_path: Path) -> None:
    indices = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8)).convert("P")
    indices.putpalette([10, 20, 30, 200, 100, 50])
    indices.save(tmp_path / "a.png", transparency=0)
    expected = [[[200, 100, 50, 0], [200, 100, 50, 255]], [[200, 100, 50, 255]] * 2]  # what nobody sees, as beside it
    np.testing.assert_array_equal(load_cutout(tmp_path / "a.png"), expected)


def test_folder_of_the_user(tmp_path: Path) -> None:
    photos, cutouts = tmp_path / "photos", tmp_path / "cutouts"
    (photos / "deeper").mkdir(parents=True)
    cutouts.mkdir()
    Image.fromarray(picture()).save(photos / "deeper" / "B.JPG")
    Image.fromarray(picture()).save(photos / "a.png")
    (photos / "notes.txt").write_text("not a picture")
    (photos / ".part-a.png").write_text("hidden")
    Image.fromarray(picture(channels=4)).save(cutouts / "c.png")
    sources = folder(photos, cutouts)
    assert sources.backgrounds == (photos / "a.png", photos / "deeper" / "B.JPG")
    assert sources.cutouts == (cutouts / "c.png",)
    Image.fromarray(picture()).save(cutouts / "d.png")
    with pytest.raises(InputError, match=r"d\.png: no transparency"):
        folder(photos, cutouts)
    with pytest.raises(InputError, match=r"d\.png: no transparency"):
        load_cutout(cutouts / "d.png")
    (photos / "broken.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"broken\.png"):
        folder(photos, cutouts)


def test_folder_that_is_no_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        folder(tmp_path / "absent", tmp_path)
    with pytest.raises(InputError, match="has no images"):
        folder(tmp_path, tmp_path)


def test_works_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import deeplens.scenes.fetch, deeplens.scenes.sources"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
