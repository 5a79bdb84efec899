"""One engine: where it can be built, what it is called, built or found built, with its entry."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

from deeplens.console.errors import MismatchError, MissingError
from deeplens.export.trt_build import Options, TimingCache, build
from deeplens.export.trt_guard import guard
from deeplens.export.trt_jobs import TARGETS, Job
from deeplens.model.whole_contract import contract_named
from deeplens.runtimes import manifest, trust
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.cuda import Cuda
from deeplens.runtimes.engine_key import EngineKey, Machine, to_more
from deeplens.runtimes.publish import publish
from deeplens.runtimes.trt_api import TensorRt

FOLDER = "trt"
"""Below the root of the artefacts."""


@dataclass(frozen=True)
class Place:
    """Where a build runs: the library, and this machine, which is None for a build ahead of time."""

    api: TensorRt
    machine: Machine | None

    def key_machine(self, options: Options) -> Machine:
        """What an engine built here with `options` is bound to."""
        if self.machine is not None:
            return self.machine
        assert options.compute_capability is not None
        return self.api.ahead_of_time(options.compute_capability)


def place(target: str, *, command: str) -> Place:
    """Where engines for `target` can be built: here, or not.

    Args:
        command: what to run elsewhere.

    Raises:
        MissingError: the library or the GPU is not there; one line that says which command to run where.
    """
    kind = TARGETS[target]
    missing: list[str] = []
    api, machine = None, None
    try:
        api = TensorRt(kind.library)
    except MissingError as error:
        missing.append(str(error))
    if not kind.compute_capabilities:
        try:
            cuda = Cuda()
            machine = None if api is None else api.machine(cuda)
        except MissingError as error:
            missing.append(str(error))
    if api is None or missing:
        raise MissingError(
            f"{target} engines can't be built here ({'; '.join(missing)}): run `{command}` on {kind.machine}"
        )
    return Place(api, machine)


def export(
    job: Job,
    where: Place,
    source: manifest.Entry,
    *,
    out: Path,
    command: str,
    timing_cache: Path | None = None,
    rebuild: bool = False,
    force: bool = False,
    graph: bytes | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[manifest.Entry, bool]:
    """Build one engine, or find it built.

    Args:
        source: the ONNX artefact, in the manifest of `out`.
        command: what makes it again, for the manifest.
        timing_cache: a file; None: one in the folder of the engines, by library, version and GPU.
        rebuild: also where an engine with the same key is there.
        graph: a serialised graph to build it from instead; of `source` it takes weights and tools.
        force: also with a version that is known to compute attention wrongly (`export.trt_guard`).
        more: further keys of its entry.

    Returns:
        its entry, and whether it was built now.

    Raises:
        InputError, MismatchError: from `export.trt_build.build`. Nothing is left behind.
        OSError: the engine can't be written. Nothing is left behind.
    """
    machine = where.key_machine(job.options)
    sha256 = source.sha256 if graph is None else hashlib.sha256(graph).hexdigest()
    key = EngineKey(machine, sha256, job.options.profiles, job.options.flags)
    path = f"{FOLDER}/{job.name}_{key.digest}.engine"
    found = None if rebuild else _built(out, path)
    if found is not None:
        return found, False
    graph_bytes = load_artefact(out, source) if graph is None else graph
    guard(graph_bytes, library=machine.library, version=machine.version, precision=job.precision, forced=force)
    timings = None
    if where.api.has_timing_cache:
        name = f"timings_{machine.library}_{machine.version}_sm{machine.compute_capability.replace('.', '')}.cache"
        timings = TimingCache(timing_cache or out / FOLDER / name, machine)
    with publish(out, path) as artefact:
        start = perf_counter()
        data = build(where.api, graph_bytes, contract_named(job.network), job.options, timings=timings)
        seconds = perf_counter() - start
        artefact.file.write_bytes(data)
        entry = artefact.describe(
            source,
            runtime="trt",
            precision=job.precision,
            **({} if graph is None else _described(job.network, graph)),
            tools={**source.tools, machine.library: machine.version},
            more={
                **to_more(key, command=command),
                **more,
                "target": job.target,
                "bytes": len(data),
                "seconds": round(seconds, 2),
            },
        )
    trust.remember_engine(entry.sha256)
    if timings is not None:
        timings.save()
    return entry, True


def _described(network: str, graph: bytes) -> dict[str, Any]:
    """What the entry of a graph says that is not its source's."""
    import onnx

    from deeplens.export.onnx_check import tensor_entries

    body = onnx.load_from_string(graph).graph
    return {"network": network, "inputs": tensor_entries(body.input), "outputs": tensor_entries(body.output)}


def _built(out: Path, path: str) -> manifest.Entry | None:
    """The entry of the engine at `path`, whose name holds its key, if it is there and whole."""
    for entry in manifest.read(out):
        if entry.runtime == "trt" and entry.path == path:
            try:
                manifest.verify(out, entry)
            except (MissingError, MismatchError):
                return None
            return entry
    return None
