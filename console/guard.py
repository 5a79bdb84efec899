"""What the command line does when something fails: one line on standard error and an exit status that scripts can use.

| status | when |
| --- | --- |
| 0 | done |
| 1–5 | an error that the user can act on: see `console.errors`; 2 is a command line that makes no sense |
| 70 | a fault of the program (`DEEPLENS_DEBUG=1` shows where) |
| 71 | out of memory |
| 74 | the system refused to read or write: a full disk, a missing permission |
| 130, 143 | interrupted, terminated |
"""

import codecs
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

import typer

from deeplens.console.errors import DeepLensError

USAGE = 2
FAULT = 70
NO_MEMORY = 71
SYSTEM = 74
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

DEBUG = "DEEPLENS_DEBUG"
"""Set to 1, this environment variable adds the traceback to an error."""


def guarded(command: Callable[[], object]) -> int:
    """Run `command` and return the exit status; an error is one line on standard error.

    Args:
        command: a whole number that it returns is the exit status (what typer returns for `typer.Exit`).
    """
    previous = signal.signal(signal.SIGTERM, _terminate)  # so that `finally` clauses remove temporary files
    _print_anywhere()
    try:
        status = command()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except typer.TyperException as error:
        return _fail(error, _usage(error), error.exit_code)
    except typer.Abort as error:
        return _unexpected(error.__cause__ or error)
    except DeepLensError as error:
        return _fail(error, str(error), error.exit_code)
    except KeyboardInterrupt as error:
        return _fail(error, "interrupted", INTERRUPTED)
    except MemoryError as error:
        return _fail(error, "out of memory: try a smaller --tile or a smaller photo", NO_MEMORY)
    except RecursionError as error:
        return _fail(error, "something in the input is nested too deep: check the files that were given", 3)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has gone, as with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        where = f"{error.filename}: " if error.filename else ""
        return _fail(error, f"{where}{error.strerror or error}", SYSTEM)
    except Exception as error:
        return _unexpected(error)
    finally:
        signal.signal(signal.SIGTERM, previous)


PLAIN = str.maketrans({"×": "x", "−": "-", "–": "-", "…": "...", "’": "'", "±": "+-", "·": ".", "→": "->", "≤": "<="})
"""Signs of our own messages → what stands for them where the terminal's encoding lacks them."""


def _print_anywhere() -> None:
    """Let standard output and error take any text: signs that their encoding lacks are spelled otherwise."""
    codecs.register_error("deeplens", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors="deeplens")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    spelled = "".join(
        sign.translate(PLAIN) if ord(sign) in PLAIN else sign.encode("ascii", "backslashreplace").decode()
        for sign in lacking
    )
    return spelled, error.end


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context is not None else ""
    return f"{error.format_message().rstrip('.')}{hint}"


def _unexpected(error: BaseException) -> int:
    hint = "" if _debug() else f" (a fault of the program: set {DEBUG}=1 to see where)"
    return _fail(error, f"{type(error).__name__}: {error}{hint}", FAULT)


def _fail(error: BaseException, message: str, status: int) -> int:
    if _debug():
        traceback.print_exception(error)
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status


def _debug() -> bool:
    return os.environ.get(DEBUG, "") not in ("", "0")
