"""A fit of a second that saves after each step: `python -m tests.trust.small_fit FOLDER`."""

import sys
from dataclasses import replace
from pathlib import Path

from deeplens.training.fit import fit
from tests.training.test_fit import ALONE, CONFIG, ToyTask

if __name__ == "__main__":
    out = Path(sys.argv[1])
    machine = replace(ALONE, checkpoint_seconds=0.0, validate_every=1)
    fit(ToyTask(replace(CONFIG, steps=60)), out=out, resume=(out / "checkpoint.ckpt").exists(), machine=machine)
