"""The process that reads the cases of one target: see `tests.fuzz.__main__`."""

import json
import os
import random
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from deeplens.console.errors import DeepLensError
from tests.fuzz.mutated import mutated
from tests.fuzz.targets import TARGETS, Read, Target
from tests.fuzz.watch import FindingError, Watch

CORPUS = Path(__file__).parent / "corpus"
REFUSED = "refused"
PREPARED = "prepared"
BATCH = 200
"""Cases after which Hypothesis begins anew: it remembers what it tried."""


def corpus(name: str) -> list[bytes]:
    """What was found before, and is mended."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*")) if path.is_file()]


class Bench:
    """A target, set up in a folder: `case` holds the file that is read, and may be written to."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.folder = folder / "case"
        made = folder / "made"
        for each in (self.folder, made):
            each.mkdir(parents=True, exist_ok=True)
        self.target = target
        self.seeds = target.seeds(made)
        self.read: Read = target.open(self.folder)
        self.watch = Watch(self.folder.absolute())
        for seed in self.seeds:
            self._put(seed)
            with suppress(DeepLensError):  # some seeds name files that are not there
                self.read(self._path)
        self.watch.calm()

    @property
    def _path(self) -> Path:
        return self.folder / self.target.name

    def _put(self, data: bytes) -> None:
        self._path.write_bytes(data)

    def case(self, data: bytes) -> bool:
        """Let the reader read `data`; whether it refused. Raises FindingError."""
        self._put(data)
        return self.watch.case(self.read, self._path)


def cases(name: str, folder: Path, count: int, seed: int) -> Iterator[tuple[bytes, str]]:
    """Run `count` cases; each with what was found: "" where nothing was, `REFUSED` where the reader refused.

    Before each batch `PREPARED` comes, which is no case: somebody is watching how it goes on.
    """
    bench = Bench(TARGETS[name], folder)
    everything = [*bench.seeds, *corpus(name)]
    picks = random.Random(seed)
    done = 0
    while done < count:
        batch: list[bytes] = []
        keep = batch.append

        @seeded(picks.getrandbits(32))
        @settings(
            max_examples=min(BATCH, count - done), database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(mutated(everything))
        def collect(data: bytes) -> None:
            keep(data)  # noqa: B023

        yield b"", PREPARED
        collect()
        for data in batch:
            done += 1
            try:
                yield data, REFUSED if bench.case(data) else ""
            except FindingError as finding:
                yield data, str(finding)


def _kind(found: str) -> str:
    return {"slow": "hangs", "memory": "memory", "outside": "outside"}.get(found.split(":")[0], "faults")


def main() -> None:
    name, folder, count, seed, out = sys.argv[1:]
    warnings.simplefilter("ignore")
    os.environ["DEEPLENS_TRUST"] = ""
    told, counts, said = Path(folder) / "told.json", Counter[str](), set[str]()
    counts["cases"] = 0
    for data, found in cases(name, Path(folder), int(count), int(seed)):
        counts["batches" if found == PREPARED else "cases"] += 1
        if found == PREPARED:
            pass
        elif found == REFUSED:
            counts["refused"] += 1
        elif found:
            kind = _kind(found)
            counts[kind] += 1
            about = found.split("(")[0][:60]
            if about not in said:
                said.add(about)
                place = Path(out) / name
                place.mkdir(parents=True, exist_ok=True)
                number = f"{kind}_{len(said)}_{seed}"
                (place / number).write_bytes(data)
                (place / f"{number}.txt").write_text(found, errors="backslashreplace")
        part = told.with_suffix(".part")
        part.write_text(json.dumps(counts))
        os.replace(part, told)
    shutil.rmtree(Path(folder) / "case", ignore_errors=True)


if __name__ == "__main__":
    main()
