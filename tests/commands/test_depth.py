"""`deeplens depth`: the list, a description, and adding a network: fetched, brought, refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.model.depth_registry import KINDS, DepthCard, registry
from deeplens.runtimes import depth_store
from tests.conftest import ROOT, Command
from tests.support.hub_stand_in import hub
from tests.support.tiny_depth import light_folder, processor

SMALL = "depth-anything-v2-small"
CARD = registry()[SMALL]
ACCEPT = ("--accept-licence", "Apache-2.0")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, empty; at the end nothing unfinished may be in it."""
    path = tmp_path / "store"
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(path))
    yield path
    if path.is_dir():
        assert [each.name for each in path.iterdir() if each.name.startswith(".part")] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return light_folder(tmp_path / "brought")


class TestRegistry:
    def test_every_card_is_whole(self) -> None:
        cards = registry()
        assert len(cards) >= 6
        for name, card in cards.items():
            assert card.kind in KINDS
            assert card.licence != "unknown"
            assert card.traps, name
            assert card.files
            assert card.revision is None or len(card.revision) == 40
            assert card.size is None or card.multiple is None or not any(side % card.multiple for side in card.size)
            assert DepthCard.from_json(json.loads(json.dumps(card.to_json()))) == card

    @pytest.mark.parametrize(
        "wrong", [{"kind": "tflite"}, {"output": "near"}, {"std": (1.0, 0.0, 1.0)}, {"multiple": 0}, {"aspect": "crop"}]
    )
    def test_what_makes_no_sense(self, wrong: dict) -> None:
        with pytest.raises(InputError):
            DepthCard(name="x", **wrong)


class TestList:
    def test_all_are_listed_and_what_was_added(self, deeplens: Command, folder: Path) -> None:
        assert deeplens("depth", "add", "mine", "--from", folder).status == 0
        result = deeplens("depth", "list", "--json", "-")
        networks = {each["name"]: each["added"] for each in json.loads(result.out)["networks"]}
        assert networks == {**dict.fromkeys(registry(), False), "mine": True}

    def test_info_tells_licence_and_traps(self, deeplens: Command) -> None:
        result = deeplens("depth", "info", "depth-pro")
        assert result.status == 0
        assert "commercial use: no" in result.out
        assert all(trap in result.out for trap in registry()["depth-pro"].traps)
        assert "choose one of depth-anything" in deeplens("depth", "info", "depth-amateur").error


class TestBrought:
    def test_a_folder_is_kept_and_described(self, deeplens: Command, folder: Path) -> None:
        result = deeplens("depth", "add", SMALL, "--from", folder, *ACCEPT, "--json", "-")
        assert result.status == 0, result.err
        there = depth_store.find(SMALL)
        assert there.accepted
        assert there.card == CARD
        assert there.sha256 == {path.name: file_sha256(path) for path in folder.iterdir()}
        assert json.loads(result.out)["new"]
        there.verify()
        there.weights.write_bytes(b"another")
        with pytest.raises(MismatchError, match="--replace"):
            there.verify()

    def test_twice_is_once(self, deeplens: Command, folder: Path) -> None:
        first = deeplens("depth", "add", SMALL, "--from", folder, *ACCEPT)
        again = deeplens("depth", "add", SMALL, "--from", folder, *ACCEPT)
        nothing = deeplens("depth", "add", SMALL)
        assert (first.status, again.status, nothing.status) == (0, 0, 0)
        assert "is there already" in again.out
        assert "is there already" in nothing.out

    def test_another_one_needs_a_word(self, deeplens: Command, folder: Path, tmp_path: Path) -> None:
        other = light_folder(tmp_path / "other", seed=1)
        assert deeplens("depth", "add", "mine", "--from", folder).status == 0
        assert "give --replace" in deeplens("depth", "add", "mine", "--from", other).error
        assert deeplens("depth", "add", "mine", "--from", other, "--replace").status == 0
        assert depth_store.find("mine").sha256["model.safetensors"] == file_sha256(other / "model.safetensors")

    @pytest.mark.parametrize("answer", ["MIT", "", "yes"])
    def test_a_wrong_answer_about_the_licence(self, deeplens: Command, folder: Path, answer: str) -> None:
        result = deeplens("depth", "add", SMALL, "--from", folder, "--accept-licence", answer)
        assert result.status == InputError.exit_code
        assert "the licence Apache-2.0" in result.err.splitlines()[-1]
        assert "was not accepted" in result.err.splitlines()[-1]
        assert not depth_store.is_stored(SMALL)

    def test_no_answer(self, deeplens: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        result = deeplens("depth", "add", SMALL, "--from", folder)
        assert "give --accept-licence Apache-2.0" in result.err.splitlines()[-1]

    def test_a_wrong_hash(self, deeplens: Command, folder: Path) -> None:
        right = file_sha256(folder / "model.safetensors")
        result = deeplens("depth", "add", "mine", "--from", folder, "--sha256", "0" * 64)
        assert (result.status, depth_store.is_stored("mine")) == (MismatchError.exit_code, False)
        assert deeplens("depth", "add", "mine", "--from", folder, "--sha256", right.upper()).status == 0

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("model.safetensors", lambda data: data[:-3]),
            ("model.safetensors", lambda _data: b""),
            ("model.safetensors", lambda data: b"\xff" * 8 + data[8:]),
            ("config.json", lambda data: data[:-1]),
            ("preprocessor_config.json", lambda _data: b"[]"),
        ],
    )
    def test_a_damaged_file(self, deeplens: Command, folder: Path, name: str, damage: object) -> None:
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
        result = deeplens("depth", "add", "mine", "--from", folder)
        assert f"{name} is damaged" in result.error
        assert not depth_store.is_stored("mine")

    def test_a_damaged_onnx_and_an_archive(self, deeplens: Command, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"no model")
        (tmp_path / "m.pt").write_bytes(b"no archive")
        told = ("--output", "disparity", "--size", "32x32", "--aspect", "stretch")
        assert "is not an ONNX model" in deeplens("depth", "add", "mine", "--from", tmp_path / "m.onnx", *told).error
        module = ("--module", "torch.nn:Identity")
        assert "is damaged" in deeplens("depth", "add", "mine", "--from", tmp_path / "m.pt", *told, *module).error

    def test_weights_in_another_file_are_not_taken(self, deeplens: Command, tmp_path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"])],
            "split",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 8, 8])],
            [numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")],
        )
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx",
            save_as_external_data=True, location="m.data", size_threshold=0,
        )  # fmt: skip
        told = ("--output", "disparity", "--size", "8x8", "--aspect", "stretch")
        result = deeplens("depth", "add", "mine", "--from", tmp_path / "m.onnx", *told)
        assert (result.status, "in another file" in result.error) == (InputError.exit_code, True)
        assert not depth_store.is_stored("mine")

    def test_files_of_another_network(self, deeplens: Command, folder: Path) -> None:
        settings = json.dumps(processor(518, 518, ensure_multiple_of=32))
        (folder / "preprocessor_config.json").write_text(settings)
        result = deeplens("depth", "add", SMALL, "--from", folder, *ACCEPT)
        assert result.status == MismatchError.exit_code
        assert "say multiple 32, but 14 was expected" in result.err.splitlines()[-1]

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("Mine", "--from", "x.onnx"), "small letters"),
            (("edge", "--from", "x.onnx"), "small letters"),
            (("../up", "--from", "x.onnx"), "small letters"),
            (("mine",), "give your own file with --from"),
            (("mine", "--from", "none.onnx"), "does not exist"),
            (("mine", "--from", "notes.txt"), "no file of a depth network"),
            (("mine", "--from", "w.safetensors"), "--module PACKAGE.MODULE:CLASS"),
            (("moge-2-small", "--accept-licence", "MIT"), "--module PACKAGE.MODULE:CLASS"),
            ((SMALL, "--licence", "MIT"), "leave out --licence"),
            (("mine", "--from", "w.safetensors", "--module", "a:B", "--module-arguments", "3"), "JSON object"),
            (("mine", "--from", "w.safetensors", "--module", "a:B"), "--size WxH"),
            (("mine", "--from", "w.safetensors", "--module", "a:B", "--size", "30x30"), "--output"),
            (
                ("mine", "--from", "w.safetensors", "--module", "a:B", "--size", "30x30", "--output", "depth"),
                "--multiple N",
            ),
            (
                ("mine", "--from", "w.safetensors", "--module", "a:B", "--size", "30x30", "--output", "depth",
                 "--multiple", "14"),
                "must be multiples of 14",
            ),
        ],
    )  # fmt: skip
    def test_what_can_not_be(
        self, deeplens: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, text: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "notes.txt").write_text("notes")
        light_folder(tmp_path / "light")
        (tmp_path / "light" / "model.safetensors").rename(tmp_path / "w.safetensors")
        result = deeplens("depth", "add", *arguments)
        assert result.status == InputError.exit_code
        assert text in result.err.splitlines()[-1]
        assert depth_store.stored() == {}


class TestFetched:
    """The client of huggingface_hub itself, in a process of its own, against a server that stands for the real one."""

    @pytest.fixture(autouse=True)
    def _client(self) -> None:
        pytest.importorskip("huggingface_hub")

    @staticmethod
    def started(address: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "deeplens", "depth", "add", SMALL, *ACCEPT, *arguments],
            env=os.environ | {"HF_ENDPOINT": address, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_DISABLE_XET": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @pytest.mark.slow
    def test_twice_at_once_then_another_file(self, folder: Path) -> None:
        assert CARD.repository is not None
        assert CARD.revision is not None
        with hub(folder, repository=CARD.repository, commit=CARD.revision) as address:
            both = [self.started(address) for _ in range(2)]
            said = [each.communicate(timeout=60) for each in both]
            assert [each.returncode for each in both] == [0, 0], said
            assert sorted("is there already" in out for out, _ in said) == [False, True]
            there = depth_store.find(SMALL)
            assert there.card == CARD
            assert there.sha256 == {path.name: file_sha256(path) for path in folder.iterdir()}

            light_folder(folder, seed=5)
            changed = self.started(address, "--replace")
            out, err = changed.communicate(timeout=60)
            assert changed.returncode == MismatchError.exit_code, (out, err)
            assert "when it was first fetched at the same revision" in err
            assert depth_store.find(SMALL).sha256 == there.sha256

    def test_no_server(self) -> None:
        process = self.started("http://127.0.0.1:9")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (MissingError.exit_code, "")
        lines = err.splitlines()
        assert len(lines) == 2, err  # the licence, and the error
        for part in (
            *CARD.files,
            str(CARD.repository),
            str(CARD.revision),
            f"deeplens depth add {SMALL} --from FOLDER",
        ):
            assert part in lines[1]
        assert not depth_store.is_stored(SMALL)


def test_without_the_client(deeplens: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = deeplens("depth", "add", SMALL, *ACCEPT)
    assert result.status == MissingError.exit_code
    assert "deeplens-edge[depth-networks]" in result.err
    assert "--from FOLDER" in result.err


def test_a_card_that_was_damaged(deeplens: Command, folder: Path, store: Path) -> None:
    assert deeplens("depth", "add", "mine", "--from", folder).status == 0
    (store / "mine" / depth_store.CARD).write_text('{"format": 1}')
    assert "can't be read" in deeplens("depth", "list").error
