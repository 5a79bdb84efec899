"""A second opinion by Apple: each network in the Core AI format, run by Apple's own compiler and kernels on the CPU.

    python -m deeplens.parity_tests.coreai [--variant V] [--network N] [--precision P] [--json FILE]

Core AI is the successor of Core ML's model format; its packages (the extra `coreai`) also run on Linux. It shares no
code with coremltools, ONNX or PyTorch's kernels, so agreement says that the networks mean what PyTorch computes. It
says nothing about a `.mlpackage`, nor about the Neural Engine.
"""

import asyncio
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from deeplens.console.errors import MismatchError, MissingError
from deeplens.console.options import JsonTarget
from deeplens.console.package import pip_install
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.export.chosen import check_choice
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.model.shipped import Weights
from deeplens.parity_tests.cases import plausible_inputs
from deeplens.parity_tests.compare import NETWORK, Measured, measure
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.options import Weights as WeightsOption
from deeplens.runtimes.options import weights_from

if TYPE_CHECKING:
    import torch


SIZE = (48, 64)
"""Low-resolution height and width at which networks with free sizes are compared: the CPU kernels are slow."""

PRECISIONS = ("fp32", "fp16")

HALF = 2.0
"""In FP16, how many times PyTorch's own error of FP16 (from float64) that of Core AI may be."""


@dataclass(frozen=True)
class Opinion:
    """One network, Core AI against PyTorch.

    Attributes:
        measured: `own` is PyTorch's error in the same precision, from float64.
    """

    variant: str
    network: str
    precision: str
    size: tuple[int, int]
    measured: Measured

    @property
    def passed(self) -> bool:
        """FP32: within `NETWORK`. FP16: the error from float64 is at most `HALF` times PyTorch's own. No NaN passes."""
        if self.precision == "fp32":
            return self.measured.passes(NETWORK)
        return self.measured.judge <= HALF * self.measured.own


def opinion(
    variant: str, network: str, *, precision: str = "fp32", weights: Weights = "shipped", seed: int = 0
) -> Opinion:
    """Convert a network, run it on random inputs in the contract's ranges, and compare.

    Raises:
        InputError: an unknown name.
        MissingError: Core AI or the weights are not there.
        MismatchError: Core AI can't convert or run the network.
    """
    check_choice("variant", variant, VARIANTS)
    check_choice("network", network, NETWORKS)
    check_choice("precision", precision, PRECISIONS)
    require()
    import torch

    from deeplens.model import build

    contract = CONTRACTS[network]
    size = contract.fixed_size or SIZE
    inputs = plausible_inputs(contract, size, np.random.default_rng(seed))
    dtype = torch.float32 if precision == "fp32" else torch.float16
    inputs = {name: array.astype(np.float32 if precision == "fp32" else np.float16) for name, array in inputs.items()}
    module = build.load(variant, network, weights)
    judge = in_torch(module.double(), inputs, torch.float64)
    reference = in_torch(module.to(dtype), inputs, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{variant}_{network}.aimodel"
        save(module, inputs, path, output=contract.outputs[0].name)
        found = run(path, inputs)[contract.outputs[0].name]
    single = (array.astype(np.float64) for array in (found, reference, judge))
    return Opinion(variant, network, precision, size, measure(*single))


def require() -> None:
    """Raise MissingError where Core AI is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a CPU build of the very PyTorch that it was tested with
            import coreai_torch  # noqa: F401
    except ImportError as error:
        raise MissingError(f"Core AI can't be imported ({error}): {pip_install('coreai')}") from error


def in_torch(module: "torch.nn.Module", inputs: Arrays, dtype: "torch.dtype") -> np.ndarray:
    """The network's output in PyTorch."""
    import torch

    with torch.inference_mode():
        output = module(*(torch.from_numpy(array).to(dtype) for array in inputs.values()))
    array: np.ndarray = output.numpy()
    return array


def save(module: "torch.nn.Module", inputs: Arrays, path: Path, *, output: str) -> None:
    """Write the network as an `.aimodel` for inputs of these names, shapes and types.

    Raises:
        MismatchError: Core AI can't convert it.
    """
    import torch
    from coreai_torch import TorchConverter, get_decomp_table

    example = tuple(torch.from_numpy(array) for array in inputs.values())
    try:
        exported = torch.export.export(module, example).run_decompositions(get_decomp_table())
        converter = TorchConverter()
        converter.add_exported_program(exported, input_names=list(inputs), output_names=[output])
        converter.to_coreai().save_asset(path)
    except Exception as error:  # it raises classes of its own, and whatever its compiler gives
        raise MismatchError(f"Core AI can't convert {path.stem} ({' '.join(str(error).split())})") from error


def run(path: Path, inputs: Arrays) -> Arrays:
    """Run an `.aimodel` on the CPU.

    Raises:
        MismatchError: Core AI can't run it.
    """
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    async def call() -> Arrays:
        async with AIModelAsset.load(path).executable() as model:
            outputs = await model.load_function("main")({name: NDArray(array) for name, array in inputs.items()})
            return {name: value.numpy().copy() for name, value in outputs.items()}  # the buffers go with the model

    try:
        return asyncio.run(call())
    except Exception as error:  # as above
        raise MismatchError(f"Core AI can't run {path.stem} ({' '.join(str(error).split())})") from error


def command(
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT", help="Variant of the networks: edge or paper; may be repeated.", show_default="edge"
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK", help=f"Network to compare: {', '.join(NETWORKS)}; may be repeated.", show_default="all"
        ),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="PRECISION", help="Precision: fp32 or fp16.")] = "fp32",
    weights: WeightsOption = "shipped",
    json: JsonTarget = None,
) -> None:
    """Compare Apple's Core AI with PyTorch. Exit status 5 if a network differs."""
    opinions = [
        opinion(each, name, precision=precision, weights=weights_from(weights))
        for each in variant or ["edge"]
        for name in network or NETWORKS
    ]
    title = "Core AI on the CPU against PyTorch"
    columns = ("variant", "network", "precision", "size", "max |d|", "from float64", "torch from float64", "/ spread")
    console_for(json).print(table(title, (*columns, "result"), map(tuple, map(_row, opinions))))
    write_json(json, {"opinions": [{**asdict(each), "passed": each.passed} for each in opinions]})
    wrong = [f"{each.variant} {each.network}" for each in opinions if not each.passed]
    if wrong:
        raise MismatchError(f"Core AI and PyTorch differ in {', '.join(wrong)}")


def _row(each: Opinion) -> Iterator[Any]:
    measured = each.measured
    yield from (each.variant, each.network, each.precision, "{}×{}".format(*each.size))
    yield from (f"{d:.1e}" for d in (measured.max_abs, measured.judge, measured.own, measured.relative))
    yield "passed" if each.passed else "failed"


if __name__ == "__main__":
    run_script(command)
