"""How a module that is also a command starts: `python -m deeplens.ROOM.MODULE`, or `python export/trt.py` as typed."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from deeplens.console.guard import guarded


def run_script(command: Callable[..., Any]) -> NoReturn:
    """Run a function whose parameters are typer's options on this process's arguments, then leave the process.

    An error is one line on standard error and an exit status: see `console.guard`.
    """
    app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command()(command)
    sys.exit(guarded(lambda: app(standalone_mode=False)))
