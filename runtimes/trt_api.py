"""TensorRT 10, TensorRT 11 and TensorRT for RTX: what differs between them, in one place.

The three have the same classes for nearly all that is needed here. Used is only what each of 10.3 to 11.4 and RTX 1.7
has: no precision flag, no calibrator, no explicit-batch flag, no first version of a call that has a second one.

| | TensorRT 10 | TensorRT 11 | for RTX |
| --- | --- | --- | --- |
| module | tensorrt | tensorrt | tensorrt_rtx |
| strong typing | a flag of the network | always (the flag is still taken) | always (the flag is still taken) |
| built on | the GPU that it runs on | the same | any machine, for named compute capabilities |
| timing cache | yes | yes | none: asking for one asks for a GPU |
| CUDA graphs | captured by us | captured by us | a strategy of the execution context |
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Literal

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.package import pip_install
from deeplens.runtimes.cuda import Cuda, system
from deeplens.runtimes.engine_key import ANY, Machine

Library = Literal["tensorrt", "tensorrt_rtx"]

LIBRARIES: tuple[Library, ...] = ("tensorrt", "tensorrt_rtx")

EXTRA: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
"""Library → the extra that installs it."""

KEPT_MESSAGES = 20
"""As many of the last warnings and errors are kept for a message."""


class TensorRt:
    """One of the libraries.

    Args:
        library: which.
        module: it, or what stands for it; None: import it.

    Raises:
        MissingError: it is not installed; the message names the extra.
    """

    def __init__(self, library: Library, module: ModuleType | Any | None = None) -> None:
        self.library = library
        self.module = _imported(library) if module is None else module
        self.logger = _logger(self.module)

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def messages(self) -> list[str]:
        """What it warned of and what it refused, last first."""
        return [text for _, text in reversed(self.logger.kept)]

    def reason(self) -> str:
        """Its last error, or the last warning where there was none, in one line."""
        errors = [text for is_error, text in reversed(self.logger.kept) if is_error]
        return " ".join((errors or self.messages or ["no reason given"])[0].split())

    # Building

    def builder(self) -> Any:
        builder = self.module.Builder(self.logger)
        if builder is None:
            raise MissingError(f"{self.library} {self.version} gives no builder ({self.reason()})")
        return builder

    def parsed(self, builder: Any, graph: bytes, *, for_dla: bool = False) -> Any:
        """The strongly typed network of an ONNX graph.

        Raises:
            MismatchError: it holds an operation or a type that the library can't take; the message names it.
        """
        flag = int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(1 << flag)
        parser = self.module.OnnxParser(network, self.logger)
        if for_dla and hasattr(self.module.OnnxParserFlag, "ADJUST_FOR_DLA"):
            parser.set_flag(self.module.OnnxParserFlag.ADJUST_FOR_DLA)
        if not parser.parse(graph):
            found = [parser.get_error(index) for index in range(parser.num_errors)]
            errors = "; ".join(f"{each.node_operator()}: {each.desc()}" for each in found)
            raise MismatchError(f"{self.library} {self.version} can't take the graph ({errors or self.reason()})")
        return network

    def compute_capabilities(self) -> tuple[str, ...]:
        """Those that engines can be built for without such a GPU: ("7.5", …, "12.1"); none with classic TensorRT."""
        names = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        numbers = sorted(int(name[2:]) for name in names if name.startswith("SM"))
        return tuple(f"{number // 10}.{number % 10}" for number in numbers)

    def set_compute_capability(self, config: Any, capability: str) -> None:
        """Build for `capability`, such as "8.9", whatever GPU is here.

        Raises:
            InputError: the library can't.
        """
        known = self.compute_capabilities()
        if capability not in known:
            have = f"knows {', '.join(known)}" if known else "builds on the GPU that it runs on"
            raise InputError(f"compute capability {capability}: {self.library} {self.version} {have}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(self.module.ComputeCapability, f"SM{capability.replace('.', '')}"), 0)

    @property
    def has_timing_cache(self) -> bool:
        return self.library == "tensorrt"

    # Running

    def machine(self, cuda: Cuda) -> Machine:
        """What this machine is, for the key of an engine."""
        (gpu, capability), (runtime, driver) = cuda.gpu, cuda.versions
        return Machine(self.library, self.version, gpu, capability, runtime, driver, system())

    def ahead_of_time(self, capability: str) -> Machine:
        """What an engine built for `capability` is bound to: neither the GPU's name nor CUDA, driver and system."""
        return Machine(self.library, self.version, ANY, capability, ANY, ANY, ANY)

    def engine(self, data: bytes, *, host_code: bool) -> Any:
        """The engine in `data`, which must come from a verified source: it is code.

        Args:
            host_code: allow the code for the host that a version-compatible engine holds.

        Raises:
            MismatchError: the library refuses it.
        """
        runtime = self.module.Runtime(self.logger)
        runtime.engine_host_code_allowed = host_code
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise MismatchError(f"{self.library} {self.version} refuses the engine ({self.reason()})")
        return engine

    def context(self, engine: Any, *, graphs: bool) -> tuple[Any, bool]:
        """A new execution context, and whether CUDA graphs are left to us to capture."""
        if self.library == "tensorrt_rtx":
            config = engine.create_runtime_config()
            strategy = self.module.CudaGraphStrategy
            config.cuda_graph_strategy = strategy.WHOLE_GRAPH_CAPTURE if graphs else strategy.DISABLED
            context, captures = engine.create_execution_context(config), False
        else:
            context, captures = engine.create_execution_context(), graphs
        if context is None:
            raise MismatchError(f"{self.library} {self.version} gives no execution context ({self.reason()})")
        return context, captures

    def dtype(self, engine: Any, tensor: str) -> np.dtype[Any]:
        """Of an input or output: float32 or float16."""
        return np.dtype(self.module.nptype(engine.get_tensor_dtype(tensor)))

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Forget the messages from before, so that `reason` speaks of what happens within."""
        self.logger.kept.clear()
        yield


def _logger(module: Any) -> Any:
    """Keeps warnings and errors instead of printing them."""

    class Logger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.kept: list[tuple[bool, str]] = []

        def log(self, severity: Any, text: str) -> None:
            levels = module.ILogger.Severity
            if severity in (levels.INTERNAL_ERROR, levels.ERROR, levels.WARNING):
                self.kept.append((severity != levels.WARNING, text))
                del self.kept[:-KEPT_MESSAGES]

    return Logger()


def _imported(library: Library) -> ModuleType:
    try:
        if library == "tensorrt":
            import tensorrt as module
        else:
            import tensorrt_rtx as module
    except (ImportError, OSError) as error:
        raise MissingError(f"{library} can't be imported ({error}): {pip_install(EXTRA[library])}") from error
    found: ModuleType = module
    return found
