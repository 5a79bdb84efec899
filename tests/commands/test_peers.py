"""`deeplens peers`: each peer in a process of its own, on the same scenes, judged by the same truth."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.commands import peers, peers_measure
from deeplens.commands.peers_measure import Measured, judged, results
from deeplens.commands.peers_work import DEPTHS, PEERS, Setting, Worker
from deeplens.console.errors import MissingError
from deeplens.evaluation.baselines import layered, opencv
from deeplens.evaluation.metrics import psnr
from deeplens.evaluation.sets import blur_radius
from deeplens.runtimes import RUNTIMES
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.ort import OnnxRuntime
from deeplens.scenes.planes import PhotoConfig, Scene, make_scene
from tests.conftest import Command
from tests.support.tiny import make_sources

needs_opencv = pytest.mark.skipif(
    find_spec("cv2") is None, reason="OpenCV is missing: pip install 'deeplens-edge[peers]'"
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    sources = make_sources(tmp_path_factory.mktemp("sources"))
    config = PhotoConfig(size=96, steps=0, cutout_only=True)
    made = [make_scene(sources, seed=1, index=index, config=config) for index in range(3)]
    return [replace(scene, aperture=1.0) for scene in made]


@needs_opencv
def test_the_same_layers_by_opencv(scenes: list[Scene]) -> None:
    """Against the NumPy code: other borders and other rounding, and nothing else."""
    for scene in scenes:
        given = {"focal": scene.focal, "aperture": 1.0, "radius": 4 * blur_radius(scene)}
        due = layered.blur(scene.picture, scene.disparity, **given)
        found = opencv.blur(scene.picture, scene.disparity, **given)
        inner = np.s_[16:-16, 16:-16]
        assert psnr(found[inner] / 255, due[inner].astype(np.float32) / 255) > 50
        assert psnr(found[inner] / 255, scene.picture[inner].astype(np.float32) / 255) < 45, "something is blurred"
    sharp = opencv.blur(scene.picture, scene.disparity, focal=scene.focal, aperture=0.0, radius=9.0)
    np.testing.assert_array_equal(sharp, scene.picture)


def test_without_opencv_it_says_what_to_install(scenes: list[Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.use_threads(1)
    with pytest.raises(MissingError, match=r"pip install 'deeplens-edge\[peers\]'"):
        opencv.blur(scenes[0].picture, scenes[0].disparity, focal=0.5, aperture=1.0, radius=5.0)


def test_networks_and_classical_renderers_get_the_same(scenes: list[Scene], artifacts: Path, tmp_path: Path) -> None:
    peers_measure.store(scenes, tmp_path)
    setting = Setting(tmp_path, artifacts, 1)
    scene = scenes[1]
    _, by_networks = Worker(PEERS["onnx"], setting).picture(1, "corrupted")
    with OnnxRuntime(artifacts=artifacts) as runtime:
        due = Harness(runtime).refocus(
            scene.picture, scene.corrupted, focal_disparity=scene.focal, aperture=scene.aperture
        )
    np.testing.assert_array_equal(by_networks, due)
    seconds, by_layers = Worker(PEERS["layered"], setting).picture(1, "true")
    assert seconds > 0
    expected = layered.blur(
        scene.picture, scene.disparity, focal=scene.focal, aperture=scene.aperture, radius=blur_radius(scene)
    )
    np.testing.assert_array_equal(by_layers, expected)


def test_every_precision_of_openvino_is_a_peer() -> None:
    candidates = [each.candidate for each in PEERS.values() if each.candidate is not None]
    found = tuple(each.precision for each in candidates if each.runtime == "openvino")
    assert found == RUNTIMES["openvino"].precisions


def measured(name: str, seconds: list[float], quality: float) -> Measured:
    scores = [{"psnr": quality, "ssim": 0.9, "psnr_band": None, "ssim_band": None}]
    rounds = dict(enumerate(seconds))
    return Measured(PEERS[name], rounds=rounds, quality=dict.fromkeys(DEPTHS, scores), peak=10**8)


def test_ratios_are_taken_within_the_rounds_that_both_had() -> None:
    gone = Measured(PEERS["openvino"], missing="OpenVINO can't be imported")
    rows = results([gone, measured("onnx", [0.1, 0.2, 0.4], 30), measured("paper", [1.0, 4.0], 40)])
    assert rows[0] == {
        "name": "openvino", "what": PEERS["openvino"].what, "kind": "networks", "missing": "OpenVINO can't be imported"
    }  # fmt: skip
    assert rows[1]["ratio"]["ratio"] == 1
    assert rows[2]["ratio"] == {"to": "onnx", **rows[2]["ratio"]}
    assert rows[2]["ratio"]["ratio"] == pytest.approx((0.1 + 0.05) / 2)
    assert (rows[2]["p50"], rows[2]["runs"]) == (2.5, 2)
    assert rows[2]["quality"]["true"]["psnr"] == 40


def report() -> dict[str, Any]:
    found = [measured("onnx", [0.1], 30), measured("layered", [1.0], 40), Measured(PEERS["opencv"], missing="no cv2")]
    return {
        "scenes": "Planes", "size": [64, 96], "count": 2, "valid": False, "remarks": ["other work ran"],
        "results": results(found), "unblurred": 20.0,
        "machine": {"threads": 1, "cores": 2, "processor": "a processor"},
    }  # fmt: skip


def test_the_table_and_the_plot(tmp_path: Path) -> None:
    made = report()
    text = peers.as_markdown(made)
    assert text.startswith("### Planes: 2 of 96×64 px, 1 of 2 cores of a processor")
    assert "| layers, SciPy | 1000 | 0.10 | 0.10 … 0.10 | 1 | 100 | 40.00 | none | 40.00 | none | scipy" in text
    assert "- INVALID: do not use these times\n- other work ran\n- layers, OpenCV was not run: no cv2" in text
    peers.draw(made, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size == (1320, 600)


@pytest.mark.slow
def test_from_end_to_end(
    scenes: list[Scene], artifacts: Path, tmp_path: Path, deeplens: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_scenes", lambda *_: ("Tiny", scenes[:2]))
    options = ("--threads", "1", "--rounds", "2", "--artifacts", artifacts, "--json", tmp_path / "peers.json")
    chosen = [part for name in ("onnx-int8", "layered", "onnx") for part in ("--peer", name)]
    assert deeplens("peers", *chosen, *options).status == 0
    found = json.loads((tmp_path / "peers.json").read_text())
    missing, layers, networks = found["results"]
    assert "there is no onnx artefact of edge" in missing["missing"]
    assert layers["ratio"]["to"] == "layered"
    assert layers["runs"] == networks["runs"] == 2
    assert layers["peak_bytes"] > 10**7
    due = [judged(each, scene)["psnr"] for each, scene in zip(_layers(scenes[:2]), scenes, strict=False)]
    assert layers["quality"]["true"]["psnr"] == pytest.approx(np.mean([each for each in due if each is not None]))


def _layers(scenes: list[Scene]) -> list[np.ndarray]:
    return [
        layered.blur(each.picture, each.disparity, focal=each.focal, aperture=each.aperture, radius=blur_radius(each))
        for each in scenes
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--peer", "gimp"), "unknown peer 'gimp': choose onnx, onnx-int8"),
        (("--set", "moon"), "unknown set 'moon': choose synthetic"),
        (("--set", "lens", "--size", "640"), "--size is for the set synthetic"),
        (("--size", "650"), "--size 650 is no multiple of 32"),
    ],
)
def test_what_there_is_none_of(options: tuple[str, ...], said: str, deeplens: Command) -> None:
    assert said in deeplens("peers", *options).error
