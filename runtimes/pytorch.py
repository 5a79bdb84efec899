"""PyTorch as a runtime: the networks as they are, and in float64 the judge of all others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.model.contract import CONTRACTS, VARIANTS, Contract, part_of
from deeplens.model.shipped import Weights
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.fit import Fit

if TYPE_CHECKING:
    import torch


class TorchSession(Session):
    """One network in PyTorch.

    Attributes:
        module: the network; `model.build.weights_sha256` names its weights.
    """

    def __init__(
        self, module: "torch.nn.Module", contract: Contract, threads: int | None, *, fit: Fit | None = None
    ) -> None:
        """
        Args:
            fit: of a depth network of others: how photos are put into it; a native one takes any size.
        """
        self.module = module
        self._fit = fit
        self._contract = contract
        self._threads = threads
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def fit(self) -> Fit:
        return super().fit if self._fit is None else self._fit

    def describe(self) -> Contract:
        """The network's contract."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`. The output has the module's dtype."""
        import torch

        if self._closed:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        contract = self._contract
        if self._fit is not None and self._fit.native and inputs.keys() == {"picture"}:
            height, width = inputs["picture"].shape[2:]
            contract = replace(contract, fixed_size=(height, width))
        check_inputs(contract, inputs)
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
        native: a depth network of others that keeps the aspect ratio runs at the photo's own; False: in a frame of its
            one size, as artefacts do.

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
        native: bool = True,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingError(f"PyTorch can't be imported ({error}): {pip_install('torch')}") from error
        super().__init__()
        self.variant = variant
        self._weights = weights
        self._threads = threads
        self._native = native
        self._dtype = {"float32": torch.float32, "float64": torch.float64}[dtype]

    def _load(self, network: str) -> TorchSession:
        from deeplens.model import build

        name = part_of(self.variant, network)
        if name not in VARIANTS:
            return self._foreign(name)
        module = build.load(name, network, self._weights).to(self._dtype)
        return TorchSession(module, CONTRACTS[network], self._threads)

    def _foreign(self, name: str) -> TorchSession:
        """A depth network of others, from the bytes that were hashed."""
        from deeplens.model import foreign
        from deeplens.runtimes import depth_store
        from deeplens.runtimes.depth_networks import contract_of_card, fit_of

        found = depth_store.find(name)
        module = foreign.load(found.card, found.read, found.weights.name).to(self._dtype)
        fit = fit_of(found.card, native=self._native)
        return TorchSession(module, contract_of_card(found.card), self._threads, fit=fit)


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
