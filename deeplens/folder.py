"""`deeplens refocus DIR`: all photos of a folder, reading, depth, blur and writing overlapped; what is done is kept."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deeplens.folder_jobs import LOG, NEAREST, Focus, Job, Log, jobs, read_focus_file
from deeplens.options import DepthModelChoice
from deeplens.report import console_for, write_json
from model.contract import NETWORKS
from model.errors import InputError
from runtimes.ort import core_count
from runtimes.photo import Photo

if TYPE_CHECKING:
    from runtimes.pipeline import Passage


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
    weights: Path | Literal["shipped", "initial"]
    tile: int | None
    threads: int | None
    depth_model: DepthModelChoice | None = None
    embedded: bool = False


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
        from runtimes import open_runtime
        from runtimes.harness import Harness

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
            )
        )
        self._harness = Harness(self._runtime, tile=look.tile)
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
            "weights": str(look.weights),
            "artifacts": hashes,
            "depth_model": None if look.depth_model is None else str(look.depth_model),
            "embedded": look.embedded,
        }

    def read(self, job: Job) -> Step:
        from runtimes.photo import read_photo

        if job.problem is not None:
            raise InputError(job.problem)
        disparity = None
        if self.look.embedded:
            from runtimes.portrait import embedded_disparity

            disparity = embedded_disparity(job.photo)
        return Step(job, read_photo(job.photo), disparity)

    def depth(self, step: Step) -> Step:
        if step.disparity is not None:
            return step
        source = self._harness if self._model is None else self._model
        return replace(step, disparity=source.disparity(step.photo.pixels))

    def blur(self, step: Step) -> Step:
        from runtimes.disparity import focal_disparity_at, nearest_subject

        assert step.disparity is not None
        focus = step.job.focus
        sharp = [focal_disparity_at(step.disparity, *point) for point in focus.points]
        if focus.depth is not None:
            sharp = [focus.depth]
        elif focus.nearest:
            sharp = [nearest_subject(step.disparity)]
        pixels = self._harness.refocus(
            step.photo.pixels,
            step.disparity,
            focal_disparity=(min(sharp) + max(sharp)) / 2,
            aperture=self.look.aperture,
            focus_range=min(1.0, max(sharp) - min(sharp) + self.look.focus_range),
        )
        return replace(step, pixels=pixels, disparity=None)

    def write(self, step: Step) -> dict[str, Any]:
        """Write the picture; its bytes, its megapixels, and notes on what could not be kept of the photo."""
        from runtimes.photo import write_photo

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


def refocus_folder(all_jobs: Sequence[Job], output: Path, look: Look, *, ray: str | None = None) -> dict[str, Any]:
    """Refocus what is not done yet.

    Args:
        ray: address of a Ray cluster ("local": one on this machine); None: this process.

    Returns:
        photos, done, skipped, failed (photo → error); seconds (wall), cpu_seconds (of this process), of_limit (the
        throughput as a share of what the cores could do if none ever waited: processor time over seconds and
        cores); parts (stage → seconds that it worked, summed); of the outputs megapixels and bytes.

    Raises:
        MissingError, MismatchError: as `runtimes.open_runtime` and its networks.
    """
    from deeplens.refocus import progress_bar

    output.mkdir(parents=True, exist_ok=True)
    log = Log(output)
    failed: dict[str, str] = {}
    parts: dict[str, float] = {}
    totals = {"megapixels": 0.0, "bytes": 0.0}
    with Refocusing(look) as refocusing, progress_bar("Refocusing") as progress:
        keys = {job: job.key(refocusing.settings) for job in all_jobs}
        waiting = [job for job in all_jobs if not log.is_done(job, keys[job])]
        start, cpu = time.perf_counter(), time.process_time()
        with _passages(refocusing, waiting, ray) as passages:
            for count, passage in enumerate(passages, start=1):
                job = passage.item
                entry = {"photo": str(job.photo), "output": str(job.output), "seconds": passage.seconds}
                if passage.error is None:
                    log.add({**entry, "key": keys[job], **passage.value})
                    for name in totals:
                        totals[name] += passage.value[name]
                else:
                    failed[str(job.photo)] = str(passage.error)
                    log.add({**entry, "error": str(passage.error)})
                    print(f"failed: {passage.error}", file=sys.stderr)
                for name, seconds in passage.seconds.items():
                    parts[name] = parts.get(name, 0.0) + seconds
                progress(count / len(waiting))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {
            "photos": len(all_jobs),
            "skipped": len(all_jobs) - len(waiting),
            "done": len(waiting) - len(failed),
            "failed": failed,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "of_limit": cpu / (seconds * (look.threads or core_count())),
            "parts": parts,
            **totals,
        }


@contextmanager
def _passages(refocusing: Refocusing, jobs: Sequence[Job], ray: str | None) -> "Iterator[Iterator[Passage]]":
    if ray is not None:
        from deeplens.folder_ray import passages

        yield passages(refocusing.look, jobs, address=ray)
        return
    from runtimes.pipeline import pipeline

    running = pipeline(jobs, refocusing.stages)
    try:
        yield running
    finally:
        running.close()  # type: ignore[attr-defined]


def summary(report: Mapping[str, Any], output: Path) -> str:
    """What happened, in a line."""
    rate = report["done"] / report["seconds"] if report["seconds"] else 0.0
    return (
        f"{output}: {report['done']} of {report['photos']} photos refocused, {report['skipped']} were done before, "
        f"{len(report['failed'])} failed; {report['seconds']:.1f} s, {rate:.2f} photos/s, "
        f"{100 * report['of_limit']:.0f} % of what the cores can"
    )


def command(
    photos: Path,
    output: Path,
    look: Look,
    *,
    focus: Sequence[str] | None,
    focus_depth: float | None,
    focus_file: Path | None,
    suffix: str | None,
    ray: str | None,
    json: Path | None,
) -> None:
    """What `deeplens refocus DIR` does: see `deeplens.refocus.refocus` for the options.

    Raises:
        InputError: nothing to do, options that can't be met, or, after all others were done, photos that failed.
    """
    from deeplens.refocus import check_outputs, parse_point
    from runtimes.photo import WRITERS

    check_outputs((json, None), inputs=(focus_file,))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is no folder: a folder of photos is written to a folder")
    if suffix is not None and suffix.lower() not in WRITERS:
        raise InputError(f"a file of suffix '{suffix}' can't be written: use {', '.join(WRITERS)}")
    rule: Focus | dict[str, Focus]
    if focus_file is not None:
        rule = read_focus_file(focus_file)
    elif focus_depth is not None:
        rule = Focus(depth=focus_depth)
    elif list(focus or ()) == [NEAREST]:
        rule = Focus(nearest=True)
    else:
        rule = Focus(points=tuple(parse_point(text) for text in focus or ()))
    listed = jobs(photos.resolve(), output.resolve(), rule, suffix=suffix)
    if isinstance(rule, dict):
        for name in rule.keys() - {job.photo.relative_to(photos.resolve()).as_posix() for job in listed}:
            print(f"note: {focus_file} names {name}, which is not there", file=sys.stderr)
    report = refocus_folder(listed, output.resolve(), look, ray=ray)
    console_for(json).print(summary(report, output))
    write_json(json, {"folder": str(photos), "output": str(output), "threads": look.threads or core_count(), **report})
    if report["failed"]:
        names = ", ".join(Path(name).name for name in list(report["failed"])[:5])
        more = ", …" if len(report["failed"]) > 5 else ""
        raise InputError(
            f"{len(report['failed'])} of {report['photos']} photos failed ({names}{more}): see {output / LOG}"
        )
