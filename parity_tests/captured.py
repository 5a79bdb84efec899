"""The graph that torch.export takes of each network: what both exporters begin with, as a runtime and to look into."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deeplens.export.whole_sizes import parts_sha256
from deeplens.model.contract import ALIGNMENT, MIN_SIZE, Contract
from deeplens.model.whole_contract import contract_named
from deeplens.parity_tests.cases import Graph, Size
from deeplens.parity_tests.produce import Opener
from deeplens.runtimes.contract import Arrays, Runtime, Session, check_inputs
from deeplens.runtimes.wrapped import Run, WrappedRuntime, WrappedSession, with_fixed_size

if TYPE_CHECKING:
    import torch

    from deeplens.model.shipped import Weights

TRACE_SIZE = (64, 96)
"""Low-resolution size at which a graph with free sizes is traced."""


def captured(module: "torch.nn.Module", contract: Contract, size: Size | None) -> "torch.export.ExportedProgram":
    """The program of a network, decomposed as Core ML's converter takes it.

    Args:
        size: low-resolution (height, width); None: free.
    """
    import torch
    from torch.export import Dim

    smallest = MIN_SIZE // ALIGNMENT
    free = {axis: Dim(name, min=smallest) for axis, name in ((2, "h"), (3, "w"))}
    dynamic = {
        each.name: {axis: ALIGNMENT * each.scale * side for axis, side in free.items()} for each in contract.inputs
    }
    example = tuple(torch.zeros(each.shape(*(size or TRACE_SIZE))) for each in contract.inputs)
    program = torch.export.export(module, example, dynamic_shapes=dynamic if size is None else None)
    return program.run_decompositions({})


class _CapturedWhole(Runtime):
    """Opens the programs that are captured of the whole effect, for a photo of one size."""

    name = "torch"

    def __init__(self, variant: str, weights: "Weights", size: Size) -> None:
        self.variant = variant
        self._weights, self._size = weights, size

    def open(self, network: str) -> Session:
        import torch

        from deeplens.export.whole_module import whole_module

        module, hashes = whole_module(network, variant=self.variant, size=self._size, weights=self._weights)
        contract = replace(contract_named(network), fixed_size=self._size)
        program = captured(module, contract, self._size).module()

        def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
            check_inputs(contract, inputs)
            with torch.inference_mode():
                output = program(*(torch.tensor(inputs[each.name]) for each in contract.inputs))
            return {contract.outputs[0].name: output.numpy()}

        return _Program(run, contract, parts_sha256(hashes))

    def close(self) -> None:
        pass


class _Program(Session):
    """A captured program as a session."""

    def __init__(self, call: Run, contract: Contract, sha256: str) -> None:
        self._call, self._contract, self._sha256 = call, contract, sha256

    def describe(self) -> Contract:
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._call(inputs)

    def weights_sha256(self) -> str:
        return self._sha256

    def close(self) -> None:
        pass


def captured_opener(variant: str, *, weights: "Weights", fixed_size: Size) -> Opener:
    """Opens what was captured of PyTorch: with free sizes, or of one size."""

    def open_captured(graph: Graph | Size) -> Runtime:
        if isinstance(graph, tuple):
            return _CapturedWhole(variant, weights, graph)
        from deeplens.runtimes.pytorch import TorchRuntime, TorchSession

        def wrap(_network: str, session: Session) -> Session:
            import torch

            assert isinstance(session, TorchSession)
            contract = session.describe()
            size = contract.fixed_size or (fixed_size if graph == "fixed" else None)
            program = captured(session.module, contract, size).module()

            def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
                check_inputs(contract, inputs)
                with torch.inference_mode():
                    output = program(*(torch.tensor(inputs[each.name]) for each in contract.inputs))
                return {contract.outputs[0].name: output.numpy()}

            return WrappedSession(session, run, contract)

        once: dict[str, Session] = {}  # it is captured once, however often the harness opens it

        def wrap_once(network: str, session: Session) -> Session:
            if network not in once:
                once[network] = wrap(network, session)
            return once[network]

        runtime: Runtime = WrappedRuntime(TorchRuntime(variant=variant, weights=weights, native=False), wrap_once)
        return runtime if graph == "dynamic" else with_fixed_size(runtime, fixed_size)

    return open_captured
