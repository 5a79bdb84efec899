"""Several processes fit as one does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deeplens.training.fit import fit
from tests.conftest import ROOT
from tests.training.test_fit import ALONE, Toy, assert_equal, toy

_SCRIPT = """
import os, sys
from pathlib import Path
import torch
from tests.training.test_fit import toy
from deeplens.training.fit import Machine, fit
out, devices = Path(sys.argv[1]), int(sys.argv[2])
task = toy()
fit(task, out=out, machine=Machine(devices=devices, accelerator="cpu", workers=0, threads=1, progress=False))
state = {"weights": task.modules[0].state_dict(), "asked": task.samples.asked}
torch.save(state, out / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")
"""


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[[Path, int], None]:
    (tmp_path / "script.py").write_text(_SCRIPT)

    def run(out: Path, devices: int) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(tmp_path / "script.py"), str(out), str(devices)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


@pytest.mark.slow
def test_two_processes_fit_as_one_does(tmp_path: Path, run_script: Callable[[Path, int], None]) -> None:
    run_script(tmp_path / "two", 2)
    ranks = [torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in range(2)]
    assert_equal(ranks[0]["weights"], ranks[1]["weights"])
    assert [rank["asked"] for rank in ranks] == [list(range(rank, 24, 2)) for rank in range(2)]

    fit(toy(), out=tmp_path / "one", machine=ALONE)
    one, two = (load_file(tmp_path / name / "edge_toy.safetensors") for name in ("one", "two"))
    start = Toy().network.state_dict()
    for name, expected in one.items():
        if expected.is_floating_point():
            assert (two[name] - expected).abs().max() < 1e-5, name
    assert max(float((one[name] - start[name]).abs().max()) for name in one) > 0.01, "the control: they have learnt"
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 1, "one process writes"
