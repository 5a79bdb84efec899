"""The life of an artefact: written under a temporary name, checked, described, moved into place with its entry.

    with publish(out, "onnx/edge_depth.onnx") as artefact:
        save(model, artefact.file)
        check(artefact.file)
        artefact.describe(network="depth", …)

At the end of the block the file and its line in the manifest take their places together, and `harness.json` lies beside
them. If the block fails, nothing is left and what was there stays. What a process that was killed in between left is
deleted by the next one. Imports neither torch nor a runtime.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from deeplens.console.files import claimed, file_sha256, sync, target_of
from deeplens.runtimes import harness_file, manifest
from deeplens.runtimes.manifest_entry import FIT

CARRIED = (FIT, "licence")
"""Keys of an entry that are the network's, not the artefact's: what is made from it keeps them."""


@dataclass
class Artefact:
    """An artefact on its way.

    Attributes:
        file: where to write it, a file or a folder: beside its final place and with the same suffix.
        path: its final place, relative to the manifest, with forward slashes.
        entry: its line in the manifest, after `describe`.
    """

    file: Path
    path: str
    entry: manifest.Entry | None = None

    def describe(self, source: manifest.Entry | None = None, /, **fields: Any) -> manifest.Entry:
        """Say what was made; call it when the file is finished.

        Args:
            source: the entry of the artefact that it was made from: its fields stay where none is given.
            fields: of `manifest.Entry`, without path, sha256 and created, which are known here.
        """
        sync(self.file)
        own: dict[str, Any] = {"path": self.path, "sha256": file_sha256(self.file)}
        own["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
        if source is None:
            self.entry = manifest.Entry(**own, **fields)
        else:
            kept = {key: source.more[key] for key in CARRIED if key in source.more}
            self.entry = replace(source, **own, **{**fields, "more": {**kept, **fields.get("more", source.more)}})
        return self.entry


@contextmanager
def publish(out: Path, path: Path | str) -> Iterator[Artefact]:
    """The life of an artefact from its temporary name to its place, as the module says.

    Processes that publish the same artefact at the same time don't disturb each other: the last one stays, whole.

    Args:
        out: the root of the artefacts, where the manifest is; made when missing.
        path: where the artefact goes, relative to `out`.

    Raises:
        InputError: the manifest that is there is not one; said before the block begins.
        OSError: the folder can't be written to.
        RuntimeError: the block ended without `describe`: a fault of the program.
    """
    place = target_of(out / path)
    manifest.read(out)
    place.parent.mkdir(parents=True, exist_ok=True)
    with claimed(place, suffix=place.suffix) as temporary:
        artefact = Artefact(temporary, Path(path).as_posix())
        yield artefact
        if artefact.entry is None:
            raise RuntimeError(f"{place} was published without a description")
        harness_file.write(out)
        manifest.add(out, artefact.entry, made=artefact.file)


def published(out: Path, path: Path | str, **more: Any) -> manifest.Entry | None:
    """The entry of what is at `path` already, if it was made from the same as `more` says; None: it has to be made.

    Args:
        path: relative to `out`.
        more: keys of `Entry.more` that must have these values.

    Raises:
        MissingError, MismatchError: it is in the manifest, but the file is gone or another one.
    """
    for entry in manifest.read(out):
        if entry.path == Path(path).as_posix() and more.items() <= entry.more.items():
            manifest.verify(out, entry)
            return entry
    return None
