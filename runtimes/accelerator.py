"""What a runtime computes on, as it is asked for and as it came to be: plain data. Imports no runtime."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deeplens.console.errors import InputError

CPU = "cpu"
"""Name of the processor, as ONNX Runtime's provider and as PyTorch's device."""

DEVICES = (CPU, "cuda", "mps")
"""PyTorch's devices."""


@dataclass(frozen=True)
class Accelerator:
    """What is asked for. A runtime looks at what concerns it; `check_for` refuses the rest.

    Attributes:
        provider: ONNX Runtime's, one of `runtimes.providers.PROVIDERS`, or "auto".
        cpu_nodes: how many operations of a network may run on the CPU although another provider was chosen; None: any.
        device: PyTorch's, one of `DEVICES`.
        channels_last: whether PyTorch keeps pictures with their channels last; None: on a GPU.
        compiled: whether PyTorch compiles the networks (`torch.compile`), for each size anew.
        cuda_graph: whether PyTorch's loop on an NVIDIA GPU is recorded as one CUDA graph, for each photo anew.
    """

    provider: str = CPU
    cpu_nodes: int | None = None
    device: str = CPU
    channels_last: bool | None = None
    compiled: bool = False
    cuda_graph: bool = False

    def chosen(self) -> dict[str, Any]:
        """What differs from the default, by its name."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}

    def runtime(self) -> str | None:
        """The runtime that is meant where none was named: "onnx" or "torch"; None: it is left open.

        Raises:
            InputError: options of both.
        """
        found = {OWNER[name] for name in self.chosen()}
        if len(found) > 1:
            raise InputError("--provider belongs to the runtime onnx and --device to torch: give one of them")
        return next(iter(found), None)

    def check_for(self, runtime: str) -> None:
        """InputError where something is asked for that `runtime` has not, or that is unknown."""
        for name in self.chosen():
            if OWNER[name] != runtime:
                raise InputError(f"{OPTIONS[name]} works with --runtime {OWNER[name]} only, not with {runtime}")
        if self.device not in DEVICES:
            raise InputError(f"unknown device '{self.device}': choose {' or '.join(DEVICES)}")
        if self.cuda_graph and self.device != "cuda":
            raise InputError(f"--cuda-graph needs an NVIDIA GPU: give --device cuda, not {self.device}")
        if self.cpu_nodes is not None and self.provider == CPU:
            raise InputError("--cpu-nodes limits what another provider leaves to the CPU: give --provider too")


OWNER = {
    "provider": "onnx", "cpu_nodes": "onnx", "device": "torch", "channels_last": "torch", "compiled": "torch",
    "cuda_graph": "torch",
}  # fmt: skip
"""Attribute of `Accelerator` → the runtime that it belongs to."""

OPTIONS = {
    "provider": "--provider", "cpu_nodes": "--cpu-nodes", "device": "--device", "channels_last": "--channels-last",
    "compiled": "--compile", "cuda_graph": "--cuda-graph",
}  # fmt: skip
"""Attribute of `Accelerator` → its option on the command line."""

DEFAULT = Accelerator()


@dataclass(frozen=True)
class Ran:
    """What a network came to run on.

    Attributes:
        on: name of the provider or the device.
        library: the library and its version; of a provider from a package of its own that one too.
        nodes: operations of the network, as the library counts them after its own changes; None: not told.
        cpu_nodes: those of them that run on the CPU although another provider was chosen; None: not told.
        kinds: the kinds of these operations.
    """

    on: str
    library: str
    nodes: int | None = None
    cpu_nodes: int | None = None
    kinds: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


def report(ran: Mapping[str, Ran | None]) -> dict[str, Any]:
    """Network → what it ran on (`Ran.to_json`), of those that tell."""
    return {network: each.to_json() for network, each in ran.items() if each is not None}


def notes(ran: Mapping[str, Ran | None]) -> list[str]:
    """A line for each network that ran on the CPU, or a part of it, although another provider was chosen."""
    others = place(ran)
    whole = [
        f"{network}: runs on the CPU, the other networks{others}"
        for network, each in ran.items()
        if others and each is not None and each.on == CPU
    ]
    return whole + [
        f"{network}: {each.cpu_nodes} of {each.nodes} operations run on the CPU and not on {each.on} "
        f"({', '.join(each.kinds)})"
        for network, each in ran.items()
        if each is not None and each.cpu_nodes
    ]


def place(ran: Mapping[str, Ran | None]) -> str:
    """Where the networks run, for a line of text: "" on the CPU, else " on NAME"."""
    names = dict.fromkeys(each.on for each in ran.values() if each is not None and each.on != CPU)
    return f" on {' and '.join(names)}" if names else ""
