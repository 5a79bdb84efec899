"""The arms of the ablations: what each changes, on what it is trained and tested, and that a run goes on."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from typer.testing import CliRunner

from deeplens.console.errors import InputError, MissingError
from deeplens.evaluation.metrics import psnr
from deeplens.model.build import build
from deeplens.model.lens_blur import PaperLensBlur
from deeplens.research import ablations
from deeplens.research.ablations import (
    TEST_SCENES,
    TRAIN_SCENES,
    UPSAMPLING,
    ArmTask,
    LensBlurAlone,
    jobs,
    mean_scores,
    read_results,
    run_job,
    write_predicted,
)
from deeplens.research.arms import ARMS, EDGE, EDGE_L1, Arm
from deeplens.runtimes.harness import Harness
from deeplens.scenes.stream import DEPTHS, StoredScenes, refocused, write_scenes
from deeplens.training.fit_blur import BlurAndStep
from deeplens.training.loop import halve
from deeplens.training.losses import LOSSES
from tests.support.tiny import make_sources


class Ramp(Harness):
    """A depth network that says: nearer to the right."""

    def __init__(self) -> None:
        pass

    def disparity(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.uint8
        return np.tile(np.linspace(0, 1, 320, dtype=np.float32), (320, 1))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes with predicted depth."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(make_sources(root / "sources"), root / "set", seed=3, count=5, config=TRAIN_SCENES)
    write_predicted(root / "set", config=TRAIN_SCENES, harness=Ramp())
    return root / "set"


# --- The arms


def test_each_arm_changes_one_thing() -> None:
    firsts = {"edge": EDGE, "tried": EDGE_L1}
    for name, arm in ARMS.items():
        first = firsts.get(name.split("-")[0], ARMS["standard"])
        changed = {field for field, value in asdict(arm).items() if asdict(first)[field] != value}
        assert len(changed - {"variant"}) == (arm is not first), name
        assert arm.seed == 0
        assert arm.loss in LOSSES
        assert arm.depth in DEPTHS
    settings = [asdict(arm) for arm in ARMS.values()]
    assert all(settings.count(each) == 1 for each in settings), "no arm is run twice"


@pytest.mark.parametrize("features", [4, 8, 16, 31, 64])
@torch.no_grad()
def test_features_of_the_lens_blur(features: int) -> None:
    network = PaperLensBlur(features=features).eval()
    picture, depth = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    assert network.features(picture).shape == (1, 3 * (features - 1), 32, 32)
    kernels = network.kernels(picture, depth)
    assert kernels.shape == (1, features, 32, 32)
    assert torch.allclose(kernels.sum(1), torch.ones(1, 32, 32), atol=1e-5)
    assert network(picture, depth).shape == picture.shape


def test_seed_0_starts_as_the_shipped_networks_do(stored: Path) -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        module = ArmTask(replace(EDGE, seed=seed), train=stored, test=stored).module()
        assert isinstance(module, BlurAndStep)
        return module.lens_blur.state_dict()

    built = build("edge", "lens_blur").state_dict()
    zero, one = state(0), state(1)
    assert list(built) == list(zero)
    assert all(torch.equal(value, zero[name]) for name, value in built.items())
    assert not all(torch.equal(value, one[name]) for name, value in built.items())


@torch.no_grad()
def test_the_loss_of_each_kind_of_arm(stored: Path) -> None:
    batch = {name: value[None] for name, value in StoredScenes(stored, config=TRAIN_SCENES, depth="true")[0].items()}
    alone = ArmTask(Arm(loss="l1"), train=stored, test=stored).module().eval()
    assert isinstance(alone, LensBlurAlone)
    base = alone.lens_blur(halve(batch["picture"]), F.avg_pool2d(batch["signed_depth"], 2))
    error = (base - halve(batch["target"])).abs().mean()
    assert float(alone(batch)) == pytest.approx(float(error), rel=1e-4)

    loop = ArmTask(replace(ARMS["edge-standard"], loss="l2"), train=stored, test=stored).module().eval()
    assert isinstance(loop, BlurAndStep)
    low, high = loop.outputs(batch["picture"], batch["signed_depth"], steps=1)
    error = (low - halve(batch["target"])).square().mean() + (high - batch["target"]).square().mean()
    assert float(loop(batch)) == pytest.approx(float(error), rel=1e-3)


# --- Stored scenes


def test_stored_scenes_come_in_another_order_each_round(stored: Path) -> None:
    plain = StoredScenes(stored, config=TRAIN_SCENES, depth="true")
    shuffled = StoredScenes(stored, config=TRAIN_SCENES, depth="true", seed=1)
    pictures = [plain[index]["picture"] for index in range(5)]

    def order(first: int) -> list[int]:
        found = [shuffled[first + index]["picture"] for index in range(5)]
        return [next(i for i, each in enumerate(pictures) if torch.equal(each, one)) for one in found]

    orders = [order(0), order(5), order(10)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in orders)
    assert len({tuple(each) for each in orders}) > 1
    assert torch.equal(plain[7]["picture"], pictures[2])


@pytest.mark.parametrize("depth", DEPTHS)
def test_signed_depth_is_of_the_kind_asked_for(stored: Path, depth: str) -> None:
    scenes = StoredScenes(stored, config=TRAIN_SCENES, depth=depth)
    for index in range(5):
        scene, sample = scenes.scene(index), scenes[index]
        disparity, focal = {"true": scene.disparity, "corrupted": scene.corrupted}.get(depth), scene.focal
        if disparity is None:
            assert scenes.predicted is not None
            disparity = scenes.predicted[index]
            focal = refocused(scene.disparity, disparity, focal=focal)
        expected = (disparity - focal) * scene.aperture
        np.testing.assert_allclose(sample["signed_depth"][0], expected, atol=1e-6)
        np.testing.assert_allclose(sample["target"].permute(1, 2, 0), scene.target)
        assert int(sample["steps"]) == 1


def test_predicted_depth_has_the_range_of_the_truth(stored: Path) -> None:
    scenes = StoredScenes(stored, config=TRAIN_SCENES, depth="predicted")
    assert scenes.predicted is not None
    for index, predicted in enumerate(scenes.predicted):
        truth = scenes.scene(index).disparity
        assert predicted.min() == pytest.approx(truth.min(), abs=0.01)
        assert predicted.max() == pytest.approx(truth.max(), abs=0.01)
        assert (np.diff(predicted[0]) >= 0).all()


def test_the_focal_plane_follows_what_it_lies_on() -> None:
    true = np.array([[0.2, 0.2, 0.8, 0.8]], np.float32)
    estimate = np.array([[0.1, 0.3, 0.5, 0.5]], np.float32)
    assert refocused(true, estimate, focal=0.8) == pytest.approx(0.5)
    assert refocused(true, estimate, focal=0.15) == pytest.approx(0.2)


def test_stored_scenes_that_are_not_there(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(MissingError, match="has no scenes"):
        StoredScenes(tmp_path, config=TRAIN_SCENES, depth="true")
    with pytest.raises(InputError, match="unknown depth 'guessed': choose one of true, corrupted, predicted"):
        StoredScenes(stored, config=TRAIN_SCENES, depth="guessed")
    (tmp_path / "00000.npz").write_bytes((stored / "00000.npz").read_bytes())
    with pytest.raises(MissingError, match="has no predicted depth"):
        StoredScenes(tmp_path, config=TRAIN_SCENES, depth="predicted")


# --- Testing


def test_scores_are_means_over_the_scenes(stored: Path) -> None:
    scenes = StoredScenes(stored, config=TRAIN_SCENES, depth="true")
    found = mean_scores(lambda sample: sample["picture"], scenes)
    expected = [psnr(scene.picture / np.float32(255), scene.target) for scene in map(scenes.scene, range(5))]
    assert found["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert mean_scores(lambda sample: sample["target"], scenes)["ssim"] == pytest.approx(1)


def test_a_picture_of_the_base_is_held_to_the_base(stored: Path) -> None:
    scenes = StoredScenes(stored, config=TRAIN_SCENES, depth="true")
    found = mean_scores(lambda sample: halve(sample["target"]), scenes)
    assert found["psnr"] == pytest.approx(100)
    assert mean_scores(lambda sample: halve(sample["picture"]), scenes)["psnr"] < 60


# --- The command


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, stored: Path) -> Callable[..., list[str]]:
    """The command on the five scenes, with three arms of two steps; gives the lines that it prints."""
    arms = {"loop": ARMS["loop"], "edge-standard": ARMS["edge-standard"], "direct": ARMS["direct"]}
    monkeypatch.setattr(ablations, "ARMS", {name: replace(arm, steps=2) for name, arm in arms.items()})
    monkeypatch.setattr(ablations, "prepare", lambda *_, **__: (stored, stored))
    assert TEST_SCENES.size == TRAIN_SCENES.size
    app = typer.Typer()
    app.command()(ablations.main)

    def run(*arguments: object) -> list[str]:
        result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    return run


@pytest.mark.slow
def test_finished_arms_are_skipped_and_the_rest_goes_on(small: Callable[..., list[str]], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    first = small("--out", out, "--seeds", 1, "--only", "edge-standard")
    assert [line.split(":")[0] for line in first] == ["edge-standard, seed 0"]
    rest = small("--out", out, "--seeds", 1)
    names = [line.split(", seed 0: ")[0] for line in rest]
    assert names == ["reference", "loop", "direct", "upsampling"]
    assert small("--out", out, "--seeds", 1) == []
    results = read_results(out / "results.jsonl")
    assert [each["name"] for each in results] == ["edge-standard", *names]
    scores = {each["name"]: each["scores"] for each in results}
    assert all(set(scores[name]) == set(DEPTHS) for name in ("edge-standard", "loop", "direct"))
    for rows in scores.values():
        for values in rows.values():
            assert {"psnr", "ssim", "psnr_band"} <= values.keys()
    step, loop = scores["upsampling"]["guided step, own base"], scores["loop"]["true"]
    assert step["psnr"] == pytest.approx(loop["psnr"], abs=1e-3)
    assert len(scores["upsampling"]) == 8


def test_a_run_that_was_cut_off_before_its_result_is_not_done_again(
    small: Callable[..., list[str]], tmp_path: Path, stored: Path
) -> None:
    small("--out", tmp_path, "--seeds", 1, "--only", "edge-standard")
    before = (tmp_path / "edge-standard-0" / "metrics.jsonl").read_text()
    expected = read_results(tmp_path / "results.jsonl")[0]["scores"]
    assert run_job("edge-standard", 0, out=tmp_path, train=stored, test=stored) == expected
    assert (tmp_path / "edge-standard-0" / "metrics.jsonl").read_text() == before
    assert json.loads(before.splitlines()[-1])["step"] == 2


def test_order_and_names_of_the_jobs() -> None:
    assert list(jobs(2, ["loop", UPSAMPLING])) == [("loop", 0), ("loop", 1), (UPSAMPLING, 0), (UPSAMPLING, 1)]
    assert list(jobs(2, ["reference"])) == [("reference", 0)]
    assert len(list(jobs(3))) == 3 * (len(ARMS) + 1) + 1
    with pytest.raises(InputError, match="unknown arm 'loops': choose from reference, standard, "):
        list(jobs(1, ["loops"]))
