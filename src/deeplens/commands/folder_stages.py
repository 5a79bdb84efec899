"""The stages that each photo of a folder passes: read, depth, refocus, write; the networks are opened once."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeplens.commands.folder_jobs import Job
from deeplens.console.errors import InputError
from deeplens.model.contract import NETWORKS
from deeplens.model.shipped import Weights
from deeplens.runtimes.accelerator import DEFAULT, Accelerator
from deeplens.runtimes.depth_kind import Kind
from deeplens.runtimes.options import DepthModelChoice
from deeplens.runtimes.photo import Photo


@dataclass(frozen=True)
class Look:
    """How all photos of a folder are refocused: plain data that travels to other machines.

    Attributes: as the options of `deeplens refocus`; `aperture` is α.
    """

    aperture: float
    focus_range: float
    runtime: str
    variant: str
    precision: str
    artifacts: Path | None
    weights: Weights
    tile: int | None
    threads: int | None
    depth_model: DepthModelChoice | None = None
    embedded: bool = False
    depth_kind: Kind | None = None
    max_pixels: int | None = None
    accelerator: Accelerator = DEFAULT
    loop: str = "auto"


@dataclass(frozen=True)
class Step:
    """A photo between two stages."""

    job: Job
    photo: Photo
    disparity: np.ndarray | None = None
    pixels: np.ndarray | None = None


class Refocusing:
    """The stages, with the networks opened once. A context manager."""

    def __init__(self, look: Look) -> None:
        from deeplens.runtimes import open_runtime
        from deeplens.runtimes.harness import Harness

        self.look = look
        self._stack = ExitStack()
        self._runtime = self._stack.enter_context(
            open_runtime(
                look.runtime,
                variant=look.variant,
                artifacts=look.artifacts,
                weights=look.weights,
                threads=look.threads,
                precision=look.precision,
                accelerator=look.accelerator,
            )
        )
        self._harness = Harness(self._runtime, tile=look.tile, loop=look.loop)
        self._model = None if look.depth_model is None else look.depth_model.open(threads=look.threads)
        own_depth = self._model is not None or look.embedded
        self.networks = {
            network: self._runtime.open(network) for network in NETWORKS if network != "depth" or not own_depth
        }

    def __enter__(self) -> "Refocusing":
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.__exit__(*details)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides how a picture comes out, beside its photo and focus; the artefacts by their hash."""
        look = self.look
        hashes = {name: getattr(getattr(each, "entry", None), "sha256", None) for name, each in self.networks.items()}
        return {
            **{name: getattr(look, name) for name in ("aperture", "focus_range", "runtime", "variant", "precision")},
            **look.accelerator.chosen(),
            **({} if look.loop == "auto" else {"loop": look.loop}),
            "weights": str(look.weights),
            "artifacts": hashes,
            "depth_model": None if look.depth_model is None else str(look.depth_model),
            "embedded": look.embedded,
            "depth_kind": look.depth_kind,
        }

    def read(self, job: Job) -> Step:
        from deeplens.runtimes.photo import read_photo, writing_notes

        if job.problem is not None:
            raise InputError(job.problem)
        disparity, notes = None, list[str]()
        if self.look.embedded:
            from deeplens.runtimes.portrait import embedded_disparity

            disparity = embedded_disparity(
                job.photo, kind=self.look.depth_kind, max_pixels=self.look.max_pixels, notes=notes
            )
        photo = read_photo(job.photo, max_pixels=self.look.max_pixels)
        writing_notes(job.output, photo)  # a size that can't be written is refused before the work
        return Step(job, replace(photo, notes=(*photo.notes, *notes)), disparity)

    def depth(self, step: Step) -> Step:
        if step.disparity is not None:
            return step
        if self._model is None:
            return replace(step, disparity=self._harness.disparity(step.photo.pixels))
        notes: list[str] = []
        disparity = self._model.disparity(step.photo.pixels, notes=notes)
        photo = replace(step.photo, notes=(*step.photo.notes, *notes))
        return replace(step, photo=photo, disparity=disparity)

    def blur(self, step: Step) -> Step:
        assert step.disparity is not None
        focal, in_focus = step.job.focus.of(step.disparity, focus_range=self.look.focus_range)
        pixels = self._harness.refocus(
            step.photo.pixels,
            step.disparity,
            focal_disparity=focal,
            aperture=self.look.aperture,
            focus_range=in_focus,
        )
        return replace(step, pixels=pixels, disparity=None)

    def write(self, step: Step) -> dict[str, Any]:
        """Write the picture; its bytes, its megapixels, and notes on what could not be kept of the photo."""
        from deeplens.runtimes.photo import write_photo

        assert step.pixels is not None
        output = step.job.output
        output.parent.mkdir(parents=True, exist_ok=True)
        notes = [*step.photo.notes, *write_photo(output, step.photo.with_pixels(step.pixels))]
        height, width = step.pixels.shape[:2]
        return {"bytes": output.stat().st_size, "megapixels": height * width / 1e6, "notes": notes}

    @property
    def stages(self) -> tuple[tuple[str, Any], ...]:
        """For `runtimes.pipeline`."""
        return ("read", self.read), ("depth", self.depth), ("refocus", self.blur), ("write", self.write)
