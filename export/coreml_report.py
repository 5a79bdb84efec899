"""What a saved Core ML package holds: bytes, functions, operations by kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplens.console.progress import progress_bar
from deeplens.console.report import console_for, table, write_json
from deeplens.runtimes.coreml.program import import_coremltools
from deeplens.runtimes.manifest import Entry

COLUMNS = ("package", "kB", "weights, kB", "dB to PyTorch", "functions", "operations", "kinds")


@dataclass(frozen=True)
class Contents:
    """Of one package.

    Attributes:
        size: bytes of all its files.
        weights: bytes of its weight file, which all functions share.
        operations: function → kind of operation → how many; constants are left out, those that decompress
            constants ("constexpr_…") are not.
    """

    size: int
    weights: int
    operations: Mapping[str, Mapping[str, int]]

    def row(self, entry: Entry) -> tuple[object, ...]:
        """As `COLUMNS` says; operations and kinds are those of one function, for all have the same."""
        counts = next(iter(self.operations.values()))
        kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
        total = sum(count for kind, count in counts.items() if not kind.startswith("constexpr_"))
        name, decibels = Path(entry.path).stem, entry.more["agreement_db"]
        return (name, self.size / 1000, self.weights / 1000, decibels, len(self.operations), total, kinds)

    def to_json(self, entry: Entry) -> dict[str, Any]:
        """For `--json`: path, bytes, bytes of the weights, agreement, operations by function and kind."""
        return {
            "path": entry.path,
            "bytes": self.size,
            "weight_bytes": self.weights,
            "agreement_db": entry.more["agreement_db"],
            "operations": {function: dict(counts) for function, counts in self.operations.items()},
        }


def contents(package: Path) -> Contents:
    """Read a package's description and the sizes of its files; Core ML is not asked.

    Raises:
        MissingError: coremltools is not installed.
    """
    spec = import_coremltools().utils.load_spec(str(package))
    operations = {}
    for name, function in sorted(spec.mlProgram.functions.items()):
        blocks = function.block_specializations.values()
        kinds = Counter(operation.type for block in blocks for operation in block.operations)
        del kinds["const"]
        operations[name] = dict(kinds.most_common())
    files = [file for file in package.rglob("*") if file.is_file()]
    return Contents(
        size=sum(file.stat().st_size for file in files),
        weights=sum(file.stat().st_size for file in files if file.suffix == ".bin"),
        operations=operations,
    )


def show(entries: Sequence[Entry], *, out: Path, json: Path | None) -> None:
    """Print the table of packages, or write the same to `json` for programs."""
    console = console_for(json)
    with progress_bar("Counting operations") as progress:
        found = [(each, contents(out / each.path)) for each in progress.each(entries, lambda entry: entry.path)]
    console.print(table("Core ML packages", COLUMNS, [each.row(entry) for entry, each in found]))
    write_json(json, {"packages": [each.to_json(entry) for entry, each in found]})
