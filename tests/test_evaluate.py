"""The evaluation: its baselines, its statistics, its geometry, and the command from end to end on tiny scenes."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import evaluation.sheet
import training.scenes
import training.sources
from evaluation.baselines import true_base, upsample_bilinear, upsampled_photo
from evaluation.evaluate import BILINEAR, TRUE_BASE, UNBLURRED, Job, SceneScores, evaluate, pictures, score_scene
from evaluation.metrics import depth_edge_band
from evaluation.sheet import contact_sheet, crop_window
from evaluation.summary import HEADERS, METRICS, estimate, summarise
from model.contract import BASE_LONG_SIDE, R_MAX
from runtimes.harness import Harness
from runtimes.pyramid import Geometry, geometry
from tests.conftest import Command
from training.scenes import LARGE_TEST_CONFIG, TEST_CONFIG, PhotoConfig, Scene, SceneConfig
from training.sources import Sources

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
    return training.sources.folder(folder / "backgrounds", folder / "cutouts")


@pytest.fixture
def job(sources: Sources, artifacts: Path) -> Job:
    """The artefacts that can be reckoned by hand: the result is the photo times 1 − |signed depth|."""
    return Job(sources, runtime="onnx", artifacts=artifacts)


def first_scene(sources: Sources, config: PhotoConfig = SMALL) -> Scene:
    """The first of the split with blur and a depth edge."""
    for scene in training.scenes.test_scenes(sources, count=20, config=config):
        if scene.aperture > 0.5 and depth_edge_band(scene.disparity, 0).any():
            return scene
    raise AssertionError


class TestBaselines:
    def test_bilinear_is_pytorchs(self) -> None:
        picture = np.random.default_rng(0).random((1, 3, 5, 9), dtype=np.float32)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(picture), scale_factor=2, mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(upsample_bilinear(picture), expected.numpy(), atol=1e-6)

    def test_upsampled_photo_crops_clips_and_rounds(self) -> None:
        levels = Geometry(height=70, width=90, steps=1, base=(40, 48))
        base = np.full((1, 3, 40, 48), 0.5, np.float32)
        base[:, 0] = 1.7
        photo = upsampled_photo(base, levels)
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
        assert asdict(config) == {"size": 384, "steps": 3, "exact": False, "cutout_only": False}
        assert config.radius == 64.0

    def test_the_blur_a_network_is_asked_for_is_the_scenes(self, sources: Sources, job: Job) -> None:
        """In pixels of the photo, what goes in as signed depth is the radius that the scene was rendered with."""
        scene = first_scene(sources)
        seen = []
        with job.open() as runtime:
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

    def test_differences_are_taken_scene_by_scene(self, sources: Sources) -> None:
        """Scenes that differ much, a method that is always 1 better or worse: a sure difference of unsure means."""
        summary = summarise(
            [made_up(level) for level in (10.0, 20.0, 60.0)], variant="edge", config=SMALL, sources=sources
        )
        over_photo, over_bilinear = (
            next(row for row in summary.differences if row.picture.endswith(name) and row.depth == "true")
            for name in (UNBLURRED[0], BILINEAR)
        )
        assert (over_photo.values["psnr"].mean, over_photo.values["psnr"].error) == (1.0, 0.0)
        assert (over_bilinear.values["psnr"].mean, over_bilinear.values["psnr"].error) == (-2.0, 0.0)
        edge = next(row for row in summary.means if (row.picture, row.depth) == ("edge", "true"))
        assert edge.values["psnr"].mean == pytest.approx(31.0)
        assert edge.values["psnr"].error == pytest.approx(np.std([11, 21, 61], ddof=1) / math.sqrt(3))

    def test_a_scene_without_an_edge_is_left_out_of_the_band(self, sources: Sources) -> None:
        results = [made_up(10.0), made_up(20.0)]
        for values in results[1].values():
            values["psnr_band"] = None
        summary = summarise(results, variant="edge", config=SMALL, sources=sources)
        assert {row.values["psnr_band"].count for row in (*summary.means, *summary.differences)} == {1}
        assert {row.values["psnr"].count for row in (*summary.means, *summary.differences)} == {2}

    def test_the_text_says_what_was_measured(self, sources: Sources) -> None:
        summary = summarise([made_up(1.0)], variant="edge", config=SMALL, sources=sources)
        lines = summary.markdown().splitlines()
        assert "1 scene of 336×336 px from 2 photos and 2 cut-outs, 1 ×2 step" in lines[0]
        rows = [line for line in lines if line.startswith("|")]
        assert len(rows) == 2 + 6 + 2 + 4
        assert {line.count("|") for line in rows} == {len(HEADERS) + 1}
        assert json.loads(json.dumps(summary.json()))["means"][0]["values"]["psnr"]["mean"] == 1.0


def made_up(level: float) -> SceneScores:
    """The photo scores `level`, the method 1 more, the bilinear baseline 3 more, in all metrics."""
    gains = {UNBLURRED: 0.0, TRUE_BASE: 5.0}
    for depth in ("true", "corrupted"):
        gains |= {("edge", depth): 1.0, (BILINEAR, depth): 3.0}
    return {name: dict.fromkeys(METRICS, level + gain) for name, gain in gains.items()}


class TestEvaluate:
    def test_processes_do_not_change_the_scores(self, job: Job) -> None:
        shares: list[float] = []
        alone = evaluate(job, config=SMALL, count=2, progress=shares.append)
        assert shares == [0.5, 1.0]
        assert evaluate(job, config=SMALL, count=2, workers=2) == alone

    def test_scores_are_of_the_pictures(self, job: Job, sources: Sources) -> None:
        (scores,) = evaluate(job, config=SMALL, count=1)
        (scene,) = training.scenes.test_scenes(sources, count=1, config=SMALL)
        expected = peak_signal_noise_ratio(scene.target.astype(float), scene.picture / 255, data_range=1.0)
        assert scores[UNBLURRED]["psnr"] == pytest.approx(expected)

    def test_the_pictures_are_the_methods_and_the_baselines(self, job: Job, sources: Sources) -> None:
        scene = first_scene(sources)
        with job.open() as runtime:
            found = pictures(Harness(runtime), scene, variant="edge")
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

    def test_with_a_closed_aperture_the_method_is_the_photo(self, job: Job, sources: Sources) -> None:
        scene = replace(first_scene(sources), aperture=0.0)
        with job.open() as runtime:
            scores = score_scene(Harness(runtime), scene, variant="edge", config=SMALL)
        assert scores["edge", "true"] == scores["edge", "corrupted"] == scores[UNBLURRED]
        assert scores[BILINEAR, "true"] != scores[UNBLURRED]

    def test_the_truth_beats_all(self, job: Job, sources: Sources) -> None:
        scene = first_scene(sources)
        perfect = replace(scene, picture=np.rint(scene.target * 255).astype(np.uint8), aperture=0.0)
        with job.open() as runtime:
            harness = Harness(runtime)
            best = score_scene(harness, perfect, variant="edge", config=SMALL)["edge", "true"]
            usual = score_scene(harness, scene, variant="edge", config=SMALL)
        assert best["psnr"] is not None
        assert best["psnr"] > 55  # what rounding to 8 bits leaves
        assert all((values["psnr"] or 0) < 50 for values in usual.values())


class TestSheet:
    def test_a_crop_lies_inside_and_holds_an_edge(self, sources: Sources) -> None:
        scene = first_scene(sources)
        rows, columns = crop_window(scene)
        assert 0 <= rows.start < rows.stop <= SMALL.size
        assert rows.stop - rows.start == columns.stop - columns.start == SMALL.size // 8
        assert depth_edge_band(scene.disparity, 0)[rows, columns].any()

    def test_shows_six_pictures_twice_a_scene(self, job: Job) -> None:
        sheet = contact_sheet(job, config=SMALL, scenes=1)
        assert sheet.dtype == np.uint8
        assert sheet.shape[1] > 6 * 320
        assert 2 * 320 < sheet.shape[0] < 3 * 320


class TestCommand:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch, sources: Sources) -> None:
        monkeypatch.setattr(training.scenes, "TEST_CONFIG", SMALL)
        monkeypatch.setattr(training.scenes, "LARGE_TEST_CONFIG", LARGER)
        monkeypatch.setattr(evaluation.sheet, "SEARCHED", 4)
        monkeypatch.setattr(training.sources, "shipped", lambda _split, _root: sources)

    def test_writes_all_that_was_asked_for(self, deeplens: Command, artifacts: Path, folder: Path) -> None:
        result = deeplens(
            "evaluate", "--runtime", "onnx", "--artifacts", artifacts, "--scenes", 2, "--large", 1, "--workers", 1,
            "--json", folder / "scores.json", "--markdown", folder / "scores.md", "--sheet", folder / "scenes.png",
        )  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert "2 scenes of 336×336 px" in result.out
        answer = json.loads((folder / "scores.json").read_text())
        assert answer["weights_sha256"] == {"lens_blur": "0" * 64, "upsample": "0" * 64}
        assert [(split["size"], split["scenes"]) for split in answer["splits"]] == [(336, 2), (672, 1)]
        mean = answer["splits"][0]["means"][0]["values"]["psnr"]["mean"]
        assert f"{mean:.2f}" in result.out
        assert f"{mean:.2f}" in (folder / "scores.md").read_text()
        assert Image.open(folder / "scenes.png").width > 6 * 320

    @pytest.mark.parametrize(
        ("option", "value"), [("--markdown", "missing/scores.md"), ("--sheet", "scenes.txt"), ("--runtime", "none")]
    )
    def test_bad_options_end_before_the_work(
        self, deeplens: Command, artifacts: Path, option: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training.scenes, "make_scene", None)
        result = deeplens("evaluate", "--artifacts", artifacts, "--runtime", "onnx", option, value)
        assert result.status == 3
        assert result.error


def test_missing_data(deeplens: Command, artifacts: Path, tmp_path: Path) -> None:
    result = deeplens("evaluate", "--runtime", "onnx", "--artifacts", artifacts, "--data", tmp_path)
    assert result.status == 4
    assert "make data" in result.error


def test_a_missing_library_names_the_extra(deeplens_process: Command) -> None:
    result = deeplens_process("evaluate", without=["scipy"])
    assert result.status == 4
    assert "deeplens[train]" in result.error
