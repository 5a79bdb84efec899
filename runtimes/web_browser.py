"""Chromium without a window, driven by Playwright."""

import os
import shutil
from types import TracebackType
from typing import TYPE_CHECKING, Any

from deeplens.console.errors import MismatchError, MissingError, one_line
from deeplens.console.package import pip_install

if TYPE_CHECKING:
    from typing_extensions import Self  # `typing` has it from Python 3.11 on

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

VARIABLE = "DEEPLENS_CHROMIUM"
"""Names the browser's program, where it is not on the path."""


def chromium_path() -> str:
    """The browser's program.

    Raises:
        MissingError: there is none.
    """
    given = os.environ.get(VARIABLE)
    found = shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        what = f"{VARIABLE} names {given}, which can't be run" if given else "no Chromium was found"
        raise MissingError(f"{what}: install it (apt-get install chromium), or name it in {VARIABLE}")
    return found


class Browser:
    """A running Chromium. A context manager.

    Args:
        arguments: further ones of its command line.

    Raises:
        MissingError: Playwright or Chromium is not there, or does not start.
    """

    def __init__(self, *arguments: str) -> None:
        program = chromium_path()
        try:
            from playwright.sync_api import Error, sync_playwright
        except ImportError as error:
            raise MissingError(f"Playwright can't be imported ({error}): {pip_install('web')}") from error
        self._playwright: Any = sync_playwright().start()
        try:
            self.chromium: Any = self._playwright.chromium.launch(executable_path=program, args=list(arguments))
        except Error as error:
            self._playwright.stop()
            raise MissingError(f"{program} does not start ({one_line(error)}): try another with {VARIABLE}") from error

    def close(self) -> None:
        self.chromium.close()
        self._playwright.stop()

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def evaluated(page: Any, script: str, *arguments: object) -> Any:
    """What a script in a page gives.

    Raises:
        MismatchError: it fails there; the message is the page's.
    """
    from playwright.sync_api import Error

    try:
        return page.evaluate(script, list(arguments))
    except Error as error:
        raise MismatchError(
            f"the page in the browser fails ({one_line(error)}): build it again with make web"
        ) from error
