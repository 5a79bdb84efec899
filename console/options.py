"""Options that every command may have, written once, so that they mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

JsonTarget = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE; - means standard output."),
]


Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, show_default="all", help="Number of CPU threads.")
]
