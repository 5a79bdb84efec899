"""Saved packages with compressed weights, each form: executed as they are, and as coremltools decompresses them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplens.runtimes.coreml.executor import Executor
from deeplens.runtimes.coreml.program import import_coremltools, load

pytest.importorskip("coremltools")

SHAPE = (1, 8, 6, 7)
BLOCKS = {"granularity": "per_block"}

Compress = Callable[[Any], Any]


def quantised(**options: Any) -> Compress:
    return lambda model: _optimise().linear_quantize_weights(model, _config("OpLinearQuantizerConfig", **options))


def palettised(**options: Any) -> Compress:
    return lambda model: _optimise().palettize_weights(model, _config("OpPalettizerConfig", mode="uniform", **options))


def pruned(model: Any) -> Any:
    return _optimise().prune_weights(model, _config("OpMagnitudePrunerConfig", target_sparsity=0.6))


def pruned_and_palettised(model: Any) -> Any:
    config = _config("OpPalettizerConfig", mode="uniform", nbits=4)
    return _optimise().palettize_weights(pruned(model), config, joint_compression=True)


def pruned_and_quantised(model: Any) -> Any:
    config = _config("OpLinearQuantizerConfig")
    return _optimise().linear_quantize_weights(pruned(model), config, joint_compression=True)


def _optimise() -> Any:
    from coremltools.optimize import coreml

    return coreml


def _config(name: str, **options: Any) -> Any:
    return _optimise().OptimizationConfig(getattr(_optimise(), name)(weight_threshold=0, **options))


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Target → an FP16 program of two convolutions."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder

    generator = np.random.default_rng(0)
    first, second = (generator.normal(size=shape).astype(np.float32) for shape in ((16, 8, 3, 3), (4, 16, 1, 1)))
    made = {}
    for target in ("iOS17", "iOS18"):
        chosen = getattr(ct.target, target)

        @Builder.program(input_specs=[Builder.TensorSpec(SHAPE)], opset_version=chosen)
        def program(x: Any) -> Any:
            x = Builder.relu(x=Builder.conv(x=x, weight=first, pad_type="custom", pad=[1, 1, 1, 1]))
            return Builder.conv(x=x, weight=second, name="y")

        made[target] = ct.convert(program, minimum_deployment_target=chosen, skip_model_load=True)
    return made


@pytest.mark.parametrize(
    ("target", "compress", "kinds"),
    [
        ("iOS17", quantised(dtype="uint8", mode="linear"), {"affine_dequantize"}),
        ("iOS17", palettised(nbits=6), {"lut_to_dense"}),
        ("iOS17", pruned, {"sparse_to_dense"}),
        ("iOS18", quantised(dtype="int8"), {"blockwise_shift_scale"}),
        ("iOS18", quantised(dtype="uint4", mode="linear", block_size=4, **BLOCKS), {"blockwise_shift_scale"}),
        ("iOS18", palettised(nbits=4), {"lut_to_dense"}),
        ("iOS18", palettised(nbits=3, enable_per_channel_scale=True), {"lut_to_dense", "blockwise_shift_scale"}),
        ("iOS18", pruned, {"sparse_to_dense"}),
        ("iOS18", pruned_and_palettised, {"lut_to_sparse", "sparse_to_dense"}),
        ("iOS18", pruned_and_quantised, {"sparse_blockwise_shift_scale", "sparse_to_dense"}),
    ],
)  # fmt: skip
def test_each_form(models: dict[str, Any], target: str, compress: Compress, kinds: set[str], tmp_path: Path) -> None:
    model = compress(models[target])
    outputs = []
    for name, each in (("compressed", model), ("decompressed", _optimise().decompress_weights(model))):
        path = tmp_path / f"{name}.mlpackage"
        each.save(str(path))
        function = load(path)
        found = {operation.kind for operation in function.operations}
        compressed = {f"constexpr_{kind}" for kind in kinds} if name == "compressed" else set()
        assert {kind for kind in found if kind.startswith("constexpr_")} == compressed
        x = np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32)
        outputs.append(Executor(function, mode="float32").run({"x": x})["y"])
    np.testing.assert_allclose(outputs[0], outputs[1], atol=2e-3 * np.ptp(outputs[1]))
    assert np.ptp(outputs[0]) > 1
