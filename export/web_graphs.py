"""The graphs that the web page carries: those of ONNX Runtime, with weights in as few bytes as lose nothing.

    python -m deeplens.export.web_graphs [--artifacts DIR] [--out DIR]

writes `models/` of the page: a graph for each network, the same in the form for WebGPU, the lens blur in INT8 (which
answers drags where FP32 is too slow), harness.json, and models.json, which lists the files with their size and SHA-256.
It takes the artefacts of free sizes that `deeplens export onnx` has made. WebGPU and INT8 are left out where they were
not exported. `make web` calls it.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from deeplens.console.errors import MissingError
from deeplens.console.files import locked_name
from deeplens.console.package import VERSION, pip_install
from deeplens.console.script import run_script
from deeplens.export.onnx_rewrite import by_node, enlarge_by_convolution
from deeplens.model.contract import NETWORKS
from deeplens.runtimes import artefact, folders, harness_file, manifest
from deeplens.runtimes.onnx_form import CPU, artefacts_of
from deeplens.runtimes.options import Artifacts
from deeplens.runtimes.web_page import MODELS, PAGE_FOLDER

VARIANT = "edge"

GPU = "webgpu"
"""The form of the graphs for graphics processors (`export.onnx_forms`), which the page carries where they were made."""

DRAFT = "lens_blur"
"""The network that answers drags, which the page carries in INT8 too where it was made."""

FORMAT = 3
"""Version of models.json."""

LARGE = 1024
"""Weights of at least so many numbers are worth a node of their own."""


def compact(graph: bytes) -> bytes:
    """The same graph with those weights as FP16 that FP16 holds exactly; each is turned into FP32 as it is loaded.

    Args:
        graph: a serialised ONNX model.

    Returns:
        a serialised model that computes the same numbers.

    Raises:
        MissingError: the package `onnx` is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise MissingError(f"onnx can't be imported ({error}): {pip_install('export')}") from error
    model = onnx.load_from_string(graph)
    casts = []
    for each in model.graph.initializer:
        if each.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(each)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < LARGE or not np.array_equal(half.astype(np.float32), values):
            continue
        name = each.name
        stored = f"{name}_fp16"
        each.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def make(folder: Path, *, artifacts: Path | None = None) -> dict[str, Any]:
    """Write the page's models into `folder`, in place of what is there; returns what models.json says.

    Args:
        artifacts: the folder with manifest.json; None: as `runtimes.folders.opened_folder`.

    Raises:
        MissingError: an artefact or the package `onnx` is not there.
        MismatchError: an artefact is not what its manifest entry says.
    """
    source = folders.opened_folder("onnx", variant=VARIANT, precision="fp32", artifacts=artifacts)
    staged = locked_name(folder)
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        text: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "variant": VARIANT,
            "networks": {network: _stored(staged, source, network, CPU) for network in NETWORKS},
            "harness": _about(harness_file.write(staged)),
        }
        if folders.folder_of(artefacts_of(GPU), variant=VARIANT, precision="fp32", artifacts=source):
            text[GPU] = {network: _stored(staged, source, network, GPU) for network in NETWORKS}
        draft = _draft(staged, source, text["networks"][DRAFT]["weights_sha256"])
        if draft is not None:
            text["draft"] = draft
        (staged / "models.json").write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return text


def _stored(folder: Path, source: Path, network: str, form: str) -> dict[str, Any]:
    """Write a network's graph into `folder`; returns what is told of it."""
    entry = manifest.find(
        source, network=network, variant=VARIANT, runtime=artefacts_of(form), precision="fp32", shape=None
    )
    graph = artefact.load(source, entry)
    told = {"weights_sha256": entry.weights_sha256}
    if form != CPU:
        return {**_written(folder / f"{VARIANT}_{network}_{form}.onnx", graph), **told}
    return {**_written(folder / f"{VARIANT}_{network}.onnx", for_webassembly(graph)), **told}


def _draft(folder: Path, source: Path, weights: str) -> dict[str, Any] | None:
    """Write the lens blur in INT8 into `folder`; returns what is told of it. None: there is none of these weights."""
    kind: dict[str, Any] = {"network": DRAFT, "variant": VARIANT, "runtime": artefacts_of(CPU), "precision": "int8"}
    if not any(all(getattr(each, name) == value for name, value in kind.items()) for each in manifest.read(source)):
        return None
    entry = manifest.find(source, **kind, shape=None)
    if entry.weights_sha256 != weights:
        return None
    graph = for_webassembly(artefact.load(source, entry))
    return {**_written(folder / f"{VARIANT}_{DRAFT}_int8.onnx", graph), "weights_sha256": entry.weights_sha256}


def for_webassembly(graph: bytes) -> bytes:
    """The same graph for ONNX Runtime Web on a processor: see `export.onnx_rewrite.enlarge_by_convolution`."""
    import onnx

    return by_node(onnx.load_from_string(graph), {"Resize": enlarge_by_convolution}).SerializeToString()


def _written(path: Path, graph: bytes) -> dict[str, Any]:
    path.write_bytes(compact(graph))
    return _about(path)


def _about(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def main(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder that the models are written to.")
    ] = PAGE_FOLDER / MODELS,
    artifacts: Artifacts = None,
) -> None:
    """Write the graphs that the web page carries."""
    make(folder, artifacts=artifacts)
    size = sum(path.stat().st_size for path in folder.glob("*.onnx") if GPU not in path.name)
    typer.echo(f"{size / 1e6:.1f} MB of graphs of {VARIANT} for the page are in {folder}")


if __name__ == "__main__":
    run_script(main)
