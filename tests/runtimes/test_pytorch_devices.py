"""PyTorch in FP16 and BF16, with channels last, compiled, and on devices that are missing."""

import sys

import numpy as np
import pytest

from deeplens.console.errors import InputError, MissingError
from deeplens.export.onnx_check import random_inputs
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import Accelerator, open_runtime
from tests.support.device import needs_torch

pytestmark = needs_torch

SIZES = {"depth": (320, 320), "lens_blur": (32, 40), "upsample": (32, 40)}

DECIBELS = {"bf16": 42.0, "fp16": 60.0}
"""Of a network alone on random inputs, against FP32, data range 1; the lowest measured: 47.3 and 65.9."""


def inputs_of(network: str) -> dict[str, np.ndarray]:
    return random_inputs(CONTRACTS[network], SIZES[network], np.random.default_rng(0))


def output(network: str, precision: str = "fp32", **asked: object) -> np.ndarray:
    accelerator = Accelerator(**asked)  # type: ignore[arg-type]
    with open_runtime("torch", precision=precision, threads=1, accelerator=accelerator) as runtime:
        session = runtime.open(network)
        made = session.run(inputs_of(network))[CONTRACTS[network].outputs[0].name]
        with open_runtime("torch", threads=1) as plain:
            assert session.weights_sha256() == plain.open(network).weights_sha256(), "that of the file, unrounded"
        assert session.ran is not None
        assert session.ran.on == "cpu"
        assert session.ran.library.startswith("torch ")
        return made


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((found.astype(np.float64) - expected) ** 2)))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lens_blur", "upsample"])
def test_lower_precisions_round_and_stay_close(network: str) -> None:
    expected = output(network)
    for precision, least in DECIBELS.items():
        found = output(network, precision)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert not np.array_equal(found, expected), "nothing was rounded"
        assert decibels(found, expected) > least


@pytest.mark.parametrize("network", ["lens_blur", "upsample"])
def test_channels_last_change_nothing_but_rounding(network: str) -> None:
    found = output(network, channels_last=True)
    assert found.flags.c_contiguous
    assert np.abs(found - output(network)).max() < 1e-5


@pytest.mark.slow
def test_compiled_it_gives_the_same_or_says_what_is_missing() -> None:
    expected = output("upsample")
    try:
        found = output("upsample", compiled=True)
    except MissingError as error:
        pytest.skip(str(error))
    assert np.abs(found - expected).max() < 1e-5


def test_a_compiler_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def compiled(_module: object, **_options: object) -> object:
        class Fails(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def forward(self, *_inputs: torch.Tensor) -> torch.Tensor:
                raise RuntimeError("No working C++ compiler found")

        return Fails()

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(MissingError, match=r"can't compile upsample here \(No working C\+\+ .*leave out --compile"):
        output("upsample", compiled=True)


@pytest.mark.parametrize(("device", "said"), [("cuda", "--device cuda: PyTorch"), ("mps", "--device mps needs a Mac")])
def test_a_device_that_is_missing_is_said_in_a_line(device: str, said: str) -> None:
    import torch

    there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if there:
        pytest.skip(f"this machine has {device}")
    with pytest.raises(MissingError) as error:
        open_runtime("torch", accelerator=Accelerator(device=device))
    assert said in str(error.value)
    assert "--device cpu" in str(error.value)


def test_precisions_of_artefacts_are_not_pytorchs() -> None:
    with pytest.raises(InputError, match="runtime 'torch' has no precision 'int8': choose fp32 or fp16 or bf16"):
        open_runtime("torch", precision="int8")


def test_nothing_is_imported_before_it_is_used() -> None:
    import subprocess

    code = "import sys, deeplens.runtimes, deeplens.runtimes.providers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
