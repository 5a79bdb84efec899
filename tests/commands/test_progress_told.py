"""Everything that takes long tells how far it is, on standard error, also where that is a pipe."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.commands import folder
from deeplens.commands.folder_jobs import Job
from deeplens.console import progress
from deeplens.export import coreml, coreml_jobs, onnx_graph, trt
from deeplens.model import build
from deeplens.parity_tests import release
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.run import run
from deeplens.runtimes.focus import Focus

ENTRY = SimpleNamespace(path="a.onnx", size=None, sha256="0" * 64, weights_sha256="1" * 64, more={"bytes": 1})


class Told:
    """What was written on standard error since it was last asked; nothing may be on standard output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self) -> list[str]:
        found = self._capsys.readouterr()
        assert found.out == ""
        return found.err.splitlines()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    return Told(capsys)


def given(*_arguments: Any, **_named: Any) -> Any:
    return ENTRY


def test_exports(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr(build, "load", given)
    monkeypatch.setattr(onnx_graph, "traced_module", given)
    monkeypatch.setattr(onnx_graph, "export_module", given)
    onnx_graph.export_all(
        variants=["edge"],
        networks=["depth", "upsample"],
        out=tmp_path,
        weights="shipped",
        shapes=[],
        report=said.append,
    )
    assert "Exporting to ONNX: 50 %, edge upsample, 0 s so far" in told()
    monkeypatch.setattr(coreml, "export", given)
    recipes = list(coreml_jobs.recipes("upsample", shapes=["fixed"], photo_size=(512, 512)))
    coreml.export_all(
        [coreml.Job("edge", "upsample", "shipped", each) for each in recipes], out=tmp_path, report=said.append
    )
    assert any(line.startswith("Exporting to Core ML: 50 %, edge upsample, fixed") for line in told())
    monkeypatch.setattr(trt, "export", lambda *_, **__: (ENTRY, False))
    monkeypatch.setattr(trt, "graph", given)
    jobs = [SimpleNamespace(variant="edge", network=name, precision="fp16") for name in ("depth", "upsample")]
    trt.export_all(jobs, None, out=tmp_path, weights="shipped", command="", report=said.append)  # type: ignore[arg-type]
    assert any(line.startswith("Building engines: 50 %") for line in told())
    assert len(said) == 2 + len(recipes) + 2


def test_golden_vectors(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(release, "written", lambda folder, *_: folder)
    release.make(tmp_path, variants=["edge"], report=lambda _line: None)
    assert "Making golden vectors: 33 %, edge lens_blur, 0 s so far" in told()


def test_parity(told: Told, tmp_path: Path) -> None:
    run(Request(variants=["paper"], runtimes=["onnx"], precisions=["fp32"], artifacts=tmp_path, weights=tmp_path))
    assert any(line.startswith("Making inputs of paper: ") for line in told())


class Stages:
    """In place of the networks: each photo goes through untouched."""

    settings: dict[str, Any] = {}  # noqa: RUF012
    networks: dict[str, Any] = {}  # noqa: RUF012
    stages = (("write", lambda job: {"bytes": job.photo.stat().st_size, "megapixels": 0.0}),)

    def __init__(self, look: Any) -> None:
        self.look = look

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *details: object) -> None: ...


def test_a_folder(told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder, "Refocusing", Stages)
    photos = [tmp_path / f"{index}.png" for index in range(4)]
    for path in photos:
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    jobs = [Job(path, tmp_path / "out" / path.name, Focus(nearest=True)) for path in photos]
    folder.refocus_folder(jobs, tmp_path / "out", SimpleNamespace(threads=1))  # type: ignore[arg-type]
    assert "Refocusing: 50 %, 2 of 4 photos, 0 s so far" in told()
