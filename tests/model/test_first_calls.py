"""PyTorch's first calls of vector functions are made on one element, before any network computes."""

import subprocess
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from deeplens.model.build import build
from deeplens.model.contract import NETWORKS
from deeplens.model.first_calls import FUNCTIONS
from tests.support.tiny import random_inputs

RECORD = """
import torch
from torch.overrides import TorchFunctionMode

calls = []

class Recorded(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if args and torch.is_tensor(args[0]):
            calls.append(f"{name} {args[0].dtype} {args[0].numel()}")
        return function(*args, **(kwargs or {}))

with Recorded():
    from deeplens.model.build import build
    build("edge", "lens_blur")
print("\\n".join(calls))
"""


def test_a_new_process_calls_each_function_once_on_one_element() -> None:
    done = subprocess.run([sys.executable, "-c", RECORD], capture_output=True, text=True, check=True, timeout=120)
    calls = done.stdout.splitlines()
    for name in FUNCTIONS:
        for dtype in ("torch.float32", "torch.float64"):
            assert calls.count(f"{name} {dtype} 1") == 1, name
            larger = [call for call in calls if call.startswith(f"{name} {dtype}") and not call.endswith(" 1")]
            assert all(calls.index(f"{name} {dtype} 1") < calls.index(call) for call in larger)


OTHERS = {"acosh", "asinh", "atanh", "cosh", "exp2", "lgamma", "rsqrt", "sinh"}
"""Functions of PyTorch that are mathematical, too."""


@pytest.mark.parametrize("variant", ["paper", "edge"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_networks_use_none_but_these(variant: str, network: str) -> None:
    seen: set[str] = set()

    class Recorded(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.add(getattr(function, "__name__", ""))
            return function(*args, **(kwargs or {}))

    size = (320, 320) if network == "depth" else (64, 64)
    module, inputs = build(variant, network), random_inputs(network, *size)
    with torch.no_grad(), Recorded():
        module(*inputs)
    assert seen & OTHERS == set()
    if (variant, network) == ("edge", "lens_blur"):
        assert seen & set(FUNCTIONS) == {"sqrt"}
