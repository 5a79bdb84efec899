"""The findings as data: what the paper says of each, and which results of `research.ablations` stand beside it."""

from dataclasses import dataclass

from deeplens.research.ablations import REFERENCE, STEP, UPSAMPLING
from deeplens.scenes.stream import DEPTHS

METRICS = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 4), "psnr_band": ("PSNR at edges, dB", 2)}
"""Metric → its title and the decimals it is printed with."""

Results = dict[tuple[str, str], dict[int, dict[str, float]]]
"""(name of the job, what was tested) → seed → metric → value."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a label, and the job and the tested row of its result that it shows."""

    label: str
    name: str
    tested: str


@dataclass(frozen=True)
class Table:
    """Rows that differ in one thing. The first is what the others are compared with.

    Attributes:
        constants: rows that depend on no seed, shown below the others.
    """

    title: str
    rows: tuple[Row, ...]
    constants: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One finding of the paper.

    Attributes:
        slug: of the figure's file name.
        claim: what the paper says, and what our rows are.
        axis: title of the horizontal axis where the labels are numbers; None: a row of points for each label.
    """

    slug: str
    title: str
    claim: str
    tables: tuple[Table, ...]
    axis: str | None = None


UNBLURRED = Row("unblurred photo", REFERENCE, "unblurred photo")
UNBLURRED_BASE = Row("unblurred photo", REFERENCE, "unblurred photo at the base")
UNTRAINED = {depth: Row("before training", REFERENCE, f"untrained edge, {depth}") for depth in DEPTHS}

ALONE = "`paper` lens blur, at the base"
EDGE_LOOP = "`edge` lens blur and step, at the full size"

_LOSSES = {"standard": "normalised", "l1": "L1", "l2": "L2", "quotient": "normalised, as written"}
_DEPTHS = {"standard": "corrupted", "true": "true", "predicted": "predicted"}
_FEATURES = {"standard": "31", "features-4": "4", "features-8": "8", "features-16": "16", "features-64": "64"}
_TRIED = {
    "edge-l1": "L1",
    "tried-edges": "depth edges count four times",
    "tried-apertures": "half the aperture leaves the photo alone",
    "tried-easy-first": "small blur first",
    "tried-distilled": "follows `paper`",
    "tried-no-average": "last weights, no average",
}
_UPSAMPLERS = (STEP, "bilinear", "guided filter", "joint bilateral")

FINDINGS = (
    Finding(
        "losses",
        "1. The normalised loss (equation 5)",
        "Figure 5 of the paper shows that L1 and L2 leave artefacts around object boundaries and that the "
        "normalised loss has fewer; it gives no numbers.\n"
        "Our `normalised` holds the weights of equation 5 constant for the gradient; `normalised, as written` "
        "differentiates the quotient.\n"
        "Tested with true depth.",
        (
            Table(ALONE, tuple(Row(label, name, "true") for name, label in _LOSSES.items()), (UNBLURRED_BASE,)),
            Table(
                EDGE_LOOP,
                tuple(Row(label, f"edge-{name}", "true") for name, label in _LOSSES.items()),
                (UNTRAINED["true"], UNBLURRED),
            ),
        ),
    ),
    Finding(
        "depth",
        "2. Depth in training (table 3)",
        "The paper tests with the depth that its network predicts.\n"
        "Trained with true depth it has 28.038 dB, with predicted depth 28.237 dB, with corrupted depth (dilated "
        "or eroded) 28.235 dB.\n"
        "Our predicted depth is that of the shipped `edge` depth network on the scene's photo, which is far from "
        "the truth on such scenes.",
        tuple(
            Table(
                f"{network}, tested with {tested} depth",
                tuple(Row(label, f"{prefix}{name}", tested) for name, label in _DEPTHS.items()),
                constants,
            )
            for tested in DEPTHS
            for network, prefix, constants in (
                (ALONE, "", (UNBLURRED_BASE,)),
                (EDGE_LOOP, "edge-", (UNTRAINED[tested], UNBLURRED)),
            )
        ),
    ),
    Finding(
        "features",
        "3. Feature channels (figure 12)",
        "In the paper PSNR and SSIM rise with the number of feature channels from 4 to 64 and begin to saturate "
        "at 32.\n"
        "Ours are counted for each colour, and include the picture itself: the released network has 31.\n"
        "Tested with true depth.",
        (Table(ALONE, tuple(Row(label, name, "true") for name, label in _FEATURES.items()), (UNBLURRED_BASE,)),),
        axis="features for each colour",
    ),
    Finding(
        "upsampling",
        "4. The guided step",
        "Figure 4 of the paper shows that its guided upsampling looks better than super-resolution and guided "
        "filtering; it gives no numbers.\n"
        "All rows double the same picture: what the lens blur of the arm `loop` makes of the base, or the true "
        "base.\n"
        "The step begins as in a real fit, sharp in focus and bilinear elsewhere (`training/known_start.py`); the "
        "lens blur begins with PyTorch's initial weights.\n"
        "Both learn at once here.\n"
        "A step that learns alone, after a lens blur that stays, gets further: [training.md](training.md).\n"
        "Tested with true depth.",
        tuple(
            Table(
                f"`paper` networks, from {base}",
                tuple(Row(name, UPSAMPLING, f"{name}, {source}") for name in _UPSAMPLERS),
                (UNBLURRED,),
            )
            for base, source in (("the lens blur's own base", "own base"), ("the true base", "true base"))
        ),
    ),
    Finding(
        "direct",
        "5. Lens blur in feature space against direct regression (table 2)",
        "On its iPhone test set the paper has 25.84 dB and 0.815 for direct regression, 28.235 dB and 0.908 for "
        "its own method.\n"
        "Here both get the same depth.\n"
        "Ours is the arm `loop`, lens blur and step of `paper`; the U-Net of `training/direct.py` has about as "
        "many multiplications.",
        tuple(
            Table(
                f"At the full size, tested with {tested} depth",
                (Row("lens blur and step", "loop", tested), Row("direct regression", "direct", tested)),
                (UNBLURRED,),
            )
            for tested in DEPTHS
        ),
    ),
    Finding(
        "tried",
        "6. Ways to train that the paper does not have",
        "This is for `edge`, whose shipped fit is plain L1 with averaged weights (EMA).\n"
        "Each row adds or removes one thing (`research/tried.py`):\n\n"
        "- depth edges count four times: pixels within 4 px of where the circle of confusion jumps by over a "
        "pixel;\n"
        "- half the aperture leaves the photo alone: what no light can reach there must stay the photo "
        "(self-consistency, weight 1);\n"
        "- small blur first: in the first half of the steps scenes are sorted by the radius of their blur (a "
        "curriculum);\n"
        "- follows `paper`: also L1 to the pictures of the shipped `paper` networks (weight 0.5);\n"
        "- last weights, no average: the last weights instead of their average.",
        tuple(
            Table(
                f"{EDGE_LOOP}, tested with {tested} depth",
                tuple(Row(label, name, tested) for name, label in _TRIED.items()),
                (UNTRAINED[tested], UNBLURRED),
            )
            for tested in ("true", "corrupted")
        ),
    ),
)
