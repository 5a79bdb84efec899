"""What this machine has: extras, the processor, cores. Imports no runtime."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

from deeplens.console.errors import MissingError
from deeplens.console.package import DISTRIBUTION

_REQUIREMENT = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[(?P<extras>[\w.,-]+)\])?[^;]*(?:;.*extra == ['\"](?P<of>[\w-]+)['\"])?"
)


def extras() -> dict[str, dict[str, str | None]]:
    """Extra → library → its version, or None where it is not installed. "" stands for what every machine needs.

    Raises:
        MissingError: the package itself is not installed, so that nobody knows what it needs.
    """
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise MissingError(f"{DISTRIBUTION} is not installed: run `pip install -e .` in its folder") from None
    libraries: dict[str, set[str]] = {}
    includes: dict[str, set[str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        extra = match["of"] or ""
        libraries.setdefault(extra, set())
        if match["name"] == DISTRIBUTION:
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


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
