"""TensorRT for RTX as a compiler, on a machine without a GPU: it takes a graph or it doesn't. No number comes of it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export.trt_build import Options, build
from deeplens.export.trt_jobs import TARGETS, profiles
from deeplens.model.contract import NETWORKS, part_of
from deeplens.model.whole_contract import contract_named
from deeplens.parity_tests.compare import NETWORK, Row
from deeplens.runtimes import folders, manifest
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.trt_api import TensorRt

if TYPE_CHECKING:
    from deeplens.parity_tests.request import Request

NUMBERS = "numbers not run: needs an NVIDIA GPU"

NO_FP32_PRODUCT = "FP32 GEMM is not supported"
"""What TensorRT for RTX says of products of matrices in FP32 on Turing (SM 7.5): no fault of the graph."""

PRECISIONS = ("fp32", "fp16", "int8")


def compile_rows(request: "Request", variant: str) -> Iterator[Row]:
    """A row for each precision and network that has a graph of free sizes; one where there is no compiler."""
    capabilities = TARGETS["rtx"].compute_capabilities

    def row(precision: str, what: str, status: str, note: str) -> Row:
        label = f"tensorrt-rtx {precision}"
        return Row(variant, label, what, "", "", (0, 0), NETWORK, status, note)  # type: ignore[arg-type]

    try:
        api = TensorRt("tensorrt_rtx")
    except MissingError as error:
        yield row("", "compiles", "not run", f"not run: needs the compiler: {error}")
        return
    for precision in [each for each in request.precisions or PRECISIONS if each in PRECISIONS]:
        request.report(f"{variant}: TensorRT for RTX compiles {precision}")
        folder = folders.opened_folder("onnx", variant=variant, precision=precision, artifacts=request.artifacts)
        graphs: list[tuple[str, tuple[int, int] | None]] = [(network, None) for network in NETWORKS]
        graphs += [(network, size) for size in request.whole for network in request.whole_networks()]
        for network, size in graphs:
            what = network if size is None else f"{network} {size[1]}x{size[0]}"
            try:
                own = part_of(variant, network)
                entry = manifest.find(
                    folder, network=network, variant=own, runtime="onnx", precision=precision, shape=size
                )
                graph = load_artefact(folder, entry)
            except MissingError as error:
                yield row(precision, what, "not run", f"not run: needs the graph: {error}")
                continue
            without: list[str] = []
            try:
                for capability in capabilities:
                    options = Options(profiles=profiles(variant, network), compute_capability=capability)
                    try:
                        build(api, graph, contract_named(network), options)
                    except MismatchError as error:
                        if NO_FP32_PRODUCT not in str(error):
                            raise
                        without.append(capability)
            except (MismatchError, InputError) as error:
                yield row(precision, what, "failed", f"SM {capability}: {error}")
                continue
            taken = [each for each in capabilities if each not in without]
            lacks = f"; not SM {', '.join(without)}: {NO_FP32_PRODUCT} there" if without else ""
            yield row(precision, what, "compiles", f"compiles: SM {', '.join(taken)}{lacks}; {NUMBERS}")
