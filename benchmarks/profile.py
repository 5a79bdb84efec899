"""Where ONNX Runtime spends its time: by kind of operation, on one thread, and the rate of the convolutions."""

import json
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deeplens.benchmarks.candidate import Candidate
from deeplens.benchmarks.worker import Worker, random_inputs
from deeplens.console.errors import InputError
from deeplens.model.contract import NETWORKS, part_of
from deeplens.runtimes import folders, manifest
from deeplens.runtimes.artefact import load as load_artefact

RUNS = 30
"""Of a network; each operation counts with its median."""


def measure(candidate: Candidate, width: int, height: int, *, gflops: float) -> list[dict[str, Any]]:
    """Profile the networks at the sizes that they have in a refocus of a `width` × `height` photo.

    Args:
        gflops: the machine's sgemm rate on one thread.

    Returns:
        For each network: candidate, network, height, width, seconds (of all operations), kinds (kind, nodes, seconds,
        share; largest first), conv_gflops and conv_share: what the convolutions reach, and as a share of sgemm.

    Raises:
        InputError: the candidate does not run on ONNX Runtime.
        MissingError: PyTorch, which counts multiplications, or an artefact is not there.
    """
    if candidate.runtime != "onnx":
        raise InputError(f"--profile works with runtime 'onnx' only, not '{candidate.runtime}'")
    from deeplens.benchmarks.roofline import work

    worker = Worker(candidate, width, height)
    rows = []
    for network in NETWORKS:
        size = worker.network_size(network)
        nodes = _nodes(candidate, network, size)
        kinds: dict[str, list[float]] = defaultdict(list)
        for kind, seconds in nodes.values():
            kinds[kind].append(seconds)
        total = sum(map(sum, kinds.values()))
        conv = sum(kinds.get("Conv", [0.0]))
        reached = 2 * work(candidate.variant, network, *size).multiplications / conv / 1e9 if conv else 0.0
        rows.append(
            {
                "candidate": candidate.name,
                "network": network,
                "height": size[0],
                "width": size[1],
                "seconds": total,
                "kinds": [
                    {"kind": kind, "nodes": len(each), "seconds": sum(each), "share": sum(each) / total}
                    for kind, each in sorted(kinds.items(), key=lambda item: -sum(item[1]))
                ],
                "conv_gflops": reached,
                "conv_share": reached / gflops,
            }
        )
    return rows


def _nodes(candidate: Candidate, network: str, size: tuple[int, int]) -> dict[str, tuple[str, float]]:
    """Node → its kind and its median seconds, of the graph as ONNX Runtime has optimised it."""
    import onnxruntime

    from deeplens.runtimes.ort_session import session_options

    folder = folders.opened_folder(
        "onnx", variant=candidate.variant, precision=candidate.precision, artifacts=candidate.artifacts
    )
    entry = manifest.find(
        folder,
        network=network,
        variant=part_of(candidate.variant, network),
        runtime="onnx",
        precision=candidate.precision,
        shape=None,
    )
    inputs = random_inputs(network, size)
    with TemporaryDirectory() as name:
        options = session_options(onnxruntime, threads=1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(name) / "profile")
        session = onnxruntime.InferenceSession(
            load_artefact(folder, entry), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(RUNS + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    seconds: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            seconds[event["name"]].append(event["dur"] / 1e6)
            kinds[event["name"]] = event["args"]["op_name"]
    return {node: (kinds[node], sorted(each[1:])[len(each[1:]) // 2]) for node, each in seconds.items()}
