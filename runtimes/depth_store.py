"""The user's folder of depth networks: what `deeplens depth add` keeps, and `--depth-network` finds. No torch.

`FOLDER/NAME/` holds a network's files and `network.json`: its card, the SHA-256 of each file, where it came from and
which licence was accepted. `FOLDER/hashes.json` holds the SHA-256 that each file of a repository had when it was first
fetched; it stays when the network is removed.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

from platformdirs import user_data_path

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.files import TEMPORARY, bytes_sha256, file_sha256, locked, remove, replacing, temporary_name
from deeplens.console.inputs import read_bytes, read_json
from deeplens.model.contract import VARIANTS
from deeplens.model.depth_registry import FORMAT, DepthCard, registry

CARD = "network.json"
HASHES = "hashes.json"
LOCK = ".lock"

ENVIRONMENT = "DEEPLENS_DEPTH_NETWORKS"
"""This environment variable names another folder."""


def depth_folder() -> Path:
    """Where depth networks are kept: the user's own folder, for all projects."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else user_data_path("deeplens", appauthor=False) / "depth"


@dataclass(frozen=True)
class Stored:
    """A depth network in the user's folder.

    Attributes:
        card: what is known of it; size, aspect, mean, std and output are known when it can be run.
        folder: where its files are.
        sha256: path below the folder → SHA-256 of the file.
        accepted: whether its licence was accepted when it was added.
        added: ISO 8601, UTC.
    """

    card: DepthCard
    folder: Path
    sha256: Mapping[str, str]
    accepted: bool
    added: str

    @property
    def weights(self) -> Path:
        """The one file that holds the weights."""
        return next(self.folder / name for name in self.sha256 if Path(name).suffix.lower() != ".json")

    def read(self, name: str) -> bytes:
        """The bytes of a file, read once and hashed: what is checked is what is used.

        Args:
            name: one of `sha256`.

        Raises:
            MissingError: it is gone.
            MismatchError: it is not the one that was added, or is no regular file.
        """
        path = self.folder / name
        again = f"`deeplens depth add {self.card.name} --replace`"
        try:
            data = read_bytes(path)
        except FileNotFoundError:
            raise MissingError(
                f"{path} of the depth network {self.card.name} does not exist: add it with {again}"
            ) from None
        except (OSError, InputError) as error:
            raise MismatchError(
                f"{path} can't be read ({one_line(error)}): bring the file again with {again}"
            ) from error
        found, expected = bytes_sha256(data), self.sha256[name]
        if found != expected:
            raise MismatchError(
                f"{path} has SHA-256 {found[:12]}…, but {expected[:12]}… was added: bring the file again with {again}"
            )
        return data

    def verify(self) -> None:
        """Raise MismatchError unless all files are the ones that were added; MissingError where one is gone."""
        for name in self.sha256:
            self.read(name)


def stored() -> dict[str, Stored]:
    """Name → network, of all that are in the user's folder.

    Raises:
        InputError: a card there can't be read.
    """
    root = depth_folder()
    if not root.is_dir():
        return {}
    found = [path for path in sorted(root.iterdir()) if (path / CARD).is_file() and not path.name.startswith(TEMPORARY)]
    return {each.name: read(each) for each in found}


def find(name: str) -> Stored:
    """The network of a name.

    Raises:
        InputError: no network is called so.
        MissingError: it is known, but was not added; the message names the command.
    """
    path = depth_folder() / name
    if not _is_name(name) or not (path / CARD).is_file():
        if name in registry():
            raise MissingError(f"the depth network {name} was not added yet: run `deeplens depth add {name}`")
        names = ", ".join(dict.fromkeys((*registry(), *stored())))
        raise InputError(
            f"no depth network is called '{name}': choose one of {names}, or add your own with "
            f"`deeplens depth add {name} --from FILE`"
        )
    return read(path)


def is_stored(name: str) -> bool:
    """Whether `deeplens depth add` kept a network of that name."""
    return _is_name(name) and (depth_folder() / name / CARD).is_file()


def read(folder: Path) -> Stored:
    """What `network.json` in a folder says.

    Raises:
        InputError: it can't be read.
    """
    path = folder / CARD
    try:
        item = read_json(path)
        if item["format"] != FORMAT:
            raise ValueError(f"its format is {item['format']}, but this version reads format {FORMAT}")
        names = {str(name): str(value) for name, value in item["sha256"].items()}
        if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names):
            raise ValueError("a file lies outside the folder")
        card = DepthCard.from_json(item["card"])
        return Stored(card, folder, names, bool(item["accepted"]), str(item["added"]))
    except (OSError, ValueError, TypeError, KeyError, InputError) as error:
        again = f"`deeplens depth add {folder.name} --replace`"
        raise InputError(f"{path} can't be read ({one_line(error)}): add the network again with {again}") from error


@contextmanager
def adding(name: str) -> Iterator[Path]:
    """A folder to put a network's files in; one process at a time may add a network of a name, the others wait.

    The folder is deleted at the end of the block, whatever happens: `keep` moves what is to stay.

    Raises:
        InputError: a name that no network can have.
    """
    if not _is_name(name):
        raise InputError(
            f"'{name}' can't be the name of a depth network: use small letters, digits, dots and hyphens, and none of "
            f"{', '.join(VARIANTS)}"
        )
    root = depth_folder()
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f"{LOCK}-{name}"):
        staging = temporary_name(root / name)
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def keep(staging: Path, card: DepthCard, *, accepted: bool) -> Stored:
    """Describe the files in `staging` and move the folder into its place; the network that is there is replaced."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    text: dict[str, Any] = {
        "format": FORMAT,
        "card": card.to_json(),
        "sha256": {path.relative_to(staging).as_posix(): file_sha256(path) for path in files},
        "accepted": accepted,
        "added": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    with replacing(staging / CARD) as file:
        file.write((json.dumps(text, indent=2, ensure_ascii=False) + "\n").encode())
    place = depth_folder() / card.name
    aside = temporary_name(place)
    if place.exists():
        os.replace(place, aside)
    os.replace(staging, place)
    remove(aside)
    return read(place)


def remember(card: DepthCard, revision: str, hashes: Mapping[str, str]) -> None:
    """Hold the SHA-256 of fetched files against those of the first time; note those that are new.

    Raises:
        MismatchError: a file of the same revision is another one than the first time.
    """
    root = depth_folder()
    with locked(root / LOCK):
        path = root / HASHES
        known: dict[str, str] = read_json(path) if path.is_file() else {}
        for name, found in hashes.items():
            key = f"{card.repository}@{revision}/{name}"
            if known.setdefault(key, found) != found:
                raise MismatchError(
                    f"{name} of {card.repository} has SHA-256 {found[:12]}…, but had {known[key][:12]}… when it was "
                    f"first fetched at the same revision: it was not added"
                )
        with replacing(path) as file:
            file.write((json.dumps(known, indent=2, sort_keys=True) + "\n").encode())


def _is_name(name: str) -> bool:
    letters = name.replace("-", "").replace(".", "").replace("_", "")
    plain = letters.isascii() and letters.isalnum() and name == name.lower() and not name.startswith(".")
    return plain and name not in VARIANTS and name != "none"
