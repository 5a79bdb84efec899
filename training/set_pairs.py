"""Which file under a folder is the depth map, or the mask, of which picture: told by their names.

Words for what a file is stand in its name or in its folders': `rgb/0001.jpg` and `depth/0001.png`; `a.jpg` and
`a_disparity.npy`; `rgb_00045.jpg` and `sync_depth_00045.png`; `DUTS-TR-Image/x.jpg` and `DUTS-TR-Mask/x.png`. Two files
belong together when all that is left of their paths without these words and the suffix is the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deeplens.console.errors import InputError
from deeplens.runtimes.depth_kind import DISPARITY_WORDS
from deeplens.scenes.sources import SUFFIXES

Role = Literal["picture", "disparity", "depth", "mask"]

WORDS: dict[Role, tuple[str, ...]] = {
    "picture": ("rgb", "image", "images", "imgs", "img", "colour", "color", "photos", "photo", "left"),
    "disparity": DISPARITY_WORDS,
    "depth": ("sync_depth", "depth", "depths", "depthmap", "distance"),
    "mask": ("masks", "mask", "gt", "alpha", "mattes", "matte"),
}
"""Role → words that say it, at the beginning or end of a name, between _ - or spaces, in upper or lower case."""

ARRAYS = (".npy", ".npz", ".pfm")
"""Suffixes that no picture has: a map in any case, whichever way is told."""

PHOTOS = (".jpg", ".jpeg", ".heic", ".heif", ".ppm")
"""Where a PNG of the same name lies beside one of these, the PNG is its map (MSRA10K, some copies of NYU)."""

_ROLE_OF = {word: role for role, words in WORDS.items() for word in words}
_ALTERNATIVES = "|".join(sorted(_ROLE_OF, key=len, reverse=True))
_WORD = re.compile(rf"^({_ALTERNATIVES})(?=[_\- ]|$)[_\- ]?|[_\- ]({_ALTERNATIVES})$", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """A picture and what labels it; `role` says what the label's file is, None if its name does not say which way."""

    picture: Path
    label: Path
    role: Role | None


def find_pairs(root: Path, roles: tuple[Role, ...]) -> tuple[Pair, ...]:
    """All pictures under `root` that have a label of one of `roles`, in order of their paths.

    Files without a partner are passed over. A file that only its suffix (`ARRAYS`) or its neighbour (`PHOTOS`) makes a
    label has no role.

    Raises:
        InputError: `root` is not a folder or holds no pair, or a picture has two labels.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the folder of a set")
    pictures: dict[tuple[str, ...], Path] = {}
    labels: dict[tuple[str, ...], tuple[Path, Role | None]] = {}
    unsure: dict[tuple[str, ...], list[Path]] = {}
    for path in _files(root):
        key, role = _key(path.relative_to(root))
        if role is None and path.suffix.lower() not in ARRAYS:
            unsure.setdefault(key, []).append(path)
        elif role is None or role in roles:
            if key in labels:
                raise InputError(
                    f"{labels[key][0]} and {path} both label the same picture: move one of them to another folder"
                )
            labels[key] = path, role
    for key, paths in unsure.items():
        photos = [path for path in paths if path.suffix.lower() in PHOTOS]
        pictures[key] = (photos or paths)[0]
        others = [path for path in paths if path.suffix.lower() == ".png" and photos]
        if key not in labels and others:
            labels[key] = others[0], None
    pairs = tuple(Pair(pictures[key], *labels[key]) for key in sorted(pictures) if key in labels)
    if not pairs:
        words = ", ".join(word for role in roles for word in WORDS[role])
        raise InputError(f"{root} has no picture with a label: the names or folders of labels must contain {words}")
    return pairs


def _files(root: Path) -> Iterator[Path]:
    known = {*SUFFIXES, *ARRAYS, *PHOTOS}
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and path.suffix.lower() in known and path.is_file():
            yield path


def _key(path: Path) -> tuple[tuple[str, ...], Role | None]:
    """What is left of a path without the words, and what they say it labels; None for a picture.

    The name goes before the folders, the inner before the outer; in one of them, a label's word before a picture's.
    """
    left: list[str] = []
    told: list[Role] = []
    for part in (path.stem, *path.parts[-2::-1]):
        roles: list[Role] = []
        while match := _WORD.search(part):
            roles.append(_ROLE_OF[(match[1] or match[2]).lower()])
            part = part[: match.start()] + part[match.end() :]
        told += sorted(roles, key=lambda role: role == "picture")[:1]
        if part or not left:
            left.append(part)
    return tuple(reversed(left)), told[0] if told and told[0] != "picture" else None
