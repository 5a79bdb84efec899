"""What was produced, in a folder: written where a runtime is, compared where PyTorch is.

`collection.json` tells for each producer its runtime, precision, artefacts and weights with their hashes, and what
could not run; `inputs_VARIANT.npz` holds what all of them got, `outputs_NN.npz` what each gave (NumPy's own format: a
device needs no more than NumPy). Every file's SHA-256 stands in the JSON file, which is written last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import bytes_sha256, file_sha256, replacing
from deeplens.console.inputs import read_bytes, read_json
from deeplens.parity_tests.cases import Case, LoopCase, NetworkCase, case_sha256
from deeplens.parity_tests.compare import NETWORK, Row
from deeplens.parity_tests.outputs import Outputs
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.numpy_file import read_arrays

FORMAT = 1
"""Of `collection.json`; another one is refused."""

FILE_NAME = "collection.json"

COMPILED = ("variant", "runtime", "what", "status", "note")
"""Of a row of a compiler."""

Role = Literal["reference", "judge", "half", "candidate"]


@dataclass(frozen=True)
class Produced:
    """What one producer gave on the cases of a variant.

    Attributes:
        label: as the table names it.
        precision: by which of `parity_tests.compare.GATES` it is judged.
        role: "reference": PyTorch in float32; "judge": in float64; "half": in FP16; "candidate": what is compared.
        cases: names of those that it was given.
        seconds: that it took.
    """

    variant: str
    label: str
    precision: str
    role: Role
    cases: tuple[str, ...]
    outputs: Outputs
    seconds: float


@dataclass(frozen=True)
class Collection:
    """All of one machine.

    Attributes:
        cases: variant → what all producers of the variant were given.
        photo: its name; None where there was none.
        machine: what it ran on.
        tools: library → version.
        compiled: rows of what a compiler took, of which there are no numbers.
    """

    cases: dict[str, list[Case]]
    produced: list[Produced]
    photo: str | None
    machine: str
    tools: dict[str, str]
    compiled: list[Row] = field(default_factory=list)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Variant → case → SHA-256 of its inputs; made from `cases` where they are given."""

    def __post_init__(self) -> None:
        for variant, cases in self.cases.items():
            self.hashes.setdefault(variant, {case.name: case_sha256(case) for case in cases})


def write(folder: Path, collection: Collection) -> None:
    """Write a collection; one that is there is replaced.

    Raises:
        OSError, InputError: the folder can't be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).unlink(missing_ok=True)  # from here on it is none, until it is whole
    files: dict[str, str] = {}

    def save(name: str, arrays: Mapping[str, np.ndarray]) -> str:
        with replacing(folder / name) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # a name could be an option's; ours hold slashes
        files[name] = file_sha256(folder / name)
        return name

    inputs = {variant: save(f"inputs_{variant}.npz", _inputs(cases)) for variant, cases in collection.cases.items()}
    produced = []
    for number, each in enumerate(collection.produced):
        name = save(f"outputs_{number:02}.npz", each.outputs.arrays)
        rest = {key: value for key, value in vars(each.outputs).items() if key != "arrays"}
        produced.append({**{key: value for key, value in vars(each).items() if key != "outputs"}, **rest, "file": name})
    text = {
        "format": FORMAT,
        "photo": collection.photo,
        "machine": collection.machine,
        "tools": collection.tools,
        "inputs": inputs,
        "cases": {
            variant: [_described(case, collection.hashes[variant][case.name]) for case in cases]
            for variant, cases in collection.cases.items()
        },
        "produced": produced,
        "compiled": [{name: getattr(row, name) for name in COMPILED} for row in collection.compiled],
        "files": files,
    }
    with replacing(folder / FILE_NAME) as file:
        file.write((json.dumps(text, indent=2, ensure_ascii=False) + "\n").encode())


def read(folder: Path) -> Collection:
    """A collection from its folder, every file verified.

    Raises:
        MissingError: it is not there, or a file of it.
        InputError: it is none, or of another format.
        MismatchError: a file is not the one that was written.
    """
    path = folder / FILE_NAME
    try:
        text = read_json(path)
        if text["format"] != FORMAT:
            raise ValueError(f"its format is {text['format']}, but this version reads format {FORMAT}")
        cases, hashes = {}, {}
        for variant, name in text["inputs"].items():
            arrays = _load(folder, name, text["files"])
            cases[variant] = [_case(item, arrays) for item in text["cases"][variant]]
            hashes[variant] = {item["name"]: str(item["sha256"]) for item in text["cases"][variant]}
            for case in cases[variant]:
                if case_sha256(case) != hashes[variant][case.name]:
                    raise MismatchError(f"{folder}: the inputs of {case.name} have changed since they were written")
        produced = [_produced(folder, item, text["files"]) for item in text["produced"]]
        compiled = [_compiled(item) for item in text["compiled"]]
        return Collection(cases, produced, text["photo"], text["machine"], text["tools"], compiled, hashes)
    except FileNotFoundError as error:
        raise MissingError(
            f"there is no collection in {folder} ({error.filename} does not exist): collect again"
        ) from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path} is not a collection ({error!r}): collect again") from error


def _inputs(cases: list[Case]) -> Arrays:
    arrays: Arrays = {}
    for case in cases:
        own = case.inputs if isinstance(case, NetworkCase) else case.arrays()
        arrays |= {f"{case.name}/{name}": array for name, array in own.items()}
    return arrays


def _described(case: Case, sha256: str) -> dict[str, Any]:
    item: dict[str, Any] = {"name": case.name, "sha256": sha256, "graph": case.graph, "size": list(case.size)}
    if isinstance(case, NetworkCase):
        return {**item, "network": case.network, "input": case.input, "inputs": list(case.inputs)}
    return {**item, "point": list(case.point), "aperture": case.aperture}


def _case(item: dict[str, Any], arrays: Arrays) -> Case:
    if "network" in item:
        inputs = {name: arrays[f"{item['name']}/{name}"] for name in item["inputs"]}
        return NetworkCase(item["network"], item["input"], item["graph"], tuple(item["size"]), inputs)
    x, y = item["point"]
    given = arrays.get(f"{item['name']}/disparity")
    return LoopCase(arrays[f"{item['name']}/pixels"], item["graph"], (x, y), item["aperture"], given)


def _compiled(item: dict[str, Any]) -> Row:
    variant, runtime, what, status, note = (item[name] for name in COMPILED)
    return Row(variant, runtime, what, "", "", (0, 0), NETWORK, status, note)


def _produced(folder: Path, item: dict[str, Any], files: Mapping[str, str]) -> Produced:
    arrays = _load(folder, item["file"], files)
    outputs = Outputs(arrays, item["weights"], item["missing"], item["broken"], item["artifacts"])
    names = ("variant", "label", "precision", "role")
    return Produced(
        **{name: item[name] for name in names}, cases=tuple(item["cases"]), outputs=outputs, seconds=item["seconds"]
    )


def _load(folder: Path, name: str, files: Mapping[str, str]) -> Arrays:
    path = folder / name
    if Path(name).name != name:
        raise ValueError(f"'{name}' is not a file beside it")
    data = read_bytes(path)
    if bytes_sha256(data) != files[name]:
        raise MismatchError(f"{path} has changed since it was written: copy it again, or collect again")
    return read_arrays(data, str(path))
