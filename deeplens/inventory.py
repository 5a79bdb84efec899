"""What is there on this machine: extras, the processor, weights and their cards. Imports no runtime."""

import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import model
from export.manifest import file_sha256
from model.errors import MismatchError, MissingError

WEIGHTS = Path(model.__file__).parent / "weights"
"""Where the weights lie that come with the package."""

_REQUIREMENT = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[(?P<extras>[\w.,-]+)\])?[^;]*(?:;.*extra == ['\"](?P<of>[\w-]+)['\"])?"
)


def extras() -> dict[str, dict[str, str | None]]:
    """Extra → library → its version, or None where it is not installed. "" stands for what every machine needs.

    Raises:
        MissingError: the package itself is not installed, so that nobody knows what it needs.
    """
    try:
        requirements = metadata.requires("deeplens") or []
    except metadata.PackageNotFoundError:
        raise MissingError("deeplens is not installed: pip install -e . in its folder") from None
    libraries: dict[str, set[str]] = {}
    includes: dict[str, set[str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        extra = match["of"] or ""
        libraries.setdefault(extra, set())
        if match["name"] == "deeplens":
            includes.setdefault(extra, set()).update(match["extras"].split(","))
        else:
            libraries[extra].add(match["name"])

    def needed(extra: str) -> set[str]:
        return libraries[extra].union(*(needed(other) for other in includes.get(extra, ())))

    return {extra: {library: version(library) for library in sorted(needed(extra))} for extra in libraries}


def version(library: str) -> str | None:
    """The installed version of a library, read without importing it; None where there is none."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = re.findall(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Shipped:
    """Weights that come with the package.

    Attributes:
        path: the safetensors file.
        card: the text beside it that says what it was trained on and what it scores; None where it is missing.
        sha256: of the file.
    """

    path: Path
    card: Path | None
    sha256: str

    def verify(self) -> None:
        """Check the file against its card, which must name the file's SHA-256.

        Raises:
            MissingError: there is no card.
            MismatchError: the card names no hash, or another one.
        """
        if self.card is None:
            raise MissingError(f"{self.path} has no card beside it: its origin is unknown")
        if self.sha256 not in self.card.read_text(encoding="utf-8").lower():
            raise MismatchError(f"{self.path} has SHA-256 {self.sha256[:12]}…, which its card {self.card.name} lacks")


def shipped_weights(folder: Path = WEIGHTS) -> list[Shipped]:
    """All weights in `folder`, by name; the card of NAME.safetensors is NAME.md."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        card = path.with_suffix(".md")
        found.append(Shipped(path, card if card.is_file() else None, file_sha256(path)))
    return found
