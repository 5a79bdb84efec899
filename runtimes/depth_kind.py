"""Which way a depth map goes, by what was told or by what its file says; and distance turned into disparity.

*Disparity* (inverse depth) is large where things are near, *depth* (a distance) where they are far. Taking one for the
other exchanges near and far, so nothing is taken for granted without a note.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from deeplens.console.errors import InputError

Kind = Literal["disparity", "depth"]
KINDS: tuple[Kind, ...] = get_args(Kind)

KEY = "deeplens.depth.kind"
"""Key of a text in a PNG that says which kind it holds. `runtimes.disparity.write_disparity` writes it."""

DISPARITY_WORDS = ("disparity", "disparities", "disp", "inverse_depth", "inv_depth")
"""Words in a name that say disparity."""

DISTANCE_WORDS = (
    "metric", "metres", "meters", "millimetres", "millimeters", "distance", "distances", "sync_depth", "depth_m",
    "depth_mm", "depth_cm", "z_depth", "zdepth", "zbuffer", "z_buffer", "far_bright", "far_is_bright",
)  # fmt: skip
"""Words in a name that say distance. "depth" is none: people call both kinds depth maps."""

ARRAY_DISTANCE_WORDS = (*DISTANCE_WORDS, "depth", "depths", "z")
"""Words that say distance in the name of an array: whoever names arrays says what they hold."""

MOST_UNKNOWN = 0.3
"""With a larger share of values that are no distance, a map is refused: sensors leave that much out at most."""

MOST_UNKNOWN_OF_MODEL = 0.01
"""The same of a model, which leaves nothing out: its zeros come from clipping, and may stand for near or for far."""


@dataclass(frozen=True)
class Said:
    """Something that a file says about its map.

    Attributes:
        where: what says it, for messages.
        text: what is said.
        names_array: it is the name of the array itself.
    """

    where: str
    text: str
    names_array: bool = False

    def kind(self) -> Kind | None:
        """Which kind it says; None: neither, or both."""
        words = f"_{re.sub('[^a-z0-9]+', '_', self.text.lower())}_"
        distance = ARRAY_DISTANCE_WORDS if self.names_array else DISTANCE_WORDS
        if any(f"_{word}_" in words for word in (*DISPARITY_WORDS, "near_bright", "near_is_bright")):
            return None if any(f"_{word}_" in words for word in DISTANCE_WORDS) else "disparity"
        return "depth" if any(f"_{word}_" in words for word in distance) else None


def checked_kind(text: str | None) -> Kind | None:
    """What a person gave as `--depth-kind`.

    Raises:
        InputError: neither word.
    """
    for kind in KINDS:
        if text == kind:
            return kind
    if text is None:
        return None
    raise InputError(f"unknown kind of depth '{text}': choose disparity (near = large) or depth (far = large)")


def settled_kind(told: Kind | None, said: Iterable[Said], name: str, notes: list[str]) -> Kind:
    """What is told; else what the first that says a kind says; else disparity. `notes` gets what was concluded.

    Args:
        said: the most reliable first.
        name: of the file, for the notes.
    """
    if told is not None:
        return told
    for each in said:
        kind = each.kind()
        if kind == "depth":
            notes.append(
                f"{name} is read as depth (far = large), because {each.where} says '{each.text}': give --depth-kind "
                "disparity if near is large"
            )
        if kind is not None:
            return kind
    notes.append(
        f"{name} does not say whether near or far is large; it is read as disparity (near = large): give --depth-kind "
        "depth if far is large"
    )
    return "disparity"


def inverse_depth(depth: np.ndarray, name: str, notes: list[str], *, most: float = MOST_UNKNOWN) -> np.ndarray:
    """1 / depth, where 0, negative values and NaN, which are no distance, get the value beside them that is farther.

    What is behind is what holes are made of: a camera of depth does not see it beside a nearer thing.

    Args:
        depth: h×w, in any unit, far = large; infinity is infinitely far.
        name: what gave it, for messages; `notes` gets the share that was filled in.
        most: the largest share of values that may be filled in.

    Returns:
        h×w, float32, or float64 where the depth has more than 32 bits.

    Raises:
        InputError: not two-dimensional real numbers, or more than `most` of the values are no distance.
    """
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind not in "biuf":
        raise InputError(f"{name}: depth must be height × width real numbers, not {depth.shape} of {depth.dtype}")
    known = depth > 0
    unknown = 1.0 - float(known.mean())
    if unknown > most:
        raise InputError(
            f"{name} holds no distance (0, negative or not a number) at {_percent(unknown)} of its values, and "
            f"at most {100 * most:g} % can be filled in: check that it is depth; relative depth, whose 0 is the "
            "nearest, must be turned into disparity first (largest value minus value)"
        )
    exact = np.float64 if depth.dtype.itemsize > 4 else np.float32
    inverse = np.divide(1.0, depth, out=np.zeros(depth.shape, exact), where=known, dtype=exact)
    if unknown > 0:
        notes.append(
            f"{name} holds no distance (0, negative or not a number) at {_percent(unknown)} of its values; they get "
            "that of the farther neighbour in their row"
        )
        _fill(inverse, known)
    return inverse


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def _fill(inverse: np.ndarray, known: np.ndarray) -> None:
    """Give unknown values the smaller of the nearest known ones to the left and to the right, in place; rows without
    any get what the nearest row has that has some."""
    width = inverse.shape[1]
    columns = np.arange(width, dtype=np.int32)
    for row, there in zip(inverse, known, strict=True):  # row by row: the index arrays stay small
        if there.any() and not there.all():
            left = np.maximum.accumulate(np.where(there, columns, -1))
            right = np.minimum.accumulate(np.where(there, columns, width)[::-1])[::-1]
            beside = np.pad(row, 1, constant_values=np.inf)
            np.copyto(row, np.minimum(beside[left + 1], beside[right + 1]), where=~there)
    rows = np.flatnonzero(known.any(axis=1))
    for index in np.flatnonzero(~known.any(axis=1)):
        after = int(np.searchsorted(rows, index))
        near = rows[max(0, after - 1) : after + 1]
        inverse[index] = inverse[near[np.abs(near - index).argmin()]]
