"""A saved `.mlpackage` → the MIL program that Apple's compiler gets, with weights and compressed constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.inputs import read_json
from deeplens.console.package import pip_install

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Function as MilFunction
    from coremltools.converters.mil.mil import Var

Constant = np.ndarray | np.generic | str | bool | int | float
"""What a `const` of a program holds; tensors keep the type in which they are stored (float16, uint8…)."""


@dataclass(frozen=True)
class Value:
    """The declaration of an input of a function or of an output of an operation.

    Attributes:
        name: unique in its function.
        dtype: MIL's name of the type: "fp16", "fp32", "int32", "bool"…
        shape: None stands for a size that is free.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        kind: "conv", "add"…; those that decompress constants begin with "constexpr_".
        name: of the operation, for messages.
        inputs: parameter → name of a value or constant, or several of them; defaults that the package leaves out are
            filled in.
        outputs: what it gives.
    """

    kind: str
    name: str
    inputs: Mapping[str, str | tuple[str, ...]]
    outputs: tuple[Value, ...]


@dataclass(frozen=True)
class Function:
    """One function of a program.

    Attributes:
        name: "main", or of a multifunction package the name of one size.
        inputs: in the package's order.
        constants: name → value.
        operations: in an order in which they can be run.
        outputs: names of values.
    """

    name: str
    inputs: tuple[Value, ...]
    constants: Mapping[str, Constant]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


def load(path: Path, function: str | None = None) -> Function:
    """Read one function of a package back.

    Every type and shape that the package declares is inferred again by coremltools and has to agree.

    Args:
        path: the `.mlpackage`.
        function: its name; None: the only one, or the package's default.

    Raises:
        MissingError: coremltools is not installed, or nothing is at `path`.
        MismatchError: it is not a whole package of an ML program.
        InputError: it has no function of that name; the message lists those that it has.
    """
    tools = import_coremltools()
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    if not path.is_dir():
        raise MissingError(f"{path} does not exist or is not an .mlpackage: export it again")
    check_package(path)
    try:
        package = tools.models.MLModel(str(path), skip_model_load=True)
        spec = package.get_spec()
    except Exception as error:  # coremltools raises RuntimeError, protobuf a class of its own
        raise _broken(path, error) from error
    functions = spec.mlProgram.functions
    name = function or spec.description.defaultFunctionName or "main"
    if name not in functions:
        raise InputError(f"{path} has no function '{name}': choose {', '.join(sorted(functions)) or 'another package'}")
    for other in set(functions) - {name}:
        del functions[other]
    try:
        loaded = load_program(spec, spec.specificationVersion, package.weights_dir or "")
    except Exception as error:  # ValueError, RuntimeError, AssertionError…: whatever the reader trips over
        raise _broken(path, error) from error
    return _function(name, loaded.functions[name])


def check_package(path: Path) -> None:
    """Check that what a package's Manifest.json names lies in the package.

    Raises:
        MismatchError: there is no such file, or it names nothing, or something that is missing or lies elsewhere.
    """
    inside = path / "Data"
    try:
        stored = read_json(path / "Manifest.json")
        items = {str(key): PurePosixPath(item["path"]) for key, item in stored["itemInfoEntries"].items()}
        root = items[stored["rootModelIdentifier"]]
    except (OSError, InputError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(path, error) from error
    for each in (root, *items.values()):
        outside = each.is_absolute() or ".." in each.parts or not each.parts or "\0" in str(each)
        if outside or any(part.is_symlink() for part in (inside / each, *(inside / each).parents[: len(each.parts)])):
            raise MismatchError(f"{path}: its Manifest.json names '{each}', which is not inside it: export it again")
        if not (inside / each).exists():
            raise MismatchError(f"{path}: its Manifest.json names '{each}', which is missing: export it again")


def import_coremltools() -> ModuleType:
    """The library, without what it logs on import.

    Raises:
        MissingError: it is not installed.
    """
    import logging

    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # off macOS it warns that its Core ML library can't be loaded
    try:
        import coremltools
    except ImportError as error:
        raise MissingError(f"coremltools can't be imported ({error}): {pip_install('coreml')}") from error
    finally:
        logger.setLevel(level)
    return coremltools


def _broken(path: Path, error: Exception) -> MismatchError:
    return MismatchError(f"{path} can't be read as a Core ML program ({' '.join(str(error).split())}): export it again")


def _function(name: str, loaded: "MilFunction") -> Function:
    constants: dict[str, Constant] = {}
    operations = []
    for each in loaded.operations:
        if each.op_type == "const":
            constants[each.outputs[0].name] = each.outputs[0].val
            continue
        parameters = {
            parameter: tuple(one.name for one in value) if isinstance(value, list | tuple) else value.name
            for parameter, value in each.inputs.items()
            if value is not None
        }
        operations.append(Operation(each.op_type, each.name, parameters, tuple(_value(one) for one in each.outputs)))
    inputs = tuple(_value(each) for each in loaded.inputs.values())
    return Function(name, inputs, constants, tuple(operations), tuple(each.name for each in loaded.outputs))


def _value(variable: "Var") -> Value:
    from coremltools.converters.mil.mil import types

    shape: tuple[Any, ...] = tuple(variable.shape)
    sizes = tuple(int(size) if isinstance(size, int | np.integer) else None for size in shape)
    return Value(variable.name, types.builtin_to_string(variable.dtype), sizes)
