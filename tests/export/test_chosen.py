"""What the export commands make unless told otherwise, and that nothing untrained is made unasked."""

import json
from pathlib import Path

import pytest

from deeplens.console.errors import InputError, MissingError
from deeplens.export import coreml, onnx_graph
from deeplens.export.chosen import VARIANT, chosen_networks, chosen_variants
from deeplens.export.precision_plan import FOLDER
from deeplens.model.contract import NETWORKS
from deeplens.model.shipped import WEIGHTS
from tests.conftest import Command
from tests.support.device import needs

TRAINED = {
    variant: tuple(name for name in NETWORKS if (WEIGHTS / f"{variant}_{name}.safetensors").is_file())
    for variant in ("edge", "paper")
}

COMMANDS = ("onnx", "trt", "coreml")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, object]]:
    """(variant, network, weights) of all that the commands for ONNX and Core ML would export."""
    found: list[tuple[str, str, object]] = []

    def onnx(*, variants: list[str], networks: list[str], weights: object, **_: object) -> list[object]:
        found.extend((variant, network, weights) for variant in variants for network in networks)
        return []

    def packages(jobs: list[coreml.Job], **_: object) -> list[object]:
        found.extend(dict.fromkeys((job.variant, job.network, job.weights) for job in jobs))
        return []

    monkeypatch.setattr(onnx_graph, "export_all", onnx)
    monkeypatch.setattr(coreml, "export_all", packages)
    return found


def exported(result_out: str, made: list[tuple[str, str, object]]) -> set[tuple[str, str]]:
    """Variant and network: of what would be exported, or of the engines of a dry run."""
    if made:
        return {(variant, network) for variant, network, _ in made}
    engines = [line.split("_fp16")[0].split("_", 1) for line in result_out.splitlines() if "_fp16_" in line]
    return {(variant, network) for variant, network in engines}


def arguments(command: str) -> list[str]:
    return ["export", command, *(["--target", "rtx", "--dry-run"] if command == "trt" else [])]


@pytest.mark.parametrize("command", COMMANDS)
class TestCommands:
    def test_edge_unless_told(self, deeplens: Command, command: str, made: list[tuple[str, str, object]]) -> None:
        result = deeplens(*arguments(command))
        assert (result.status, result.err) == (0, ""), result.err
        assert exported(result.out, made) == {("edge", network) for network in NETWORKS}
        assert {weights for *_, weights in made} <= {"shipped"}

    def test_what_is_untrained_is_left_out(
        self, deeplens: Command, command: str, made: list[tuple[str, str, object]]
    ) -> None:
        result = deeplens(*arguments(command), "--variant", "paper", "--variant", "edge")
        assert result.status == 0, result.err
        assert exported(result.out, made) == {(each, name) for each, names in TRAINED.items() for name in names}
        assert result.err.count("--weights initial") == 2 * len(NETWORKS) - sum(map(len, TRAINED.values()))

    def test_a_network_that_is_named_is_not_left_out_in_silence(
        self, deeplens: Command, command: str, made: list[tuple[str, str, object]]
    ) -> None:
        result = deeplens(*arguments(command), "--variant", "paper", "--network", "depth")
        assert (result.status, made) == (MissingError.exit_code, [])
        assert "no trained weights are shipped for the paper depth network" in result.error

    def test_untrained_where_asked(self, deeplens: Command, command: str, made: list[tuple[str, str, object]]) -> None:
        result = deeplens(*arguments(command), "--variant", "paper", "--weights", "initial")
        assert (result.status, result.err) == (0, ""), result.err
        assert exported(result.out, made) == {("paper", network) for network in NETWORKS}
        assert {weights for *_, weights in made} <= {"initial"}

    def test_unknown_names(self, deeplens: Command, command: str, made: list[tuple[str, str, object]]) -> None:
        for option in ("variant", "network"):
            result = deeplens(*arguments(command), f"--{option}", "huge")
            assert (result.status, f"unknown {option} 'huge'" in result.error) == (InputError.exit_code, True)
        assert made == []


def test_a_plan_names_its_variant() -> None:
    assert chosen_variants(None, "mixed", FOLDER / "edge.json") == ("edge",)
    assert chosen_variants(None, "mixed", None) == chosen_variants([], "fp32", None) == (VARIANT,)
    assert chosen_variants(["paper"], "mixed", FOLDER / "edge.json") == ("paper",)


def test_weights_of_ones_own_are_taken_for_all(tmp_path: Path) -> None:
    notes: list[str] = []
    assert chosen_networks(["paper"], None, tmp_path, report=notes.append) == {"paper": tuple(NETWORKS)}
    assert notes == []


def test_core_ml_without_torch_is_one_line(deeplens_process: Command) -> None:
    result = deeplens_process("export", "coreml", without=["torch"])
    assert result.status == MissingError.exit_code, result.err
    assert "deeplens-edge[coreml]" in result.error


@needs("torch")
class TestGolden:
    def test_edge_unless_told(self, deeplens: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from deeplens.parity_tests import release

        asked: list[object] = []

        def make(_out: Path, *, variants: list[str], **_: object) -> list[Path]:
            asked.extend(variants)
            return []

        monkeypatch.setattr(release, "make", make)
        assert deeplens("golden", "--out", tmp_path).status == 0
        assert asked == ["edge"]

    def test_check_is_of_the_variant_that_is_named(self, deeplens: Command, tmp_path: Path) -> None:
        """Whether a variant's vectors are looked at shows in what is said of a file that is broken."""
        (tmp_path / "edge_depth_320x320.json").write_text(json.dumps({"variant": "edge"}))
        (tmp_path / "paper_depth_320x320.json").write_text(json.dumps({"variant": "paper"}))
        for variant in ("edge", "paper"):
            result = deeplens("golden", "--check", tmp_path, "--variant", variant, "--runtime", "onnx")
            assert (result.status, f"{variant}_depth" in result.error) == (InputError.exit_code, True), result.err
        (tmp_path / "paper_depth_320x320.json").unlink()
        result = deeplens("golden", "--check", tmp_path, "--variant", "paper", "--runtime", "onnx")
        assert result.status == MissingError.exit_code
        assert f"golden vectors of paper in {tmp_path}" in result.error
        assert "`deeplens golden --variant paper --out" in result.error
