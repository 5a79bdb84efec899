"""A user's own sets: each format from files with a known answer, and how they are mixed with the stream."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, default_collate

from deeplens.console.errors import InputError, MissingError
from deeplens.runtimes.photo import write_photo
from deeplens.scenes.stream import Sample
from deeplens.training.depth_sets import (
    Example,
    ExampleSet,
    MixedDepth,
    inverse_of,
    normalised_where_known,
    parse_sets,
    read_calibration,
    sample_of,
)
from tests.conftest import ROOT
from tests.support.portrait_files import write_gdepth
from tests.support.tiny import textured

HEIGHT, WIDTH = 40, 60
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
METRES = (1 + COLUMNS / 10).astype(np.float32)
"""A wall that recedes to the right."""


def picture(seed: int = 1) -> np.ndarray:
    return textured(HEIGHT, WIDTH, seed=seed)


def only(text: str) -> Example:
    (found,) = parse_sets([text], [])
    (reader,) = found.readers
    return reader()


def write_pfm(path: Path, values: np.ndarray) -> None:
    """As Middlebury writes it: little-endian, from the bottom row up."""
    path.write_bytes(f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes())


class TestFolders:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".pfm", ".png", ".tif"])
    def test_depth_becomes_inverse_depth(self, tmp_path: Path, suffix: str) -> None:
        path, holes = tmp_path / f"a_depth{suffix}", METRES.copy()
        holes[3, 4], holes[5, 6] = 0, np.nan if suffix != ".png" else 0
        writers: dict[str, Callable[[], object]] = {
            ".npy": lambda: np.save(path, holes),
            ".npz": lambda: np.savez(path, holes),
            ".pfm": lambda: write_pfm(path, holes),
            ".png": lambda: Image.fromarray(np.rint(holes * 1000).astype(np.uint16)).save(path),
            ".tif": lambda: Image.fromarray(holes).save(path),
        }
        writers[suffix]()
        write_photo(tmp_path / "a.png", picture())
        example = only(f"folder:{tmp_path}")
        np.testing.assert_array_equal(example.picture, picture())
        assert example.disparity is not None
        expected = 1 / METRES / (1000 if suffix == ".png" else 1)
        unknown = np.isnan(example.disparity)
        assert np.argwhere(unknown).tolist() == [[3, 4], [5, 6]]
        np.testing.assert_allclose(example.disparity[~unknown], expected[~unknown], rtol=1e-5)

    def test_disparity_stays_as_it_is(self, tmp_path: Path) -> None:
        values = METRES.copy()
        values[0, 0], values[1, 1] = np.inf, 0
        np.save(tmp_path / "a_disparity.npy", values)
        write_photo(tmp_path / "a.png", picture())
        found = only(f"folder:{tmp_path}").disparity
        assert found is not None
        assert np.argwhere(np.isnan(found)).tolist() == [[0, 0]]  # 0 is a value of a file that knows NaN
        assert found[1, 1] == 0
        np.testing.assert_array_equal(found[2:], METRES[2:])

    def test_zero_is_unknown_in_a_file_of_integers(self, tmp_path: Path) -> None:
        values = COLUMNS.astype(np.uint8)
        Image.fromarray(values).save(tmp_path / "a_disparity.png")
        write_photo(tmp_path / "a.jpg", picture())
        found = only(f"folder:{tmp_path}").disparity
        assert found is not None
        assert np.isnan(found[:, 0]).all()
        np.testing.assert_array_equal(found[:, 1:], values[:, 1:])

    def test_the_direction_is_told_or_asked_for(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", METRES)
        write_photo(tmp_path / "a.png", picture())
        with pytest.raises(InputError, match="may be disparity or depth: name the set as disparity:"):
            parse_sets([f"folder:{tmp_path}"], [])
        near, far = (only(f"{kind}:{tmp_path}").disparity for kind in ("disparity", "depth"))
        assert near is not None
        assert far is not None
        np.testing.assert_allclose(near * far, 1, rtol=1e-6)

    def test_a_map_without_a_value_is_named(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a_depth.npy", np.zeros((4, 4)))
        write_photo(tmp_path / "a.png", picture())
        with pytest.raises(InputError, match=r"a_depth\.npy has no valid depth value"):
            only(f"folder:{tmp_path}")

    def test_the_shipped_motorcycle(self) -> None:
        root = ROOT / "data" / "rgbd"
        if not (root / "motorcycle_disp.npz").is_file():
            pytest.skip("data/rgbd is not there: `make data` brings it")
        example = next(r() for r in parse_sets([f"folder:{root}"], [])[0].readers)
        assert example.picture.shape == (500, 741, 3)
        assert example.disparity is not None
        with np.load(root / "motorcycle_disp.npz") as stored:
            raw = stored["arr_0"]
        np.testing.assert_array_equal(np.isnan(example.disparity), np.isinf(raw))
        engine, wall = example.disparity[330, 370], example.disparity[75, 222]
        assert engine > wall


class TestMiddlebury:
    CALIBRATION = (
        "cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]\n"
        "cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]\n"
        "doffs=131.111\nbaseline=193.001\nwidth=2964\nheight=1988\nndisp=280\n"
    )

    def test_disparity_is_inverse_depth_in_millimetres(self, tmp_path: Path) -> None:
        """Z = baseline · f / (d + doffs), as the set's own page defines it."""
        scene = tmp_path / "Motorcycle-perfect"
        scene.mkdir()
        write_photo(scene / "im0.png", picture())
        millimetres = 1000 * METRES
        disparity = 193.001 * 3997.684 / millimetres - 131.111
        disparity[2, 3] = np.inf
        write_pfm(scene / "disp0.pfm", disparity)
        (scene / "calib.txt").write_text(self.CALIBRATION)
        found = only(f"middlebury:{tmp_path}").disparity
        assert found is not None
        known = np.isfinite(found)
        assert np.argwhere(~known).tolist() == [[2, 3]]
        np.testing.assert_allclose(1 / found[known], millimetres[known], rtol=1e-4)

    def test_a_calibration_that_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "calib.txt"
        path.write_text(self.CALIBRATION.replace("doffs=131.111", ""))
        with pytest.raises(InputError, match="doffs"):
            read_calibration(path)
        with pytest.raises(InputError, match=r"im0\.png and disp0\.pfm"):
            parse_sets([f"middlebury:{tmp_path}"], [])


class TestNyu:
    def test_millimetres_beside_pictures(self, tmp_path: Path) -> None:
        """`rgb_N.jpg` and `sync_depth_N.png`, 16 bits, 0 where there is no reading."""
        depth = np.rint(1000 * METRES).astype(np.uint16)
        depth[:4] = 0
        Image.fromarray(depth).save(tmp_path / "sync_depth_00045.png")
        write_photo(tmp_path / "rgb_00045.jpg", picture())
        found = only(f"nyu:{tmp_path}").disparity
        assert found is not None
        assert np.isnan(found[:4]).all()
        np.testing.assert_allclose(1000 * found[4:], 1 / METRES[4:], rtol=1e-3)

    def test_the_labelled_file(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as stored:
            stored["images"] = np.stack([picture(1).transpose(2, 1, 0), picture(2).transpose(2, 1, 0)])
            stored["depths"] = np.stack([METRES.T, 2 * METRES.T])
        (found,) = parse_sets([f"nyu:{tmp_path}"], [])
        first, second = (reader() for reader in found.readers)
        np.testing.assert_array_equal(first.picture, picture(1))
        np.testing.assert_array_equal(second.picture, picture(2))
        assert second.disparity is not None
        np.testing.assert_allclose(second.disparity, 0.5 / METRES, rtol=1e-6)

    def test_a_file_that_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file")
        pytest.importorskip("h5py")
        with pytest.raises(InputError, match="not an HDF5 file"):
            parse_sets([f"nyu:{tmp_path}"], [])
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(MissingError, match=r"deeplens-edge\[rgbd\]"):
            parse_sets([f"nyu:{tmp_path}"], [])


class TestPortraits:
    def test_photos_with_depth_are_found_among_others(self, tmp_path: Path) -> None:
        write_photo(tmp_path / "plain.jpg", picture())
        write_gdepth(tmp_path / "portrait.jpg", picture(), METRES, form="RangeLinear")
        example = only(f"portrait:{tmp_path}")
        assert example.picture.shape == (HEIGHT, WIDTH, 3)
        assert example.disparity is not None
        np.testing.assert_allclose(example.disparity, 1 / METRES, rtol=2e-2)  # 8 bits of depth

    def test_none(self, tmp_path: Path) -> None:
        write_photo(tmp_path / "plain.jpg", picture())
        with pytest.raises(InputError, match="no HEIC or JPEG with depth"):
            parse_sets([f"portrait:{tmp_path}"], [])


class TestSaliency:
    @pytest.mark.parametrize(
        ("photo", "mask"),
        [
            ("DUTS-TR-Image/a.jpg", "DUTS-TR-Mask/a.png"),
            ("Imgs/a.jpg", "Imgs/a.png"),
            ("images/a.jpg", "masks/a.png"),
        ],
    )
    def test_masks(self, tmp_path: Path, photo: str, mask: str) -> None:
        for name in (photo, mask):
            (tmp_path / name).parent.mkdir(exist_ok=True)
        write_photo(tmp_path / photo, picture())
        Image.fromarray(np.where(COLUMNS < 20, 255, 0).astype(np.uint8)).save(tmp_path / mask)
        (found,) = parse_sets([], [tmp_path])
        (reader,) = found.readers
        example = reader()
        assert example.disparity is None
        assert example.segmentation is not None
        np.testing.assert_array_equal(example.segmentation, COLUMNS < 20)


class TestSamples:
    def test_labels_move_with_the_picture(self) -> None:
        """Picture, disparity and mask say the same number at each place: so they do after any crop and mirror."""
        grey = np.rint(4 * COLUMNS).astype(np.uint8)
        example = Example(np.dstack(3 * [grey]), grey.astype(np.float32), (grey / 255).astype(np.float32))
        seen = set()
        for seed in range(8):
            sample = sample_of(example, np.random.default_rng(seed))
            row = sample["picture"][0, 160].numpy()
            seen.add(bool(row[0] < row[-1]))
            np.testing.assert_allclose(sample["segmentation"][0, 160], row, atol=3e-3)
            rising = np.argsort(sample["disparity"][0, 160].numpy(), kind="stable")
            assert (np.diff(row[rising]) > -0.02).all()
            assert sample["valid"].min() == 1
            assert float(sample["disparity"].min()) == 0
            assert float(sample["disparity"].max()) == 1
        assert seen == {False, True}

    def test_what_is_unknown_is_masked_and_counts_in_no_range(self) -> None:
        values = METRES.copy()
        values[:, 20:] = np.nan
        values[0, 0] = 1e6  # a stray value
        example = Example(picture(), values)
        for seed in range(4):
            sample = sample_of(example, np.random.default_rng(seed))
            valid = sample["valid"].bool()
            assert 0 < float(sample["valid"].mean()) < 1
            assert not sample["disparity"][~valid].any()
            assert float(sample["disparity"][valid].mean()) > 0.2  # the stray value did not set the range
            assert (float(sample["has_disparity"]), float(sample["has_segmentation"])) == (1, 0)

    def test_normalising(self) -> None:
        values = np.linspace(2, 6, 1001, dtype=np.float32).reshape(7, 143)
        found, known = normalised_where_known(values)
        assert known.all()
        np.testing.assert_allclose(found, np.clip((values - 2.02) / 3.96, 0, 1), atol=1e-6)
        for says_nothing in (np.full((4, 4), np.nan, np.float32), np.ones((4, 4), np.float32)):
            found, known = normalised_where_known(says_nothing)
            assert not found.any()
            assert not known.any()
        np.testing.assert_array_equal(np.isnan(inverse_of(np.array([[-1.0, 0, 2, np.inf]]))), [[1, 1, 0, 1]])


class Numbers(Dataset[Sample]):
    """A stream whose pictures say their index."""

    def __getitem__(self, index: int) -> Sample:
        sample = sample_of(Example(picture(), METRES), np.random.default_rng(0))
        del sample["valid"]
        return {**sample, "picture": torch.full((3, 320, 320), float(index))}


def flat(value: float) -> Example:
    return Example(np.full((8, 8, 3), round(255 * value), np.uint8), segmentation=np.ones((8, 8), np.float32))


def numbered(count: int, offset: float) -> ExampleSet:
    return ExampleSet(f"set {offset}", tuple(partial(flat, offset + index / 100) for index in range(count)))


class TestMixing:
    @pytest.mark.slow
    def test_the_stream_keeps_its_order_and_the_sets_take_turns(self) -> None:
        mixed = MixedDepth(Numbers(), [numbered(3, 0.2), numbered(2, 0.6)], seed=5, share=0.25)
        samples = [mixed[index] for index in range(48)]
        own = [bool(sample["has_segmentation"]) for sample in samples]
        assert [index for index, each in enumerate(own) if each] == list(range(3, 48, 4))
        stream = [float(s["picture"].mean()) for s, each in zip(samples, own, strict=True) if not each]
        assert stream == list(range(36))
        sets = [round(float(s["picture"].mean()), 2) for s, each in zip(samples, own, strict=True) if each]
        assert sorted(sets[:6:2]) == [0.2, 0.21, 0.22]  # each once before any again
        assert sorted(sets[6::2]) == [0.2, 0.21, 0.22]
        assert sorted(sets[1:4:2]) == [0.6, 0.61]

    def test_batches_collate_and_repeat(self) -> None:
        mixed = MixedDepth(Numbers(), [numbered(3, 0.2)], seed=5)
        batch = default_collate([mixed[index] for index in range(4)])
        assert batch["valid"].shape == (4, 1, 320, 320)
        assert batch["has_disparity"].tolist() == [1, 0, 1, 0]
        assert batch["has_segmentation"].tolist() == [0, 1, 0, 1]
        again = default_collate([MixedDepth(Numbers(), [numbered(3, 0.2)], seed=5)[index] for index in range(4)])
        assert all(torch.equal(batch[name], again[name]) for name in batch)

    def test_colours_are_changed_by_whom_is_named(self) -> None:
        mixed = MixedDepth(Numbers(), [numbered(1, 0.2)], seed=0, share=1.0, augment=lambda p, _: p + np.float32(0.5))
        assert float(mixed[0]["picture"].mean()) == pytest.approx(0.7, abs=1e-3)

    def test_sets_travel(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a_depth.npy", METRES)
        write_photo(tmp_path / "a.png", picture())
        (found,) = pickle.loads(pickle.dumps(parse_sets([f"folder:{tmp_path}"], [])))
        assert found.readers[0]().disparity.shape == (HEIGHT, WIDTH)

    def test_what_makes_no_sense_is_refused(self, tmp_path: Path) -> None:
        for text in ("kitti:/x", "folder", "folder:"):
            with pytest.raises(InputError, match="KIND:DIR"):
                parse_sets([text], [])
        with pytest.raises(InputError, match="not a folder"):
            parse_sets([], [tmp_path / "none"])
        with pytest.raises(InputError, match="at least one set"):
            MixedDepth(Numbers(), [], seed=0)
        with pytest.raises(InputError, match="share"):
            MixedDepth(Numbers(), [numbered(1, 0.1)], seed=0, share=1.5)
