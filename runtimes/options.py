"""Options that several commands share: written once, so that they mean the same everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplens.console.errors import InputError
from deeplens.model.contract import NETWORKS, VARIANTS
from deeplens.model.shipped import weights_from as weights_from  # what `--weights` names
from deeplens.runtimes import AUTO, RUNTIMES, trust
from deeplens.runtimes.accelerator import DEVICES
from deeplens.runtimes.providers import NAMES as PROVIDERS

if TYPE_CHECKING:
    from deeplens.runtimes.depth_convention import Convention
    from deeplens.runtimes.depth_model import DepthModel

Artifacts = Annotated[
    Path | None,
    typer.Option(
        "--artifacts",
        metavar="DIR",
        show_default="./artifacts, else the user's, else those in the package",
        help="Folder of the artefacts (exported network files).",
    ),
]


def _trust(context: typer.Context, value: str | None) -> None:
    if value is not None:
        context.with_resource(trust.trusting(value))  # until the command ends


Trust = Annotated[
    str | None,
    typer.Option(
        "--trust",
        metavar="KEY|FILE|manifest",
        envvar=trust.VARIABLE,
        callback=_trust,
        is_eager=True,
        expose_value=False,
        help="Public key of minisign, or a file of such keys, that must have signed the manifest; the word manifest "
        "means that unsigned TensorRT engines are run too.",
        show_default="no signature is needed, but engines must have been built here",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights", metavar="WEIGHTS", help="Weights for PyTorch: shipped, initial (untrained), a file or a folder."
    ),
]
Variant = Annotated[
    str, typer.Option("--variant", metavar="VARIANT", help=f"Variant of the networks: {' or '.join(VARIANTS)}.")
]
Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="RUNTIME",
        help=f"Runtime that computes the networks: {', '.join(RUNTIMES)}, or {AUTO}: the first that can.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        show_default="fp32, fp16 on trt and coreml",
        help="Precision of the artefacts.",
    ),
]
Provider = Annotated[
    str,
    typer.Option("--provider", metavar="PROVIDER", help=f"Execution provider of ONNX Runtime: {', '.join(PROVIDERS)}."),
]
CpuNodes = Annotated[
    int | None,
    typer.Option(
        "--cpu-nodes",
        metavar="N",
        min=0,
        help="With --provider: fail if more than N operations of a network would run on the CPU instead.",
        show_default="any number",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help=f"Device of PyTorch: {', '.join(DEVICES)}.")]
ChannelsLast = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--channels-first",
        help="Order of a picture's values in PyTorch's memory.",
        show_default="channels last on a GPU",
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Let PyTorch compile the networks, once for each size of a tile.")
]
CudaGraph = Annotated[
    bool,
    typer.Option(
        "--cuda-graph",
        help="With --device cuda: record the loop of a photo as one CUDA graph when it is refocused the second time.",
    ),
]
LoopPlace = Annotated[
    str,
    typer.Option(
        "--loop",
        metavar="WHERE",
        help="Place of the loop over the levels: device (nothing is copied in between), host, or auto.",
    ),
]
LoopPlaces = Annotated[
    list[str] | None,
    typer.Option(
        "--loop",
        metavar="WHERE",
        show_default="auto",
        help="Place of the loop over the levels: auto, device, host; may be repeated.",
    ),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        show_default="the shipped one",
        help="Precision plan; used with precision int8 or mixed.",
    ),
]

# What the exporters share: `export/onnx_graph.py`, `export/trt.py` and `export/coreml.py` as typed, `deeplens export`.
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="VARIANT",
        help=f"Variant of the networks: {' or '.join(VARIANTS)}; may be repeated.",
        show_default="edge",
    ),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="NETWORK", help=f"Network: {', '.join(NETWORKS)}; may be repeated.", show_default="all"
    ),
]
FixedSizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="WxH",
        help="Also export for this fixed low-resolution size; may be repeated.",
        show_default="256x256",
    ),
]
ExportedWeights = Annotated[
    str,
    typer.Option(
        "--weights", metavar="WEIGHTS", help="Weights: shipped, initial (untrained), a safetensors file or a folder."
    ),
]
ExportedDepthNetwork = Annotated[
    str | None,
    typer.Option(
        "--depth-network",
        metavar="NAME",
        help="Export the depth network of this name instead: one that `deeplens depth add` added.",
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Output folder of the artefacts and their manifest.")
]
WholeSizes = Annotated[
    list[str] | None,
    typer.Option(
        "--whole",
        metavar="WxH",
        help="Export the whole effect as one graph for photos of this size instead; may be repeated.",
    ),
]
WithDepth = Annotated[
    bool,
    typer.Option(
        "--with-depth", help="With --whole: put the depth network in front; the graph takes a focus point instead."
    ),
]
TargetMemory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        metavar="MIB",
        min=1,
        help="With --whole: memory that the target has; a size that takes more is refused.",
        show_default="by target",
    ),
]

# What the comparisons of depth share.
ShippedVariants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="VARIANT",
        help=f"Variant of the networks: {' or '.join(VARIANTS)}; may be repeated.",
        show_default="those with shipped weights",
    ),
]

DepthModelFile = Annotated[
    Path | None,
    typer.Option(
        "--depth-model", metavar="FILE", help="ONNX model that predicts depth, used instead of the built-in network."
    ),
]
DepthModelSize = Annotated[
    str | None, typer.Option("--depth-model-size", metavar="WxH", help="Input size of the depth model.")
]
DepthModelMean = Annotated[
    str | None,
    typer.Option(
        "--depth-model-mean",
        metavar="R,G,B",
        help="Subtracted from the depth model's input (pixels 0 to 1); often 0.485,0.456,0.406.",
    ),
]
DepthModelStd = Annotated[
    str | None,
    typer.Option(
        "--depth-model-std",
        metavar="R,G,B",
        help="The depth model's input is then divided by this; often 0.229,0.224,0.225.",
    ),
]
DepthModelChannels = Annotated[
    str | None,
    typer.Option(
        "--depth-model-channels",
        metavar="ORDER",
        help="Channel order of the depth model's input: rgb or bgr.",
        show_default="rgb",
    ),
]
DepthModelOutput = Annotated[
    str | None,
    typer.Option(
        "--depth-model-output",
        metavar="KIND",
        help="What the depth model gives: disparity (near = large) or depth (far = large).",
    ),
]
DepthModelOutputName = Annotated[
    str | None,
    typer.Option(
        "--depth-model-output-name",
        metavar="NAME",
        help="Name of the output with the depth map, for a model with several outputs.",
        show_default="the only output",
    ),
]

DepthModelAspect = Annotated[
    str | None,
    typer.Option(
        "--depth-model-aspect",
        metavar="ASPECT",
        show_default="stretch",
        help="Aspect ratio of the photo in the depth model: keep or stretch it to the size.",
    ),
]
DepthModelMultiple = Annotated[
    str | None,
    typer.Option(
        "--depth-model-multiple",
        metavar="N",
        help="Height and width of the depth model's input must be multiples of N pixels.",
    ),
]
DepthNetwork = Annotated[
    str | None,
    typer.Option(
        "--depth-network",
        metavar="NAME",
        show_default="our own",
        help="Depth network of others, by its name in `deeplens depth list`, on the same runtime.",
    ),
]


@dataclass(frozen=True)
class DepthModelChoice:
    """The depth model that a command line names, and what it tells of it. Light: it travels to other processes."""

    path: Path
    told: "Convention"

    def open(self, *, threads: int | None = None) -> "DepthModel":
        """Load it: see `runtimes.depth_model.DepthModel`."""
        from deeplens.runtimes.depth_model import DepthModel

        return DepthModel(self.path, told=self.told, threads=threads)


def depth_model_from(path: Path | None, **told: str | None) -> DepthModelChoice | None:
    """What the options `--depth-model` and `--depth-model-…` name; `told` by the names of `Convention`'s attributes.

    Raises:
        InputError: something is told of a model that is not named, or makes no sense.
    """
    from deeplens.runtimes.depth_convention import Convention

    if path is None:
        for name, value in told.items():
            if value is not None:
                option = f"--depth-model-{name.replace('_', '-')}"
                raise InputError(f"{option} describes a depth model, but none was named: give --depth-model FILE too")
        return None
    return DepthModelChoice(path, Convention.parsed(told))
