"""`deeplens refocus DIR`: all photos of a folder, reading, depth, blur and writing overlapped; what is done is kept."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from deeplens.commands.folder_jobs import LOG, NEAREST, Claims, Job, Log, jobs, read_focus_file
from deeplens.commands.folder_stages import Look, Refocusing
from deeplens.console.errors import DeepLensError, InputError, one_line
from deeplens.console.machine import core_count
from deeplens.console.report import console_for, write_json
from deeplens.runtimes.accelerator import report
from deeplens.runtimes.focus import Focus

if TYPE_CHECKING:
    from deeplens.runtimes.pipeline import Passage


NOTHING: Mapping[str, int] = MappingProxyType({})


def refocus_folder(
    all_jobs: Sequence[Job],
    output: Path,
    look: Look,
    *,
    ray: str | None = None,
    passed_over: Mapping[str, int] = NOTHING,
) -> dict[str, Any]:
    """Refocus what is not done yet, and what no other process works on.

    Args:
        ray: address of a Ray cluster ("local": one on this machine); None: this process.
        passed_over: as `folder_jobs.jobs` counts it.

    Returns:
        photos, done, skipped (done before, or by another process meanwhile), elsewhere (another process still works
        on them), failed (photo → error), passed_over (kind of file → number); seconds (wall), cpu_seconds (of this
        process), of_limit (the throughput as a share of what the cores could do if none ever waited: processor time
        over seconds and cores; None where there was nothing to do); parts (stage → seconds that it worked, summed); ran
        (`runtimes.accelerator.report`); of the outputs megapixels and bytes.

    Raises:
        MissingError, MismatchError: as `runtimes.open_runtime` and its networks.
    """
    from deeplens.console.progress import progress_bar

    output.mkdir(parents=True, exist_ok=True)
    log = Log(output)
    failed: dict[str, str] = {}
    parts: dict[str, float] = {}
    totals = {"megapixels": 0.0, "bytes": 0.0}
    done = 0
    with progress_bar("Refocusing") as progress, Refocusing(look) as refocusing, Claims(output) as claims:
        keys = {job: job.key(refocusing.settings) for job in all_jobs}
        waiting = [job for job in all_jobs if not log.is_done(job, keys[job])]
        expected = len(waiting)
        start, cpu = time.perf_counter(), time.process_time()
        while waiting:
            mine = Mine(waiting, keys, log=log, claims=claims)
            tried = 0
            with _passages(refocusing, mine, ray) as passages:
                for passage in passages:
                    job = passage.item
                    entry = {"photo": str(job.photo), "output": str(job.output), "seconds": passage.seconds}
                    if passage.error is None:
                        log.add({**entry, "key": keys[job], **passage.value})
                        done += 1
                        for name in totals:
                            totals[name] += passage.value[name]
                    else:
                        failed[str(job.photo)] = message = _told(passage.error, job)
                        log.add({**entry, "error": message})
                        print(f"failed: {message}", file=sys.stderr)
                    claims.release(job)
                    tried += 1
                    for name, seconds in passage.seconds.items():
                        parts[name] = parts.get(name, 0.0) + seconds
                    progress((done + len(failed)) / expected, f"{done + len(failed)} of {expected} photos")
            waiting = mine.elsewhere
            if not tried:
                break  # the others have them; if one of them dies, the next run does its photos
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {
            "photos": len(all_jobs),
            "skipped": len(all_jobs) - done - len(failed) - len(waiting),
            "elsewhere": len(waiting),
            "done": done,
            "failed": failed,
            "passed_over": dict(passed_over),
            "seconds": seconds,
            "cpu_seconds": cpu,
            "of_limit": cpu / (seconds * (look.threads or core_count())) if done or failed else None,
            "parts": parts,
            "ran": report({network: each.ran for network, each in refocusing.networks.items()}),
            **totals,
        }


class Mine:
    """The photos of a list that this process takes, one after the other, as they are asked for.

    Attributes:
        elsewhere: those that another process had.
    """

    def __init__(self, waiting: Sequence[Job], keys: Mapping[Job, str], *, log: Log, claims: Claims) -> None:
        self._waiting, self._keys, self._log, self._claims = waiting, keys, log, claims
        self.elsewhere: list[Job] = []

    def __iter__(self) -> Iterator[Job]:
        for job in self._waiting:
            if self._log.is_done(job, self._keys[job]):
                continue
            if not self._claims.take(job):
                self.elsewhere.append(job)
            elif self._log.is_done(job, self._keys[job]):  # between the two questions
                self._claims.release(job)
            else:
                yield job


def _told(error: Exception, job: Job) -> str:
    """An error in a line that names the photo."""
    message = one_line(error) if isinstance(error, DeepLensError) else f"{type(error).__name__}: {one_line(error)}"
    return message if str(job.photo) in message or job.problem is not None else f"{job.photo}: {message}"


@contextmanager
def _passages(refocusing: Refocusing, jobs: Iterable[Job], ray: str | None) -> "Iterator[Iterator[Passage]]":
    if ray is not None:
        from deeplens.commands.folder_ray import passages

        yield passages(refocusing.look, list(jobs), address=ray)
        return
    from deeplens.runtimes.pipeline import pipeline

    running = pipeline(jobs, refocusing.stages)
    try:
        yield running
    finally:
        running.close()  # type: ignore[attr-defined]


def summary(report: Mapping[str, Any], output: Path) -> str:
    """What happened, in a line; how fast, where a photo was refocused."""
    count, done, failed, elsewhere = report["photos"], report["done"], len(report["failed"]), report["elsewhere"]
    if not done and not failed and not elsewhere:
        photos = "the one photo was" if count == 1 else f"all {count} photos were"
        return f"{output}: nothing to do: {photos} done before{_passed_over(report)}"
    said = f"{output}: {done} of {count} photos refocused, {report['skipped']} were done before, {failed} failed"
    if elsewhere:
        said += f", {elsewhere} are being done by another process"
    said += _passed_over(report)
    if not done or not report["seconds"]:
        return said
    return (
        f"{said}; {report['seconds']:.1f} s, {done / report['seconds']:.2f} photos/s, "
        f"{100 * report['of_limit']:.0f} % of what the cores can"
    )


def _passed_over(report: Mapping[str, Any]) -> str:
    counts: Counter[str] = Counter(report["passed_over"])
    if not counts:
        return ""
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.most_common())
    return f"; passed over, because they are no photos: {kinds}"


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
    passed_over: Counter[str] = Counter()
    listed = jobs(photos.resolve(), output.resolve(), rule, suffix=suffix, passed_over=passed_over)
    if isinstance(rule, dict):
        for name in rule.keys() - {job.photo.relative_to(photos.resolve()).as_posix() for job in listed}:
            print(f"note: {focus_file} names {name}, which does not exist", file=sys.stderr)
    report = refocus_folder(listed, output.resolve(), look, ray=ray, passed_over=passed_over)
    console_for(json).print(summary(report, output))
    write_json(json, {"folder": str(photos), "output": str(output), "threads": look.threads or core_count(), **report})
    if report["failed"]:
        names = ", ".join(Path(name).name for name in list(report["failed"])[:5])
        more = ", …" if len(report["failed"]) > 5 else ""
        raise InputError(
            f"{len(report['failed'])} of {report['photos']} photos failed ({names}{more}): see {output / LOG}"
        )
