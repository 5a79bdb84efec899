"""`deeplens evaluate` from end to end on tiny scenes: what it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.evaluation import evaluate
from deeplens.scenes import planes
from deeplens.scenes import sources as scene_sources
from deeplens.scenes.planes import PhotoConfig
from tests.conftest import Command
from tests.support.tiny import make_sources

SMALL = PhotoConfig(size=336, steps=1, cutout_only=True)
LARGER = PhotoConfig(size=672, steps=2, cutout_only=True)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        sources = make_sources(tmp_path / "sources")
        monkeypatch.setattr(planes, "TEST_CONFIG", SMALL)
        monkeypatch.setattr(planes, "LARGE_TEST_CONFIG", LARGER)
        monkeypatch.setattr(scene_sources, "shipped", lambda _split, _root: sources)

    @pytest.mark.slow
    def test_writes_all_that_was_asked_for(self, deeplens: Command, artifacts: Path, folder: Path) -> None:
        result = deeplens(
            "evaluate", "--runtime", "onnx", "--artifacts", artifacts, "--scenes", 2, "--workers", 1, "--no-baselines",
            "--set", "synthetic", "--set", "large", "--data", folder, "--depth", "true", "--depth", "corrupted",
            "--json", folder / "scores.json", "--markdown", folder / "scores.md", "--sheet", folder / "scenes.png",
        )  # fmt: skip
        assert (result.status, result.err) == (0, "")
        assert "2 scenes of 336×336 px" in result.out
        answer = json.loads((folder / "scores.json").read_text())
        assert answer["weights_sha256"] == {"edge": {"lens_blur": "0" * 64, "upsample": "0" * 64}}
        assert [(each["name"], len(each["pictures"])) for each in answer["sets"]] == [("synthetic", 2), ("large", 2)]
        mean = answer["sets"][0]["rows"][0]["values"]["psnr"]["mean"]
        assert f"{mean:.2f}" in (folder / "scores.md").read_text()
        assert Image.open(folder / "scenes.png").width > 3 * 320

    def test_sets_that_are_not_there_are_named(self, deeplens: Command, artifacts: Path, folder: Path) -> None:
        common = ("--runtime", "onnx", "--artifacts", artifacts, "--scenes", 1, "--workers", 1, "--no-baselines")
        result = deeplens("evaluate", *common, "--data", folder, "--depth", "true")
        assert result.status == 0
        assert "python -m deeplens.evaluation.lens_truth" in " ".join(result.out.split())
        wanted = deeplens("evaluate", *common, "--data", folder, "--set", "lens")
        assert wanted.status == 4
        assert "python -m deeplens.evaluation.lens_truth" in wanted.error

    @pytest.mark.parametrize(
        ("asked", "kinds"),
        [((), ("true", "corrupted", "predicted")), (("--depth", "relative", "--depth", "true"), ("true", "relative"))],
    )
    def test_relative_depth_is_compared_only_where_it_is_asked_for(
        self,
        deeplens: Command,
        artifacts: Path,
        monkeypatch: pytest.MonkeyPatch,
        asked: tuple[str, ...],
        kinds: tuple[str, ...],
    ) -> None:
        jobs = []

        def scored(job: evaluate.Job, *_args: object, **_options: object) -> None:
            jobs.append(job)
            raise InputError("enough")

        monkeypatch.setattr(evaluate, "evaluate", scored)
        common = ("--runtime", "onnx", "--artifacts", artifacts, "--set", "synthetic", "--scenes", 1)
        assert deeplens("evaluate", *common, *asked).status != 0
        assert [job.depths for job in jobs] == [kinds]

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--markdown", "missing/scores.md"),
            ("--sheet", "scenes.txt"),
            ("--runtime", "none"),
            ("--set", "none"),
            ("--depth", "none"),
            ("--depth", "model"),
            ("--depth-model", "none.onnx"),
            ("--variant", "none"),
        ],
    )
    def test_bad_options_end_before_the_work(
        self, deeplens: Command, artifacts: Path, option: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(planes, "make_scene", None)
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
    assert "deeplens-edge[train]" in result.error
