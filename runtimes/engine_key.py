"""What an engine was built for, and whether that is this machine. No TensorRT, no CUDA: only comparing.

An engine is machine code: it runs where TensorRT, GPU, CUDA, driver and system are those that it was built for. Its key
stands in the manifest, is compared field by field before the file is read, and names the file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deeplens.console.errors import InputError
from deeplens.model.contract import Contract
from deeplens.runtimes import manifest

Size = tuple[int, int]

VERSION_COMPATIBLE = "version_compatible"
"""The flag of an engine that runs on later minor versions of the same major version of TensorRT."""

ANY = "any"
"""In place of a field that an engine is not bound to."""


@dataclass(frozen=True)
class Profile:
    """Low-resolution sizes (height, width) that an engine takes: the smallest, the one it is made for, the largest."""

    low: Size
    best: Size
    high: Size

    @classmethod
    def static(cls, size: Size) -> "Profile":
        """The profile of one size only."""
        return cls(size, size, size)

    @property
    def is_static(self) -> bool:
        return self.low == self.high

    def holds(self, size: Size) -> bool:
        """Whether a network may run at `size` with this profile."""
        return all(low <= each <= high for low, each, high in zip(self.low, size, self.high, strict=True))

    def shapes(self, contract: Contract) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Input → its smallest, best and largest shape, N×C×H×W."""
        return {
            each.name: tuple(each.shape(*size) for size in (self.low, self.best, self.high)) for each in contract.inputs
        }

    def __str__(self) -> str:
        low, best, high = (f"{height}x{width}" for height, width in (self.low, self.best, self.high))
        return low if self.is_static else f"{low}…{high}, best {best}"


@dataclass(frozen=True)
class Machine:
    """Where engines are built or run.

    Attributes:
        library: "tensorrt" or "tensorrt_rtx".
        version: of that library.
        gpu: its name.
        compute_capability: such as "8.7".
        cuda, driver: versions of CUDA's runtime and of what the driver offers.
        system: operating system, processor, and the release of Jetson Linux.
    """

    library: str
    version: str
    gpu: str
    compute_capability: str
    cuda: str
    driver: str
    system: str


@dataclass(frozen=True)
class EngineKey:
    """All that decides what an engine is. Two builds with the same key are interchangeable.

    Attributes:
        machine: `ANY` stands in fields that an engine built ahead of time is not bound to.
        onnx_sha256: of the graph.
        profiles: in the order of the engine.
        flags: name → value of what the builder was told, sorted by name.
    """

    machine: Machine
    onnx_sha256: str
    profiles: tuple[Profile, ...]
    flags: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits that stand for the key in file names."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]

    def differences(self, here: Machine) -> list[str]:
        """What keeps the engine from running `here`, each with both sides; none where it may run."""
        found = []
        for each in fields(Machine):
            built, have = getattr(self.machine, each.name), getattr(here, each.name)
            if (
                each.name == "version"
                and self.flags.get(VERSION_COMPATIBLE)
                and built.split(".")[0] == have.split(".")[0]
            ):
                continue
            if built not in (have, ANY):
                found.append(f"{each.name.replace('_', ' ')} {built}, here {have}")
        return found


def to_more(key: EngineKey, *, command: str) -> dict[str, Any]:
    """What the manifest's entry of an engine holds beside the common fields; `command` makes it again."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(key)))  # lists for tuples, as the file gives them back
    return {"key": plain, "command": command}


def from_entry(entry: manifest.Entry) -> EngineKey:
    """The key that an entry of the manifest holds.

    Raises:
        InputError: it holds none.
    """
    try:
        key = entry.more["key"]
        profiles = tuple(
            Profile(*(_size(key_profile[name]) for name in ("low", "best", "high"))) for key_profile in key["profiles"]
        )
        return EngineKey(Machine(**key["machine"]), str(key["onnx_sha256"]), profiles, dict(key["flags"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the manifest has no readable key for {entry.path} ({error}): build the engine again"
        ) from error


def _size(value: Any) -> Size:
    height, width = value
    if not (type(height) is int and type(width) is int):
        raise TypeError("a size is two whole numbers")
    return height, width
