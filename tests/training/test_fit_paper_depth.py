"""`paper` depth from scratch: the commands of docs/training.md for a GPU, on a toy."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from deeplens.model.shipped import weights_file
from deeplens.scenes.mattes import matte_path
from deeplens.scenes.sources import Sources
from deeplens.training.fit import Machine, fit
from deeplens.training.fit_depth import DepthConfig, DepthTask, DepthWithLoss
from tests.conftest import ROOT
from tests.support.tiny import make_sources

pytestmark = pytest.mark.slow


class Unjudged(DepthTask):
    """Without the validation, which takes longer than the toy."""

    def validate(self, average: DepthWithLoss) -> dict[str, float]:  # noqa: ARG002
        return {}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sources, Path]:
    root = tmp_path_factory.mktemp("data")
    sources = make_sources(root)
    disc = np.hypot(*(np.indices((320, 320)) - 160)) < 90
    for photo in sources.backgrounds + sources.subjects:
        matte_path(photo, root).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255) * disc.astype(np.uint8)).save(matte_path(photo, root))
    return sources, root


def documented() -> dict[str, str]:
    """Option → value of the command in docs/training.md."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^python -m deeplens\.training\.fit_depth (--variant paper .*)$", text, flags=re.M)
    words = shlex.split(line, comments=True)
    return dict(zip(words[::2], words[1::2], strict=True))


def test_the_command_is_of_the_size_that_the_document_states() -> None:
    """448,000 samples: in under an hour at the 141 a second that were measured on a part of a GPU."""
    options = documented()
    assert int(options["--steps"]) * int(options["--batch"]) / 141 < 3600
    assert options["--accelerator"] == "cuda"


def test_it_learns_on_a_toy(data: tuple[Sources, Path], tmp_path: Path) -> None:
    options, (sources, root) = documented(), data
    config = DepthConfig(
        variant="paper", learning_rate=float(options["--learning-rate"]), gradient=float(options["--gradient"]),
        teacher=str(weights_file("edge", "depth")), size=64, batch=2, steps=8, ema=0.5, warmup=2, precision="32-true",
    )  # fmt: skip
    task = Unjudged(config, train=sources, validation=sources, data=root)
    stream = task.dataset()
    batch = default_collate([stream[index] for index in range(100, 102)])

    def loss_of(module: DepthWithLoss) -> float:
        with torch.no_grad():
            return float(module.train()(batch))

    before = loss_of(task.module())
    fit(task, out=tmp_path, machine=Machine(accelerator="cpu", workers=0, progress=False, validate_every=100))
    after = loss_of(DepthWithLoss(replace(config, start=str(tmp_path / "paper_depth.safetensors"))))
    assert after < 0.9 * before
