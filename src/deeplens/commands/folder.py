"""`deeplens refocus DIR`: all photos of a folder, reading, depth, blur and writing overlapped; what is done is kept."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplens.commands.folder_jobs import LOG, NEAREST, Job, Log, jobs, read_focus_file
from deeplens.commands.folder_stages import Look, Refocusing
from deeplens.console.errors import InputError
from deeplens.console.machine import core_count
from deeplens.console.report import console_for, write_json
from deeplens.runtimes.focus import Focus

if TYPE_CHECKING:
    from deeplens.runtimes.pipeline import Passage


def refocus_folder(all_jobs: Sequence[Job], output: Path, look: Look, *, ray: str | None = None) -> dict[str, Any]:
    """Refocus what is not done yet.

    Args:
        ray: address of a Ray cluster ("local": one on this machine); None: this process.

    Returns:
        photos, done, skipped, failed (photo → error); seconds (wall), cpu_seconds (of this process), of_limit (the
        throughput as a share of what the cores could do if none ever waited: processor time over seconds and
        cores; None where there was nothing to do); parts (stage → seconds that it worked, summed); of the outputs
        megapixels and bytes.

    Raises:
        MissingError, MismatchError: as `runtimes.open_runtime` and its networks.
    """
    from deeplens.console.progress import progress_bar

    output.mkdir(parents=True, exist_ok=True)
    log = Log(output)
    failed: dict[str, str] = {}
    parts: dict[str, float] = {}
    totals = {"megapixels": 0.0, "bytes": 0.0}
    with progress_bar("Refocusing") as progress, Refocusing(look) as refocusing:
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
                progress(count / len(waiting), f"{count} of {len(waiting)} photos")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {
            "photos": len(all_jobs),
            "skipped": len(all_jobs) - len(waiting),
            "done": len(waiting) - len(failed),
            "failed": failed,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "of_limit": cpu / (seconds * (look.threads or core_count())) if waiting else None,
            "parts": parts,
            **totals,
        }


@contextmanager
def _passages(refocusing: Refocusing, jobs: Sequence[Job], ray: str | None) -> "Iterator[Iterator[Passage]]":
    if ray is not None:
        from deeplens.commands.folder_ray import passages

        yield passages(refocusing.look, jobs, address=ray)
        return
    from deeplens.runtimes.pipeline import pipeline

    running = pipeline(jobs, refocusing.stages)
    try:
        yield running
    finally:
        running.close()  # type: ignore[attr-defined]


def summary(report: Mapping[str, Any], output: Path) -> str:
    """What happened, in a line; how fast, where a photo was refocused."""
    count, done, failed = report["photos"], report["done"], len(report["failed"])
    if not done and not failed:
        photos = "the one photo was" if count == 1 else f"all {count} photos were"
        return f"{output}: nothing to do: {photos} done before"
    said = f"{output}: {done} of {count} photos refocused, {report['skipped']} were done before, {failed} failed"
    if not done or not report["seconds"]:
        return said
    return (
        f"{said}; {report['seconds']:.1f} s, {done / report['seconds']:.2f} photos/s, "
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
    """What `deeplens refocus DIR` does: see `commands.refocus.refocus` for the options.

    Raises:
        InputError: nothing to do, options that can't be met, or, after all others were done, photos that failed.
    """
    from deeplens.console.files import check_outputs
    from deeplens.console.parsing import parse_point
    from deeplens.runtimes.photo import WRITERS

    check_outputs((json, None), inputs=(focus_file,))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give an output folder for a folder of photos")
    if suffix is not None and suffix.lower() not in WRITERS:
        raise InputError(f"the file type '{suffix}' can't be written: use {', '.join(WRITERS)}")
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
            print(f"note: {focus_file} names {name}, which does not exist", file=sys.stderr)
    report = refocus_folder(listed, output.resolve(), look, ray=ray)
    console_for(json).print(summary(report, output))
    write_json(json, {"folder": str(photos), "output": str(output), "threads": look.threads or core_count(), **report})
    if report["failed"]:
        names = ", ".join(Path(name).name for name in list(report["failed"])[:5])
        more = ", …" if len(report["failed"]) > 5 else ""
        raise InputError(
            f"{len(report['failed'])} of {report['photos']} photos failed ({names}{more}): see {output / LOG}"
        )
