"""Which tensors of a depth network of others stay in FP32 in its FP16 graph: what `deeplens calibrate` found."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.files import replacing
from deeplens.console.inputs import read_json

FORMAT = 1


@dataclass(frozen=True)
class DepthPlan:
    """Of one network.

    Attributes:
        network: its name.
        weights_sha256, photos_sha256: what it was measured with.
        photos: how many.
        kept: tensors of the FP32 graph that stay in FP32.
        agreement_db: the smallest agreement of FP16 with FP32 on a photo, with these kept.
    """

    network: str
    weights_sha256: str
    photos_sha256: str
    photos: int
    kept: tuple[str, ...]
    agreement_db: float

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
        return DepthPlan(**{**item, "kept": tuple(map(str, item["kept"]))})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        again = "make one with `deeplens calibrate`"
        raise InputError(f"{path} is no plan of a depth network ({error}): {again}") from error


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
