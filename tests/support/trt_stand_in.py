"""TensorRT without a GPU: the module as code sees it, no wider than the recorded bindings of one version.

Every object refuses members that the real class lacks and arguments that the real signature doesn't take
(`trt_bindings.jsonl`), so that code which runs on the stand-ins of all versions touches nothing that one of them has
not. Engines are JSON; their networks are those of `tests.support.trt_networks`, on the memory of
`tests.support.cuda_stand_in`.
"""
# ruff: noqa: N802  # TensorRT's names

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from deeplens.model.whole_contract import contract_named
from deeplens.runtimes.engine_key import Profile
from tests.support.cuda_stand_in import Cudart, Misuse, Operation, Status
from tests.support.trt_networks import dtype_of, outputs_of

BINDINGS = {
    f"{line['library']} {line['version']}": line
    for line in map(json.loads, (Path(__file__).parent / "trt_bindings.jsonl").read_text().splitlines())
}


def engine_bytes(network: str, profiles: tuple[Profile, ...] = (), *, dtype: str = "float32") -> bytes:
    """An engine as the stand-in deserialises it."""
    sizes = [[each.low, each.high] for each in profiles]
    return json.dumps({"network": network, "profiles": sizes, "dtype": dtype}).encode()


class Strict:
    """Lets through what a class of the bindings has, with arguments that fit its signature."""

    def __init__(self, classes: dict[str, dict[str, list[str]]], name: str, behind: Any) -> None:
        object.__setattr__(self, "_strict", (classes[name], name, behind))

    def __getattr__(self, member: str) -> Any:
        members, name, behind = self._strict
        if member not in members:
            raise AttributeError(f"{name} has no {member} in this version")
        found = getattr(behind, member)
        if not members[member] or not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if not any(_fits(signature, len(arguments) + 1, set(named)) for signature in members[member]):
                raise TypeError(f"{name}.{member} takes {members[member]}, not {arguments} {named}")
            return found(*arguments, **named)

        return call

    def __setattr__(self, member: str, value: Any) -> None:
        members, name, behind = self._strict
        if member not in members:
            raise AttributeError(f"{name} has no {member} in this version")
        setattr(behind, member, value)


def _fits(signature: str, count: int, named: set[str]) -> bool:
    parameters = [(part.split(":")[0].strip(), "=" in part) for part in re.split(r", (?=\w+: )", signature)]
    given = {name for name, _ in parameters[:count]} | named
    return (
        count <= len(parameters)
        and given <= {name for name, _ in parameters}
        and all(name in given or optional for name, optional in parameters)
    )


class TensorRtStandIn:
    """The module. `log` are calls that matter for the order; `fail` names a step that is to go wrong."""

    BuilderFlag: Any
    NetworkDefinitionCreationFlag: Any

    def __init__(self, version: str, cudart: Cudart | None = None) -> None:
        bindings = BINDINGS[version]
        self.classes = bindings["classes"]
        self.__version__ = bindings["version"]
        self.is_rtx = bindings["library"] == "tensorrt_rtx"
        self.cudart = cudart or Cudart()
        self.log: list[str] = []
        self.fail = ""
        self.built: list[dict[str, Any]] = []
        for name in (
            "BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "DeviceType", "OnnxParserFlag",
            "ComputeCapability", "CudaGraphStrategy",
        ):  # fmt: skip
            if name in self.classes:
                names = [each for each in self.classes[name] if each.upper() == each]
                members = {each: _Constant(index, f"{name}.{each}") for index, each in enumerate(names)}
                setattr(self, name, SimpleNamespace(**members, __members__=members))

        class ILogger:
            Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)

        self.ILogger = ILogger

    def strict(self, name: str, behind: Any) -> Any:
        return Strict(self.classes, name, behind)

    def nptype(self, dtype: str) -> Any:
        return np.dtype(dtype).type

    def Builder(self, logger: Any) -> Any:
        return self.strict("Builder", _Builder(self, logger))

    def OnnxParser(self, network: Any, _logger: Any) -> Any:
        return self.strict("OnnxParser", _Parser(self, network))

    def Runtime(self, logger: Any) -> Any:
        return self.strict("Runtime", _Runtime(self, logger))


class _Constant(int):
    def __new__(cls, value: int, name: str) -> "_Constant":
        made = super().__new__(cls, value)
        made.name = name  # type: ignore[attr-defined]
        return made


class _Builder:
    def __init__(self, module: TensorRtStandIn, logger: Any) -> None:
        self.module, self.logger = module, logger

    def create_network(self, flags: int = 0) -> Any:
        assert flags == 1 << self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED, "not strongly typed"
        return SimpleNamespace(graph=None)

    def create_builder_config(self) -> Any:
        return self.module.strict("IBuilderConfig", _Config(self.module, self.logger))

    def create_optimization_profile(self) -> Any:
        profile = SimpleNamespace(shapes={})
        profile.set_shape = lambda name, low, best, high: profile.shapes.__setitem__(name, (low, best, high))
        return self.module.strict("IOptimizationProfile", profile)

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        behind: _Config = config._strict[2]
        self.module.log.append("build")
        if self.module.fail == "build":
            self.logger.log(1, "no implementation for node /conv")
            return None
        behind.record["graph"] = network.graph
        if behind.cache is not None:
            behind.cache.data += b"+timed"
        self.module.built.append(behind.record)
        return json.dumps({"built": len(self.module.built), "graph": len(network.graph)}).encode()


class _Config:
    def __init__(self, module: TensorRtStandIn, logger: Any) -> None:
        self.module, self.logger = module, logger
        self.record: dict[str, Any] = {"flags": [], "cleared": [], "profiles": [], "pools": {}}
        self.cache: Any = None
        self.num_compute_capabilities = 0
        self.DLA_core, self.default_device_type = -1, None

    def set_flag(self, flag: _Constant) -> None:
        self.record["flags"].append(flag.name)  # type: ignore[attr-defined]

    def clear_flag(self, flag: _Constant) -> None:
        self.record["cleared"].append(flag.name)  # type: ignore[attr-defined]

    def set_memory_pool_limit(self, pool: _Constant, size: int) -> None:
        self.record["pools"][pool.name] = size  # type: ignore[attr-defined]

    def set_compute_capability(self, capability: _Constant, index: int) -> None:
        assert index < self.num_compute_capabilities
        self.record["capability"] = capability.name  # type: ignore[attr-defined]

    def add_optimization_profile(self, profile: Any) -> int:
        if self.module.fail == "profile":
            return -1
        self.record["profiles"].append(profile._strict[2].shapes)
        return len(self.record["profiles"]) - 1

    def create_timing_cache(self, data: bytes) -> Any:
        assert not self.module.is_rtx, "TensorRT for RTX asks for a GPU when a timing cache is made"
        cache: SimpleNamespace = SimpleNamespace(data=data, serialize=lambda: cache.data)
        self.record["timings"] = data
        return self.module.strict("ITimingCache", cache)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch, "timings of another machine would be taken"
        if self.module.fail == "timing cache" and cache._strict[2].data:
            return False
        self.cache = cache._strict[2]
        return True


class _Parser:
    def __init__(self, module: TensorRtStandIn, network: Any) -> None:
        self.module, self.network = module, network
        self.num_errors = 0

    def parse(self, model: bytes) -> bool:
        if self.module.fail == "parse":
            self.num_errors = 1
            return False
        self.network.graph = model
        return True

    def get_error(self, _index: int) -> Any:
        return SimpleNamespace(desc=lambda: "no importer for the operation", node_operator=lambda: "GridSample")

    def set_flag(self, flag: _Constant) -> None:
        self.module.log.append(f"parser {flag.name}")  # type: ignore[attr-defined]


class _Runtime:
    engine_host_code_allowed = False

    def __init__(self, module: TensorRtStandIn, logger: Any) -> None:
        self.module, self.logger = module, logger

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        self.module.log.append("deserialise")
        try:
            said = json.loads(data)
            engine = _Engine(self.module, said["network"], said["profiles"], said["dtype"])
        except (ValueError, KeyError, TypeError):
            self.logger.log(1, "Serialization assertion failed: magic tag does not match")
            return None
        return self.module.strict("ICudaEngine", engine)


class _Engine:
    def __init__(self, module: TensorRtStandIn, network: str, profiles: list[Any], dtype: str) -> None:
        self.module, self.network, self.dtype = module, network, dtype
        contract = contract_named(network)
        fixed = contract.fixed_size
        self.profiles = profiles or ([[fixed, fixed]] if fixed else [])
        self.tensors = {each.name: each for each in (*contract.inputs, *contract.outputs)}
        self.names = list(self.tensors)
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> str:
        return dtype_of(self.tensors[name], self.dtype).name

    def create_runtime_config(self) -> Any:
        return self.module.strict("IRuntimeConfig", SimpleNamespace(cuda_graph_strategy=None))

    def create_execution_context(self, config: Any = None) -> Any:
        assert (config is not None) == self.module.is_rtx
        self.module.log.append("context" if config is None else f"context {config.cuda_graph_strategy.name}")
        return self.module.strict("IExecutionContext", _Context(self))


class _Context:
    """Refuses what TensorRT refuses: no profile, a shape outside it, an address too few, set-up during a capture."""

    def __init__(self, engine: _Engine) -> None:
        self.engine, self.cudart = engine, engine.module.cudart
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.set_up_for: dict[str, tuple[int, ...]] | None = None

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        if not 0 <= index < len(self.engine.profiles):
            return False

        def switch() -> None:
            self.profile = index

        return self.cudart.put(stream, Operation("profile", switch, {})) == Status.cudaSuccess

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.profile is None:
            raise Misuse("a shape is set before the profile is")
        tensor, (low, high) = self.engine.tensors[name], self.engine.profiles[self.profile]
        smallest, largest = tensor.shape(*low), tensor.shape(*high)
        if not all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True)):
            return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        tensor = self.engine.tensors[name]
        some = next(each for each in self.shapes if self.engine.tensors[each].scale == 1)
        height, width = self.engine.tensors[some].size_of(self.shapes[some])
        return tensor.shape(int(height), int(width))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory not in self.cudart.device:
            return False
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream: int) -> bool:
        contract = contract_named(self.engine.network)
        shapes = dict(self.shapes) | {each.name: self.get_tensor_shape(each.name) for each in contract.outputs}
        if set(shapes) != set(self.engine.tensors) or set(self.addresses) != set(self.engine.tensors):
            return False
        if self.cudart.is_capturing(stream) and self.set_up_for != shapes:
            return False
        if self.engine.module.fail == "execute":
            return False
        self.set_up_for = shapes
        dtypes = {name: dtype_of(tensor, self.engine.dtype) for name, tensor in self.engine.tensors.items()}
        sizes = {name: int(np.prod(shape)) * dtypes[name].itemsize for name, shape in shapes.items()}
        addresses = dict(self.addresses)

        def run() -> None:
            inputs = {
                each.name: np.frombuffer(self.cudart.read(addresses[each.name], sizes[each.name]), dtypes[each.name])
                .reshape(shapes[each.name])
                .astype(np.float32)
                for each in contract.inputs
            }
            for name, made in outputs_of(self.engine.network, inputs).items():
                self.cudart.write(addresses[name], made.astype(dtypes[name]).tobytes())

        touched = {addresses[name]: size for name, size in sizes.items()}
        return self.cudart.put(stream, Operation("execute", run, touched)) == Status.cudaSuccess
