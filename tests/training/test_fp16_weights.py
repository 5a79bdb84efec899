"""Weights that FP16 holds exactly."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.build import build, load
from deeplens.parity_tests.lively import lively
from deeplens.training.fp16_weights import fold_and_round, main, stored

pytestmark = pytest.mark.slow


def folded_pairs(module: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """Each convolution with the norm behind it folded in by PyTorch's own tool, as exporters do."""
    pairs = []
    for name, layers in module.named_modules():
        if isinstance(layers, nn.Sequential):
            for convolution, norm in zip(list(layers)[:-1], list(layers)[1:], strict=True):
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    pairs.append((name, fuse_conv_bn_eval(convolution, norm)))
    return pairs


@torch.no_grad()
@pytest.mark.parametrize(("variant", "network"), [("edge", "depth"), ("paper", "depth"), ("paper", "lens_blur")])
def test_what_an_exporter_folds_is_exact_in_fp16(variant: str, network: str) -> None:
    module = lively(variant, network)
    before = folded_pairs(copy.deepcopy(module))
    assert before
    fold_and_round(module)
    for (name, old), (_, new) in zip(before, folded_pairs(module), strict=True):
        for wanted, found in ((old.weight, new.weight), (old.bias, new.bias)):
            assert wanted is not None
            assert found is not None
            torch.testing.assert_close(found.half().float(), found, rtol=3e-7, atol=0, msg=name)
            torch.testing.assert_close(found, wanted, rtol=2**-10, atol=2**-24, msg=name)
    assert any(not torch.equal(old.weight.half().float(), old.weight) for _, old in before), "the control"


@torch.no_grad()
def test_fp16_then_costs_what_activations_cost() -> None:
    """Half precision's weights against the module's own: no difference after rounding once, some before.

    In float64, where the rounding of sums, which the filters of the map magnify, hides nothing.
    """
    picture = torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(0)).double()
    module = lively("edge", "depth").double()
    errors = []
    for _ in range(2):
        folded = copy.deepcopy(module)
        for layer in (each for _, each in folded.named_modules() if isinstance(each, nn.Sequential)):
            for at, (one, other) in enumerate(zip(list(layer)[:-1], list(layer)[1:], strict=True)):
                if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                    layer[at], layer[at + 1] = fuse_conv_bn_eval(one, other), nn.Identity()
        for parameter in folded.parameters():
            parameter.copy_(parameter.half())
        expected = module(picture)
        errors.append(float((folded(picture) - expected).abs().max() / expected.std()))
        fold_and_round(module)
    assert errors[1] < 1e-9
    assert errors[0] > 20 * errors[1]


def test_the_file_is_half_as_large_and_loses_nothing(tmp_path: Path) -> None:
    module = lively("edge", "depth")
    source = tmp_path / "edge_depth.safetensors"
    save_file(module.state_dict(), source)
    main([source], out=tmp_path / "out")
    written = tmp_path / "out" / "edge_depth.safetensors"
    assert written.stat().st_size < 0.55 * source.stat().st_size
    fold_and_round(module)
    again = load("edge", "depth", written)
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
        assert again.state_dict()[name].dtype == value.dtype
    assert {value.dtype for value in load_file(written).values()} >= {torch.float16}
    assert stored(again).keys() == module.state_dict().keys()


def test_weights_of_several_fits_are_averaged(tmp_path: Path) -> None:
    paths = [tmp_path / name / "edge_depth.safetensors" for name in ("first", "second")]
    for path, scale in zip(paths, (1.0, 3.0), strict=True):
        path.parent.mkdir()
        module = lively("edge", "depth")
        with torch.no_grad():
            module.get_parameter("reduce.0.weight").mul_(scale)
        save_file(module.state_dict(), path)
    main(paths, out=tmp_path / "out")
    expected = lively("edge", "depth")
    with torch.no_grad():
        expected.get_parameter("reduce.0.weight").mul_(2.0)
    fold_and_round(expected)
    found = load("edge", "depth", tmp_path / "out" / "edge_depth.safetensors").state_dict()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=2**-10, atol=1e-7, msg=name)
    with pytest.raises(InputError, match="only weights of the same network"):
        main([paths[0], tmp_path / "edge_upsample.safetensors"], out=tmp_path / "out")


def test_what_fp16_cannot_hold_is_named() -> None:
    module = build("edge", "depth")
    with torch.no_grad():
        module.get_parameter("reduce.0.weight")[0, 0] = 1e6
    with pytest.raises(MismatchError, match=r"reduce\.0 has a weight of .*too large for FP16"):
        fold_and_round(module)
