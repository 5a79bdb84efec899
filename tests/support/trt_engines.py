"""What the tests of the TensorRT runtime share: engines of the stand-in in a folder with a manifest."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deeplens.console.files import file_sha256
from deeplens.export.onnx_check import random_inputs
from deeplens.model.contract import CONTRACTS, Tensor
from deeplens.model.whole_contract import OF_ONE_PHOTO, contract_named
from deeplens.runtimes import manifest, trust
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.cuda import Cuda
from deeplens.runtimes.engine_key import EngineKey, Profile, to_more
from deeplens.runtimes.trt import TrtRuntime
from deeplens.runtimes.trt_api import Library, TensorRt
from tests.support.trt_networks import dtype_of
from tests.support.trt_stand_in import TensorRtStandIn, engine_bytes

LEVEL, OTHER = (40, 48), (64, 56)
PROFILES = (Profile.static(LEVEL), Profile((32, 32), (64, 64), (256, 256)))


def library_of(module: TensorRtStandIn) -> Library:
    return "tensorrt_rtx" if module.is_rtx else "tensorrt"


def add_engine(
    folder: Path,
    network: str,
    module: TensorRtStandIn,
    *,
    profiles: tuple[Profile, ...] | None = None,
    built_here: bool = True,
    **changes: str,
) -> manifest.Entry:
    """An engine of `network` for the machine of `module`, and its entry; `changes` are of the key's machine."""
    if profiles is None:
        profiles = () if contract_named(network).fixed_size else PROFILES
    here = TensorRt(library_of(module), module).machine(Cuda(module.cudart))
    flags = {"version_compatible": True} if changes.pop("version_compatible", "") else {}
    key = EngineKey(replace(here, **changes), "0" * 64, profiles, flags)
    path = folder / "trt" / f"edge_{network}_{key.digest}.engine"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(engine_bytes(network, profiles))
    contract = contract_named(network)
    fixed = contract.fixed_size or (profiles[0].best if network in OF_ONE_PHOTO else None)

    def shape(tensor: Tensor) -> tuple[int | str, ...]:
        return tensor.shape(*fixed) if fixed else (1, tensor.channels, "8*h", "8*w")

    inputs, outputs = (
        tuple(manifest.TensorEntry(each.name, shape(each), dtype_of(each, "float32").name) for each in side)
        for side in (contract.inputs, contract.outputs)
    )
    entry = manifest.Entry(
        network, "edge", "trt", "fp16", path.relative_to(folder).as_posix(), file_sha256(path), "0" * 64,
        inputs, outputs, tools={}, opset=20, dynamic=True, created="2026-01-01T00:00:00+00:00",
        more=to_more(key, command="deeplens export trt --target desktop"),
    )  # fmt: skip
    manifest.add(folder, entry)
    if built_here:
        trust.remember_engine(entry.sha256)
    return entry


def runtime_of(folder: Path, module: TensorRtStandIn, **options: object) -> TrtRuntime:
    modules = {library_of(module): module}
    return TrtRuntime(artifacts=folder, cuda=Cuda(module.cudart), modules=modules, **options)  # type: ignore[arg-type]


def inputs_of(size: tuple[int, int] = LEVEL, *, network: str = "upsample", seed: int = 0) -> Arrays:
    return random_inputs(CONTRACTS[network], size, np.random.default_rng(seed))
