"""Licences of what is shipped: the code, the weights by the sources in their cards, fetched data, sample photos.

Each is read where it is stated, so that there is no second list to keep: the cards in `model/weights/`, the table
`scenes/sources.tsv`, and the tables of `samples/README.md` in a checkout.
"""

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from deeplens.model.shipped import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = re.compile(r"^- (?P<count>\d+) (?P<kind>[\w-]+) from (?P<package>\S+) \((?P<licence>.+)\)$", re.MULTILINE)
"""A line of a card about what the weights were trained on."""

STATED = re.compile(r"\b(Apache-2\.0|MIT|BSD-[23]-Clause|CC0-1\.0|CC-BY(?:-SA)?-\d\.\d)\b")
"""Licences by name in the other sentences of a card: of encoders, teachers and models of furniture."""

CODE_LICENCE = "MIT"


@dataclass(frozen=True)
class Licence:
    """A part of what is shipped and its licence.

    Attributes:
        what: "code", "weights", "data" or "samples".
        name: of the file or the package.
        part: of it: what was taken; "" for all.
        licence: SPDX names where there are such; "" where none is stated.
        count: files; 0 where it is one whole.
    """

    what: str
    name: str
    part: str
    licence: str
    count: int = 0


def listed() -> list[Licence]:
    """All licences, the code first. A wheel carries no sample photos, so their rows are there in a checkout only."""
    return [Licence("code", "deeplens-edge", "", CODE_LICENCE), *of_weights(), *of_data(), *of_samples()]


def of_weights(folder: Path = WEIGHTS) -> list[Licence]:
    """What each shipped file of weights was trained on, by its card."""
    rows: list[Licence] = []
    for path in sorted(folder.glob("*.safetensors")):
        card = path.with_suffix(".md")
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        found = [
            Licence("weights", path.name, f"{each['kind']} of {each['package']}", each["licence"], int(each["count"]))
            for each in SOURCE.finditer(text)
        ]
        rest = SOURCE.sub("", text)
        others = sorted(set(STATED.findall(rest)))
        if others:
            found.append(Licence("weights", path.name, "networks and models named in the card", ", ".join(others)))
        rows += found or [Licence("weights", path.name, "", "")]
    return rows


def of_data(path: Path = ROOT / "scenes" / "sources.tsv") -> list[Licence]:
    """What `make data` fetches, by package and licence. The files themselves are not shipped."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = Counter((row["package"], row["kind"], row["licence"]) for row in csv.DictReader(file, delimiter="\t"))
    return [
        Licence("data", package, kind, "" if licence == "-" else licence, count)
        for (package, kind, licence), count in sorted(rows.items())
    ]


def of_samples(path: Path = ROOT / "samples" / "README.md") -> list[Licence]:
    """The sample photos, by the table in their README."""
    if not path.is_file():
        return []
    rows = re.findall(
        r"^\| `(\S+\.jpg)` \|[^|]*\|([^|]*)\|[^|]*\| \[([^\]]+)\]", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [Licence("samples", name, author.strip(), licence) for name, author, licence in rows]
