"""The whole effect → TensorRT engines: one for each size of photo, with explicit types in the graph."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.progress import progress_bar
from deeplens.export import whole_memory
from deeplens.export.precision_plan import Plan
from deeplens.export.trt_engine import Place, export
from deeplens.export.trt_jobs import Job
from deeplens.export.whole_sizes import Wanted, memory_of
from deeplens.model.whole_contract import PIXEL_CONTRACTS, WHOLE, parts_of
from deeplens.runtimes import manifest
from deeplens.runtimes.whole_pixels import pixel_graphs

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

PRECISIONS = ("fp32", "fp16", "int8")


def graph(wanted: Wanted, precision: str, *, out: Path, plan: Plan | None = None) -> manifest.Entry:
    """The ONNX artefact that an engine is built from; exported and checked where it is missing or of other weights.

    Without PyTorch the artefact in the manifest is taken as it is.

    Raises:
        as `whole_onnx.export`; InputError also where the target's memory is too small for the graph that is there.
    """
    if precision not in PRECISIONS:
        raise InputError(f"a graph of the whole effect is made in {', '.join(PRECISIONS)}, not in {precision}")
    hashes = _hashes(wanted)
    try:
        entry = manifest.find(
            out,
            network=wanted.network,
            variant=wanted.variant,
            runtime="onnx",
            precision=precision,
            shape=wanted.size,
            more={} if hashes is None else {"parts": hashes},
        )
        manifest.verify(out, entry)
    except (MissingError, MismatchError):
        if hashes is None:
            raise
        from deeplens.export import whole_onnx

        return whole_onnx.export(wanted, out=out, precisions=(precision,), plan=plan)[-1]
    needs = whole_memory.needed(int(entry.more["peak_bytes"]), wanted.target)
    whole_memory.check(needs, wanted.target, size=wanted.size, given=wanted.memory)
    return entry


def _hashes(wanted: Wanted) -> dict[str, str] | None:
    """Network → SHA-256 of the weights that are asked for; None without PyTorch: the graph is taken as it is."""
    try:
        from deeplens.model import build
    except ImportError:
        return None
    modules = {part: build.load(wanted.variant, part, wanted.weights) for part in parts_of(wanted.network)}
    return {part: build.weights_sha256(module) for part, module in modules.items()}


def export_all(
    jobs: Sequence[Job],
    where: Place,
    *,
    out: Path,
    command: str,
    weights: "Weights" = "shipped",
    memory: int | None = None,
    timing_cache: Path | None = None,
    plans: Mapping[str, Plan] = MappingProxyType({}),
    rebuild: bool = False,
    report: Callable[[str], None],
) -> list[manifest.Entry]:
    """Build the engines of a list; the first that fails stops it.

    Args:
        jobs: of graphs of the whole effect, and of the two that stand before and after one, each with the size of its
            photo.
        memory: MiB that the target has; None: `whole_memory.LIMITS`.
        report: gets a line for each engine.
    """
    sources: dict[Wanted, manifest.Entry] = {}
    entries = []
    with progress_bar("Building engines of the whole effect") as progress:
        for job in progress.each(jobs):
            assert job.size is not None
            wanted = Wanted(
                variant=job.variant,
                network=WHOLE if job.network in PIXEL_CONTRACTS else job.network,
                size=job.size,
                weights=weights,
                target=job.target,
                memory=memory,
                half=job.precision == "fp16",
            )
            if wanted not in sources:
                sources[wanted] = graph(wanted, job.precision, out=out, plan=plans.get(job.variant))
            source = sources[wanted]
            ends = {} if job.network not in PIXEL_CONTRACTS else pixel_graphs(job.size)
            needs = {} if ends else memory_of(int(source.more["peak_bytes"]), job.target)
            entry, new = export(
                job,
                where,
                source,
                out=out,
                command=command,
                timing_cache=timing_cache,
                rebuild=rebuild,
                graph=ends.get(job.network),
                more={} if ends else {"parts": source.more["parts"], **needs},
            )
            entries.append(entry)
            took = f"built in {entry.more['seconds']:.1f} s" if new else "already there, with the same key"
            size = entry.more["bytes"] / 1e6
            memory_taken = f", takes {needs['memory_mib']} MiB" if needs else ""
            report(f"{out / entry.path}  {size:.1f} MB{memory_taken}, {took}")
    return entries
