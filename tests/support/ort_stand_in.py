"""ONNX Runtime as a package with other providers would show it: what is computed comes from the real one on the CPU."""

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import onnxruntime

CPU = "CPUExecutionProvider"

MEMORY = {"CUDAExecutionProvider": "cuda", "DmlExecutionProvider": "dml"}
"""Provider → the memory that it computes in."""


class OrtStandIn:
    """What `runtimes.ort` and `runtimes.providers` use of the module.

    Args:
        built_in: names of the providers that the package has beside the CPU's.
        starts: those of them that can be used on this machine; the others are dropped without an error, as the real
            one does where a library is missing.
        fails: those that raise when a session is opened.
        left: kinds of operation that run on the CPU whatever the provider.
        devices: of plug-ins: name of the provider → devices that it finds.

    Attributes:
        sessions: what each session was opened with.
        registered: plug-in libraries.
        copies: what went to and came from memory that is not the CPU's: ("to cuda", bytes), ("from cuda", bytes).
    """

    __version__ = "9.9.9"
    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel

    def __init__(
        self,
        *built_in: str,
        starts: Iterable[str] | None = None,
        fails: Iterable[str] = (),
        left: Iterable[str] = (),
        devices: Mapping[str, int] | None = None,
        tells: bool = True,
    ) -> None:
        self._built_in = [*built_in, CPU]
        self._starts = set(self._built_in if starts is None else (*starts, CPU))
        self._fails, self._left, self._devices, self._tells = set(fails), set(left), dict(devices or {}), tells
        self.sessions: list[dict[str, Any]] = []
        self.registered: list[str] = []
        self.copies: list[tuple[str, int]] = []
        self.OrtValue = SimpleNamespace(
            ortvalue_from_numpy=lambda array, memory="cpu", _index=0: _Value(array, memory, self.copies)
        )

    def get_available_providers(self) -> list[str]:
        return list(self._built_in)

    def set_default_logger_severity(self, _level: int) -> None:
        pass

    def register_execution_provider_library(self, name: str, _path: str) -> None:
        self.registered.append(name)

    def get_ep_devices(self) -> list[Any]:
        return [SimpleNamespace(ep_name=name) for name in self.registered for _ in range(self._devices.get(name, 0))]

    def SessionOptions(self) -> "_Options":  # noqa: N802
        return _Options()

    def InferenceSession(  # noqa: N802
        self,
        graph: bytes,
        options: "_Options",
        *,
        providers: Sequence[Any] = (),
        enable_fallback: int = 1,
    ) -> "_Session":
        named = [each if isinstance(each, str) else each[0] for each in providers]
        named = [*(each.ep_name for each in options.devices), *named] or [CPU]
        assert set(named) <= {*self._built_in, *self.registered}, "the real one warns and goes on without"
        self.sessions.append(
            {"providers": list(providers), "named": named, "entries": options.entries, "plugin": options.plugin}
        )
        if self._fails & set(named):
            raise RuntimeError("/build/x.cc:7 void f(A&) No such device")
        assert named == [CPU] or enable_fallback == 0, "else the real one tries again on the CPU, and prints that"
        kept = [each for each in named if each in self._starts or each in self.registered]
        return _Session(graph, kept, self._left if self._tells else None, self.copies)


class _Options:
    """Takes what is set, and keeps what is asked for by name."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.devices: list[Any] = []
        self.plugin: dict[str, str] = {}

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value

    def add_provider_for_devices(self, devices: Sequence[Any], settings: Mapping[str, str]) -> None:
        assert len(devices) == 1
        self.devices, self.plugin = list(devices), dict(settings)


class _Session:
    def __init__(
        self, graph: bytes, providers: list[str], left: set[str] | None, copies: list[tuple[str, int]]
    ) -> None:
        self._copies = copies
        self._memory = MEMORY.get(providers[0], "cpu")
        self._real = onnxruntime.InferenceSession(graph, providers=[CPU])
        self._graph, self._providers, self._left = graph, providers, left
        if left is not None:
            self.get_provider_graph_assignment_info = self._assignments

    def get_providers(self) -> list[str]:
        return self._providers

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def get_outputs(self) -> Any:
        return self._real.get_outputs()

    def run(self, names: Sequence[str], feed: Mapping[str, Any]) -> Any:
        """With arrays of the host: all of them go there, and the outputs come back."""
        made = self._real.run(names, feed)
        if self._memory != "cpu":
            self._copies += [(f"to {self._memory}", array.nbytes) for array in feed.values()]
            self._copies += [(f"from {self._memory}", array.nbytes) for array in made]
        return made

    def io_binding(self) -> "_Binding":
        return _Binding()

    def run_with_iobinding(self, binding: "_Binding") -> None:
        for value in binding.inputs.values():
            assert value.memory == self._memory, "the real one copies it, each time"
        feed = {name: value.array for name, value in binding.inputs.items()}
        names = list(binding.outputs)
        made = self._real.run(names, feed)
        for name, array in zip(names, made, strict=True):
            assert binding.outputs[name] == self._memory
            binding.made.append(_Value(array, self._memory, self._copies, put=False))

    def _assignments(self) -> list[Any]:
        import onnx

        assert self._left is not None
        found = []
        for node in onnx.load_from_string(self._graph).graph.node:
            name = CPU if node.op_type in self._left else self._providers[0]
            found.append(
                SimpleNamespace(ep_name=name, get_nodes=lambda kind=node.op_type: [SimpleNamespace(op_type=kind)])
            )
        return found


class _Value:
    """An array in some memory; reading it copies it, where that is not the CPU's."""

    def __init__(self, array: Any, memory: str, copies: list[tuple[str, int]], *, put: bool = True) -> None:
        self.array, self.memory, self._copies = array, memory, copies
        if put and memory != "cpu":
            copies.append((f"to {memory}", array.nbytes))

    def numpy(self) -> Any:
        if self.memory != "cpu":
            self._copies.append((f"from {self.memory}", self.array.nbytes))
        return self.array


class _Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, _Value] = {}
        self.outputs: dict[str, str] = {}
        self.made: list[_Value] = []

    def bind_ortvalue_input(self, name: str, value: _Value) -> None:
        self.inputs[name] = value

    def bind_output(self, name: str, memory: str) -> None:
        self.outputs[name] = memory

    def get_outputs(self) -> list[_Value]:
        return self.made
