"""Photos, inputs and scales of the calibration, and bad folders."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.calibration import inputs, scales
from deeplens.calibration.photos import Photo, from_folder, photo, set_sha256, shipped
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export.precision_plan import Source
from deeplens.model.contract import CONTRACTS, Contract
from deeplens.runtimes.contract import Arrays, Runtime, Session
from tests.conftest import Command
from tests.support.tiny import textured

SETTINGS = inputs.Settings(longest=640, window=32)
WEIGHTS = {"depth": "a", "lens_blur": "b", "upsample": "c"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for seed, size in enumerate(((200, 300), (400, 330))):
        Image.fromarray(textured(*size, seed=seed)).save(tmp_path / "photos" / f"{seed}.png")
    return tmp_path / "photos"


class Stand(Runtime):
    """A runtime that counts: disparity is a ramp, lens blur the picture, the step repeats pixels."""

    name, variant = "stand-in", "edge"

    def __init__(self) -> None:
        self.runs: list[str] = []

    def open(self, network: str) -> "StandSession":
        return StandSession(network, self.runs)

    def close(self) -> None: ...


class StandSession(Session):
    def __init__(self, network: str, runs: list[str]) -> None:
        self._network, self._runs = network, runs

    def describe(self) -> Contract:
        return CONTRACTS[self._network]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self._runs.append(self._network)
        if self._network == "depth":
            return {"disparity": np.linspace(0, 1, 320 * 320, dtype=np.float32).reshape(1, 1, 320, 320)}
        if self._network == "lens_blur":
            return {"blurred": inputs["picture"] * np.float32(0.5)}
        return {"blurred_high": inputs["blurred"].repeat(2, 2).repeat(2, 3)}

    def close(self) -> None: ...


class TestPhotos:
    def test_a_corrupted_one_is_left_out_with_a_warning(self, folder: Path) -> None:
        whole = (folder / "0.png").read_bytes()
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        (folder / "text.jpg").write_text("no picture")
        with pytest.warns(UserWarning, match="left out") as told:
            found = from_folder(folder)
        assert {each.path.name for each in found} == {"0.png", "1.png"}
        said = [str(each.message) for each in told]
        assert any("left out:" in line and "cut.png" in line for line in said)
        assert any("left out:" in line and "text.jpg" in line for line in said)

    def test_one_of_one_colour_is_left_out_with_a_warning(self, folder: Path) -> None:
        Image.new("RGB", (100, 100), (10, 200, 30)).save(folder / "flat.png")
        with pytest.warns(UserWarning, match=r"flat\.png: has a single colour"):
            assert len(from_folder(folder)) == 2

    def test_a_folder_of_no_use(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="has no photos"):
            from_folder(tmp_path)
        with pytest.raises(InputError, match="not a folder"):
            from_folder(tmp_path / "absent")
        Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
        with (
            pytest.warns(UserWarning, match="left out"),
            pytest.raises(InputError, match=r"none of the 1 photos .*black\.png: has a single"),
        ):
            from_folder(tmp_path)
        with pytest.raises(MissingError, match="make data"):
            shipped(tmp_path)

    def test_few_are_told(self, folder: Path) -> None:
        with pytest.warns(UserWarning, match="only 2 photos to calibrate on: use 64 or more"):
            from_folder(folder)

    def test_copies_count_once_and_names_do_not_matter(self, folder: Path) -> None:
        with pytest.warns(UserWarning, match="use 64 or more"):
            before = from_folder(folder)
        (folder / "deeper").mkdir()
        (folder / "deeper" / "copy.png").write_bytes((folder / "0.png").read_bytes())
        (folder / "1.png").rename(folder / "other.png")
        with pytest.warns(UserWarning, match="use 64 or more"):
            after = from_folder(folder)
        assert [(each.sha256, each.point, each.aperture) for each in after] == [
            (each.sha256, each.point, each.aperture) for each in before
        ]
        assert set_sha256(after) == set_sha256(before)
        assert set_sha256(after[:1]) != set_sha256(before)


class TestInputs:
    def photos(self, folder: Path) -> list[Photo]:
        return [photo(path) for path in sorted(folder.iterdir())]

    def test_each_level_sees_what_the_level_below_gave(self, folder: Path, tmp_path: Path) -> None:
        (path,) = inputs.collect(
            self.photos(folder)[1:], Stand(), WEIGHTS, folder=tmp_path / "inputs", settings=SETTINGS
        )
        found = list(inputs.read([path]))
        assert [(each.network, each.level) for each in found] == [("depth", 0), ("lens_blur", 0), ("upsample", 1)]
        step = found[2].arrays
        assert {name: array.shape for name, array in step.items()} == {
            tensor.name: tensor.shape(32, 32) for tensor in CONTRACTS["upsample"].inputs
        }
        # The stand-in halves the picture: the step's own input shows it.
        np.testing.assert_allclose(step["blurred"], 0.5 * step["picture"], atol=1e-3)
        low = step["picture_high"].reshape(1, 3, 32, 2, 32, 2)
        np.testing.assert_allclose(np.sqrt(np.square(low).mean((3, 5))), step["picture"], atol=0.02)

    def test_depth_is_kept_exactly(self, folder: Path, tmp_path: Path) -> None:
        each = self.photos(folder)[0]
        (path,) = inputs.collect([each], Stand(), WEIGHTS, folder=tmp_path, settings=SETTINGS)
        kept = next(inputs.read([path])).arrays["picture"]
        small = Image.fromarray(each.pixels(640)).resize((320, 320), Image.Resampling.BILINEAR)
        expected = np.moveaxis(np.asarray(small, np.float32) / 255, 2, 0)[None]
        np.testing.assert_allclose(kept, expected, atol=1e-7)

    def test_an_interrupted_run_goes_on_without_loss(self, folder: Path, tmp_path: Path) -> None:
        photos = self.photos(folder)

        class KilledError(Exception):
            pass

        def kill(_done: int, _new: int) -> None:
            raise KilledError

        with pytest.raises(KilledError):
            inputs.collect(photos, Stand(), WEIGHTS, folder=tmp_path / "a", settings=SETTINGS, progress=kill)
        said: list[tuple[int, int]] = []
        resumed = Stand()
        found = inputs.collect(
            photos, resumed, WEIGHTS, folder=tmp_path / "a", settings=SETTINGS,
            progress=lambda done, new: said.append((done, new)),
        )  # fmt: skip
        assert said == [(1, 0), (2, 1)]
        assert resumed.runs.count("depth") == 1
        whole = inputs.collect(photos, Stand(), WEIGHTS, folder=tmp_path / "b", settings=SETTINGS)
        assert [path.name for path in found] == [path.name for path in whole]
        for one, other in zip(inputs.read(found), inputs.read(whole), strict=True):
            assert one.arrays.keys() == other.arrays.keys()
            assert all((one.arrays[name] == other.arrays[name]).all() for name in one.arrays)

    def test_a_damaged_file_is_made_anew(self, folder: Path, tmp_path: Path) -> None:
        photos = self.photos(folder)[:1]
        (path,) = inputs.collect(photos, Stand(), WEIGHTS, folder=tmp_path, settings=SETTINGS)
        before = path.read_bytes()
        path.write_bytes(before[: len(before) // 2])
        again = Stand()
        inputs.collect(photos, again, WEIGHTS, folder=tmp_path, settings=SETTINGS)
        assert again.runs
        assert len(list(inputs.read([path]))) == 2

    def test_the_name_says_what_is_in_it(self, folder: Path) -> None:
        first, second = self.photos(folder)
        names = {
            inputs.key(first, WEIGHTS, SETTINGS),
            inputs.key(second, WEIGHTS, SETTINGS),
            inputs.key(first, WEIGHTS | {"depth": "other"}, SETTINGS),
            inputs.key(first, WEIGHTS, replace(SETTINGS, window=64)),
        }
        assert len(names) == 4
        assert inputs.key(first, dict(reversed(WEIGHTS.items())), SETTINGS) in names


class TestScales:
    def made(self) -> scales.Scales:
        source = Source("p" * 64, 66, {"longest": 2048, "window": 64}, {"depth": "d" * 64, "upsample": "u" * 64})
        return scales.Scales(
            "edge", source, {"depth": {"stem.0": {"mse": (0.25, 0.5)}}}, {"depth": {"stem.0": (0.125, -1.0)}}
        )

    def test_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        self.made().write(tmp_path / "scales.json")
        assert scales.read(tmp_path / "scales.json") == self.made()

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "layers": 3}'])
    def test_what_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "scales.json").write_text(text)
        with pytest.raises(InputError, match="can't be read as scales"):
            scales.read(tmp_path / "scales.json")

    def test_refused_when_photos_weights_or_settings_changed(self) -> None:
        source = self.made().source
        source.check(replace(source), what="it")
        for change, said in (
            ({"photos": "q" * 64}, "other photos"),
            ({"settings": {"longest": 1024, "window": 64}}, "other settings"),
            ({"weights": {**source.weights, "depth": "e" * 64}}, "other depth weights"),
        ):
            with pytest.raises(MismatchError, match=rf"{said}.*--recalibrate"):
                source.check(replace(source, **change), what="it")


class TestCommand:
    def test_bad_folders(self, deeplens: Command, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        result = deeplens("calibrate", "--photos", tmp_path / "empty", "--out", tmp_path / "out")
        assert result.status == 3
        assert "has no photos" in result.error
        assert not (tmp_path / "out").exists()
        result = deeplens("calibrate", "--data", tmp_path, "--out", tmp_path / "out")
        assert result.status == 4
        assert "make data" in result.error
