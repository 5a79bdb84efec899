"""Graphs of the whole effect among the cases: what they get of a photo, and the harness with PyTorch in their place."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.export.whole_check import by_harness
from deeplens.export.whole_sizes import parts_sha256
from deeplens.model.contract import Contract
from deeplens.model.whole_contract import WHOLE, WHOLE_NETWORKS, WHOLE_WITH_DEPTH, contract_named, parts_of
from deeplens.parity_tests.cases import Case, Coverage, NetworkCase, Size
from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.harness import Harness, focal_disparity_at
from deeplens.runtimes.pyramid import read_picture


def whole_cases(
    coverage: Coverage,
    reference: Runtime,
    pixels: np.ndarray,
    sizes: Sequence[Size],
    *,
    with_depth: bool,
    given: np.ndarray | None = None,
) -> list[Case]:
    """Each graph of the whole effect on a photo that is brought to its size.

    Args:
        reference: makes the disparity map.
        pixels: H×W×3, uint8.
        sizes: height and width of the photos that graphs are made for.
        with_depth: with the graphs that have their own depth.
        given: a depth map in place of the reference's; then no graph has its own.
    """
    cases: list[Case] = []
    for height, width in sizes:
        photo = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
        disparity = Harness(reference).disparity(photo) if given is None else given
        made = {
            "picture": read_picture(photo, slice(0, height), slice(0, width)),
            "disparity": np.ascontiguousarray(disparity, np.float32)[None, None],
            "focal_disparity": np.full((1, 1, 1, 1), focal_disparity_at(disparity, *coverage.point), np.float32),
            "focus": np.array(coverage.point, np.float32).reshape(1, 2, 1, 1),
            "aperture": np.full((1, 1, 1, 1), coverage.aperture, np.float32),
        }
        names = (WHOLE, WHOLE_WITH_DEPTH) if with_depth and given is None else (WHOLE,)
        cases += [
            NetworkCase(
                name,
                "photo",
                "fixed",
                (height, width),
                {each.name: made[each.name] for each in contract_named(name).inputs},
            )
            for name in names
        ]
    return cases


class HarnessSession(Session):
    """The harness as a graph of the whole effect, with the networks of a runtime, from the base up."""

    def __init__(self, runtime: Runtime, contract: Contract) -> None:
        self._runtime, self._contract = runtime, contract

    def describe(self) -> Contract:
        """The graph's contract; of any size."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """As `runtimes.contract.Session.run`; the picture holds multiples of 1/255."""
        name = self._contract.outputs[0].name
        return {name: by_harness(self._runtime, self._contract.network, dict(inputs))}

    def weights_sha256(self) -> str:
        """Of all networks that the graph holds, as its artefacts name them."""
        parts = parts_of(self._contract.network)
        return parts_sha256({part: self._runtime.open(part).weights_sha256() for part in parts})

    def close(self) -> None:
        """Nothing is held."""


class ByHarness(Runtime):
    """Opens graphs of the whole effect as the harness around another runtime, which it closes."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self.variant = runtime.name, runtime.variant
        self._runtime = runtime

    def open(self, network: str) -> HarnessSession:
        """See `HarnessSession`."""
        if network not in WHOLE_NETWORKS:
            raise InputError(f"{network} is no graph of the whole effect")
        return HarnessSession(self._runtime, contract_named(network))

    def close(self) -> None:
        self._runtime.close()
