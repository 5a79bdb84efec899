"""`--depth-network` in each command: our own network as a user's file gives what ours gives, and another does not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.benchmarks import machine
from deeplens.benchmarks import measure as measuring
from deeplens.evaluation import depth_sources, depth_table, focus_picks
from deeplens.evaluation.focus_picks import read_picks
from deeplens.model.contract import composed
from deeplens.runtimes import depth_store, open_runtime
from deeplens.runtimes.harness import Harness
from deeplens.scenes import planes
from deeplens.scenes import sources as scene_sources
from deeplens.scenes.planes import PhotoConfig
from tests.benchmarks.test_bench_machine import SPEED
from tests.conftest import ROOT, Command
from tests.support.studio_browser import Browser
from tests.support.tiny import make_sources, textured

OURS, OTHER = "ours", "other"
"""The depth network of the artefacts as a user's file, and the same file, said to give distances."""

NAMES = (None, OURS, OTHER)


@pytest.fixture
def common(
    deeplens: Command, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str | None], tuple[object, ...]]:
    """Options by the name of a depth network, both of which are there; None: without one."""
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(tmp_path / "store"))
    for name, output in ((OURS, "disparity"), (OTHER, "depth")):
        told = ("--from", artifacts / "onnx" / "edge_depth.onnx", "--output", output)
        result = deeplens("depth", "add", name, *told, "--size", "320x320", "--aspect", "stretch")
        assert result.status == 0, result.err
    options = ("--runtime", "onnx", "--artifacts", artifacts)
    return lambda name: options if name is None else (*options, "--depth-network", name)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    path = tmp_path / "camera.png"
    Image.fromarray(textured(64, 96, seed=3)).save(path)
    return path


def differ_by_name(answers: list[Any]) -> None:
    """What came of no name, of ours as a user's file, and of another network."""
    without, ours, other = answers
    assert without == ours
    assert without != other


def test_refocus_and_folder(
    deeplens: Command, common: Callable[..., tuple[object, ...]], camera: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    camera.rename(tmp_path / "in" / "a.png")
    for source in (tmp_path / "in" / "a.png", tmp_path / "in"):
        found = []
        for name in NAMES:
            out = tmp_path / f"{source.stem}-{name}"
            out = out if source.is_dir() else out.with_suffix(".png")
            result = deeplens("refocus", source, "--focus", "0.3,0.7", *common(name), "-o", out)
            assert result.status == 0, result.err
            written = next(out.glob("*.png")) if source.is_dir() else out
            found.append(np.asarray(Image.open(written)).tobytes())
        differ_by_name(found)


def test_rack(deeplens: Command, common: Callable[..., tuple[object, ...]], camera: Path, tmp_path: Path) -> None:
    found, path = [], ("--from", "0.2,0.2", "--to", "0.8,0.8", "--seconds", 0.2, "--fps", 10, "--lossless")
    for name in NAMES:
        out = tmp_path / f"{name}.webp"
        result = deeplens("rack", camera, *path, *common(name), "-o", out, "--json", tmp_path / "told.json")
        assert result.status == 0, result.err
        assert json.loads((tmp_path / "told.json").read_text())["depth_network"] == name
        found.append(out.read_bytes())
    differ_by_name(found)
    both = deeplens("rack", camera, *path, *common(OURS), "--depth", "embedded", "-o", tmp_path / "none.webp")
    assert (both.status, "give only one of these options" in both.error) == (2, True)


@pytest.mark.slow
def test_studio(common: Callable[..., tuple[object, ...]], artifacts: Path, camera: Path, tmp_path: Path) -> None:
    """The page's own map of a photo is that of the network that was named."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deeplens", "studio", camera, "--no-open", "--port", "0", *common(OTHER)]
    with subprocess.Popen(
        [str(each) for each in command], env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        address = program.stdout.readline().split()[0]
        port = int(address.split(":")[2].split("/")[0])
        browser = Browser(port)
        browser.ask("GET", address.removeprefix(f"http://127.0.0.1:{port}"))
        (photo,) = browser.ask("GET", "/api/about").json["photos"]
        reply = browser.ask("GET", f"/api/photos/{photo['photo']}/disparity")
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=20)
    maps = []
    for name in NAMES:
        with open_runtime("onnx", variant=composed("edge", name), artifacts=artifacts) as runtime:
            maps.append(Harness(runtime).disparity(np.asarray(Image.open(camera))).tobytes())
    differ_by_name(maps)
    assert (reply.status, reply.body) == (200, maps[2])


@pytest.mark.slow
def test_evaluate(
    deeplens: Command, common: Callable[..., tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = make_sources(tmp_path / "sources")
    monkeypatch.setattr(planes, "TEST_CONFIG", PhotoConfig(size=336, steps=1, cutout_only=True))
    monkeypatch.setattr(scene_sources, "shipped", lambda _split, _root: sources)
    found = []
    for name in NAMES:
        result = deeplens(
            "evaluate", *common(name), "--scenes", 1, "--workers", 1, "--no-baselines", "--set", "synthetic",
            "--data", tmp_path, "--depth", "predicted", "--json", tmp_path / "scores.json",
        )  # fmt: skip
        assert result.status == 0, result.err
        (made,) = json.loads((tmp_path / "scores.json").read_text())["sets"]
        found.append([row["values"] for row in made["rows"]])
    differ_by_name(found)


@pytest.mark.usefixtures("common")
def test_the_depth_table_and_the_focus_picks(artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(textured(60, 90, seed=1)).save(tmp_path / "set" / "a.png")
    np.save(tmp_path / "set" / "a_disparity.npy", np.hypot(*np.mgrid[0:60, 0:90]).astype(np.float32))
    left = (np.indices((320, 320))[1] < 160).astype(np.float32)
    monkeypatch.setattr(depth_sources, "open_teacher", lambda _: lambda _: left)
    columns = "photo\tsubject\tsubject_x\tsubject_y\tbackground\tbackground_x\tbackground_y\tsplit\n"
    (tmp_path / "picks.tsv").write_text(f"{columns}data/set/a.png\ts\t0.1\t0.9\tb\t0.9\t0.1\tval\n")
    monkeypatch.setattr(focus_picks, "read_picks", lambda: read_picks(tmp_path / "picks.tsv"))
    errors, margins = [], []
    for name in (OURS, OTHER):
        given: dict[str, Any] = {
            "variant": ["edge"], "runtime": "onnx", "artifacts": artifacts, "depth_network": name, "data": tmp_path,
        }  # fmt: skip
        depth_table.main(on=[f"folder:{tmp_path / 'set'}"], json=tmp_path / "t.json", **given)
        (told,) = json.loads((tmp_path / "t.json").read_text())["sets"]
        rows = {row["depth"]: row["mae"]["mean"] for row in told["rows"]}
        errors += [rows["edge"], rows[name]]
        focus_picks.main(json=tmp_path / "p.json", **given)
        (pick,) = json.loads((tmp_path / "p.json").read_text())["pairs"]
        margins += [pick["margins"]["edge"], pick["margins"][name]]
    for figures in (errors, margins):
        assert figures[0] == figures[2]  # ours does not change with another beside it
        differ_by_name([figures[0], figures[1], figures[3]])


@pytest.mark.slow
def test_bench(
    deeplens: Command, common: Callable[..., tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which network was measured, with times of its own and a ratio to another candidate."""
    monkeypatch.setattr(measuring, "PAUSE", 0.0)
    monkeypatch.setattr(machine, "speed", lambda **_: SPEED)
    result = deeplens(
        "bench", "--size", "64x48", "--threads", 1, "--runs", 2, "--seconds", 0, "--warm-up", 0, "--item", "depth",
        *common(OURS), "--json", tmp_path / "bench.json",
    )  # fmt: skip
    assert result.status == 0, result.err
    answer = SimpleNamespace(**json.loads((tmp_path / "bench.json").read_text()))
    (row,) = answer.results
    assert row["variant"] == f"edge+{OURS}"
    assert row["items"]["depth"]["min"] > 0
