"""What `deeplens calibrate` found of a depth network of others: what stays in FP32 in FP16, and what may be INT8."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.files import replacing
from deeplens.console.inputs import read_json

FORMAT = 2

INT8_FLOOR = 40.0
"""Agreement with FP32 in dB that INT8 needs on each photo: below it Apple says of a port, investigate."""


@dataclass(frozen=True)
class Int8:
    """Some operations on integers, measured.

    Attributes:
        operations: their kinds in ONNX; all of these kinds are on integers.
        agreement_db: the smallest agreement with FP32 on a photo; None: a value was not finite.
    """

    operations: tuple[str, ...]
    agreement_db: float | None

    @property
    def good(self) -> bool:
        """Whether it may be exported."""
        return self.agreement_db is not None and self.agreement_db >= INT8_FLOOR


@dataclass(frozen=True)
class DepthPlan:
    """Of one network.

    Attributes:
        network: its name.
        weights_sha256, photos_sha256: what it was measured with.
        photos: how many.
        kept: tensors of the FP32 graph that stay in FP32.
        agreement_db: the smallest agreement of FP16 with FP32 on a photo, with these kept.
        int8: what was tried on integers, the most arithmetic first.
        largest: tensor of the FP32 graph → largest |value| on the photos that the scales of INT8 are for.
    """

    network: str
    weights_sha256: str
    photos_sha256: str
    photos: int
    kept: tuple[str, ...]
    agreement_db: float
    int8: tuple[Int8, ...] = ()
    largest: Mapping[str, float] = field(default_factory=dict)

    def chosen_int8(self) -> Int8:
        """What is exported in INT8: the first that is good enough.

        Raises:
            MismatchError: none is; the message says how good each was.
        """
        for each in self.int8:
            if each.good:
                return each
        tried = "; ".join(f"{', '.join(each.operations)}: {_decibels(each.agreement_db)}" for each in self.int8)
        raise MismatchError(
            f"{self.network} is not good enough in INT8, which needs {INT8_FLOOR:g} dB on each photo "
            f"({tried or 'nothing was tried'}): use fp16"
        )

    def write(self, path: Path) -> None:
        """As JSON; InputError where it can't be written."""
        with replacing(path) as file:
            file.write((json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode())

    def check(self, network: str, weights_sha256: str) -> None:
        """Raise MismatchError unless the plan is of this network and these weights."""
        if (network, weights_sha256) != (self.network, self.weights_sha256):
            raise MismatchError(
                f"the plan is of {self.network} with weights {self.weights_sha256[:12]}…, not of {network} with "
                f"{weights_sha256[:12]}…: run `deeplens calibrate --depth-network {network}` again"
            )


def read(path: Path) -> DepthPlan:
    """The plan in a file.

    Raises:
        InputError: it is none.
    """
    try:
        item: dict[str, Any] = read_json(path)
        if item.pop("format") != FORMAT:
            raise ValueError("another format")
        tried = tuple(Int8(tuple(map(str, each["operations"])), each["agreement_db"]) for each in item["int8"])
        return DepthPlan(**{**item, "kept": tuple(map(str, item["kept"])), "int8": tried})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        again = "make one with `deeplens calibrate`"
        raise InputError(f"{path} is no plan of a depth network ({error}): {again}") from error


def _decibels(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1f} dB"


def kept(path: Path | None, network: str, weights_sha256: str) -> tuple[str, ...]:
    """The tensors that a plan keeps in FP32; none where there is no plan.

    Raises:
        InputError, MismatchError: as `read` and `DepthPlan.check`.
    """
    if path is None:
        return ()
    plan = read(path)
    plan.check(network, weights_sha256)
    return plan.kept
