"""Saved Core ML packages, executed, against PyTorch: each network, what is altered in a package, the gates of FP16.

The executor computes with NumPy, PyTorch with its own kernels: that the two agree says that graph, constants and our
reading of MIL are right. What Apple's hardware makes of them is for `docs/coreml.md`'s command on a Mac.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplens.export.coreml import export_module
from deeplens.export.coreml_recipe import Recipe
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.parity_tests.cases import LoopCase, NetworkCase, plausible_inputs
from deeplens.parity_tests.compare import GATES, compare, measure
from deeplens.parity_tests.lively import lively
from deeplens.parity_tests.metrics import relative_to_spread
from deeplens.parity_tests.produce import TorchKind, artefact_opener, produce, torch_opener
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.coreml.executor import Executor, Mode
from deeplens.runtimes.coreml.program import Constant, Function, load

pytestmark = pytest.mark.slow

FP32 = 1e-5
"""Largest difference from PyTorch float32 that an FP32 package may have, over the output's spread."""

DTYPES: tuple[TorchKind, ...] = ("float32", "float64")

SIZE = (40, 168)
"""Holds a photo whose base is wide and low, whole."""


@dataclass(frozen=True)
class Package:
    """A network of edge under lively weights, its FP32 package read back, inputs, and what PyTorch answers."""

    network: str
    function: Function
    inputs: Arrays
    due: np.ndarray

    def distance(self, function: Function, mode: Mode = "float32") -> float:
        """Of the executed program from PyTorch, over the spread."""
        found = Executor(function, mode=mode).run(self.inputs)[CONTRACTS[self.network].outputs[0].name]
        return relative_to_spread(found, self.due)


@pytest.fixture(scope="session")
def folder(lively_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of edge at `SIZE`, lively weights: FP32, and FP16 of the lens blur and the step."""
    out = tmp_path_factory.mktemp("coreml")
    for network in NETWORKS:
        module = lively("edge", network)
        sizes = (CONTRACTS[network].fixed_size or SIZE,)
        for precision in ("fp32",) if network == "depth" else ("fp32", "fp16"):
            recipe = Recipe(precision=precision, sizes=sizes)
            export_module(module, recipe, variant="edge", network=network, out=out, weights=lively_weights.name)
    return out


@pytest.fixture(scope="session", params=NETWORKS)
def package(request: pytest.FixtureRequest, folder: Path) -> Package:
    network: str = request.param
    contract = CONTRACTS[network]
    (path,) = (folder / "coreml").glob(f"edge_{network}_*fp32_iOS17.mlpackage")
    inputs = plausible_inputs(contract, contract.fixed_size or SIZE, np.random.default_rng(0))
    return Package(network, load(path), inputs, answer(lively("edge", network), network, inputs))


def answer(module: torch.nn.Module, network: str, inputs: Arrays) -> np.ndarray:
    """PyTorch's, in float32."""
    with torch.inference_mode():
        output: np.ndarray = module(
            *(torch.from_numpy(inputs[each.name]) for each in CONTRACTS[network].inputs)
        ).numpy()
    return output


def test_fp32_package(package: Package) -> None:
    distance = package.distance(package.function)
    assert 0 < distance <= FP32  # not the same kernels


@pytest.mark.parametrize("shapes", ["enumerated", "multifunction"])
def test_fp32_package_of_several_sizes(shapes: str, tmp_path: Path) -> None:
    sizes = ((32, 40), (40, 32))
    module, contract = lively("edge", "upsample"), CONTRACTS["upsample"]
    recipe = Recipe(precision="fp32", target="iOS18", shapes=shapes, sizes=sizes)
    entry = export_module(module, recipe, variant="edge", network="upsample", out=tmp_path, weights="lively")
    for name, only in recipe.functions.items():
        function = load(tmp_path / entry.path, name)
        for size in sizes if only is None else (only,):
            inputs = plausible_inputs(contract, size, np.random.default_rng(0))
            package = Package("upsample", function, inputs, answer(module, "upsample", inputs))
            assert package.distance(function) <= FP32, (name, size)


def test_fp32_package_that_takes_an_image(tmp_path: Path) -> None:
    """Its program has 0…255 where the network has 0…1."""
    module, contract = lively("edge", "lens_blur"), CONTRACTS["lens_blur"]
    recipe = Recipe(precision="fp32", sizes=(SIZE,), images=True)
    entry = export_module(module, recipe, variant="edge", network="lens_blur", out=tmp_path, weights="lively")
    inputs = plausible_inputs(contract, SIZE, np.random.default_rng(0))
    levels = np.rint(255 * inputs["picture"])
    due = answer(module, "lens_blur", {**inputs, "picture": levels / 255})
    function = load(tmp_path / entry.path)
    assert Package("lens_blur", function, {**inputs, "picture": levels}, due).distance(function) <= FP32


def altered(function: Function, changes: Mapping[str, Constant]) -> Function:
    assert set(changes) <= set(function.constants)
    return replace(function, constants={**function.constants, **changes})


def used(function: Function, kind: str, parameter: str) -> list[str]:
    """Names of the constants that operations of a kind take for a parameter."""
    names = [operation.inputs.get(parameter) for operation in function.operations if operation.kind == kind]
    return [name for name in names if isinstance(name, str) and name in function.constants]


def test_align_corners_flipped(package: Package) -> None:
    """In any one of the resizes."""
    names = used(package.function, "upsample_bilinear", "align_corners")
    assert names
    resized = [each for each in package.function.operations if each.kind == "upsample_bilinear"]
    for name, operation in zip(names, resized, strict=True):
        low = next(each for each in package.function.operations if operation.inputs["x"] == each.outputs[0].name)
        if low.outputs[0].shape[2:] == (1, 1):
            continue  # a single pixel: the same with and without
        assert package.distance(altered(package.function, {name: np.True_})) > FP32, operation.name


def test_one_weight_tensor_scaled(package: Package) -> None:
    """Any: all of the small networks, every eighth of depth."""
    names = used(package.function, "conv", "weight")
    assert names
    for name in names[:: 8 if package.network == "depth" else 1]:
        scaled = np.asarray(package.function.constants[name]) * np.float32(1.01)
        assert package.distance(altered(package.function, {name: scaled})) > FP32, name


def test_two_inputs_swapped(package: Package) -> None:
    """Of an operation whose order counts, and of the step's pictures."""
    if package.network == "upsample":
        swapped = {**package.inputs, "picture": package.inputs["blurred"], "blurred": package.inputs["picture"]}
        assert replace(package, inputs=swapped).distance(package.function) > FP32
    place, operation = next(
        (place, each)
        for place, each in reversed(list(enumerate(package.function.operations)))
        if each.kind in ("concat", "sub", "real_div")
    )
    inputs = dict(operation.inputs)
    values = inputs.get("values")
    if isinstance(values, tuple):
        inputs["values"] = (values[-1], *values[1:-1], values[0])
    else:
        inputs["x"], inputs["y"] = inputs["y"], inputs["x"]
    operations = list(package.function.operations)
    operations[place] = replace(operation, inputs=inputs)
    assert package.distance(replace(package.function, operations=tuple(operations))) > FP32


def cut_bits(values: np.ndarray) -> np.ndarray:
    """Without the lower half of each number's bits: bfloat16."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def cut_end(values: np.ndarray) -> np.ndarray:
    """Without the last hundredth of the tensor, at least a number."""
    short = values.copy()
    short.reshape(-1)[-max(1, values.size // 100) :] = 0
    return short


@pytest.mark.parametrize("cut", [cut_bits, cut_end])
def test_one_constant_truncated(package: Package, cut: Callable[[np.ndarray], np.ndarray]) -> None:
    names = used(package.function, "conv", "weight")
    name = max(names, key=lambda each: np.asarray(package.function.constants[each]).size)
    short = cut(np.asarray(package.function.constants[name]))
    assert np.any(short != package.function.constants[name])
    assert package.distance(altered(package.function, {name: short})) > FP32


@pytest.mark.parametrize("network", ["lens_blur", "upsample"])
def test_fp16_package(folder: Path, lively_weights: Path, network: str) -> None:
    """By the gates of FP16, in both ways of adding; pure FP16 is the farther one."""
    inputs = plausible_inputs(CONTRACTS[network], SIZE, np.random.default_rng(1))
    case = NetworkCase(network, "random", "fixed", SIZE, inputs)
    opener = torch_opener("edge", weights=lively_weights, fixed_size=SIZE)
    reference = produce(opener, [case])
    found = produce(artefact_opener("coreml", "edge", artifacts=folder, fixed_size=SIZE, precision="fp16"), [case])
    rows = compare("edge", "coreml", [case], candidate=found, reference=reference, judge=reference, precision="fp16")
    assert [row.status for row in rows] == ["passed"], rows
    (path,) = (folder / "coreml").glob(f"edge_{network}_*fp16_iOS17.mlpackage")
    due = reference.arrays[case.name]
    distances = []
    modes: tuple[Mode, ...] = ("float32", "fp16", "fp16_pure")
    for mode in modes:
        output = Executor(load(path), mode=mode).run(inputs)[CONTRACTS[network].outputs[0].name]
        distances.append(float(np.square(output.astype(np.float64) - due).mean()))
    assert distances == sorted(distances)


def test_the_gates_of_fp16_close() -> None:
    """60 dB, and 1 in 10,000 pixels."""
    network, level, picture = GATES["fp16"]
    due = np.linspace(0, 1, 3 * 100 * 100).reshape(1, 3, 100, 100)
    for error, passes in ((0.9e-3, True), (1.1e-3, False), (np.nan, False)):
        for gate in (network, level):
            assert measure(due + error, due, due).passes(gate) == passes
    eight = np.zeros((100, 100, 3), np.uint8)
    for pixels, off, passes in ((1, 2, True), (2, 2, False), (10_000, 1, True)):
        found = eight.reshape(-1, 3).copy()
        found[:pixels] = off
        assert measure(found.reshape(eight.shape), eight, eight).passes(picture) == passes


def test_free_sizes_are_not_run(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    case = LoopCase(pixels, "dynamic", (0.5, 0.5), 1.0)
    outputs = produce(artefact_opener("coreml", "edge", artifacts=tmp_path, fixed_size=SIZE), [case])
    assert "free sizes" in outputs.missing[case.name]


def test_the_whole_way_of_a_photo(folder: Path, lively_weights: Path, strip: Path) -> None:
    """FP32 packages by the gates of FP32: depth map, lens blur, one step, 8-bit picture."""
    case = LoopCase(np.asarray(Image.open(strip).reduce(4)), "fixed", (0.5, 0.5), 1.0)
    reference, judge = (
        produce(torch_opener("edge", weights=lively_weights, fixed_size=SIZE, dtype=dtype), [case]) for dtype in DTYPES
    )
    found = produce(artefact_opener("coreml", "edge", artifacts=folder, fixed_size=SIZE), [case])
    rows = compare("edge", "coreml", [case], candidate=found, reference=reference, judge=judge)
    assert [row.what for row in rows] == ["depth map", "level 0", "level 1", "8-bit picture"]
    assert {row.status for row in rows} == {"passed"}, rows
