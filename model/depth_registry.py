"""Depth networks of others: what is known of each, and what a user's own network is described with. Imports no torch.

The data are in `depth_networks.json`. What is null there is not known, and has to be told or read from the network's
own files.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError

FILE = Path(__file__).with_name("depth_networks.json")

FORMAT = 1
"""Of the registry and of the cards in the user's folder."""

KINDS = ("transformers", "onnx", "module")
ASPECTS = ("keep", "stretch")
RESAMPLINGS = ("bilinear", "bicubic")
CHANNELS = ("rgb", "bgr")
OUTPUTS = ("disparity", "depth")
COMMERCIAL = ("yes", "no", "unknown")


@dataclass(frozen=True, kw_only=True)
class DepthCard:
    """What is known of a depth network. None: not known.

    Attributes:
        name: what `--depth-network` takes: letters, digits, dots and hyphens.
        title: one line for people.
        parameters: millions of weights.
        licence: its name, as its authors write it.
        commercial: whether the licence allows commercial use: "yes", "no" or "unknown".
        repository, revision, files: where the Hugging Face client gets it: repository, full commit, and paths there.
        kind: "transformers": a folder of that library (config.json, model.safetensors). "onnx": one ONNX file.
            "module": a PyTorch class that the user names, and a file of its weights.
        module: of kind "module": "package.module:Class".
        arguments: keyword arguments that the class is called with.
        size: height and width in pixels that the network was trained at.
        multiple: height and width must be multiples of this, in pixels.
        aspect: "keep": the photo keeps its aspect ratio. "stretch": it is stretched to `size`.
        resample: how the photo is resized.
        channels: order of the input's channels, and of mean and std.
        mean, std: the network gets (pixel / 255 − mean) / std.
        output: "disparity": near = large, any scale and offset. "depth": far = large, above 0.
        output_name: the output that holds the map, of a network with several.
        traps: known ones, a sentence each.
    """

    name: str
    title: str = ""
    parameters: float | None = None
    licence: str = "unknown"
    commercial: str = "unknown"
    repository: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    kind: str = "onnx"
    module: str | None = None
    arguments: dict[str, Any] | None = None
    size: tuple[int, int] | None = None
    multiple: int | None = None
    aspect: str | None = None
    resample: str | None = None
    channels: str = "rgb"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    output: str | None = None
    output_name: str | None = None
    traps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("kind", self.kind, KINDS),
            ("aspect", self.aspect, ASPECTS),
            ("resampling", self.resample, RESAMPLINGS),
            ("channel order", self.channels, CHANNELS),
            ("output", self.output, OUTPUTS),
            ("commercial use", self.commercial, COMMERCIAL),
        ):
            if value is not None and value not in known:
                raise InputError(f"unknown {kind} '{value}' of a depth network: choose {' or '.join(known)}")
        if self.std is not None and 0.0 in self.std:
            raise InputError("the std of a depth network must not contain 0, because pixels are divided by it")
        if self.multiple is not None and self.multiple < 1:
            raise InputError(f"the multiple of a depth network must be 1 or more, not {self.multiple}")

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, item: Any) -> "DepthCard":
        """A card from a file.

        Raises:
            TypeError, ValueError, KeyError: it is none.
            InputError: a value that makes no sense.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(item, dict) or item.keys() - known:
            raise ValueError(f"unknown keys {', '.join(sorted(set(item) - known)) or 'in place of an object'}")
        lists = ("files", "traps", "size", "mean", "std")
        made: dict[str, Any] = {
            key: tuple(value) if key in lists and value is not None else value for key, value in item.items()
        }
        return cls(**made)


def registry() -> dict[str, DepthCard]:
    """Name → card of every network that is known, in the order of the file."""
    text = json.loads(FILE.read_text(encoding="utf-8"))
    assert text["format"] == FORMAT
    return {card.name: card for card in map(DepthCard.from_json, text["networks"])}
