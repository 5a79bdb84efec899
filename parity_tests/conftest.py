"""What the parity tests share: weights, artefacts made from them once, and the rows of one run for each variant."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.export.onnx_graph import export
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.model.shipped import weights_file
from deeplens.parity_tests.cases import Case, Coverage, photo_cases, random_cases
from deeplens.parity_tests.harness_photos import SamplePhoto
from deeplens.parity_tests.harness_vectors import make
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.produce import produce, torch_opener
from deeplens.parity_tests.report import Report
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.run import run

PHOTO = Path(__file__).resolve().parents[1] / "samples" / "stream.jpg"
"""2048×1364."""

STRIP = (slice(600, 856), slice(300, 1588))
"""Of `PHOTO`, 256×1288: the shortest long side that takes three steps, low for what `paper` costs in float64."""

COVERAGE = {
    "edge": Coverage(loops=(("dynamic", None), ("fixed", None), ("dynamic", 701), ("fixed", 701))),
    # A size that fits into the fixed shape whole, and takes one step.
    "paper": Coverage(fixed_size=(104, 168), loops=(("dynamic", None), ("fixed", 330))),
}

SMALL = Coverage(dynamic_sizes=((48, 72),), fixed_size=(48, 72), loops=(("dynamic", 330),))
"""For negative controls: one step."""

TWO_STEPS = SamplePhoto("strip", "stream.jpg", (100, 700, 1401, 821), (651, 61), (15, 160))
"""Two steps on few pixels: padded in both axes, below by more than its own height."""

ONE_STEP = SamplePhoto("one_step", "drum.jpg", (300, 500, 1001, 707), (330, 101), (101, 330))
"""One step, and a map as fine as the photo. At f/1.4 both beginnings of the loop are mixed in either."""

Artifacts = Callable[[str], Path]


@dataclass(frozen=True)
class Compared:
    """PyTorch's results on some cases."""

    cases: list[Case]
    reference: Outputs
    judge: Outputs


@pytest.fixture(scope="session")
def lively_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of every network under which every layer shows."""
    save_file = pytest.importorskip("safetensors.torch", reason="PyTorch is not installed").save_file
    from deeplens.parity_tests.lively import lively

    folder = tmp_path_factory.mktemp("lively")
    for variant in VARIANTS:
        for network in NETWORKS:
            save_file(lively(variant, network).state_dict(), folder / f"{variant}_{network}.safetensors")
    return folder


@pytest.fixture(scope="session")
def weights(lively_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is shipped where it is, for the rest lively ones."""

    folder = tmp_path_factory.mktemp("weights")
    for variant in VARIANTS:
        for network in NETWORKS:
            try:
                path = weights_file(variant, network)
            except MissingError:
                path = weights_file(variant, network, lively_weights)
            assert path is not None
            (folder / f"{variant}_{network}.safetensors").symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def artifacts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """The folder of a variant's ONNX artefacts, made when asked for: free sizes, and the fixed size of its coverage."""
    done: dict[str, Path] = {}

    def folder(variant: str) -> Path:
        if variant not in done:
            done[variant] = tmp_path_factory.mktemp(f"artifacts_{variant}")
            for network in NETWORKS:
                shapes = (None,) if CONTRACTS[network].fixed_size else (None, COVERAGE[variant].fixed_size)
                for shape in shapes:
                    export(variant, network, out=done[variant], weights=weights, shape=shape)
        return done[variant]

    return folder


@pytest.fixture(scope="session")
def strip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a real photo, 256×1288, as a file."""
    path = tmp_path_factory.mktemp("photo") / "strip.png"
    Image.fromarray(np.asarray(Image.open(PHOTO))[STRIP]).save(path)
    return path


@pytest.fixture(scope="session")
def edge_report(weights: Path, artifacts: Artifacts) -> Report:
    """`edge` on a whole photo of 2048 px."""
    return _onnx_report("edge", artifacts("edge"), weights, PHOTO)


@pytest.fixture(scope="session")
def paper_report(weights: Path, artifacts: Artifacts, strip: Path) -> Report:
    """`paper` on a strip of the photo, 256×1288 px, three steps: the whole would take float64 minutes."""
    return _onnx_report("paper", artifacts("paper"), weights, strip)


def _onnx_report(variant: str, artifacts: Path, weights: Path, photo: Path) -> Report:
    return run(
        Request(
            variants=[variant],
            runtimes=["onnx"],
            precisions=["fp32"],
            artifacts=artifacts,
            weights=weights,
            photo=photo,
            coverage=COVERAGE[variant],
        )
    )


@pytest.fixture(scope="session")
def small(lively_weights: Path, strip: Path) -> Callable[[str], Compared]:
    """PyTorch with lively weights on small cases, by variant: what negative controls are held against."""
    done: dict[str, Compared] = {}
    pixels = np.asarray(Image.open(strip))

    def compared(variant: str) -> Compared:
        if variant not in done:
            opener = torch_opener(variant, weights=lively_weights, fixed_size=SMALL.fixed_size)
            with opener("dynamic") as torch:
                cases = [*random_cases(SMALL), *photo_cases(SMALL, torch, pixels)]
            judge = torch_opener(variant, weights=lively_weights, fixed_size=SMALL.fixed_size, dtype="float64")
            done[variant] = Compared(cases, produce(opener, cases), produce(judge, cases))
        return done[variant]

    return compared


@pytest.fixture(scope="session")
def vectors(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """End-to-end vectors of `edge` for two small photos."""
    folder = tmp_path_factory.mktemp("vectors")
    make(folder, variants=["edge"], weights=weights, photos=[TWO_STEPS, ONE_STEP], report=lambda _: None)
    return folder
