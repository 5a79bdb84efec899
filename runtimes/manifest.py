"""The list of artefacts: what was made from which weights, by which tools, and the hash of each file.

`manifest.json` lies at the root of the artefact folder and holds `{"harness": FILE, "artifacts": [entry, …]}`.
A runtime looks its file up here and verifies the hash before it loads. This file imports neither torch nor a runtime.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.files import file_sha256, locked, locked_name, remove, staged, sync_folder, target_of
from deeplens.console.inputs import MOST_TEXT, parse_json, read_bytes
from deeplens.console.package import pip_install
from deeplens.model.contract import VARIANTS
from deeplens.model.whole_contract import OF_ONE_PHOTO, WHOLE_WITH_DEPTH, contract_named
from deeplens.runtimes import trust
from deeplens.runtimes.manifest_entry import Entry as Entry
from deeplens.runtimes.manifest_entry import TensorEntry as TensorEntry
from deeplens.runtimes.manifest_entry import entry_from
from deeplens.runtimes.manifest_entry import entry_to as entry_to
from deeplens.runtimes.onnx_form import CPU, artefacts_of, form_of
from deeplens.runtimes.spec import RUNTIMES, has_library

DEFAULT_FOLDER = Path("artifacts")
"""Where artefacts go unless told otherwise, relative to the working directory."""

FILE_NAME = "manifest.json"
HARNESS = "harness.json"
"""Beside it: the constants of what goes around the networks (`runtimes.harness_file`)."""
LOCK_NAME = ".manifest.lock"


def read(folder: Path) -> list[Entry]:
    """All entries of the manifest in `folder`; none where there is no manifest.

    Raises:
        InputError: the file is not a manifest.
        MismatchError: the policy (`runtimes.trust`) wants a signature, and it has none that is good.
        OSError: it is there but can't be read.
    """
    return _read(folder, trusted=True)


def _read(folder: Path, *, trusted: bool) -> list[Entry]:
    path = folder / FILE_NAME
    try:
        data = read_bytes(path, most=MOST_TEXT)
        if trusted:
            trust.check_manifest(path, data)
        artifacts = parse_json(data.decode())["artifacts"]
        if not isinstance(artifacts, list):
            raise TypeError("'artifacts' is not a list")
        return [entry_from(item) for item in artifacts]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        raise InputError(f"{path} is not a manifest of artefacts ({what}): delete it and export again") from error


def add(folder: Path, entry: Entry, *, made: Path | None = None) -> None:
    """Write `entry` into the manifest, in place of one with the same network, variant, runtime, precision and path.

    Exports that run at the same time wait for each other: a lock that the system releases when its holder dies.

    Args:
        folder: the root of the artefacts; made when missing.
        entry: what to add.
        made: the finished file or folder under a temporary name in its final folder. It is moved to `entry.path`
            under the lock, so that of two exports of one artefact the file and the entry come from the same one.
            `runtimes.publish` makes and removes it.

    Raises:
        InputError: the manifest that is there is not one; it is left as it is.
        OSError: the folder can't be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_NAME):
        others = [other for other in _read(folder, trusted=False) if other.key != entry.key]
        entries = sorted([*others, entry], key=lambda each: each.key)
        text = json.dumps({"harness": HARNESS, "artifacts": [entry_to(each) for each in entries]}, indent=2) + "\n"
        with _in_place(made, target_of(folder / entry.path)), staged(folder / FILE_NAME, locked=True) as file:
            file.write_text(text, encoding="utf-8")


def find(
    folder: Path,
    *,
    network: str,
    variant: str,
    runtime: str,
    precision: str = "fp32",
    shape: tuple[int, int] | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Entry:
    """The entry of one artefact: the first by path where several fit.

    Args:
        shape: low-resolution height and width of a fixed-shape artefact; None: the one with free height and width (or
            with the network's only size, where it has one). Not looked at for a depth network of others.
        more: keys of `Entry.more` that must have these values.

    Raises:
        MissingError: there is none; the message names the command that makes it.
    """
    only = contract_named(network).fixed_size
    size = only if shape is None else shape
    if only is not None and variant not in VARIANTS:
        size = None  # a depth network of others has one size of its own
    wanted = (network, variant, runtime, precision)
    for entry in read(folder):
        if (entry.network, entry.variant, entry.runtime, entry.precision) != wanted:
            continue
        if entry.size != size and variant in VARIANTS:
            continue
        if all(entry.more.get(key) == value for key, value in more.items()):
            return entry
    what = ["any size" if size is None else f"{size[0]}x{size[1]}", *(f"{key} {more[key]}" for key in more)]
    command = export_command(
        folder, variant=variant, runtime=runtime, shape=shape, precision=precision, network=network
    )
    name = f"{runtime} artefact of {variant} {network} ({precision}, {', '.join(what)})"
    raise MissingError(f"there is no {name} in {folder}: {remedy(command, runtime)}")


def verify(folder: Path, entry: Entry) -> Path:
    """The path of the artefact, after its SHA-256 was found to be the entry's.

    Raises:
        MissingError: the file or folder is not there.
        MismatchError: it is another one than the manifest describes; of a folder, a file in it is missing, altered or
            added.
    """
    path = folder / entry.path
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        raise missing(folder, entry) from None
    except InputError as error:
        raise MismatchError(f"{path} can't be read as an artefact: {error}") from error
    check_hash(folder, entry, found)
    return path


def check_hash(folder: Path, entry: Entry, found: str) -> None:
    """Refuse an artefact whose SHA-256 is not the entry's.

    Args:
        found: its SHA-256.

    Raises:
        MismatchError: it is another one.
    """
    if found != entry.sha256:
        raise MismatchError(
            f"{folder / entry.path} has SHA-256 {found[:12]}…, the manifest says {entry.sha256[:12]}…: rebuild it with "
            f"`{command_of(folder, entry)}`"
        )


def missing(folder: Path, entry: Entry) -> MissingError:
    """The error that an artefact of the manifest is not there, with the command that makes it."""
    how = remedy(command_of(folder, entry), entry.runtime)
    return MissingError(f"{folder / entry.path} is in the manifest but does not exist: {how}")


def command_of(folder: Path, entry: Entry) -> str:
    """The command that makes an artefact of the manifest again."""
    shape = None if contract_named(entry.network).fixed_size else entry.size
    return export_command(
        folder,
        variant=entry.variant,
        runtime=entry.runtime,
        shape=shape,
        precision=entry.precision,
        network=entry.network,
    )


def export_command(
    folder: Path,
    *,
    variant: str,
    runtime: str,
    shape: tuple[int, int] | None = None,
    precision: str | None = None,
    network: str | None = None,
) -> str:
    """The command that makes an artefact, for error messages.

    Args:
        precision: named where it is not the one that the command makes unless told otherwise.
        network: looked at for a graph of the whole effect only, whose `shape` is the photo's.
    """
    form = form_of(runtime)
    target = runtime if form is None else artefacts_of(CPU)
    named = "variant" if variant in VARIANTS else "depth-network"
    command = f"deeplens export {target} --{named} {variant}"
    if form not in (None, CPU):
        command += f" --form {form}"
    if precision not in (None, RUNTIMES[target].default_precision if target in RUNTIMES else None):
        command += f" --precision {precision}"
    if shape is not None:
        command += f" --{'whole' if network in OF_ONE_PHOTO else 'size'} {shape[1]}x{shape[0]}"
    if network == WHOLE_WITH_DEPTH:
        command += " --with-depth"
    return command if folder == DEFAULT_FOLDER else f"{command} --out {folder}"


def remedy(command: str, runtime: str) -> str:
    """How to get a missing artefact on this machine, for error messages.

    Args:
        command: as `export_command` gives it.
    """
    if runtime == "trt" or has_library("torch"):
        return f"run `{command}`"
    return (
        f"run `{command}` where PyTorch is installed and copy the folder here, or install PyTorch here: "
        f"{pip_install('export')}"
    )


@contextmanager
def _in_place(made: Path | None, path: Path) -> Iterator[None]:
    """Move `made` to `path` around the body, which writes the entry; the caller holds the lock.

    A folder can't replace another in one step: the old one steps aside, and back if the body fails. Killed in between,
    nothing is at `path`, or the old manifest stands beside the new folder: either way `verify` refuses.
    """
    if made is None or not (made.is_dir() or path.is_dir()):
        if made is not None:
            os.replace(made, path)
            sync_folder(path.parent)
        yield
        return
    aside = locked_name(path)
    remove(aside)  # of one that was killed
    if path.exists():
        os.replace(path, aside)
    try:
        os.replace(made, path)
        yield
    except BaseException:
        if aside.exists():
            remove(path)
            os.replace(aside, path)
        raise
    remove(aside)
