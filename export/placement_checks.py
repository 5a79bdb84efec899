"""What the rules of placement look at: an operation of a saved program, the kinds, and a question for each rule.

A question takes an operation and returns what breaks the rule, such as "stride 5", or None where it is kept.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int | None, ...]
"""None stands for a size that is not fixed."""


@dataclass(frozen=True)
class Operation:
    """What the rules look at.

    Attributes:
        name: of its first output.
        kind: such as "conv".
        shapes, dtypes: of the outputs.
        operands: shapes of the inputs that are computed, not constant.
        constants: shapes of the constant inputs, by argument.
        values: constant inputs of at most 64 numbers or a string, by argument.
        compressed: kind of the operation that unpacks the weights; None where they are plain.
        enumerated: whether the program's inputs list several shapes.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    operands: tuple[Shape, ...] = ()
    constants: Mapping[str, Shape] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    compressed: str | None = None
    enumerated: bool = False

    def numbers(self, argument: str) -> tuple[int, ...]:
        """A constant list of whole numbers; empty where it is missing."""
        return tuple(int(number) for number in self.values.get(argument, ()))

    def kernel(self) -> Shape:
        """Height and width of a convolution's or pool's window, gaps of dilation counted in; empty if computed."""
        if self.kind in POOLS:
            return self.numbers("kernel_sizes")
        sizes: Shape = self.constants.get("weight", ())[2:]
        gaps = self.numbers("dilations") or (1,) * len(sizes)
        return tuple(None if size is None else gap * (size - 1) + 1 for size, gap in zip(sizes, gaps, strict=False))


Question = Callable[[Operation], str | None]


def kinds(text: str) -> frozenset[str]:
    """The names in a text."""
    return frozenset(text.split())


POOLS = kinds("avg_pool max_pool")
CONVOLUTIONS = kinds("conv conv_transpose")
ELEMENTWISE = kinds("add sub mul real_div maximum minimum pow floor_div")
UPSAMPLES = kinds("upsample_bilinear upsample_nearest_neighbor resize_bilinear resize_nearest_neighbor resize")
SLICES = kinds("slice_by_index slice_by_size")

NATIVE = (
    POOLS
    | CONVOLUTIONS
    | ELEMENTWISE
    | UPSAMPLES
    | SLICES
    | kinds(
        "abs atan batch_norm batch_to_space cast ceil clamped_relu clip concat depth_to_space dequantize einsum elu "
        "equal erf exp exp2 expand_dims fill floor gelu greater greater_equal identity instance_norm inverse l2_norm "
        "l2_pool layer_norm leaky_relu less less_equal local_response_norm log logical_not matmul not_equal pad "
        "pixel_shuffle pixel_unshuffle prelu quantize read_state reduce_argmax reduce_l1_norm reduce_l2_norm "
        "reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean reduce_min reduce_sum reduce_sum_square relu relu6 "
        "reshape reshape_like reverse round rsqrt scaled_dot_product_attention scaled_tanh select sigmoid "
        "sigmoid_hard sign silu softmax softplus softplus_parametric softsign space_to_batch space_to_depth split "
        "sqrt square squeeze stack tanh threshold thresholded_relu tile transpose crop fill_like flatten2d "
        "linear_activation slice_update"
    )
)
"""Run on every chip from A14 on, by the catalogue."""

SAMPLERS = kinds("resample affine topk argsort")
TRIGONOMETRY = kinds("sin cos random_uniform reduce_argmin")
DISPUTED = kinds("gather gather_along_axis gather_nd linear non_maximum_suppression crop_resize cumsum")
NO_PATH = kinds(
    "logical_and logical_or logical_xor mod reduce_prod acos asin atanh cosh sinh tan band_part non_zero "
    "one_hot reverse_sequence scatter scatter_along_axis scatter_nd shape sliding_windows gru lstm rnn list_gather "
    "list_length list_read list_scatter list_write make_list random_bernoulli random_categorical random_normal cond "
    "while_loop range_1d constexpr_cast"
)

COMPUTED = kinds("fp16 int8 uint8 int16 uint16 bool")
"""Types that the engine computes."""


def always(what: str) -> Question:
    """Broken by every operation that is asked."""
    return lambda _: what


def unnamed(operation: Operation) -> str | None:
    """A kind that none of the lists above holds."""
    known = NATIVE | SAMPLERS | TRIGONOMETRY | DISPUTED | NO_PATH
    return None if operation.kind in known else operation.kind


def rank(limit: int) -> Question:
    """More axes than `limit`, going in or coming out."""

    def broken(operation: Operation) -> str | None:
        axes = max((len(shape) for shape in (*operation.shapes, *operation.operands)), default=0)
        return f"{axes} axes" if axes > limit else None

    return broken


def dtype(operation: Operation) -> str | None:
    """An output of a type that the engine does not compute. FP32 from a cast is asked in a rule of its own."""
    wrong = [dtype for dtype in operation.dtypes if dtype not in COMPUTED]
    return None if not wrong or (operation.kind == "cast" and wrong == ["fp32"]) else wrong[0]


def free(operation: Operation) -> str | None:
    """An output with a size that is neither fixed nor one of a list."""
    unknown = any(size is None for shape in operation.shapes for size in shape)
    return "a size that is not fixed" if unknown and not operation.enumerated else None


def enumerated(operation: Operation) -> str | None:
    """Any operation of a program whose inputs list several shapes."""
    return "the inputs list several shapes" if operation.enumerated else None


def axis(first: int, last: int, limit: int) -> Question:
    """An output N×C×H×W with more than `limit` along an axis from `first` to `last`."""

    def broken(operation: Operation) -> str | None:
        longest = max(
            (size or 0 for shape in operation.shapes if len(shape) == 4 for size in shape[first : last + 1]), default=0
        )
        return f"{longest} long" if longest > limit else None

    return broken


def last(low: int, high: int) -> Question:
    """An output whose last axis is `low` to `high` long."""

    def broken(operation: Operation) -> str | None:
        sizes = [shape[-1] for shape in operation.shapes if shape and shape[-1] is not None]
        wrong = [size for size in sizes if low <= size <= high]
        return f"last axis {wrong[0]}" if wrong else None

    return broken


def channels(operation: Operation) -> str | None:
    """Output channels that are no multiple of 32."""
    count = operation.shapes[0][1] if len(operation.shapes[0]) == 4 else None
    return f"{count} channels" if count is not None and count % 32 else None


def window(low: int, high: float) -> Question:
    """A window that is `low` to `high` wide."""

    def broken(operation: Operation) -> str | None:
        wide = max((size for size in operation.kernel()[-1:] if size is not None), default=0)
        return f"{wide} wide" if low <= wide <= high else None

    return broken


def strides(*allowed: int) -> Question:
    """A stride other than these."""

    def broken(operation: Operation) -> str | None:
        wrong = [stride for stride in operation.numbers("strides") if stride not in allowed]
        return f"stride {wrong[0]}" if wrong else None

    return broken


def factors(argument: str) -> Question:
    """A stride or dilation with a prime factor other than 2 and 3."""

    def broken(operation: Operation) -> str | None:
        for number in operation.numbers(argument):
            rest = number
            for prime in (2, 3):
                while rest % prime == 0:
                    rest //= prime
            if rest > 1:
                return f"{argument} {number}"
        return None

    return broken


def dilated(operation: Operation) -> str | None:
    """A dilation above 1."""
    gaps = [gap for gap in operation.numbers("dilations") if gap > 1]
    return f"dilation {gaps[0]}" if gaps else None


def palettised_stride(operation: Operation) -> str | None:
    """A stride above 2 with weights from a lookup table."""
    strided = max(operation.numbers("strides"), default=1) > 2
    return "stride above 2 with a palette" if strided and operation.compressed == "constexpr_lut_to_dense" else None


def computed_weight(operation: Operation) -> str | None:
    """Weights that are not constant."""
    return None if "weight" in operation.constants else "weights that are computed"


def scale(operation: Operation) -> str | None:
    """A resize by other than 2 (or 1) along an axis."""
    before, after = operation.operands[0][-2:], operation.shapes[0][-2:]
    by = {b / a for a, b in zip(before, after, strict=True) if a and b}
    return None if by <= {1.0, 2.0} else f"×{max(by):g}"


def half_pixel(operation: Operation) -> str | None:
    """A bilinear resize with half-pixel centres."""
    half = (
        not operation.values.get("align_corners", True)
        if operation.kind == "upsample_bilinear"
        else operation.values.get("sampling_mode") == "UNALIGN_CORNERS"
    )
    return "half-pixel centres" if half else None


def mirrored(operation: Operation) -> str | None:
    """A border that repeats or mirrors the picture."""
    mode = operation.values.get("mode", "constant")
    return f"mode {mode}" if mode != "constant" else None


def mirrored_deep(operation: Operation) -> str | None:
    """Such a border along more than the last two axes."""
    pad = operation.numbers("pad")
    return f"mode {operation.values['mode']} beyond two axes" if mirrored(operation) and any(pad[:-4]) else None


def slice_step(operation: Operation) -> str | None:
    """A slice that leaves out values."""
    steps = [step for step in operation.numbers("stride") if step != 1]
    return f"a step of {steps[0]}" if steps else None


def slice_start(operation: Operation) -> str | None:
    """A slice whose start depends on values."""
    return None if "begin" in operation.values else "a start that is computed"


def slice_width(operation: Operation) -> str | None:
    """A slice that starts inside the last axis."""
    begin, mask = operation.numbers("begin"), operation.values.get("begin_mask", ())
    masked = bool(len(mask)) and bool(mask[-1])
    return f"starts at {begin[-1]} of the width" if begin and begin[-1] and not masked else None


def vector(operation: Operation) -> str | None:
    """A computed N×C×1×1 with a computed N×C×H×W."""
    if len(operation.operands) != 2 or {len(shape) for shape in operation.operands} != {4}:
        return None
    vectors = [shape for shape in operation.operands if shape[-2:] == (1, 1)]
    return "one value a channel, computed" if len(vectors) == 1 else None


def outer(operation: Operation) -> str | None:
    """Two operands that are both smaller than the result."""
    shapes = (*operation.operands, *operation.constants.values())
    whole = math.prod(size or 0 for size in operation.shapes[0])
    both = len(shapes) == 2 and all(math.prod(size or 0 for size in shape) < whole for shape in shapes)
    return "both operands are broadcast" if both and whole else None


def softmax(operation: Operation) -> tuple[int, int | None]:
    """The axis of a softmax and its length."""
    shape = operation.shapes[0]
    axis = int(operation.values.get("axis", -1)) % len(shape)
    return axis, shape[axis]


def softmax_axis(operation: Operation) -> str | None:
    """A softmax over other than channels."""
    axis, _ = softmax(operation)
    return f"over axis {axis}" if axis != 1 else None


def softmax_length(operation: Operation) -> str | None:
    """A softmax over a number of values that is no power of 2."""
    _, length = softmax(operation)
    return f"over {length} values" if length and length & (length - 1) else None
