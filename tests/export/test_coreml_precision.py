"""A precision plan in a Core ML package: types and weights read back, numbers against PyTorch with its rounding."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools", reason="coremltools is not installed: pip install 'deeplens-edge[coreml]'")

from deeplens.console.errors import InputError, MismatchError
from deeplens.export import coreml
from deeplens.export.coreml_precision import Precisions
from deeplens.export.coreml_recipe import Recipe
from deeplens.export.fake_quant import planned
from deeplens.export.layers import REST
from deeplens.export.precision_plan import Choice, Plan, Source
from deeplens.model import build
from deeplens.model.build import weights_sha256
from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import load
from tests.support.tiny import random_inputs

pytestmark = pytest.mark.slow

SIZE = (40, 48)

INT8 = Choice("int8", (4 / 127, 4 / 127))
CHOICES = {
    "stem": Choice("fp32"),
    "stem_high": Choice("fp16"),
    "down": INT8,
    "context": INT8,
    "narrow": Choice("fp16"),
    "fuse": Choice("int8", (4 / 127, 4 / 127), tuple([0.25] * 32)),
    "predict": Choice("fp32"),
    REST: Choice("fp16"),
}


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    result = build.build("edge", "upsample")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # initial weights predict nothing, and would hide what a layer does
        result.get_parameter("predict.weight").copy_(0.2 * torch.randn(28, 32, 1, 1, generator=generator))
    return result


def plan_of(module: torch.nn.Module) -> Plan:
    source = Source("0" * 64, 64, {}, {"upsample": weights_sha256(module)})
    return Plan("edge", source, {"upsample": "mse"}, 40.0, 50.0, {"upsample": CHOICES})


@pytest.fixture(scope="module")
def package(module: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts")
    recipe = Recipe(precision="mixed", sizes=(SIZE,), plan=plan_of(module))
    entry = coreml.export_module(module, recipe, variant="edge", network="upsample", out=out, weights="test")
    assert entry.precision == "mixed"
    assert entry.more["plan"] == plan_of(module).digest("upsample")
    return out / entry.path


def test_each_layer_has_its_precision(package: Path) -> None:
    program = load(package)
    convolutions = [each for each in program.operations if each.kind == "conv"]
    found: dict[str, tuple[str, bool]] = {}
    rules = Precisions(CHOICES)
    compressed = {
        output.name for each in program.operations if each.kind.startswith("constexpr") for output in each.outputs
    }
    for each in convolutions:
        weight = str(each.inputs["weight"])
        path = rules.path_of_weight(weight.removesuffix("_quantized"))
        if path != REST:
            found[path] = (each.outputs[0].dtype, weight in compressed)
    assert found == {
        path: ("fp32" if choice.precision == "fp32" else "fp16", choice.precision == "int8")
        for path, choice in CHOICES.items()
        if path != REST
    }


def test_its_numbers_are_those_of_pytorch(package: Path, module: torch.nn.Module) -> None:
    from deeplens.export.int8 import quantised_weight, weight_scales

    feed = random_inputs("upsample", *SIZE)
    names = ("picture_high", "picture", "blurred", "signed_depth")
    arrays = {name: tensor.numpy() for name, tensor in zip(names, feed, strict=True)}
    found = Executor(load(package), mode="fp16").run(arrays)["blurred_high"]

    def error(choices: dict[str, Choice]) -> float:
        twin = planned(module, {path: each for path, each in choices.items() if each.precision == "fp32"})
        with torch.no_grad():
            for path, choice in choices.items():
                if choice.precision == "int8":
                    layer = twin.get_submodule(path)
                    assert isinstance(layer, torch.nn.Conv2d)
                    assert layer.bias is not None
                    weight = layer.weight.numpy()
                    scales = np.abs(weight).max((1, 2, 3)) / 127 if path != "" else weight_scales(weight)
                    numbers = quantised_weight(weight, scales) * scales.reshape(-1, 1, 1, 1)
                    layer.weight.copy_(torch.from_numpy(numbers.astype(np.float32)))
                    if choice.bias:
                        layer.bias += torch.tensor(choice.bias)
            expected = twin(*feed).numpy()
        return float(np.sqrt(np.square(found - expected).mean()) / np.ptp(expected))

    assert error(CHOICES) < 3e-3
    assert error({**CHOICES, "fuse": INT8}) > 5e-3, "a bias that is not corrected is seen"


def test_refused(module: torch.nn.Module, tmp_path: Path) -> None:
    plan = plan_of(build.build("edge", "upsample"))
    recipe = Recipe(precision="mixed", sizes=(SIZE,), plan=plan)
    with pytest.raises(MismatchError, match="to other upsample weights"):
        coreml.export_module(module, recipe, variant="edge", network="upsample", out=tmp_path, weights="test")
    recipe = Recipe(precision="fp16", sizes=(SIZE,), plan=plan)
    with pytest.raises(InputError, match="works with precision 'mixed' only"):
        coreml.export_module(module, recipe, variant="edge", network="upsample", out=tmp_path, weights="test")
    recipe = Recipe(precision="mixed", sizes=(SIZE,))
    with pytest.raises(InputError, match="needs a precision plan"):
        coreml.export_module(module, recipe, variant="edge", network="upsample", out=tmp_path, weights="test")
