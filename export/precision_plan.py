"""The precision plan: which layer of which network is computed in FP32, FP16 or INT8, in one small JSON file.

All exporters obey it. It holds what it takes to follow it (the INT8 scales, corrections of biases) and what it was
chosen by (the floor, each layer's sensitivity), so that a reader can hold one against the other.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import replacing
from deeplens.console.inputs import read_json

FORMAT = 1

Pair = tuple[float, float]
"""Scale of a layer's input and of its activated output: value of one step of INT8."""


@dataclass(frozen=True)
class Source:
    """What scales were measured on.

    Attributes:
        photos: SHA-256 of the set (`calibration.photos.set_sha256`); `count`: how many.
        settings: of the inputs (`calibration.inputs.Settings`).
        weights: network → SHA-256.
    """

    photos: str
    count: int
    settings: Mapping[str, int]
    weights: Mapping[str, str]

    def check(self, other: "Source", *, what: str) -> None:
        """Raise MismatchError, which names the difference, unless `other` is the same source.

        Args:
            what: a file, for the message.
        """
        if self.photos != other.photos:
            raise MismatchError(
                f"{what} was measured on other photos ({self.count}, {self.photos[:12]}…) than the given ones "
                f"({other.count}, {other.photos[:12]}…): run `deeplens calibrate --recalibrate` to measure on these"
            )
        if dict(self.settings) != dict(other.settings):
            raise MismatchError(f"{what} was measured with other settings: run `deeplens calibrate --recalibrate`")
        self.check_weights(other.weights, what=what)

    def check_weights(self, weights: Mapping[str, str], *, what: str) -> None:
        """Raise MismatchError unless these are the weights (network → SHA-256; may be of some networks only)."""
        for network, sha256 in weights.items():
            if self.weights.get(network) != sha256:
                known = self.weights.get(network)
                raise MismatchError(
                    f"{what} belongs to other {network} weights ({'none' if known is None else known[:12] + '…'}) than "
                    f"the given ones ({sha256[:12]}…): run `deeplens calibrate --recalibrate`"
                )


PRECISIONS = ("fp32", "fp16", "int8")
"""Of a layer."""

PLANNED = ("int8", "mixed")
"""Precisions of an artefact that follow a plan. int8: its INT8 layers, all else in FP32, as CPUs want it. mixed: all
three precisions of the plan, as GPUs and neural engines want it."""

FOLDER = Path(__file__).parent / "plans"
"""Of the shipped plans, VARIANT.json."""


@dataclass(frozen=True)
class Choice:
    """What one layer gets.

    Attributes:
        precision: one of `PRECISIONS`.
        scales: of its input and output, where it is INT8.
        bias: what is added to its bias in INT8, one number an output channel; empty: nothing.
        decibels: precision → PSNR of the final picture when this layer alone has it.
    """

    precision: str
    scales: Pair | None = None
    bias: tuple[float, ...] = ()
    decibels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Of all networks of one variant.

    Attributes:
        source: what its scales were measured on.
        methods: network → calibrator.
        floor: PSNR in dB of the final picture against FP32 that it was searched for.
        reached: the least PSNR over the photos of the search, in dB.
        layers: network → path of the layer, or `export.layers.REST` → what it gets.
        exceptions: network → the layers that stay FP32 where all else is FP16, for FP16's own floor.
    """

    variant: str
    source: Source
    methods: Mapping[str, str]
    floor: float
    reached: float
    layers: Mapping[str, Mapping[str, Choice]]
    exceptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def int8(self, network: str) -> dict[str, Choice]:
        """Path → choice of the layers of a network that are INT8."""
        return {path: each for path, each in self.layers[network].items() if each.precision == "int8"}

    def with_precision(self, network: str, precision: str) -> frozenset[str]:
        """The paths of a network's layers that have a precision."""
        return frozenset(path for path, each in self.layers[network].items() if each.precision == precision)

    def digest(self, network: str) -> str:
        """SHA-256 of what the plan says of a network."""
        text = json.dumps({name: _plain(each) for name, each in self.layers[network].items()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the file, in place of what is there: a line a layer."""
        head = {"format": FORMAT, **{key: value for key, value in asdict(self).items() if key != "layers"}}
        lines = []
        for network, layers in self.layers.items():
            each = ",\n".join(f"   {json.dumps(name)}: {json.dumps(_plain(choice))}" for name, choice in layers.items())
            lines.append(f"  {json.dumps(network)}: {{\n{each}\n  }}")
        text = json.dumps(head, indent=1)[:-2] + ',\n "layers": {\n' + ",\n".join(lines) + "\n }\n}\n"
        with replacing(path) as file:
            file.write(text.encode())


def read(path: Path) -> Plan:
    """The plan in a file.

    Raises:
        MissingError: there is no such file.
        InputError: it is no plan; the message says where.
    """
    try:
        stored = read_json(path)
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']}")
        layers = {
            network: {name: _choice(name, each) for name, each in own.items()}
            for network, own in stored["layers"].items()
        }
        return Plan(
            stored["variant"],
            Source(**stored["source"]),
            stored["methods"],
            float(stored["floor"]),
            float(stored["reached"]),
            layers,
            {network: tuple(paths) for network, paths in stored["exceptions"].items()},
        )
    except FileNotFoundError:
        raise MissingError(f"there is no precision plan at {path}: make one with `deeplens calibrate`") from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path} is not a precision plan ({error}): make one with `deeplens calibrate`") from error


def for_variant(variant: str, path: Path | None = None) -> Plan:
    """The plan at `path`, or the shipped one of a variant.

    Raises:
        as `read`; MismatchError: it is of another variant.
    """
    if path is None and not (FOLDER / f"{variant}.json").is_file():
        raise MissingError(
            f"no precision plan for {variant} is shipped: make one with `deeplens calibrate --variant {variant}`"
        )
    plan = read(path or FOLDER / f"{variant}.json")
    if plan.variant != variant:
        raise MismatchError(f"{path} is a plan for {plan.variant}, not for {variant}")
    return plan


def plans_for(variants: Sequence[str], precision: str, path: Path | None) -> dict[str, Plan]:
    """Variant → the plan that artefacts of `precision` follow; none where they follow none.

    Raises:
        InputError: a plan was given for a precision that follows none; else as `for_variant`.
    """
    if precision not in PLANNED:
        if path is not None:
            raise InputError(f"--plan works with --precision {' or '.join(PLANNED)} only, not {precision}")
        return {}
    return {variant: for_variant(variant, path) for variant in variants}


def _choice(name: str, stored: Mapping[str, Any]) -> Choice:
    precision, scales = stored["precision"], stored.get("scales")
    if precision not in PRECISIONS:
        raise ValueError(f"{name}: unknown precision '{precision}'")
    if (precision == "int8") != (scales is not None):
        raise ValueError(f"{name}: an INT8 layer needs scales, and no other layer may have them")
    pair = None if scales is None else (float(scales[0]), float(scales[1]))
    return Choice(precision, pair, tuple(stored.get("bias", ())), dict(stored.get("decibels", {})))


def _plain(choice: Choice) -> dict[str, Any]:
    plain: dict[str, Any] = {"precision": choice.precision}
    if choice.scales is not None:
        plain["scales"] = [float(f"{each:.6g}") for each in choice.scales]
    if choice.bias:
        plain["bias"] = [float(f"{each:.3g}") for each in choice.bias]
    if choice.decibels:
        plain["decibels"] = {key: round(value, 1) for key, value in choice.decibels.items()}
    return plain
