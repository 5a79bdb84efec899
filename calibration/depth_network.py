"""What photos do to the activations of a depth network of others: what FP16 can't hold, and what INT8 costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplens.calibration.photos import Photo, set_sha256
from deeplens.console.errors import MismatchError
from deeplens.export import depth_int8, fp16
from deeplens.export.depth_plan import DepthPlan, Int8
from deeplens.export.fp16_check import LARGEST, Meter, Range, rounded, session
from deeplens.export.golden import agreement
from deeplens.export.trt_graph import fp32
from deeplens.runtimes import manifest
from deeplens.runtimes.fit import Fit
from deeplens.runtimes.manifest_entry import FIT

if TYPE_CHECKING:
    import onnx

HEADROOM = 4.0
"""A tensor stays in FP32 where it comes this close to the largest FP16 number: other photos may go further."""

LONGEST = 1024
"""Long side in pixels at which photos are read."""


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        plan: which tensors stay in FP32.
        ranges: of every tensor, the largest first.
        plain_db: the smallest agreement of FP16 with FP32 on a photo with nothing kept; None: FP16 overflows.
    """

    plan: DepthPlan
    ranges: tuple[Range, ...]
    plain_db: float | None


def measure(name: str, photos: Sequence[Photo], *, artifacts: Path, progress: Callable[[float], None]) -> Measured:
    """Run photos through the FP32 graph, which is exported where it is missing, and through FP16 and INT8 ones.

    The scales of INT8 are for every other photo, and it is judged on the photos between them.

    Args:
        progress: called with the share done, up to 1.0.

    Raises:
        MissingError, InputError: from `export.trt_graph.fp32`.
        MismatchError: not even with exceptions FP16 gives finite numbers.
    """
    import onnx

    _, entry = fp32(name, "depth", out=artifacts, weights="shipped")
    model = onnx.load(manifest.verify(artifacts, entry))
    fit = Fit.from_json(entry.more[FIT])
    meter = Meter(model)
    feeds = [{"picture": fit.placed(each.pixels(LONGEST)).picture} for each in photos]
    order = [*range(0, len(feeds), 2), *range(1, len(feeds), 2)]
    outputs: dict[int, np.ndarray] = {}
    scales: dict[str, float] = {}
    for count, index in enumerate(order, 1):
        outputs[index] = meter.run(feeds[index])
        if count == (len(feeds) + 1) // 2:
            scales = {"picture": 1.0, **{each.tensor: each.largest for each in meter.ranges}}
        progress(count / (4 * len(feeds)))
    due = [outputs[index] for index in range(len(feeds))]
    loud = {each.tensor for each in meter.ranges if not each.largest * HEADROOM <= LARGEST}
    # What reads such a tensor takes it in FP32 too: a cast would overflow.
    readers = {name for node in model.graph.node if loud.intersection(node.input) for name in node.output}
    kept = tuple(each.tensor for each in meter.ranges if each.tensor in loud | readers)
    plain = _least(model, (), feeds, due)
    progress(1 / 2)
    least = _least(model, kept, feeds, due) if kept else plain
    progress(3 / 4)
    if least is None:
        raise MismatchError(f"{name} gives values that are not finite in FP16 with {len(kept)} tensors kept: use fp32")
    judges = slice(1, None, 2) if len(feeds) > 1 else slice(None)
    tried = _int8(model, scales, feeds[judges], due[judges])
    progress(1.0)
    good = next((each for each in tried if each.good), None)
    needed = depth_int8.tensors_of(model, good.operations) if good is not None else set()
    plan = DepthPlan(
        name,
        entry.weights_sha256,
        set_sha256(photos),
        len(photos),
        kept,
        round(least, 2),
        tried,
        {tensor: round(scales[tensor], 6) for tensor in sorted(needed)},
    )
    ranges = tuple(sorted(meter.ranges, key=lambda each: each.largest, reverse=True))
    return Measured(plan, ranges, None if plain is None else round(plain, 2))


def _least(
    model: "onnx.ModelProto",
    kept: Sequence[str],
    feeds: Sequence[dict[str, np.ndarray]],
    due: Sequence[np.ndarray],
) -> float | None:
    """The smallest agreement in dB; None where a value is not finite, or a weight is too large."""
    try:
        run = session(rounded(fp16.convert(model, keep=kept)))
        return min(agreement(run.run(None, feed)[0], one) for feed, one in zip(feeds, due, strict=True))
    except MismatchError:
        return None


def _int8(
    model: "onnx.ModelProto",
    scales: Mapping[str, float],
    feeds: Sequence[dict[str, np.ndarray]],
    due: Sequence[np.ndarray],
) -> tuple[Int8, ...]:
    """What each way of having operations on integers costs."""
    found = []
    for way in depth_int8.ways(model):
        try:
            run = session(depth_int8.quantised(model, way, scales))
            least = min(agreement(run.run(None, feed)[0], one) for feed, one in zip(feeds, due, strict=True))
        except MismatchError:
            found.append(Int8(way, None))
        else:
            found.append(Int8(way, round(least, 2)))
    return tuple(found)
