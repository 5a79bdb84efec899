"""Adds a depth network to the user's folder: from a file that is here, or from where its card says."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.files import file_sha256
from deeplens.model.depth_registry import DepthCard, registry
from deeplens.runtimes import depth_store
from deeplens.runtimes.depth_fetch import fetch
from deeplens.runtimes.depth_files import check_whole
from deeplens.runtimes.depth_processor import CONFIG, PROCESSOR, described
from deeplens.runtimes.depth_store import Stored

SUFFIXES = {".onnx": "onnx", ".safetensors": "module", ".pt": "module", ".pth": "module"}
"""Suffix of a file that is brought → the kind of network."""

WHOLE = (CONFIG, PROCESSOR, "model.safetensors")
"""What is taken out of a folder of the transformers library."""


@dataclass(frozen=True)
class Added:
    """What `add` did.

    Attributes:
        network: as it is in the folder now.
        new: False where the same network was there already.
        notes: what was taken for granted, a line each.
    """

    network: Stored
    new: bool
    notes: tuple[str, ...] = ()


def add(
    name: str,
    *,
    source: Path | None = None,
    told: Mapping[str, Any],
    accepts: Callable[[DepthCard], bool],
    sha256: str | None = None,
    revision: str | None = None,
    replace_it: bool = False,
) -> Added:
    """Add a network.

    Args:
        name: of the registry, or a name of the user's own; then `source` must be given.
        source: a file or a folder that is here; None: fetch it.
        told: attributes of `DepthCard` that go before what is known; None: not told.
        accepts: asked with the card of a known network before its files are taken: whether its licence is accepted.
        sha256: what the file of the weights must have.
        revision: of the repository; None: the card's.
        replace_it: also in place of another network of that name.

    Raises:
        InputError: the licence was not accepted, a file is damaged or of no known kind, something must be told, or
            another network of that name is there.
        MissingError: it can't be fetched; the message says which file to bring.
        MismatchError: a hash is not the one expected, or the files are of another network than the card.
    """
    known = registry()
    if name not in known and source is None:
        raise InputError(
            f"'{name}' is not in the list of `deeplens depth list`: choose one of {', '.join(known)}, or give your own "
            "file with --from"
        )
    own = {key: value for key, value in told.items() if value is not None}
    card = replace(known.get(name, DepthCard(name=name)), **own)
    accepted = False
    if name in known:
        if not (depth_store.is_stored(name) and source is None and not replace_it):
            accepted = accepts(card)
            if not accepted:
                raise InputError(f"the licence {card.licence} of {name} was not accepted: nothing was added")
        if card.kind == "module" and card.module is None:
            raise InputError(
                f"no library that can be installed by name has the class of {name}: give --module PACKAGE.MODULE:CLASS "
                f"and --from FILE (see `deeplens depth info {name}`)"
            )
    with depth_store.adding(name) as staging:
        if depth_store.is_stored(name) and source is None and not replace_it:
            there = depth_store.find(name)
            there.verify()
            return Added(there, False)
        if source is None:
            commit = fetch(card, staging, revision=revision)
            card = replace(card, revision=commit)
        else:
            card = _taken(card, source, staging)
        for path in staging.iterdir():
            check_whole(path)
        hashes = {path.name: file_sha256(path) for path in staging.iterdir()}
        _check_hash(hashes, sha256)
        if source is None:
            depth_store.remember(card, str(card.revision), hashes)
        if depth_store.is_stored(name) and not replace_it:
            there = depth_store.find(name)
            if dict(there.sha256) == hashes and not own:
                return Added(there, False)
            raise InputError(f"another network called {name} is there already: choose another name, or give --replace")
        if card.kind == "transformers":
            # The files are held against what is known, not against what was told.
            asked = {key: getattr(known.get(name, DepthCard(name=name)), key) for key in own}
            card = replace(described(replace(card, **asked), staging), **own)
        card, notes = _complete(card)
        return Added(depth_store.keep(staging, card, accepted=accepted), True, notes)


def _taken(card: DepthCard, source: Path, staging: Path) -> DepthCard:
    """Copy what the user brought; the card with the kind that it is."""
    if source.is_dir():
        if (source / CONFIG).is_file():
            missing = [name for name in (CONFIG, "model.safetensors") if not (source / name).is_file()]
            if missing:
                raise InputError(f"{source} has no {missing[0]}: bring {' and '.join((CONFIG, 'model.safetensors'))}")
            for name in WHOLE:
                if (source / name).is_file():
                    shutil.copyfile(source / name, staging / name)
            return replace(card, kind="transformers")
        inside = [path for path in sorted(source.iterdir()) if path.suffix.lower() in SUFFIXES]
        if len(inside) != 1:
            raise InputError(f"{source} has no {CONFIG}, and {len(inside)} files of weights: give the file with --from")
        source = inside[0]
    if not source.is_file():
        raise InputError(f"{source} does not exist: give a file or a folder with --from")
    kind = SUFFIXES.get(source.suffix.lower())
    if kind is None:
        raise InputError(f"{source} is no file of a depth network: give {', '.join(SUFFIXES)} or a folder")
    if kind == "module" and card.module is None:
        hint = f" with {CONFIG} in it" if card.kind == "transformers" else ""
        raise InputError(
            f"{source} holds weights alone: give the folder{hint}, or name their PyTorch class with --module "
            "PACKAGE.MODULE:CLASS"
        )
    shutil.copyfile(source, staging / source.name)
    return replace(card, kind=kind)


def _check_hash(hashes: Mapping[str, str], sha256: str | None) -> None:
    if sha256 is None:
        return
    found = {name: value for name, value in hashes.items() if not name.endswith(".json")}
    if sha256.lower() not in found.values():
        name, value = next(iter(found.items()))
        raise MismatchError(f"{name} has SHA-256 {value[:12]}…, not {sha256[:12]}…: it was not added")


def _complete(card: DepthCard) -> tuple[DepthCard, tuple[str, ...]]:
    """The card with what a network needs to be run, and what was taken for granted.

    An ONNX file may say more itself: `runtimes.depth_model` reads it when it is opened.
    """
    notes = []
    if card.kind != "onnx":
        for key, option in (("size", "--size WxH"), ("output", "--output disparity or depth")):
            if getattr(card, key) is None:
                raise InputError(f"nothing says the {key} of {card.name}: give {option}")
        if card.mean is None or card.std is None:
            notes.append(f"nothing says how pixels are normalised for {card.name}: it gets pixels from 0 to 1")
            card = replace(card, mean=card.mean or (0.0, 0.0, 0.0), std=card.std or (1.0, 1.0, 1.0))
    if card.aspect is None:
        notes.append(f"nothing says whether {card.name} wants the aspect ratio kept: it is kept (--aspect stretch)")
        card = replace(card, aspect="keep")
    if card.aspect == "keep" and card.multiple is None:
        raise InputError(
            f"nothing says which sizes {card.name} takes: give --multiple N, often 14 or 32, or --aspect stretch"
        )
    card = replace(card, resample=card.resample or "bilinear", multiple=card.multiple or 1)
    if card.size is not None and card.aspect == "keep":
        assert card.multiple is not None
        if any(side % card.multiple for side in card.size):
            width, height = card.size[::-1]
            raise InputError(f"the size {width}x{height} of {card.name} must be multiples of {card.multiple}")
    return card, tuple(notes)
