"""Artefacts, loaded from the bytes that were hashed: a file is opened once, and a package is copied while it is hashed.

Between a check by path and a load by path another program could exchange the file.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplens.console.errors import InputError, MismatchError, one_line
from deeplens.console.files import bytes_sha256, file_sha256
from deeplens.console.inputs import read_bytes
from deeplens.runtimes import manifest
from deeplens.runtimes.onnx_bytes import check_self_contained
from deeplens.runtimes.onnx_form import form_of


def load(folder: Path, entry: manifest.Entry) -> bytes:
    """The bytes of an artefact that is one file, after their SHA-256 was found to be the entry's.

    Raises:
        MissingError: the file is not there.
        MismatchError: it is another one than the manifest describes, is no regular file, or is a graph that keeps data
            in other files.
    """
    path = folder / entry.path
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise manifest.missing(folder, entry) from None
    except (OSError, InputError) as error:
        raise MismatchError(f"{path} can't be read as an artefact: {one_line(error)}") from error
    manifest.check_hash(folder, entry, bytes_sha256(data))
    if form_of(entry.runtime) is not None:
        try:
            check_self_contained(data, str(path))
        except InputError as error:
            raise MismatchError(f"{error}; or rebuild it with `{manifest.command_of(folder, entry)}`") from error
    return data


@contextmanager
def unpacked(folder: Path, entry: manifest.Entry) -> Iterator[Path]:
    """A private copy of an artefact that is a folder, after the SHA-256 over the copy was found to be the entry's.

    It is deleted at the end of the block.

    Raises:
        MissingError: the folder is not there.
        MismatchError: it is another one than the manifest describes, or holds links.
    """
    path = folder / entry.path
    if not path.is_dir():
        raise manifest.missing(folder, entry)
    with tempfile.TemporaryDirectory(prefix="deeplens-") as place:
        copy = Path(place) / path.name
        try:
            file_sha256(path)  # refuses links and devices before anything is copied
            shutil.copytree(path, copy, symlinks=True)
            found = file_sha256(copy)
        except (OSError, InputError, shutil.Error) as error:
            raise MismatchError(f"{path} can't be read as an artefact: {one_line(error)}") from error
        manifest.check_hash(folder, entry, found)
        yield copy
