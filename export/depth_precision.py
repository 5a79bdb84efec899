"""A depth network of others below FP32: in FP16 with what its plan keeps, or in INT8 by its plan."""

from pathlib import Path

from deeplens.console.errors import InputError
from deeplens.export import depth_int8, depth_plan, fp16
from deeplens.export.foreign_depth import foreign_module
from deeplens.runtimes import manifest

PRECISIONS = ("fp32", "fp16", "int8")


def check(name: str, precision: str, plan: Path | None) -> None:
    """Raise InputError where a network can't be exported in a precision, before any work is done."""
    if precision not in PRECISIONS:
        raise InputError(f"a depth network of others is exported in {', '.join(PRECISIONS)}, not in {precision}")
    if precision == "int8" and plan is None:
        raise InputError(f"INT8 follows a plan: run `deeplens calibrate --depth-network {name}` and give its --plan")


def export(entry: manifest.Entry, precision: str, plan: Path | None, *, out: Path) -> manifest.Entry:
    """The artefact in "fp16" or "int8" beside an FP32 one.

    Args:
        entry: of the FP32 graph, in the manifest of `out`.
        plan: file of `deeplens calibrate`; needed for INT8.

    Raises:
        InputError, MismatchError: from the plan, or as `export.fp16.export` and `export.depth_int8.export`.
    """
    if precision == "int8":
        assert plan is not None
        return depth_int8.export(entry, depth_plan.read(plan), out=out)
    kept = depth_plan.kept(plan, entry.variant, entry.weights_sha256)
    return fp16.export(entry, out=out, module=foreign_module(entry.variant), keep=kept)
