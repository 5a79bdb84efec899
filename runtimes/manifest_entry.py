"""One artefact as the manifest describes it, and its JSON. Pure Python."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from deeplens.model.contract import CONTRACTS, VARIANTS, contract_of, depth_contract
from deeplens.model.whole_contract import OF_ONE_PHOTO, contract_named

FIT = "fit"
"""Key of an artefact's entry: how photos are put into a depth network of others (`runtimes.fit`)."""


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
        runtime: "onnx", "trt" or "coreml"; of ONNX graphs in another form "onnx-FORM" (`runtimes.onnx_form`).
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
        """The low-resolution height and width in pixels, of a whole graph the photo's; None where they are free."""
        low = {tensor.name: tensor for tensor in contract_named(self.network).inputs if tensor.scale == 1}
        for tensor in self.inputs:
            if tensor.name in low:
                height, width = low[tensor.name].size_of(tensor.shape)
                if isinstance(height, int) and isinstance(width, int):
                    return (height, width)
        return None


def entry_to(entry: Entry) -> dict[str, Any]:
    """The entry as it stands in the file; inputs and outputs with their meaning, which is not read back."""
    item = asdict(entry)
    known = entry.variant in VARIANTS and entry.network in CONTRACTS
    contract = contract_of(entry.variant, entry.network) if known else contract_named(entry.network)
    fit = entry.more.get(FIT)
    if isinstance(fit, Mapping):
        contract = depth_contract(entry.size, fit.get("aspect"))
    meanings = {tensor.name: tensor.meaning for tensor in (*contract.inputs, *contract.outputs)}
    for tensor in (*item["inputs"], *item["outputs"]):
        if tensor["name"] in meanings:
            tensor["meaning"] = meanings[tensor["name"]]
    return item.pop("more") | item


def entry_from(item: Any) -> Entry:
    """An entry from the file; ValueError, TypeError or KeyError when it is none."""
    if not isinstance(item, dict):
        raise TypeError("an artefact is not an object")
    rest = dict(item)
    text = ("network", "variant", "runtime", "precision", "path", "sha256", "weights_sha256", "created")
    values = {name: _typed(rest, name, str) for name in text}
    if values["network"] not in CONTRACTS and values["network"] not in OF_ONE_PHOTO:
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
