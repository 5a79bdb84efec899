"""What an ONNX depth model takes and gives, as it is told or stands in the file's metadata. No torch."""

from dataclasses import dataclass, replace

from deeplens.console.errors import InputError
from deeplens.console.parsing import parse_size, parse_three
from deeplens.model.contract import Contract
from deeplens.model.depth_registry import ASPECTS, CHANNELS, OUTPUTS, RESAMPLINGS

LONGEST = 8192
"""Largest side of a depth model's input, in pixels."""

PREFIX = "deeplens.depth."
"""Begins the keys in the metadata."""


def depth_convention(contract: Contract) -> dict[str, str]:
    """What `--depth-model` reads in an artefact, as in any other depth model: see `runtimes.depth_model`."""
    assert contract.fixed_size is not None
    height, width = contract.fixed_size
    return {
        f"{PREFIX}size": f"{width}x{height}",
        f"{PREFIX}mean": "0,0,0",
        f"{PREFIX}std": "1,1,1",
        f"{PREFIX}channels": "rgb",
        f"{PREFIX}output": "disparity",
    }


@dataclass(frozen=True)
class Convention:
    """What a depth model takes and gives; None: not said. See `runtimes.depth_model` for the meaning of each.

    Attributes:
        size: height and width.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    channels: str | None = None
    output: str | None = None
    aspect: str | None = None
    multiple: int | None = None
    resample: str | None = None
    output_name: str | None = None

    @classmethod
    def parsed(cls, texts: dict[str, str | None]) -> "Convention":
        """From text by the names of the attributes, as in metadata and on the command line.

        Raises:
            InputError: a value that makes no sense.
        """
        size, mean, std, channels, output = (texts.get(name) for name in ("size", "mean", "std", "channels", "output"))
        aspect, multiple, resample = (texts.get(name) for name in ("aspect", "multiple", "resample"))
        choices = ((channels, CHANNELS), (output, OUTPUTS), (aspect, ASPECTS), (resample, RESAMPLINGS))
        for value, allowed in choices:
            if value is not None and value not in allowed:
                raise InputError(f"unknown value '{value}' for the depth model: choose {' or '.join(allowed)}")
        subtracted, divisor = (None if each is None else parse_three(each) for each in (mean, std))
        found = cls(
            size=_size(size),
            mean=subtracted,
            std=divisor,
            channels=channels,
            output=output,
            aspect=aspect,
            multiple=_multiple(multiple),
            resample=resample,
            output_name=texts.get("output_name"),
        )
        if found.std is not None and 0.0 in found.std:
            raise InputError("the depth model's std must not contain 0, because pixels are divided by it")
        return found

    def over(self, other: "Convention") -> "Convention":
        """What this one says, and what `other` says where this one does not."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        return replace(other, **said)


def _multiple(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LONGEST):
        raise InputError(f"the depth model's multiple must be a whole number from 1 to {LONGEST}, not '{text}'")
    return int(text)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, height = parse_size(text)
    if not (2 <= width <= LONGEST and 2 <= height <= LONGEST):
        raise InputError(f"the depth model's input size must be from 2x2 to {LONGEST}x{LONGEST}, not {text}")
    return height, width
