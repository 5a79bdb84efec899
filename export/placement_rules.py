"""What is known of the Neural Engine, as rules that a saved operation keeps or breaks: each with its source.

Apple publishes no list of what its compiler places where. The rules stand in Apple's own authoring notes, in
measurements on devices and in error messages that people met. Where sources disagree the verdict is "uncertain" and
names both. A rule whose verdict is "engine" is a remark: the operation runs there, at a cost or with other numbers.
"""

import math
from dataclasses import dataclass
from typing import Literal

from deeplens.export import placement_checks as ask
from deeplens.export.placement_checks import Operation, Question

Verdict = Literal["engine", "uncertain", "not"]
VERDICTS: tuple[Verdict, ...] = ("engine", "uncertain", "not")
"""From good to bad."""

CHIPS = ("A14", "A15", "A16", "A17")
"""Families that the sources tell apart: A14 = M1, A15 = M2, A16 = M3; A17 stands for it and all later ones, M4 and M5.

ANEForge calls them A13 to A16, after the numbers in Apple's own names of the designs, H13 to H16. But H13 is that of
the A14 and the M1, H14 that of the A15 and the M2. Before H13 the sources know no path for ML programs."""

APPLE = "apple/coreai-models, neural_engine_rules.md"
FORUM = "Apple developer forums, thread 724930"
CATALOG = "sbryngelson/ANEForge, aneforge/_op_catalog.py"
CAPABILITIES = "sbryngelson/ANEForge, docs/capabilities.md"
QUIRKS = "sbryngelson/ANEForge, docs/developer/op-quirks.md"
TARGETS = "sbryngelson/ANEForge, aneforge/_targets.py"
RESIZE = "sbryngelson/ANEForge, docs/onnx.md"
HOLLANCE = "hollance/neural-engine, docs/unsupported-layers.md (2020, partly guesses)"
GUIDE = "ane-guide.readthedocs.io, chapter 17"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: short, for grouping.
        verdict: of an operation that breaks it.
        says: the rule, in one line.
        sources: public documents and repositories.
        broken: what breaks it, such as "stride 5"; None where the operation keeps it.
        kinds: the operations that it speaks of; None: all.
        until: the first chip that is free of it; None: none is.
    """

    name: str
    verdict: Verdict
    says: str
    sources: tuple[str, ...]
    broken: Question
    kinds: frozenset[str] | None = None
    until: str | None = None

    def applies(self, operation: Operation, chip: str) -> bool:
        """Whether it speaks of this operation on this chip."""
        return (self.kinds is None or operation.kind in self.kinds) and (
            self.until is None or CHIPS.index(chip) < CHIPS.index(self.until)
        )


RULES: tuple[Rule, ...] = (
    # Kinds
    Rule("kind", "not", "the engine has no path for it", (CATALOG,), ask.always("no path"), ask.NO_PATH),
    Rule("unnamed", "uncertain", "no source names this operation", (CATALOG,), ask.unnamed),
    Rule("sampler", "not", "needs the sampler of A15", (CATALOG,), ask.always("no sampler"), ask.SAMPLERS, until="A15"),
    Rule(
        "trigonometry",
        "not",
        "runs from A16 on",
        (CATALOG,),
        ask.always("not before A16"),
        ask.TRIGONOMETRY,
        until="A16",
    ),
    Rule(
        "gather",
        "uncertain",
        "one list says never, the catalogue within narrow limits",
        (HOLLANCE, CATALOG, "apple/coremltools issue 1103"),
        ask.always("gather"),
        ask.kinds("gather gather_along_axis gather_nd"),
    ),
    Rule(
        "linear",
        "uncertain",
        "Apple: may fall to the CPU, use a 1×1 convolution; the catalogue: native",
        (APPLE, CATALOG),
        ask.always("linear"),
        ask.kinds("linear"),
    ),
    Rule(
        "disputed",
        "uncertain",
        "the catalogue calls it native, the same project's notes do not",
        (CATALOG, CAPABILITIES),
        ask.always("disputed"),
        ask.kinds("non_maximum_suppression crop_resize cumsum"),
    ),
    # Shapes and types
    Rule("rank", "not", "at most 5 axes", (APPLE, QUIRKS), ask.rank(5)),
    Rule(
        "rank 5",
        "uncertain",
        "Apple allows 5 axes; transpositions and products of 5 were refused by the compiler",
        (APPLE, "sbryngelson/ANEForge, docs/developer/capabilities-and-targets.md"),
        ask.rank(4),
        ask.kinds("transpose matmul"),
    ),
    Rule("type", "not", "FP16 and integers of 8 and 16 bits; FP32 goes elsewhere", (APPLE, QUIRKS), ask.dtype),
    Rule(
        "cast",
        "uncertain",
        "Apple: FP32 goes elsewhere; the catalogue: casts to and from it are native",
        (APPLE, CATALOG),
        ask.always("cast"),
        ask.kinds("cast"),
    ),
    Rule("free size", "not", "ranges run there at their default shape only", (APPLE, FORUM, CAPABILITIES), ask.free),
    Rule(
        "several shapes",
        "uncertain",
        "Apple: each listed shape runs there; measured: little of it did, or nothing ran",
        (FORUM, "apple/coremltools issues 1909, 2370 and 2730"),
        ask.enumerated,
    ),
    Rule("size", "not", "height and width up to 65536", (TARGETS,), ask.axis(2, 3, 65536)),
    Rule(
        "size before A17",
        "not",
        "height and width up to 16384",
        (TARGETS, "ncdrone/rustane issue 13"),
        ask.axis(2, 3, 16384),
        until="A17",
    ),
    Rule("channel count", "not", "up to 65536 channels", (TARGETS,), ask.axis(1, 1, 65536)),
    Rule(
        "last axis of 1",
        "uncertain",
        "never 1: padded to 32 values. What the compiler then does is not said",
        (APPLE,),
        ask.last(1, 1),
    ),
    Rule("short last axis", "engine", "32 values or more; shorter ones are padded", (APPLE,), ask.last(2, 31)),
    Rule("channels", "engine", "a multiple of 32; others leave lanes idle", (GUIDE,), ask.channels, ask.CONVOLUTIONS),
    # Convolutions and pools
    Rule("kernel", "not", "at most 15 wide", (QUIRKS, TARGETS), ask.window(16, math.inf), ask.CONVOLUTIONS),
    Rule(
        "kernel before A17",
        "not",
        "at most 13 wide",
        (TARGETS, GUIDE),
        ask.window(14, 15),
        ask.CONVOLUTIONS,
        until="A17",
    ),
    Rule("large kernel", "engine", "several small ones are cheaper", (APPLE,), ask.window(8, 15), ask.CONVOLUTIONS),
    Rule("computed weights", "uncertain", "at batch 1 only", (QUIRKS,), ask.computed_weight, ask.CONVOLUTIONS),
    Rule(
        "stride",
        "uncertain",
        "products of 2 and 3; others were refused on a device",
        (APPLE, "apple/coremltools issue 2173"),
        ask.factors("strides"),
        ask.CONVOLUTIONS,
    ),
    Rule("palette and stride", "uncertain", "strides up to 2", (APPLE,), ask.palettised_stride, ask.CONVOLUTIONS),
    Rule(
        "dilation",
        "uncertain",
        "one list says never, as a guess; Apple and the guide: by 2 or 3, several in a row for more",
        (HOLLANCE, APPLE, "ane-guide.readthedocs.io, chapter 4"),
        ask.dilated,
        ask.CONVOLUTIONS,
    ),
    Rule("pool", "not", "a window of at most 31", (CATALOG,), ask.window(32, math.inf), ask.POOLS),
    Rule("pool before A15", "not", "a window of at most 29", (CATALOG,), ask.window(30, 31), ask.POOLS, until="A15"),
    Rule(
        "large pool",
        "uncertain",
        "the catalogue: up to 29; a device's log: up to 13",
        (CATALOG, "hollance/neural-engine issue 2"),
        ask.window(14, 31),
        ask.POOLS,
    ),
    Rule(
        "pool stride",
        "uncertain",
        "Apple: 2 or 4, others cost more; a device's log: at most 2",
        (APPLE, "hollance/neural-engine issue 2"),
        ask.strides(1, 2),
        ask.POOLS,
    ),
    # Resizing and borders
    Rule(
        "scale",
        "uncertain",
        "a device's log: by 2 only; the catalogue: any",
        ("hollance/neural-engine issue 2", CATALOG),
        ask.scale,
        ask.UPSAMPLES,
    ),
    Rule(
        "resize before A15",
        "uncertain",
        "by software, with other rounding, and some modes abort",
        (CATALOG,),
        ask.always("by software"),
        ask.UPSAMPLES,
        until="A15",
    ),
    Rule(
        "half-pixel",
        "engine",
        "other numbers: the engine's bilinear was found to match half-pixel centres only roughly",
        (RESIZE,),
        ask.half_pixel,
        ask.kinds("upsample_bilinear resize_bilinear"),
    ),
    Rule(
        "border before A15",
        "uncertain",
        "mirrored borders need the sampler of A15; before it software",
        (CATALOG,),
        ask.mirrored,
        ask.kinds("pad"),
        until="A15",
    ),
    Rule(
        "border",
        "not",
        "beyond two axes only constant borders load at all",
        ("apple/coremltools issue 2576",),
        ask.mirrored_deep,
        ask.kinds("pad"),
    ),
    # Slices
    Rule("slice step", "uncertain", "only steps of 1 are shown to run", (RESIZE,), ask.slice_step, ask.SLICES),
    Rule("slice start", "uncertain", "a fixed start", (CATALOG,), ask.slice_start, ask.SLICES),
    Rule(
        "slice of the width",
        "uncertain",
        "before A17 by a fixed-point copy: beyond ±4094 it gives infinity, and several joined were wrong on A15",
        (QUIRKS, "sbryngelson/ANEForge, docs/numeric-cliffs.md"),
        ask.slice_width,
        ask.SLICES,
        until="A17",
    ),
    # Arithmetic
    Rule(
        "broadcast of channels",
        "uncertain",
        "a device's log: a channel vector only as a constant; the notes: any",
        ("hollance/neural-engine issue 2", "sbryngelson/ANEForge, docs/developer/capabilities-and-targets.md"),
        ask.vector,
        ask.ELEMENTWISE,
    ),
    Rule("outer product", "uncertain", "no source shows one", (CATALOG,), ask.outer, ask.ELEMENTWISE),
    Rule(
        "softmax axis",
        "engine",
        "over channels; another axis can't be split",
        (APPLE,),
        ask.softmax_axis,
        ask.kinds("softmax"),
    ),
    Rule(
        "softmax length",
        "uncertain",
        "one report: refused unless a power of 2; the catalogue: any",
        ("hollance/neural-engine issue 44", CATALOG),
        ask.softmax_length,
        ask.kinds("softmax"),
    ),
    Rule(
        "softplus",
        "engine",
        "other numbers: falls to 0 above 10.4 in FP16",
        ("apple/coremltools issue 2687",),
        ask.always("softplus"),
        ask.kinds("softplus"),
    ),
)
