"""An ONNX graph → an engine: strongly typed, with TensorRT 10, 11 or TensorRT for RTX; and the cache of timings."""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.files import replacing
from deeplens.console.inputs import parse_json, read_bytes
from deeplens.model.contract import Contract
from deeplens.runtimes.engine_key import VERSION_COMPATIBLE, Machine, Profile
from deeplens.runtimes.trt_api import TensorRt

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Options:
    """What the builder is told beside the graph.

    Attributes:
        profiles: sizes of the engine; none for a graph of one size.
        workspace: MiB that the builder may take for one layer; None: as much as the GPU has.
        version_compatible: the engine runs on later versions of the same major version.
        refit: weights can be exchanged.
        dla_core: core of the deep-learning accelerator of a Jetson AGX Orin; None: the GPU only.
        compute_capability: to build for without such a GPU, TensorRT for RTX only; None: the GPU that is here.
    """

    profiles: tuple[Profile, ...] = ()
    workspace: int | None = None
    version_compatible: bool = False
    refit: bool = False
    dla_core: int | None = None
    compute_capability: str | None = None

    @property
    def flags(self) -> dict[str, Any]:
        """What of it decides how the engine is, for its key."""
        flags = {
            VERSION_COMPATIBLE: self.version_compatible,
            "refit": self.refit,
            "dla_core": self.dla_core,
            "workspace": self.workspace,
        }
        # 0 is a DLA core.
        return {name: value for name, value in sorted(flags.items()) if value is not None and value is not False}


def build(
    api: TensorRt, graph: bytes, contract: Contract, options: Options, *, timings: "TimingCache | None" = None
) -> bytes:
    """Build an engine.

    Args:
        graph: a serialised ONNX model whose types say which precision each operation has.
        timings: what was measured before; it takes what is measured now. Not for TensorRT for RTX.

    Raises:
        InputError: options that the library can't follow.
        MismatchError: it can't take the graph, or finds no way to run it; the message says which operation.
    """
    with api.quiet():
        builder = api.builder()
        network = api.parsed(builder, graph, for_dla=options.dla_core is not None)
        config = builder.create_builder_config()
        _configure(api, config, options)
        for profile in options.profiles:
            _add(api, builder, config, contract, profile)
        cache = None if timings is None or not api.has_timing_cache else timings.attach(config)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise MismatchError(
                f"{api.library} {api.version} can't build an engine of {contract.network} ({api.reason()})"
            )
        if cache is not None and timings is not None:
            timings.data = bytes(cache.serialize())
        return bytes(engine)


def _configure(api: TensorRt, config: Any, options: Options) -> None:
    flags = api.module.BuilderFlag
    config.clear_flag(flags.TF32)  # parity: FP32 is FP32
    if options.workspace is not None:
        config.set_memory_pool_limit(api.module.MemoryPoolType.WORKSPACE, options.workspace * MEBIBYTE)
    if options.version_compatible:
        config.set_flag(flags.VERSION_COMPATIBLE)
    if options.refit:
        config.set_flag(flags.REFIT)
    if options.compute_capability is not None:
        api.set_compute_capability(config, options.compute_capability)
    if options.dla_core is not None:
        config.default_device_type = api.module.DeviceType.DLA
        config.DLA_core = options.dla_core
        config.set_flag(flags.GPU_FALLBACK)


def _add(api: TensorRt, builder: Any, config: Any, contract: Contract, profile: Profile) -> None:
    added = builder.create_optimization_profile()
    for name, shapes in profile.shapes(contract).items():
        added.set_shape(name, *shapes)
    if config.add_optimization_profile(added) < 0:
        raise InputError(f"{contract.network}: {api.library} {api.version} refuses the profile {profile}")


class TimingCache:
    """Timings of kernels in a file: only as a hint to the builder, which is faster with it.

    The file begins with a line of JSON that names the library, its version, the GPU and the SHA-256 of the rest. A file
    that is damaged or from elsewhere is never given to TensorRT: the build begins with an empty one, and says so.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self.path = path
        self._owner = {
            "library": machine.library,
            "version": machine.version,
            "gpu": machine.gpu,
            "compute_capability": machine.compute_capability,
            "cuda": machine.cuda,
        }
        self.data = self._read()

    def _read(self) -> bytes:
        try:
            head, _, rest = read_bytes(self.path).partition(b"\n")
        except FileNotFoundError:
            return b""
        try:
            said = parse_json(head.decode())
            sha256 = said.pop("sha256")
        except (ValueError, TypeError, KeyError, AttributeError):
            return self._refused("is no timing cache")
        if sha256 != hashlib.sha256(rest).hexdigest():
            return self._refused("is damaged")
        if said != self._owner:
            return self._refused(f"is of {' '.join(map(str, said.values()))}, not of {' '.join(self._owner.values())}")
        return rest

    def _refused(self, why: str) -> bytes:
        warnings.warn(f"{self.path} {why}: it is ignored and will be replaced", stacklevel=4)
        return b""

    def attach(self, config: Any) -> Any:
        """Give it to a builder's configuration; the cache that the build fills."""
        cache = config.create_timing_cache(self.data)
        if cache is None or not config.set_timing_cache(cache, False):
            self._refused("is refused by TensorRT")
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def save(self) -> None:
        """Write the file: under a temporary name, then moved into place."""
        head = json.dumps({**self._owner, "sha256": hashlib.sha256(self.data).hexdigest()}).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.writelines((head, b"\n", self.data))
