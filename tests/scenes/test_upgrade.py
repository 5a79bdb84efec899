"""A run goes on from a checkpoint that an older version wrote, before some setting was there."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from deeplens.console.errors import MismatchError
from deeplens.scenes.planes import SceneConfig
from deeplens.training.fit import FitConfig, changed_settings, fit
from deeplens.training.fit_blur import BlurConfig
from tests.training.test_fit import ALONE, CONFIG, ToyTask, checkpoint, toy


@dataclass(frozen=True)
class LaterConfig(FitConfig):
    """A configuration with a setting that older checkpoints lack."""

    added: float = 0.5


def test_a_setting_that_a_checkpoint_lacks_counts_as_its_default(tmp_path: Path) -> None:
    fit(toy(), out=tmp_path, machine=ALONE, stop_at=1)
    later = LaterConfig(**asdict(CONFIG))
    with pytest.raises(MismatchError, match="was written with a different added: choose another --out"):
        fit(ToyTask(replace(later, added=0.6)), out=tmp_path, machine=ALONE, resume=True)
    fit(ToyTask(later), out=tmp_path, machine=ALONE, resume=True)
    assert checkpoint(tmp_path)["step"] == CONFIG.steps


def test_nested_settings_that_a_checkpoint_lacks_count_as_their_defaults() -> None:
    config = BlurConfig(small=SceneConfig(size=64, steps=1))
    stored = asdict(config)
    del stored["small"]["exact"], stored["beta"]
    assert changed_settings(config, stored) == []
    assert changed_settings(replace(config, beta=2.0), stored) == ["beta"]
    assert changed_settings(replace(config, small=SceneConfig(size=64, steps=1, exact=True)), stored) == ["small"]
    assert changed_settings(BlurConfig(), stored) == ["small"]
