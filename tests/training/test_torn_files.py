"""A fit goes on after a kill or a broken disk: torn lines are passed over, and a torn checkpoint is one line."""

import pickle
from pathlib import Path

import pytest

from deeplens.console.errors import InputError
from deeplens.training.fit import fit
from tests.training.test_fit import ALONE, toy


class Caller:
    """Pickled, it calls a function when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_torn_files(tmp_path: Path) -> None:
    fit(toy(), out=tmp_path, machine=ALONE, stop_at=3)
    metrics, checkpoint = tmp_path / "metrics.jsonl", tmp_path / "checkpoint.ckpt"
    whole, lines = checkpoint.read_bytes(), metrics.read_text()
    metrics.write_bytes(lines.encode() + b'{"step": 2, "lo\n[[[\n\xff\n{"step": "a"}\n{"step": 3')
    fit(toy(), out=tmp_path, machine=ALONE, resume=True, stop_at=3)
    assert metrics.read_text() == lines
    evil = pickle.dumps({"config": Caller(tmp_path / "ran")})
    for content in (b"", whole[: len(whole) // 2], b"PK\3\4" + whole[4:400], b"no checkpoint", evil):
        checkpoint.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.ckpt can't be read as a checkpoint"):
            fit(toy(), out=tmp_path, machine=ALONE, resume=True)
    assert not (tmp_path / "ran").exists()
