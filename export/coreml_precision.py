"""A precision plan in Core ML: which operations are FP16 and which FP32, and which weights are INT8.

Core ML takes INT8 as a way to store weights; arithmetic on them is FP16. So an INT8 layer of a plan has INT8 weights
and FP16 activations here, and its scales of activations are not used.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deeplens.export.layers import REST
from deeplens.export.precision_plan import Choice

if TYPE_CHECKING:
    import torch

WEIGHT_ENDS = ("_weight", "_weight_to_fp16")

ACTIVATIONS = ("relu", "relu6", "clip", "leaky_relu")


def prepared(module: "torch.nn.Module", choices: Mapping[str, Choice]) -> "torch.nn.Module":
    """The network with batch norms folded, so that a weight keeps its layer's name, and biases corrected where the plan
    says so."""
    import torch

    from deeplens.export.fake_quant import folded

    result = folded(module)
    with torch.no_grad():
        for path, choice in choices.items():
            if choice.bias:
                layer = result.get_submodule(path)
                assert isinstance(layer, torch.nn.Conv2d)
                shift = torch.tensor(choice.bias, dtype=torch.float32)
                layer.bias = torch.nn.Parameter(shift if layer.bias is None else layer.bias + shift)
    return result


class Precisions:
    """Finds the layer of each operation of a MIL program by the name of its weight."""

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self._choices = choices
        self._paths = {f"p_{path.replace('.', '_')}": path for path in choices if path != REST}

    def path_of_weight(self, name: str) -> str:
        """The layer whose weight is called so; `REST` where there is none."""
        for end in WEIGHT_ENDS:
            if name.endswith(end) and name.removesuffix(end) in self._paths:
                return self._paths[name.removesuffix(end)]
        return REST

    def path_of(self, operation: Any) -> str:
        """The layer of an operation: of a convolution, or of what activates one."""
        if operation.op_type == "conv":
            return self.path_of_weight(operation.weight.name)
        if operation.op_type in ACTIVATIONS and operation.x.op is not None and operation.x.op.op_type == "conv":
            return self.path_of(operation.x.op)
        return REST

    def is_fp16(self, operation: Any) -> bool:
        """What coremltools asks of each operation."""
        return self._choices[self.path_of(operation)].precision != "fp32"

    def compressed(self, model: Any) -> Any:
        """The model with the weights of INT8 layers stored in 8 bits, a scale for each output channel."""
        from coremltools.optimize import coreml as optimize

        wanted = [
            name
            for name in optimize.get_weights_metadata(model, weight_threshold=0)
            if self._choices[self.path_of_weight(name)].precision == "int8"
        ]
        if not wanted:
            return model
        int8 = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=0)
        return optimize.linear_quantize_weights(
            model, optimize.OptimizationConfig(global_config=None, op_name_configs=dict.fromkeys(wanted, int8))
        )
