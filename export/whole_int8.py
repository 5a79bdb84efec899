"""A graph of the whole effect in INT8: each layer of a precision plan, at every level that it runs at."""

from typing import TYPE_CHECKING

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.export.int8 import quantise
from deeplens.export.layers import whole_layers
from deeplens.export.onnx_trace import deduplicated
from deeplens.export.precision_plan import Plan
from deeplens.runtimes.contract import Arrays

if TYPE_CHECKING:
    import onnx

    from deeplens.export.whole_module import Whole


def in_int8(model: "onnx.ModelProto", plan: Plan) -> "onnx.ModelProto":
    """The graph with the INT8 layers of a plan in INT8, at each level that they run at; `model` is not changed.

    Raises:
        MismatchError: the plan's layers are not the graph's.
    """
    own = whole_layers(model)
    choices = {each.path: plan.int8(each.network).get(_plain_path(each.path)) for each in own}
    missing = {f"{part}.{path}" for part in {each.network for each in own} for path in plan.int8(part)} - {
        each.path.split("@")[0] for each in own
    }
    if missing:
        raise MismatchError(f"the plan and the graph have different layers, the first is {min(missing)}")
    chosen = {path: each for path, each in choices.items() if each is not None}
    scales = {path: each.scales for path, each in chosen.items() if each.scales is not None}
    biases = {path: np.array(each.bias, np.float32) for path, each in chosen.items() if each.bias}
    return deduplicated(quantise(model, own, scales, biases=biases))


def _plain_path(path: str) -> str:
    """ "upsample.stem@2" → "stem"."""
    return path.split(".", 1)[1].split("@")[0]


def with_rounding(module: "Whole", plan: Plan, inputs: Arrays) -> np.ndarray:
    """What PyTorch gives with the plan's rounding."""
    import torch

    from deeplens.export import fake_quant
    from deeplens.export.whole_module import Whole

    parts = {name: getattr(module, name) for name in ("depth", "lens_blur", "upsample")}
    twin = Whole(
        {name: fake_quant.planned(part, plan.int8(name)) for name, part in parts.items() if part is not None},
        variant=plan.variant,
        size=(module.levels.height, module.levels.width),
    ).eval()
    with torch.inference_mode():
        result: np.ndarray = twin(*(torch.from_numpy(each) for each in inputs.values())).numpy()
    return result
