"""Core ML packages behind the contract: on macOS by Core ML, elsewhere by the executor. Needs the `coreml` extra."""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.contract import Contract, part_of
from deeplens.model.whole_contract import contract_named
from deeplens.runtimes import folders, manifest
from deeplens.runtimes.artefact import unpacked
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.coreml.executor import Executor, Mode
from deeplens.runtimes.coreml.program import import_coremltools, load

Shapes = Literal["fixed", "enumerated", "multifunction"]
Predict = Callable[[Arrays], Mapping[str, np.ndarray]]

TILE = (256, 256)
"""Low-resolution height and width unless told otherwise: the harness's tile."""


class CoreMLSession(Session):
    """One network in Core ML or in the executor, at one size.

    Attributes:
        entry: the artefact's line in the manifest, with the hash of the weights it was made from.
    """

    def __init__(
        self, predict: Predict, contract: Contract, entry: manifest.Entry, *, held: ExitStack | None = None
    ) -> None:
        """
        Args:
            held: what is released when the session is closed.
        """
        self.entry: manifest.Entry = entry
        self._predict: Predict | None = predict
        self._held = held or ExitStack()
        self._contract = contract

    @property
    def closed(self) -> bool:
        return self._predict is None

    def describe(self) -> Contract:
        """The network's contract with the size that the session was opened for."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`."""
        if self._predict is None:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        check_inputs(self._contract, inputs)
        outputs = self._predict({tensor.name: inputs[tensor.name] for tensor in self._contract.inputs})
        return {each.name: np.array(outputs[each.name], np.float32) for each in self._contract.outputs}

    def close(self) -> None:
        self._predict = None
        self._held.close()


class CoreMLRuntime(OpensOnce[CoreMLSession]):
    """Opens the Core ML packages of one variant, after the SHA-256 over all their files was verified.

    Packages whose inputs are images are for apps and are not opened.

    Args:
        variant: one of `model.contract.VARIANTS`.
        artifacts: the folder with `manifest.json`; None: as `runtimes.folders.opened_folder`.
        precision: of the packages: "fp32", "fp16", "int8", "palette6" or "palette4".
        size: low-resolution (height, width), of a graph of the whole effect the photo's. A network that has only one
            size is not touched by this.
        shapes: of the packages; a network that has only one size has fixed ones always.
        target: "iOS17" or "iOS18"; None: the first that is there.
        mode: of the executor; None: Core ML on macOS, elsewhere "float32" for FP32 packages and "fp16" for all others.
        compute_units: where Core ML may run it: "ALL", "CPU_AND_NE", "CPU_AND_GPU" or "CPU_ONLY"; None: what the
            package was exported for. Core ML chooses among these for each operation.

    Raises:
        InputError: compute units where Core ML doesn't run.
        MissingError: coremltools is not installed.
    """

    name = "coreml"

    def __init__(
        self,
        *,
        variant: str = "edge",
        artifacts: Path | None = None,
        precision: str = "fp16",
        size: tuple[int, int] = TILE,
        shapes: Shapes = "fixed",
        target: str | None = None,
        mode: Mode | None = None,
        compute_units: str | None = None,
    ) -> None:
        super().__init__()
        import_coremltools()
        native = mode is None and sys.platform == "darwin"
        if compute_units is not None and not native:
            raise InputError("compute units can be chosen on macOS only: leave them out for the executor")
        self.variant = variant
        self.artifacts = folders.opened_folder(self.name, variant=variant, precision=precision, artifacts=artifacts)
        self.precision = precision
        self.mode: Mode | None = None if native else mode or ("float32" if precision == "fp32" else "fp16")
        """Of the executor; None where Core ML runs."""
        self._size = size
        self._shapes = shapes
        self._target = target
        self._units = compute_units

    def _load(self, network: str) -> CoreMLSession:
        entry = self._entry(network)
        contract = contract_named(network)
        size = entry.size if contract.fixed_size else self._size
        assert size is not None
        function = f"size_{size[0]}x{size[1]}" if entry.more["shapes"] == "multifunction" else None
        with ExitStack() as held:
            path = held.enter_context(unpacked(self.artifacts, entry))
            if self.mode is None:
                predict = _native(path, function, self._units or entry.more["compute_units"])
                return CoreMLSession(predict, replace(contract, fixed_size=size), entry, held=held.pop_all())
            predict = _executed(path, function, self.mode, contract)  # reads all that it needs
        return CoreMLSession(predict, replace(contract, fixed_size=size), entry)

    def _entry(self, network: str) -> manifest.Entry:
        only = contract_named(network).fixed_size
        fixed = only is not None or self._shapes == "fixed"
        more: dict[str, Any] = {"shapes": "fixed" if fixed else self._shapes, "images": []}
        if self._target is not None:
            more["target"] = self._target
        entry = manifest.find(
            self.artifacts,
            network=network,
            variant=part_of(self.variant, network),
            runtime=self.name,
            precision=self.precision,
            shape=self._size if fixed and only is None else None,
            more=more,
        )
        if not fixed and list(self._size) not in entry.more["sizes"]:
            sizes = ", ".join(f"{height}x{width}" for height, width in entry.more["sizes"])
            raise InputError(f"{entry.path} does not take {self._size[0]}x{self._size[1]}: choose {sizes}")
        return entry


def _executed(path: Path, function: str | None, mode: Mode, contract: Contract) -> Predict:
    executor = Executor(load(path, function), mode=mode)
    program = executor.function
    found = ([each.name for each in program.inputs], list(program.outputs))
    expected = ([each.name for each in contract.inputs], [each.name for each in contract.outputs])
    if found != expected:
        names = [" → ".join(", ".join(side) for side in sides) for sides in (found, expected)]
        raise MismatchError(f"{path} has {names[0]}, expected {names[1]}: export it again")
    return executor.run


def _native(path: Path, function: str | None, compute_units: str) -> Predict:
    """Core ML on macOS. It compiles the package here."""
    ct = import_coremltools()
    units = getattr(ct.ComputeUnit, compute_units, None)
    if units is None:
        raise InputError(f"unknown compute units '{compute_units}': choose ALL, CPU_AND_NE, CPU_AND_GPU or CPU_ONLY")
    try:
        model = ct.models.MLModel(str(path), compute_units=units, function_name=function)
    except Exception as error:  # coremltools passes Core ML's own on as RuntimeError or Exception
        raise MismatchError(f"Core ML can't load {path} ({' '.join(str(error).split())}): export it again") from error

    def predict(inputs: Arrays) -> Mapping[str, np.ndarray]:
        try:
            outputs: Mapping[str, np.ndarray] = model.predict(inputs)
        except Exception as error:
            raise MismatchError(f"Core ML can't run {path} ({' '.join(str(error).split())})") from error
        return outputs

    return predict
