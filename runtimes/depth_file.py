"""A user's ONNX file as the depth network of the ONNX runtime: what its graph leaves out is done here. No torch."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeplens.console.errors import InputError
from deeplens.model.contract import VARIANTS, Contract, depth_contract, part_of
from deeplens.runtimes import depth_store
from deeplens.runtimes.accelerator import CPU, Ran
from deeplens.runtimes.contract import Arrays, Runtime, Session, check_inputs
from deeplens.runtimes.depth_convention import Convention
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.depth_networks import has_artefact
from deeplens.runtimes.fit import Fit
from deeplens.runtimes.ort import OnnxRuntime, import_onnxruntime


class DepthFileSession(Session):
    """A user's ONNX file as a session: what its graph leaves out is done here.

    Attributes:
        model: the file, opened.
        ran: the CPU, whatever the provider of the other networks.
    """

    def __init__(self, model: DepthModel, weights_sha256: str) -> None:
        self.model = model
        self.ran = Ran(CPU, f"onnxruntime {import_onnxruntime().__version__}")
        self._weights = weights_sha256
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def fit(self) -> Fit:
        return self.model.fit

    def describe(self) -> Contract:
        """The contract of our depth network at the file's size."""
        return depth_contract(self.fit.size, self.fit.aspect)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`. With free axes any size is taken."""
        if self._closed:
            raise InputError("depth: this session is closed: open the network again")
        contract = self.describe()
        if self.fit.native and inputs.keys() == {"picture"}:
            height, width = inputs["picture"].shape[2:]
            contract = replace(contract, fixed_size=(height, width))
        size = check_inputs(contract, inputs)
        return {"disparity": self.model.map_of(inputs["picture"], size)[None, None]}

    def weights_sha256(self) -> str:
        """SHA-256 of the file."""
        return self._weights

    def close(self) -> None:
        self._closed = True


def open_file(name: str, *, threads: int | None = None) -> DepthFileSession:
    """The ONNX file of a network that was added; what is loaded are the bytes that were hashed.

    Raises:
        InputError, MissingError, MismatchError: as `runtimes.depth_store` and `runtimes.depth_model.DepthModel`.
    """
    found = depth_store.find(name)
    told: dict[str, Any] = {each.name: getattr(found.card, each.name) for each in fields(Convention)}
    model = DepthModel(found.weights, told=Convention(**told), threads=threads, data=found.read(found.weights.name))
    return DepthFileSession(model, found.sha256[found.weights.name])


class WithDepthFile(Runtime):
    """A runtime whose depth network is a file: all other networks are those of the runtime below."""

    def __init__(self, runtime: Runtime, session: DepthFileSession) -> None:
        self.name = runtime.name
        self.variant = runtime.variant
        self._runtime = runtime
        self._session = session

    def open(self, network: str) -> Session:
        return self._session if network == "depth" else self._runtime.open(network)

    def close(self) -> None:
        self._session.close()
        self._runtime.close()


def with_file(runtime: Runtime, *, precision: str, artifacts: Path | None, threads: int | None) -> Runtime:
    """The same ONNX runtime, with the file where the depth network of its variant is one and was not exported for it.

    A file runs on the CPU, also where the runtime's provider is another one.
    """
    assert isinstance(runtime, OnnxRuntime)
    name = part_of(runtime.variant, "depth")
    if name in VARIANTS or depth_store.find(name).card.kind != "onnx":
        return runtime
    if has_artefact(runtime.variant, runtime.artefacts, precision=precision, artifacts=artifacts):
        return runtime
    return WithDepthFile(runtime, open_file(name, threads=threads))
