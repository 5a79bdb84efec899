"""Options that several commands share: written once, so that they mean the same everywhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from model.contract import VARIANTS
from model.errors import MissingError
from runtimes import RUNTIMES

JsonTarget = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON to FILE; - is standard output.")
]
Artifacts = Annotated[
    Path | None, typer.Option("--artifacts", metavar="DIR", show_default="artifacts", help="Folder with the artefacts.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="W", help="Of torch: shipped, initial (untrained), or a file or folder.")
]
Variant = Annotated[str, typer.Option("--variant", metavar="V", help=f"One of {', '.join(VARIANTS)}.")]
Runtime = Annotated[str, typer.Option("--runtime", metavar="R", help=f"One of {', '.join(RUNTIMES)}.")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", show_default="fp32, fp16 on trt and coreml", help="Of the artefacts."),
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, show_default="all", help="CPU threads.")]


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
