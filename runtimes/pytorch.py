"""PyTorch as a runtime: the networks as they are, and in float64 the judge of all others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.model.contract import CONTRACTS, Contract
from deeplens.model.shipped import Weights
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs

if TYPE_CHECKING:
    import torch


class TorchSession(Session):
    """One network in PyTorch.

    Attributes:
        module: the network; `model.build.weights_sha256` names its weights.
    """

    def __init__(self, module: "torch.nn.Module", contract: Contract, threads: int | None) -> None:
        self.module = module
        self._contract = contract
        self._threads = threads
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def describe(self) -> Contract:
        """The network's contract."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`. The output has the module's dtype."""
        import torch

        if self._closed:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        check_inputs(self._contract, inputs)
        dtype = next(self.module.parameters()).dtype
        # Copies, so that no output can be a view of the caller's array.
        tensors = [torch.tensor(np.ascontiguousarray(inputs[each.name]), dtype=dtype) for each in self._contract.inputs]
        with torch.inference_mode(), _thread_count(self._threads):
            output = self.module(*tensors)
        return {self._contract.outputs[0].name: output.numpy()}

    def weights_sha256(self) -> str:
        """SHA-256 of the module's weights."""
        from deeplens.model.build import weights_sha256

        return weights_sha256(self.module)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            del self.module


class TorchRuntime(OpensOnce[TorchSession]):
    """Runs the PyTorch networks of one variant on the CPU.

    Args:
        variant: one of `model.contract.VARIANTS`.
        weights: as in `model.build.load`.
        threads: for one operation, while a network runs; None: as PyTorch is set.
        dtype: "float64" computes and answers in double precision from the same float32 inputs and weights.

    Raises:
        MissingError: PyTorch is not installed.
    """

    name = "torch"

    def __init__(
        self,
        *,
        variant: str = "edge",
        weights: Weights = "shipped",
        threads: int | None = None,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingError(f"PyTorch can't be imported ({error}): {pip_install('torch')}") from error
        super().__init__()
        self.variant = variant
        self._weights = weights
        self._threads = threads
        self._dtype = {"float32": torch.float32, "float64": torch.float64}[dtype]

    def _load(self, network: str) -> TorchSession:
        from deeplens.model import build

        module = build.load(self.variant, network, self._weights).to(self._dtype)
        return TorchSession(module, CONTRACTS[network], self._threads)


@contextmanager
def _thread_count(threads: int | None) -> Iterator[None]:
    """PyTorch's number of threads is the process's: set it for one run, then set it back."""
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
