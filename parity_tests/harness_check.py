"""Somebody else's way from photo to photo against the end-to-end vectors: the first stage that departs, by how much."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.inputs import read_json
from deeplens.parity_tests.harness_vectors import FORMAT, GIVEN, KIND
from deeplens.parity_tests.metrics import difference, psnr

COLUMNS = ("photo", "case", "stages", "first that departs", "largest", "allowed", "where", "picture", "result")

PRECISIONS = ("fp32", "fp16", "int8")

DTYPES = {"float32": "<f4", "uint8": "u1"}

CAUSES = {
    "depth_picture": "the resizing of section 5",
    "picture": "the halving of section 4, or the padding of section 3",
    "registered": "the registration of section 5",
    "aperture": "the aperture of section 7",
    "focal_disparity": "the focus of section 6",
    "blur_scale": "the levels of section 2",
    "signed_depth": "signed depth of section 7",
    "blurred": "the loop of section 8, the network or its weights",
    "result": "the last step or the rounding of section 9",
}
"""What a stage stands for → where docs/harness.md describes it."""


@dataclass(frozen=True)
class Departure:
    """A stage that is farther from the vectors than it may be.

    Attributes:
        stage: its name; of a list of numbers the number's.
        largest: max |difference|, in steps of 8 bits for bytes; None where it could not be compared.
        where: of the largest difference, or why nothing could be compared.
    """

    stage: str
    largest: float | None
    allowed: float | None
    where: str
    cause: str


@dataclass(frozen=True)
class CheckedCase:
    """One photo at one setting.

    Attributes:
        compared, stages: how many stages were there, and how many there are.
        departure: the first stage that departs; None: all agree.
        largest: max |difference| of the 8-bit picture, in steps; None where it could not be compared.
        decibels: PSNR of the 8-bit picture, infinite for an equal one.
    """

    variant: str
    photo: str
    case: str
    compared: int
    stages: int
    departure: Departure | None
    largest: float | None = None
    decibels: float | None = None

    def row(self) -> tuple[str, ...]:
        """As `COLUMNS` says."""
        off = self.departure
        numbers = ("", "") if off is None else (_number(off.largest), _number(off.allowed))
        picture = "" if self.largest is None else f"{self.largest:g} of 255, {self.decibels:.1f} dB"
        name, where = ("", "") if off is None else (off.stage, off.where)
        result = "passed" if off is None else f"failed: look at {off.cause}"
        return (f"{self.variant} {self.photo}", self.case, f"{self.compared} of {self.stages}", name, *numbers, where,
                picture, result)  # fmt: skip

    def sentence(self) -> str:
        """What departs first, in words; there must be a departure."""
        off = self.departure
        assert off is not None
        by = "" if off.largest is None or off.allowed is None else f" by {off.largest:.3g} ({off.allowed:.3g} allowed)"
        return f"{self.variant} {self.photo} {self.case}: {off.stage} departs{by}, {off.where}: look at {off.cause}"


def to_json(case: CheckedCase) -> dict[str, Any]:
    """A case as it stands in the JSON answer; equal pictures have no PSNR."""
    finite = case.decibels is not None and math.isfinite(case.decibels)
    return {**asdict(case), "decibels": case.decibels if finite else None, "passed": case.departure is None}


def check(
    results: Path, vectors: Path, *, variants: Sequence[str] | None = None, precision: str = "fp32"
) -> list[CheckedCase]:
    """Compare the arrays in a folder with those of the vectors, case by case, in the order of the way.

    Args:
        results: holds arrays under the file names of the vectors; stages but the 8-bit picture may be missing. Photos
            of which there is no array at all are passed over.
        variants: those that are looked at; None: all in `vectors`.
        precision: whose limits hold.

    Raises:
        MissingError: there are no vectors, or nothing of them in `results`.
        InputError: a JSON file is not what `harness_vectors` writes.
        MismatchError: an array of the vectors was changed.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision '{precision}': choose {', '.join(PRECISIONS)}")
    if not results.is_dir():
        raise MissingError(f"there is no folder {results}: give the folder that your implementation wrote to")
    texts = [text for text in _descriptions(vectors) if variants is None or text["variant"] in variants]
    if not texts:
        raise MissingError(
            f"there are no end-to-end vectors in {vectors}: make them with "
            f"`deeplens golden --end-to-end --out {vectors}`"
        )
    found = []
    for text in texts:
        stages = [stage for part in (text, *text["cases"]) for stage in part["stages"] if stage["name"] not in GIVEN]
        if any((results / stage["file"]).is_file() for stage in stages):
            found += [_checked(results, vectors, text, case, precision) for case in text["cases"]]
    if not found:
        raise MissingError(
            f"nothing in {results} has the name of a stage, such as {texts[0]['cases'][0]['stages'][-1]['file']}"
        )
    return found


def _descriptions(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*_loop_*.json")):
        try:
            text = read_json(path)
            if text["kind"] != KIND or text["format"] != FORMAT:
                raise ValueError(f"it is {text['kind']} in format {text['format']}, expected {KIND} in format {FORMAT}")
            yield text
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} does not describe end-to-end vectors ({error!r}): make them again") from error


def _checked(results: Path, vectors: Path, text: dict[str, Any], case: dict[str, Any], precision: str) -> CheckedCase:
    stages = [stage for stage in (*text["stages"], *case["stages"]) if stage["name"] not in GIVEN]
    compared = 0
    first: Departure | None = None
    largest = decibels = None
    for stage in stages:
        path = results / stage["file"]
        last = stage["name"] == "picture"
        if not path.is_file():
            if last and first is None:
                first = Departure("picture", None, None, f"{path.name} is missing", CAUSES["result"])
            continue
        compared += 1
        if first is not None and not last:
            continue
        found = _read(path, stage)
        if isinstance(found, str):
            first = first or Departure(stage["name"], None, None, found, _cause(stage["name"]))
            continue
        due = _expected(vectors, stage)
        first = first or _departure(found, due, stage, text, precision)
        if last:
            largest, decibels = float(difference(found, due).max()), psnr(found / 255, due / 255)
    where = (text["variant"], text["photo"]["name"], case["name"])
    return CheckedCase(*where, compared, len(stages), first, largest, decibels)


def _read(path: Path, stage: dict[str, Any]) -> np.ndarray | str:
    """The array, or why it is none."""
    shape, dtype = stage["shape"], np.dtype(DTYPES[stage["dtype"]])
    data = path.read_bytes()
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        return f"{len(data)} bytes, expected {expected} for {'×'.join(map(str, shape))} of {stage['dtype']}"
    return np.frombuffer(data, dtype).reshape(shape)


def _expected(vectors: Path, stage: dict[str, Any]) -> np.ndarray:
    path = vectors / stage["file"]
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingError(f"{path} is missing: make the vectors again") from None
    if hashlib.sha256(data).hexdigest() != stage["sha256"]:
        raise MismatchError(f"{path} has changed since it was written: make the vectors again")
    return np.frombuffer(data, DTYPES[stage["dtype"]]).reshape(stage["shape"])


def _departure(
    found: np.ndarray, due: np.ndarray, stage: dict[str, Any], text: dict[str, Any], precision: str
) -> Departure | None:
    """None where the stage keeps the limits of the precision."""
    off = difference(found, due)
    largest = float(off.max())
    allowed = stage["largest_difference"].get(precision)
    decibels = stage.get("smallest_psnr_db", {}).get(precision)
    share = stage.get("largest_share_off_by_more_than_1", {}).get(precision)
    close = allowed is None or largest <= allowed
    if decibels is not None:
        scale = 255 if stage["dtype"] == "uint8" else 1
        close = close and psnr(found / scale, due / scale) >= decibels
    if share is not None:
        close = close and float((off.max(axis=-1) > 1).mean()) <= share
    if close:
        return None
    place: tuple[Any, ...] = np.unravel_index(int(np.nanargmax(np.where(np.isnan(off), np.inf, off))), off.shape)
    if "labels" in stage:
        place = (int(np.argmax(~(off <= (allowed or 0.0)))),)
        name, largest = stage["labels"][place[0]], float(off[place])
        return Departure(name, largest, allowed, f"{found[place]:g} instead of {due[place]:g}", CAUSES[name])
    return Departure(stage["name"], largest, allowed, _place(off, place, stage, text, allowed), _cause(stage["name"]))


def _place(
    off: np.ndarray, place: Sequence[Any], stage: dict[str, Any], text: dict[str, Any], allowed: float | None
) -> str:
    """Where the largest difference is, and whether there is any outside the padding."""
    names = {4: ("", "channel", "row", "column"), 3: ("row", "column", "channel"), 2: ("row", "column")}[off.ndim]
    words = [f"{name} {at}" for name, at in zip(names, place, strict=True) if name]
    if off.ndim == 4 and allowed is not None:
        height, width = text["covered"][int(stage["name"].rsplit("_", 1)[1])]
        if not (off[:, :, :height, :width] > allowed).any():
            words.append("only in the padding")
    share = float((off > (allowed or 0)).mean())
    return ", ".join([*words, f"{100 * share:.2g} % of the numbers"])


def _cause(stage: str) -> str:
    name = stage.rstrip("0123456789").rstrip("_") if stage != "picture" else "result"
    return CAUSES[name]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
