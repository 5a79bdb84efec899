import re
from collections.abc import Callable
from functools import cache
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types

from deeplens.export import placement
from deeplens.export.placement import Placed, lint_package
from deeplens.export.placement_checks import NATIVE, NO_PATH, Operation
from deeplens.export.placement_rules import CHIPS, RULES, VERDICTS, Rule

Var = Any
"""A value of coremltools' builder."""

SHAPE = (1, 64, 32, 64)


def weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float16)


def conv(x: Var, kernel: tuple[int, int], outputs: int = 32, **options: Any) -> Var:
    return mb.conv(x=x, weight=weights(outputs, 64, *kernel), **options)


def pool(x: Var, kernel: tuple[int, int], stride: int = 1) -> Var:
    return mb.avg_pool(x=x, kernel_sizes=list(kernel), strides=[stride] * 2, pad_type="same")


def palettised(stride: int) -> Callable[..., Var]:
    def make(x: Var, **_: Var) -> Var:
        indices = np.zeros((32, 64, 1, 1), types.np_uint4_dtype)
        table = np.ones((1, 1, 1, 1, 16, 1), np.float16)
        return mb.conv(x=x, weight=mb.constexpr_lut_to_dense(indices=indices, lut=table), strides=[stride] * 2)

    return make


def bilinear(x: Var, scale: float, *, align: bool) -> Var:
    return mb.upsample_bilinear(x=x, scale_factor_height=scale, scale_factor_width=scale, align_corners=align)


def softmax_of(x: Var, channels: int, axis: int = 1) -> Var:
    return mb.softmax(x=mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, channels, 32, 64]), axis=axis)


def sliced(x: Var, begin: tuple[int, ...], stride: tuple[int, ...] = (1, 1, 1, 1)) -> Var:
    return mb.slice_by_index(x=x, begin=list(begin), end=list(SHAPE), stride=list(stride))


def padded(x: Var, mode: str) -> Var:
    return mb.pad(x=x, pad=[0, 0, 0, 0, 1, 1, 1, 1], mode=mode, constant_val=np.float16(0))


def affine(x: Var) -> Var:
    matrix = np.array([[1, 0, 0, 0, 1, 0]], np.float16)
    return mb.affine(
        x=x, transform_matrix=matrix, output_height=32, output_width=64, sampling_mode="bilinear", align_corners=True,
        padding_mode="constant", padding_value=np.float16(0), coordinates_mode="normalized_minus_one_to_one",
    )  # fmt: skip


def reshaped(x: Var, *shape: int) -> Var:
    return mb.reshape(x=x, shape=list(shape))


# For each rule an operation that breaks it and one that keeps it. `x` is SHAPE, `k` weights and `n` a start, all three
# inputs of the program.
CASES: dict[str, tuple[Callable[..., Var], Callable[..., Var]]] = {
    "kind": (lambda x, **_: mb.reduce_prod(x=x, axes=[1]), lambda x, **_: mb.reduce_sum(x=x, axes=[1])),
    "sampler": (lambda x, **_: affine(x), lambda x, **_: mb.relu(x=x)),
    "trigonometry": (lambda x, **_: mb.sin(x=x), lambda x, **_: mb.atan(x=x)),
    "gather": (
        lambda x, **_: mb.gather(x=x, indices=np.array([1, 3], np.int32), axis=1, validate_indices=False),
        lambda x, **_: mb.slice_by_size(x=x, begin=[0, 1, 0, 0], size=[1, 2, 32, 64]),
    ),
    "linear": (lambda x, **_: mb.linear(x=x, weight=weights(32, 64)), lambda x, **_: conv(x, (1, 1))),
    "disputed": (lambda x, **_: mb.cumsum(x=x, axis=1), lambda x, **_: mb.reduce_sum(x=x, axes=[1])),
    "rank 5": (
        lambda x, **_: mb.transpose(x=reshaped(x, 1, 2, 32, 32, 64), perm=[0, 2, 1, 3, 4]),
        lambda x, **_: mb.transpose(x=x, perm=[0, 2, 1, 3]),
    ),
    "type": (
        lambda x, **_: mb.add(x=mb.cast(x=x, dtype="fp32"), y=np.float32(1)),
        lambda x, **_: mb.add(x=x, y=np.float16(1)),
    ),
    "cast": (lambda x, **_: mb.cast(x=x, dtype="fp32"), lambda x, **_: mb.identity(x=x)),
    "size": (lambda x, **_: reshaped(x, 1, 1, 1, 131072), lambda x, **_: reshaped(x, 1, 1, 2, 65536)),
    "size before A17": (lambda x, **_: reshaped(x, 1, 1, 2, 65536), lambda x, **_: reshaped(x, 1, 1, 8, 16384)),
    "channel count": (lambda x, **_: reshaped(x, 1, 131072, 1, 1), lambda x, **_: reshaped(x, 1, 65536, 1, 2)),
    "last axis of 1": (lambda x, **_: reshaped(x, 1, 64, 2048, 1), lambda x, **_: reshaped(x, 1, 64, 1024, 2)),
    "short last axis": (lambda x, **_: reshaped(x, 1, 64, 128, 16), lambda x, **_: reshaped(x, 1, 64, 64, 32)),
    "channels": (lambda x, **_: conv(x, (3, 3), 48), lambda x, **_: conv(x, (3, 3), 96)),
    "kernel": (lambda x, **_: conv(x, (3, 17)), lambda x, **_: conv(x, (17, 3))),
    "kernel before A17": (lambda x, **_: conv(x, (3, 15)), lambda x, **_: conv(x, (3, 13))),
    "large kernel": (lambda x, **_: conv(x, (3, 9)), lambda x, **_: conv(x, (3, 7))),
    "computed weights": (lambda x, k, **_: mb.conv(x=x, weight=k), lambda x, **_: conv(x, (1, 1))),
    "stride": (lambda x, **_: conv(x, (5, 5), strides=[5, 5]), lambda x, **_: conv(x, (5, 5), strides=[6, 6])),
    "palette and stride": (palettised(3), palettised(2)),
    "dilation": (lambda x, **_: conv(x, (3, 3), dilations=[2, 2]), lambda x, **_: conv(x, (3, 3))),
    "pool": (lambda x, **_: pool(x, (1, 33)), lambda x, **_: pool(x, (1, 31))),
    "pool before A15": (lambda x, **_: pool(x, (1, 31)), lambda x, **_: pool(x, (1, 29))),
    "large pool": (lambda x, **_: pool(x, (1, 15)), lambda x, **_: pool(x, (1, 13))),
    "pool stride": (lambda x, **_: pool(x, (4, 4), 4), lambda x, **_: pool(x, (2, 2), 2)),
    "scale": (lambda x, **_: bilinear(x, 4.0, align=True), lambda x, **_: bilinear(x, 2.0, align=True)),
    "resize before A15": (
        lambda x, **_: bilinear(x, 2.0, align=True),
        lambda x, **_: mb.pixel_shuffle(x=x, upscale_factor=2),
    ),
    "half-pixel": (lambda x, **_: bilinear(x, 2.0, align=False), lambda x, **_: bilinear(x, 2.0, align=True)),
    "border before A15": (
        lambda x, **_: padded(x, "reflect"),
        lambda x, **_: padded(x, "constant"),
    ),
    "slice step": (
        lambda x, **_: sliced(x, (0, 0, 0, 0), (1, 3, 1, 1)),
        lambda x, **_: sliced(x, (0, 1, 0, 0)),
    ),
    "slice start": (
        lambda x, n, **_: mb.slice_by_size(x=x, begin=n, size=[1, 8, 32, 64]),
        lambda x, **_: mb.slice_by_size(x=x, begin=[0, 8, 0, 0], size=[1, 8, 32, 64]),
    ),
    "slice of the width": (lambda x, **_: sliced(x, (0, 0, 0, 1)), lambda x, **_: sliced(x, (0, 0, 1, 0))),
    "broadcast of channels": (
        lambda x, **_: mb.mul(x=x, y=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True)),
        lambda x, **_: mb.mul(x=x, y=mb.reduce_mean(x=x, axes=[1], keep_dims=True)),
    ),
    "outer product": (
        lambda x, **_: mb.mul(x=mb.reduce_mean(x=x, axes=[1], keep_dims=True), y=weights(1, 13, 1, 1)),
        lambda x, **_: mb.mul(x=x, y=weights(1, 64, 1, 1)),
    ),
    "softmax axis": (lambda x, **_: softmax_of(x, 32, 3), lambda x, **_: softmax_of(x, 32)),
    "softmax length": (lambda x, **_: softmax_of(x, 25), lambda x, **_: softmax_of(x, 32)),
    "softplus": (lambda x, **_: mb.softplus(x=x), lambda x, **_: mb.relu(x=x)),
}

MADE_BY_HAND = {"unnamed", "rank", "border", "free size", "several shapes"}
"""Rules on what coremltools' builder refuses or what a whole program decides: they have tests of their own."""


def rule(name: str) -> Rule:
    (found,) = [each for each in RULES if each.name == name]
    return found


def label(name: str, side: str) -> str:
    return re.sub(r"\W", "_", f"{name}_{side}")


@pytest.fixture(scope="module")
def linted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Placed]]:
    """Chip → `label` → what is said of that operation, after a package was saved and read."""

    @mb.program(
        input_specs=[
            mb.TensorSpec(shape=SHAPE, dtype=types.fp16),
            mb.TensorSpec(shape=(32, 64, 1, 1), dtype=types.fp16),
            mb.TensorSpec(shape=(4,), dtype=types.int32),
        ],
        opset_version=ct.target.iOS18,
    )
    def program(x: Var, k: Var, n: Var) -> Any:
        made = []
        for name, pair in CASES.items():
            for side, build_it in zip(("breaks", "keeps"), pair, strict=True):
                made.append(build_it(x=x, k=k, n=n))
                made[-1].name = label(name, side)
        return tuple(made)

    path = tmp_path_factory.mktemp("rules") / "rules.mlpackage"
    ct.convert(
        program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32, pass_pipeline=ct.PassPipeline.EMPTY, skip_model_load=True,
    ).save(str(path))  # fmt: skip
    return cache(lambda chip: {each.operation.name: each for each in lint_package(path, chip=chip)})


def names(placed: Placed) -> set[str]:
    return {finding.rule.name for finding in placed.findings}


def test_every_rule_has_a_name_sources_and_a_case() -> None:
    found = [each.name for each in RULES]
    assert len(set(found)) == len(found)
    assert set(found) == CASES.keys() | MADE_BY_HAND
    assert all(each.sources and each.says and each.verdict in VERDICTS for each in RULES)
    assert not NATIVE & NO_PATH


def test_the_default_chip_is_the_first_with_a_sampler() -> None:
    """Which families the sources measured: the M1, of the A14's generation, has none; the M2, of the A15's, has."""
    needing = [each for each in RULES if "sampler" in each.says]
    assert len(needing) == 2
    assert {each.until for each in needing} == {placement.DEFAULT_CHIP} == {CHIPS[1]}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_that_breaks_a_rule_and_one_that_keeps_it(
    linted: Callable[[str], dict[str, Placed]], name: str
) -> None:
    until = rule(name).until
    chip = CHIPS[-1] if until is None else CHIPS[CHIPS.index(until) - 1]
    broken, kept = (linted(chip)[label(name, side)] for side in ("breaks", "keeps"))
    assert name in names(broken)
    assert name not in names(kept)
    assert VERDICTS.index(broken.verdict) >= VERDICTS.index(rule(name).verdict)
    if until is not None:
        assert name not in names(linted(until)[label(name, "breaks")])


@pytest.mark.parametrize(
    ("name", "broken", "kept"),
    [
        ("unnamed", {"kind": "classify"}, {"kind": "relu"}),
        ("rank", {"kind": "relu", "shapes": ((1,) * 6,)}, {"kind": "relu", "shapes": ((1,) * 5,)}),
        ("free size", {"kind": "relu", "shapes": ((1, 3, None, 64),)}, {"kind": "relu"}),
        ("several shapes", {"kind": "relu", "enumerated": True}, {"kind": "relu"}),
        (
            "border",
            {"kind": "pad", "values": {"mode": "reflect", "pad": np.array([0, 0, 1, 1, 1, 1, 1, 1])}},
            {"kind": "pad", "values": {"mode": "reflect", "pad": np.array([0, 0, 0, 0, 1, 1, 1, 1])}},
        ),
    ],
)
def test_what_the_builder_refuses(name: str, broken: dict[str, Any], kept: dict[str, Any]) -> None:
    def found(options: dict[str, Any]) -> set[str]:
        operation = Operation(**{"name": "it", "shapes": (SHAPE,), "dtypes": ("fp16",), "operands": (SHAPE,)} | options)
        return {finding.rule.name for finding in placement.findings(operation, chip="A17")}

    assert name in found(broken)
    assert name not in found(kept)
