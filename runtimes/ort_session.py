"""An ONNX Runtime session on a provider: opened, checked for what it really runs on, its operations counted."""

import io
import re
from collections import Counter
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

from deeplens.console.errors import MismatchError, MissingError, one_line
from deeplens.runtimes.accelerator import CPU, Ran
from deeplens.runtimes.providers import Provider, attached

_RECORD = "session.record_ep_graph_assignment_info"

_USUAL = 2
"""Severity from which ONNX Runtime logs unless told otherwise: warnings."""


def session_options(ort: ModuleType, *, threads: int) -> Any:
    """How sessions are set, with `threads` threads for each operation."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    # Threads that wait actively after a run would take the cores from the harness and the tiles.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # With patterns, a layout of the memory is kept for every shape that was ever run: half as much again at the peak
    # over twelve tile shapes, and no faster. The arena reuses what it has, so that it ends at the largest shape.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = True
    options.log_severity_level = 3  # errors only: they are raised
    return options


def open_session(
    ort: ModuleType, graph: bytes, provider: Provider, *, threads: int, lanes: int = 1, cpu_nodes: int | None = None
) -> tuple[Any, Ran]:
    """A session of a serialised graph on a provider, and what it came to run on.

    Args:
        threads: for one operation.
        lanes: runs at the same time.
        cpu_nodes: most operations that may run on the CPU instead; None: any number.

    Raises:
        MissingError: the provider can't run here, although ONNX Runtime knows it.
        MismatchError: more operations than `cpu_nodes` run on the CPU, or it can't be told.
        as ONNX Runtime, on the CPU: the graph can't be loaded.
    """
    options = session_options(ort, threads=threads)
    given, versions = attached(ort, provider, options, threads=threads, lanes=lanes)
    if provider.name == CPU:
        return ort.InferenceSession(graph, options, **given), Ran(CPU, versions)
    options.add_session_config_entry(_RECORD, "1")
    options.log_severity_level = 4
    ort.set_default_logger_severity(4)  # what goes wrong is said below, in one line
    found = _preloaded(ort, provider)
    try:
        # Without `enable_fallback=0` it tries once more on the CPU, and prints that it does.
        session = ort.InferenceSession(graph, options, **given, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise MissingError(_refused(provider, found or _reason(one_line(error)))) from error
    finally:
        ort.set_default_logger_severity(_USUAL)
    if provider.library_name not in session.get_providers():
        raise MissingError(_refused(provider, found or "its libraries could not be loaded"))
    ran = _counted(session, provider, versions)
    if cpu_nodes is not None:
        _check(ran, cpu_nodes)
    return session, ran


def _preloaded(ort: ModuleType, provider: Provider) -> str:
    """Load CUDA's libraries from the packages of PyPI, where there are any; what it says of one that is missing."""
    if provider.name not in ("cuda", "tensorrt") or not hasattr(ort, "preload_dlls"):
        return ""
    said = io.StringIO()
    with redirect_stdout(said):
        ort.preload_dlls()
    return next((line for line in said.getvalue().splitlines() if "not found" in line or "Failed" in line), "")[:200]


def _reason(message: str) -> str:
    """An exception's text without the place in C++ that it begins with."""
    return re.sub(r"^.*\.cc:\d+ .*[)>] (?=\w)", "", message)[:300]


def _refused(provider: Provider, reason: str) -> str:
    needs = f": it needs {provider.needs}" if provider.needs else ""
    return f"ONNX Runtime's provider '{provider.name}' can't run here{needs} ({reason})"


def _counted(session: Any, provider: Provider, versions: str) -> Ran:
    """What is known of the operations: ONNX Runtime tells from 1.24 on."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return Ran(provider.name, versions)
    kinds: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        kinds.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    left = Counter(kinds.get("CPUExecutionProvider", ()))
    return Ran(
        provider.name,
        versions,
        nodes=sum(map(len, kinds.values())),
        cpu_nodes=left.total(),
        kinds=tuple(sorted(left)),
    )


def _check(ran: Ran, cpu_nodes: int) -> None:
    if ran.cpu_nodes is None:
        raise MismatchError(
            f"{ran.library} does not tell which operations run on the CPU: leave out --cpu-nodes, or install 1.24 or "
            "newer"
        )
    if ran.cpu_nodes > cpu_nodes:
        raise MismatchError(
            f"{ran.cpu_nodes} of {ran.nodes} operations run on the CPU and not on {ran.on} ({', '.join(ran.kinds)}): "
            f"at most {cpu_nodes} are allowed by --cpu-nodes"
        )
