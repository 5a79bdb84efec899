"""What a parity run is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.model.contract import NETWORKS, part_of
from deeplens.model.whole_contract import WHOLE, WHOLE_WITH_DEPTH
from deeplens.parity_tests.candidates import COMPARED, Candidate, candidates
from deeplens.parity_tests.cases import COVERAGE, Coverage, resized
from deeplens.runtimes.depth_networks import check_variant, sized_contract
from deeplens.runtimes.photo import read_photo, to_8_bit

if TYPE_CHECKING:
    from deeplens.model.shipped import Weights

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        runtimes: of `parity_tests.candidates.COMPARED`.
        precisions: of `parity_tests.candidates.PRECISIONS`; None: all that each runtime has.
        providers: ONNX Runtime's, beside the CPU's.
        devices: PyTorch's.
        artifacts: the folder with `manifest.json`; None: each runtime looks where it does
            elsewhere (`runtimes.folders.search_path`), and what is exported goes to `runtimes.manifest.DEFAULT_FOLDER`.
        weights: PyTorch's, as in `model.build.load`. An artefact made from others is stale, and no number is compared.
        photo: for real inputs and the loop; None: these rows are not run.
        size: pixels that the photo's long side is brought down to; None: as it is.
        coverage: which cases; None: that of the variant in `parity_tests.cases.COVERAGE`.
        whole: height and width of the photos whose graphs of the whole effect are compared; they get the photo at its
            own size, brought to theirs.
        with_depth: with those that have their own depth.
        compiles: whether TensorRT for RTX compiles the graphs, for rows of its own.
        report: gets a line before each long piece of work.
    """

    variants: Sequence[str]
    runtimes: Sequence[str] = COMPARED
    precisions: Sequence[str] | None = None
    providers: Sequence[str] = ()
    devices: Sequence[str] = ()
    artifacts: Path | None = None
    weights: "Weights" = "shipped"
    photo: Path | None = None
    size: int | None = None
    coverage: Coverage | None = None
    whole: Sequence[tuple[int, int]] = ()
    with_depth: bool = False
    compiles: bool = False
    report: Say = lambda _: None

    def coverage_for(self, variant: str) -> Coverage:
        """Which cases of a variant are made; a composed one has those of its own part, and its depth network's size."""
        found = self.coverage or COVERAGE[part_of(variant, "lens_blur")]
        return replace(found, contracts={network: sized_contract(variant, network) for network in NETWORKS})

    def whole_networks(self) -> tuple[str, ...]:
        """Graphs of the whole effect that are compared at each size of `whole`."""
        return ((WHOLE, WHOLE_WITH_DEPTH) if self.with_depth else (WHOLE,)) if self.whole else ()

    def pixels(self, *, reduced: bool = True) -> np.ndarray | None:
        """The photo, H×W×3, uint8; None where there is none.

        Args:
            reduced: brought down to `size`.

        Raises:
            InputError: it can't be read.
        """
        if self.photo is None:
            return None
        return resized(to_8_bit(read_photo(self.photo).pixels), self.size if reduced else None)

    def candidates(self) -> list[Candidate]:
        """In the order of the table.

        Raises:
            InputError: an unknown variant, runtime or precision.
        """
        for name in self.variants:
            check_variant(name)
        return candidates(self.runtimes, self.precisions, providers=self.providers, devices=self.devices)
