"""The list of artefacts: what was made from which weights, by which tools, and the hash of each file.

`manifest.json` lies at the root of the artefact folder and holds `{"harness": FILE, "artifacts": [entry, …]}`.
A runtime looks its file up here and verifies the hash before it loads. This file imports neither torch nor a runtime.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.files import file_sha256, locked, locked_name, remove, staged
from deeplens.console.package import pip_install
from deeplens.model.contract import CONTRACTS, VARIANTS, contract_of
from deeplens.runtimes.spec import RUNTIMES, has_library

DEFAULT_FOLDER = Path("artifacts")
"""Where artefacts go unless told otherwise, relative to the working directory."""

FILE_NAME = "manifest.json"
HARNESS = "harness.json"
"""Beside it: the constants of what goes around the networks (`runtimes.harness_file`)."""
LOCK_NAME = ".manifest.lock"


@dataclass(frozen=True)
class TensorEntry:
    """One input or output of an artefact.

    Attributes:
        name: as in `model.contract`.
        shape: N×C×H×W; a size that is free is a string such as "8*h".
        dtype: NumPy's name of the type, such as "float32".
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class Entry:
    """One artefact.

    Attributes:
        network, variant: as in `model.contract`.
        runtime: "onnx", "trt" or "coreml".
        precision: "fp32", "fp16", "int8"…
        path: relative to the manifest, with forward slashes.
        sha256: of the file or folder (`file_sha256`).
        weights_sha256: of the weights that it was made from (`model.build.weights_sha256`).
        inputs, outputs: in the order of the artefact.
        tools: name → version of all that had a hand in it.
        opset: the ONNX opset; None for a target that has none.
        dynamic: whether height and width are free.
        created: ISO 8601, UTC.
        more: keys that only one target has (its name, what calibrated it…), kept beside the others in the file.
    """

    network: str
    variant: str
    runtime: str
    precision: str
    path: str
    sha256: str
    weights_sha256: str
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    tools: Mapping[str, str]
    opset: int | None
    dynamic: bool
    created: str
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes two entries the same artefact."""
        return (self.variant, self.network, self.runtime, self.precision, self.path)

    @property
    def size(self) -> tuple[int, int] | None:
        """The low-resolution height and width in pixels; None where they are free."""
        low = {tensor.name for tensor in CONTRACTS[self.network].inputs if tensor.scale == 1}
        for tensor in self.inputs:
            if tensor.name in low:
                height, width = tensor.shape[-2:]
                if isinstance(height, int) and isinstance(width, int):
                    return (height, width)
        return None


def read(folder: Path) -> list[Entry]:
    """All entries of the manifest in `folder`; none where there is no manifest.

    Raises:
        InputError: the file is not a manifest.
        OSError: it is there but can't be read.
    """
    path = folder / FILE_NAME
    try:
        artifacts = json.loads(path.read_text(encoding="utf-8"))["artifacts"]
        if not isinstance(artifacts, list):
            raise TypeError("'artifacts' is not a list")
        return [_entry_from(item) for item in artifacts]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
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
        others = [other for other in read(folder) if other.key != entry.key]
        entries = sorted([*others, entry], key=lambda each: each.key)
        text = json.dumps({"harness": HARNESS, "artifacts": [entry_to(each) for each in entries]}, indent=2) + "\n"
        with _in_place(made, folder / entry.path), staged(folder / FILE_NAME, locked=True) as file:
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
    only = CONTRACTS[network].fixed_size
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
    command = export_command(folder, variant=variant, runtime=runtime, shape=shape, precision=precision)
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
    shape = None if CONTRACTS[entry.network].fixed_size else entry.size
    command = export_command(
        folder, variant=entry.variant, runtime=entry.runtime, shape=shape, precision=entry.precision
    )
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        raise MissingError(f"{path} is in the manifest but does not exist: {remedy(command, entry.runtime)}") from None
    if found != entry.sha256:
        raise MismatchError(
            f"{path} has SHA-256 {found[:12]}…, the manifest says {entry.sha256[:12]}…: rebuild it with `{command}`"
        )
    return path


def export_command(
    folder: Path, *, variant: str, runtime: str, shape: tuple[int, int] | None = None, precision: str | None = None
) -> str:
    """The command that makes an artefact, for error messages.

    Args:
        precision: named where it is not the one that the command makes unless told otherwise.
    """
    named = "variant" if variant in VARIANTS else "depth-network"
    command = f"deeplens export {runtime} --{named} {variant}"
    if precision not in (None, RUNTIMES[runtime].default_precision if runtime in RUNTIMES else None):
        command += f" --precision {precision}"
    if shape is not None:
        command += f" --size {shape[1]}x{shape[0]}"
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


def entry_to(entry: Entry) -> dict[str, Any]:
    """The entry as it stands in the file; inputs and outputs with their meaning, which is not read back."""
    item = asdict(entry)
    known = entry.variant in VARIANTS
    contract = contract_of(entry.variant, entry.network) if known else CONTRACTS[entry.network]
    meanings = {tensor.name: tensor.meaning for tensor in (*contract.inputs, *contract.outputs)}
    for tensor in (*item["inputs"], *item["outputs"]):
        if tensor["name"] in meanings:
            tensor["meaning"] = meanings[tensor["name"]]
    return item.pop("more") | item


def _entry_from(item: Any) -> Entry:
    """An entry from the file; ValueError, TypeError or KeyError when it is none."""
    if not isinstance(item, dict):
        raise TypeError("an artefact is not an object")
    rest = dict(item)
    text = ("network", "variant", "runtime", "precision", "path", "sha256", "weights_sha256", "created")
    values = {name: _typed(rest, name, str) for name in text}
    if values["network"] not in CONTRACTS:
        raise ValueError(f"unknown network '{values['network']}'")
    path = PurePosixPath(values["path"])
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in values["path"]:
        raise ValueError(f"'{values['path']}' is not a path below the manifest")
    tools, opset = _typed(rest, "tools", dict), rest.pop("opset")
    if not all(isinstance(version, str) for version in tools.values()):
        raise TypeError("a version in 'tools' is not text")
    return Entry(
        **values,
        inputs=tuple(_tensor_from(each) for each in _typed(rest, "inputs", list)),
        outputs=tuple(_tensor_from(each) for each in _typed(rest, "outputs", list)),
        tools=tools,
        opset=None if opset is None else _typed({"opset": opset}, "opset", int),
        dynamic=_typed(rest, "dynamic", bool),
        more=rest,
    )


def _tensor_from(item: Any) -> TensorEntry:
    if not isinstance(item, dict):
        raise TypeError("an input or output is not an object")
    shape = _typed(dict(item), "shape", list)
    if len(shape) < 2 or not all(isinstance(size, int | str) and not isinstance(size, bool) for size in shape):
        raise TypeError("a shape is not a list of sizes")
    return TensorEntry(_typed(dict(item), "name", str), tuple(shape), _typed(dict(item), "dtype", str))


def _typed(item: dict[str, Any], name: str, kind: type) -> Any:
    """Take `name` out of `item`; TypeError when it is not a `kind`."""
    value = item.pop(name)
    if type(value) is not kind:  # JSON has exact types; isinstance would take true for a whole number
        raise TypeError(f"'{name}' is not of type {kind.__name__}")
    return value


@contextmanager
def _in_place(made: Path | None, path: Path) -> Iterator[None]:
    """Move `made` to `path` around the body, which writes the entry; the caller holds the lock.

    A folder can't replace another in one step: the old one steps aside, and back if the body fails. Killed in between,
    nothing is at `path`, or the old manifest stands beside the new folder: either way `verify` refuses.
    """
    if made is None or not (made.is_dir() or path.is_dir()):
        if made is not None:
            os.replace(made, path)
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
