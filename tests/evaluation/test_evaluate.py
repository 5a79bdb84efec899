"""The evaluation: its baselines, its statistics, its geometry, and the command from end to end on tiny scenes."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from deeplens.evaluation.baselines import BLURS, UPSAMPLERS, true_base, upsampled_photo
from deeplens.evaluation.depth_error import depth_mae
from deeplens.evaluation.evaluate import TRUE_BASE, UNBLURRED, Contest, Job, SceneScores, evaluate, own_base
from deeplens.evaluation.metrics import depth_edge_band
from deeplens.evaluation.sets import PictureSet, blur_radius, stored, synthetic
from deeplens.evaluation.sheet import contact_sheet, crop_window
from deeplens.evaluation.summary import METRICS, estimate, summarise
from deeplens.model.contract import BASE_LONG_SIDE, R_MAX
from deeplens.runtimes.depth_convention import Convention
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.options import DepthModelChoice
from deeplens.runtimes.pyramid import Geometry, geometry
from deeplens.scenes import planes
from deeplens.scenes import sources as scene_sources
from deeplens.scenes.planes import LARGE_TEST_CONFIG, TEST_CONFIG, PhotoConfig, Scene, SceneConfig
from deeplens.scenes.sources import Sources
from tests.runtimes.test_depth_model import write_model
from tests.support.fake_runtime import from_the_base

BILINEAR = own_base("edge", "bilinear")
SMALL = PhotoConfig(size=336, steps=1, cutout_only=True)
LARGER = PhotoConfig(size=672, steps=2, cutout_only=True)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two photos of soft noise and two cut-outs, a disc and a bar."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    for name in ("backgrounds", "cutouts"):
        (folder / name).mkdir()
    for index in range(2):
        noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        noise.resize((640, 480), Image.Resampling.BICUBIC).save(folder / "backgrounds" / f"{index}.png")
        rows, columns = np.mgrid[-40:40, -40:40]
        shape = (np.hypot(rows, columns) < 38) if index else (np.abs(rows + columns) < 12)
        colour = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
        cutout = np.dstack((colour, np.where(shape, 255, 0).astype(np.uint8)))
        Image.fromarray(cutout).save(folder / "cutouts" / f"{index}.png")
    return scene_sources.folder(folder / "backgrounds", folder / "cutouts")


@pytest.fixture
def job(artifacts: Path) -> Job:
    """The artefacts that can be reckoned by hand: the result is the photo times 1 − |signed depth|."""
    return Job(runtime="onnx", artifacts=artifacts, depths=("true", "corrupted"), baselines=False)


@pytest.fixture
def pictures(sources: Sources) -> PictureSet:
    return synthetic(sources, count=2, config=SMALL)


def first_scene(sources: Sources, config: PhotoConfig = SMALL) -> Scene:
    """The first of the split with blur and a depth edge."""
    for scene in planes.test_scenes(sources, count=20, config=config):
        if scene.aperture > 0.5 and depth_edge_band(scene.disparity, 0).any():
            return scene
    raise AssertionError


class TestBaselines:
    def test_upsampled_photo_crops_clips_and_rounds(self) -> None:
        levels = Geometry(height=70, width=90, steps=1, base=(40, 48))
        base = np.full((1, 3, 40, 48), 0.5, np.float32)
        base[:, 0] = 1.7
        photo = upsampled_photo(base, levels, photo=np.zeros((70, 90, 3), np.uint8))
        assert photo.shape == (70, 90, 3)
        assert photo.dtype == np.uint8
        assert np.unique(photo.reshape(-1, 3), axis=0).tolist() == [[255, 128, 128]]

    def test_true_base_keeps_the_light(self) -> None:
        """A white pixel among three black ones is as bright as their mean light, not as their mean value."""
        target = np.zeros((64, 64, 3), np.float32)
        target[::2, ::2] = 1.0
        levels = Geometry(height=64, width=64, steps=1, base=(32, 32))
        np.testing.assert_allclose(true_base(target, levels), 0.5)  # sqrt(1/4), where values would give 1/4


class TestGeometry:
    @pytest.mark.parametrize("config", [TEST_CONFIG, LARGE_TEST_CONFIG, SMALL, LARGER])
    def test_scenes_are_what_the_harness_makes_of_photos(self, config: PhotoConfig) -> None:
        levels = geometry(config.size, config.size)
        assert levels.steps == config.steps
        assert levels.padded(levels.steps) == (config.size, config.size)
        assert config.radius == pytest.approx(R_MAX * levels.blur_scale * 2**levels.steps)
        assert config.cutout_only

    def test_the_two_sizes(self) -> None:
        assert (TEST_CONFIG.size, TEST_CONFIG.radius) == (2 * BASE_LONG_SIDE, 16.0)
        assert (LARGE_TEST_CONFIG.size, LARGE_TEST_CONFIG.radius) == (4 * BASE_LONG_SIDE, 32.0)

    def test_training_scenes_are_as_they_were(self) -> None:
        """A checkpoint holds these fields: one more, and a run could not be resumed."""
        config = SceneConfig(size=384, steps=3)
        assert asdict(config) == {
            "size": 384,
            "steps": 3,
            "exact": False,
            "cutout_only": False,
            "narrow": 0.0,
            "lights": 0.0,
        }
        assert config.radius == 64.0

    def test_the_blur_a_network_is_asked_for_is_the_scenes(self, sources: Sources, job: Job) -> None:
        """In pixels of the photo, what goes in as signed depth is the radius that the scene was rendered with."""
        scene = first_scene(sources)
        seen = []
        with job.open("edge") as runtime:
            Harness(runtime).refocus(
                scene.picture, scene.disparity, focal_disparity=scene.focal, aperture=scene.aperture,
                observe=lambda level, _, arrays: seen.append(arrays["signed_depth"]) if level == 0 else None,
            )  # fmt: skip
        rendered = (scene.disparity - scene.focal) * SMALL.radius * scene.aperture
        asked = seen[0][0, 0, : SMALL.size // 2, : SMALL.size // 2] * R_MAX * 2**SMALL.steps
        flat = ~depth_edge_band(scene.disparity, 3)[::2, ::2]
        np.testing.assert_allclose(asked[flat], rendered[::2, ::2][flat], atol=0.05)
        assert np.abs(rendered[::2, ::2][flat]).max() > 1


class TestStatistics:
    def test_mean_and_standard_error_by_hand(self) -> None:
        found = estimate([1.0, None, 2.0, 3.0, 4.0])
        assert (found.mean, found.count) == (2.5, 4)
        assert found.error == pytest.approx(math.sqrt(5 / 3) / 2)
        assert (estimate([7.0]).mean, estimate([7.0]).error) == (7.0, None)
        assert estimate([None]).mean is None
        assert (found.text(1), found.text(2, signed=True)) == ("2.5 ± 0.6", "+2.50 ± 0.65")
        assert (estimate([-1.0]).text(1, signed=True), estimate([]).text(1)) == ("-1.0", "–")

    def test_differences_are_taken_picture_by_picture(self, pictures: PictureSet) -> None:
        """Scenes that differ much, a method that is always 1 better or worse: a sure difference of unsure means."""
        levels = {"a": 10.0, "b": 20.0, "c": 60.0}
        summary = summarise({name: made_up(level) for name, level in levels.items()}, pictures, variant="edge")
        rows = {(row.picture, row.depth): row for row in summary.rows}
        photo, bilinear, edge = rows[UNBLURRED], rows[BILINEAR, "true"], rows["edge", "true"]
        assert (photo.ahead["psnr"].mean, photo.ahead["psnr"].error) == (1.0, 0.0)
        assert (bilinear.ahead["psnr"].mean, bilinear.ahead["psnr"].error) == (-2.0, 0.0)
        assert edge.ahead == {}
        assert edge.values["psnr"].mean == pytest.approx(31.0)
        assert edge.values["psnr"].error == pytest.approx(np.std([11, 21, 61], ddof=1) / math.sqrt(3))

    def test_pictures_of_one_setting_count_as_one(self, pictures: PictureSet) -> None:
        results = {
            "fence/1": made_up(10.0),
            "fence/2": made_up(30.0),
            "fence/3": made_up(20.0),
            "wall/1": made_up(40.0),
        }
        edge = next(row for row in summarise(results, pictures, variant="edge").rows if row.picture == "edge")
        assert (edge.values["psnr"].mean, edge.values["psnr"].count) == (31.0, 2)
        assert edge.values["psnr"].error == pytest.approx(np.std([21, 41], ddof=1) / math.sqrt(2))

    def test_a_scene_without_an_edge_is_left_out_of_the_band(self, pictures: PictureSet) -> None:
        results = {"a": made_up(10.0), "b": made_up(20.0)}
        for name, values in results["b"].items():
            if name[0] != "depth":
                values["psnr_band"] = None
        summary = summarise(results, pictures, variant="edge")
        assert {row.values["psnr_band"].count for row in summary.rows} == {1}
        assert {row.values["psnr"].count for row in summary.rows} == {2}
        assert {row.ahead["psnr_band"].count for row in summary.rows if row.ahead} == {1}

    def test_the_text_says_what_was_measured(self, pictures: PictureSet) -> None:
        summary = summarise({"a": made_up(1.0)}, pictures, variant="edge")
        lines = summary.markdown().splitlines()
        assert "2 scenes of 336×336 px from 2 photos and 2 cut-outs, 1 ×2 step" in lines[0]
        rows = [line for line in lines if line.startswith("|")]
        assert len(rows) == (2 + 2 + 2 * 2) + (2 + 1)
        assert {line.count("|") for line in rows[:8]} == {len(summary.headers) + 1}
        assert rows[-1] == "| corrupted | 0.250 | 0.125 |"
        assert json.loads(json.dumps(summary.json()))["rows"][0]["values"]["psnr"]["mean"] == 1.0


def made_up(level: float) -> SceneScores:
    """The photo scores `level`, the method 1 more, the bilinear baseline 3 more, in all metrics."""
    gains = {UNBLURRED: 0.0, TRUE_BASE: 5.0}
    for depth in ("true", "corrupted"):
        gains |= {(BILINEAR, depth): 3.0, ("edge", depth): 1.0}
    found: SceneScores = {name: dict.fromkeys(METRICS, level + gain) for name, gain in gains.items()}
    return found | {("depth", "corrupted"): {"mae": 0.25, "mae_quantile": 0.125}}


class TestEvaluate:
    def test_processes_do_not_change_the_scores(self, job: Job, pictures: PictureSet) -> None:
        shares: list[float] = []
        alone = evaluate(job, pictures, progress=shares.append)
        assert shares == [0.5, 1.0]
        assert list(alone) == ["000", "001"]
        assert evaluate(job, pictures, workers=2) == alone

    def test_scores_are_of_the_pictures(self, job: Job, pictures: PictureSet, sources: Sources) -> None:
        scores = evaluate(job, pictures)["000"]
        (scene,) = planes.test_scenes(sources, count=1, config=SMALL)
        expected = peak_signal_noise_ratio(scene.target.astype(float), scene.picture / 255, data_range=1.0)
        assert scores[UNBLURRED]["psnr"] == pytest.approx(expected)
        assert scores["depth", "corrupted"]["mae"] == depth_mae(scene.corrupted, scene.disparity)
        assert ("depth", "true") not in scores

    @pytest.mark.slow
    def test_the_base_is_the_lens_blurs_whatever_level_the_loop_begins_at(self, job: Job, sources: Sources) -> None:
        scene = first_scene(sources, LARGER)
        for each in (scene, replace(scene, aperture=0.2)):
            base = Contest(job).base(each, each.disparity, focal=each.focal)
            assert base.shape == (1, 3, *geometry(*each.picture.shape[:2]).padded(0))

    def test_the_pictures_are_the_methods_and_the_baselines(self, job: Job, sources: Sources) -> None:
        scene = first_scene(sources)
        with from_the_base():
            found = Contest(job).pictures(scene)
        signed = np.abs(scene.disparity - scene.focal) * scene.aperture * SMALL.radius / (R_MAX * 2)
        flat = ~depth_edge_band(scene.disparity, 4)
        expected = scene.picture / 255 * (1 - signed)[..., None]
        np.testing.assert_allclose(found["edge", "true"][flat] / 255, expected[flat], atol=0.01)
        np.testing.assert_array_equal(found[UNBLURRED], scene.picture)
        # Both upsampled pictures lack detail, and are otherwise what they are made from.
        for name, like in (((BILINEAR, "true"), found["edge", "true"]), (TRUE_BASE, np.rint(255 * scene.target))):
            low = found[name].reshape(42, 8, 42, 8, 3).mean((1, 3)) - like.reshape(42, 8, 42, 8, 3).mean((1, 3))
            assert np.abs(low).mean() < 6
            assert (
                np.abs(np.diff(found[name].astype(int), axis=0)).mean()
                < np.abs(np.diff(like.astype(int), axis=0)).mean()
            )
        assert (found["edge", "true"] != found["edge", "corrupted"]).any()

    @pytest.mark.slow
    def test_every_baseline_gets_every_depth(self, job: Job, sources: Sources) -> None:
        found = Contest(replace(job, baselines=True, depths=("true", "corrupted", "predicted"))).pictures(
            first_scene(sources)
        )
        per_depth = {"edge", *BLURS, *(own_base("edge", name) for name in UPSAMPLERS)}
        assert {name for name, kind in found if kind} == per_depth
        assert {kind for name, kind in found if name in per_depth} == {"true", "corrupted", "predicted"}

    def test_predicted_depth_is_focused_where_a_click_would_be(self, job: Job, sources: Sources) -> None:
        """The network of the artefacts predicts the mean of the colours, normalised; the click is on the true plane."""
        scene = first_scene(sources)
        disparity, focal = Contest(replace(job, depths=("predicted",))).given(scene)["predicted"]
        assert disparity.shape == scene.disparity.shape
        assert disparity.min() >= 0
        assert disparity.max() <= 1
        away = np.abs(scene.disparity - scene.focal)
        in_focus = disparity[away <= away.min() + 0.01]
        assert (in_focus <= focal).mean() == pytest.approx(0.5, abs=0.02)

    def test_relative_depth_is_the_true_one_without_its_scale(self, job: Job, sources: Sources) -> None:
        scene = first_scene(sources)
        narrow = replace(scene, disparity=0.2 + 0.3 * scene.disparity, focal=0.2 + 0.3 * scene.focal)
        found, focal = Contest(replace(job, depths=("relative",))).given(narrow)["relative"]
        low, spread = scene.disparity.min(), np.ptp(scene.disparity)
        np.testing.assert_allclose(found, (scene.disparity - low) / spread, atol=1e-5)
        assert found.min() == 0
        assert found.max() == pytest.approx(1, abs=1e-4)
        near = np.abs(scene.disparity - scene.focal)
        assert found[near <= near.min() + 0.04].min() <= focal <= found[near <= near.min() + 0.04].max()

    def test_a_users_model_is_a_kind_of_depth(self, job: Job, sources: Sources, tmp_path: Path) -> None:
        """One whose disparity is the photo's brightness."""
        told = Convention.parsed({"size": "84x84", "output": "disparity"})
        model = DepthModelChoice(write_model(tmp_path / "m.onnx"), told)
        scene = first_scene(sources)
        given = Contest(replace(job, depths=("true", "model"), model=model)).given(scene)
        assert list(given) == ["true", "model"]
        found, focal = given["model"]
        assert found.shape == scene.disparity.shape
        assert np.corrcoef(found.ravel(), scene.picture.mean(2).ravel())[0, 1] > 0.9
        near = np.abs(scene.disparity - scene.focal)
        assert found[near <= near.min() + 0.02].min() <= focal <= found[near <= near.min() + 0.02].max()

    def test_with_a_closed_aperture_the_method_is_the_photo(self, job: Job, sources: Sources) -> None:
        scores = Contest(job).score(replace(first_scene(sources), aperture=0.0))
        assert scores["edge", "true"] == scores["edge", "corrupted"] == scores[UNBLURRED]
        assert scores[BILINEAR, "true"] != scores[UNBLURRED]

    def test_the_truth_beats_all(self, job: Job, sources: Sources) -> None:
        scene = first_scene(sources)
        perfect = replace(scene, picture=np.rint(scene.target * 255).astype(np.uint8), aperture=0.0)
        contest = Contest(job)
        best = contest.score(perfect)["edge", "true"]["psnr"]
        usual = contest.score(scene)
        assert best is not None
        assert best > 55  # what rounding to 8 bits leaves
        assert all((values["psnr"] or 0) < 50 for name, values in usual.items() if name[0] != "depth")


class TestSets:
    def test_parts_together_are_the_set(self, pictures: PictureSet, tmp_path: Path) -> None:
        whole = [name for name, _ in pictures.part(0, 1)]
        assert whole == ["000", "001"]
        assert [name for index in range(2) for name, _ in pictures.part(index, 2)] == whole
        scene = next(iter(pictures.part(0, 1)))[1]
        folder = stored("rgbd", "Photos", partial(_three, scene), tmp_path)
        assert (folder.count, folder.title) == (3, "Photos: 3 pictures of 2 settings")
        assert [name for name, _ in folder.part(1, 2)] == ["a/2"]

    def test_the_blur_of_a_wide_picture_follows_its_long_side(self, sources: Sources) -> None:
        scene = first_scene(sources)
        assert blur_radius(scene) == SMALL.radius
        half = replace(scene, picture=scene.picture[:100])
        assert blur_radius(half) == SMALL.radius
        assert blur_radius(replace(scene, picture=scene.picture[:100, :160])) == 0.025 * 160


def _three(scene: Scene, _folder: Path) -> Iterator[tuple[str, Scene]]:
    yield from (("a/1", scene), ("a/2", scene), ("b/1", scene))


class TestSheet:
    def test_a_crop_lies_inside_and_holds_an_edge(self, sources: Sources) -> None:
        scene = first_scene(sources)
        rows, columns = crop_window(scene)
        assert 0 <= rows.start < rows.stop <= SMALL.size
        assert rows.stop - rows.start == columns.stop - columns.start == SMALL.size // 8
        assert depth_edge_band(scene.disparity, 0)[rows, columns].any()

    def test_a_crop_of_a_wide_picture_lies_inside(self, sources: Sources) -> None:
        scene = first_scene(sources)
        top = int(np.flatnonzero(depth_edge_band(scene.disparity, 0).any(1))[0])
        low = slice(max(0, top - 30), max(0, top - 30) + 60)
        wide = replace(scene, picture=scene.picture[low], target=scene.target[low], disparity=scene.disparity[low])
        rows, columns = crop_window(wide)
        assert 0 <= rows.start < rows.stop <= 60
        assert rows.stop - rows.start == columns.stop - columns.start == SMALL.size // 8

    def test_shows_every_picture_twice_a_scene(self, job: Job, pictures: PictureSet) -> None:
        sheet = contact_sheet(job, replace(pictures, count=20, read=partial(_first_again, pictures)), scenes=1)
        assert sheet.dtype == np.uint8
        assert sheet.shape[1] > 5 * 320
        assert 2 * 320 < sheet.shape[0] < 3 * 320


def _first_again(pictures: PictureSet, start: int, step: int) -> Iterator[tuple[str, Scene]]:
    """More scenes than the set says: one with blur and an edge is among them."""
    yield from islice(pictures.read.func(pictures.read.args[0], SMALL, 20, 0, 1), start, None, step)  # type: ignore[attr-defined]
