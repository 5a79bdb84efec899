"""Options that several commands share: written once, so that they mean the same everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deeplens.console.errors import InputError, MissingError
from deeplens.model.contract import VARIANTS
from deeplens.runtimes import AUTO, RUNTIMES

if TYPE_CHECKING:
    from deeplens.runtimes.depth_model import Convention, DepthModel

Artifacts = Annotated[
    Path | None, typer.Option("--artifacts", metavar="DIR", show_default="artifacts", help="Folder with the artefacts.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="W", help="Of torch: shipped, initial (untrained), or a file or folder.")
]
Variant = Annotated[str, typer.Option("--variant", metavar="V", help=f"One of {', '.join(VARIANTS)}.")]
Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="R",
        help=f"{AUTO} or one of {', '.join(RUNTIMES)}; {AUTO} takes the first that is installed and has artefacts.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", show_default="fp32, fp16 on trt and coreml", help="Of the artefacts."),
]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", show_default="the shipped one", help="Precision plan for int8 and mixed."),
]


def weights_from(text: str) -> Path | Literal["shipped", "initial"]:
    """What `--weights` names, as `model.build.load` takes it: one of the two words, or a path that is there.

    Raises:
        MissingError: neither.
    """
    if text == "shipped":
        return "shipped"
    if text == "initial":
        return "initial"
    path = Path(text)
    if not path.exists():
        raise MissingError(f"no weights at {text}: give 'shipped', 'initial', a safetensors file or a folder of them")
    return path


DepthModelFile = Annotated[
    Path | None,
    typer.Option("--depth-model", metavar="FILE", help="An ONNX model that gives the depth in place of the network."),
]
DepthModelSize = Annotated[
    str | None, typer.Option("--depth-model-size", metavar="WxH", help="Input size of the depth model.")
]
DepthModelMean = Annotated[
    str | None,
    typer.Option("--depth-model-mean", metavar="R,G,B", help="Taken from its pixels in 0..1; 0.485,0.456,0.406 often."),
]
DepthModelStd = Annotated[
    str | None, typer.Option("--depth-model-std", metavar="R,G,B", help="Divides them; 0.229,0.224,0.225 often.")
]
DepthModelChannels = Annotated[
    str | None, typer.Option("--depth-model-channels", metavar="ORDER", help="rgb or bgr.", show_default="rgb")
]
DepthModelOutput = Annotated[
    str | None,
    typer.Option("--depth-model-output", metavar="KIND", help="disparity (near = large) or depth (far = large)."),
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
    from deeplens.runtimes.depth_model import Convention

    if path is None:
        for name, value in told.items():
            if value is not None:
                raise InputError(f"--depth-model-{name} tells of a model that is not named: give --depth-model FILE")
        return None
    return DepthModelChoice(path, Convention.parsed(told))
