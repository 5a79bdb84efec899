"""Where the built web page is. It is made by `make web`, and a wheel of `make dist` carries it."""

from pathlib import Path

from deeplens.console.errors import MissingError

PAGE_FOLDER = Path(__file__).parent.parent / "web_page"
"""The page with its models; not there in a checkout until it is built."""

MODELS = "models"
"""Its folder of graphs, with models.json and harness.json."""


def page_folder() -> Path:
    """The folder of the built page.

    Raises:
        MissingError: the page or its models are not built.
    """
    for name in ("index.html", f"{MODELS}/models.json"):
        if not (PAGE_FOLDER / name).is_file():
            raise MissingError(
                f"the web page is not built, {name} is missing in {PAGE_FOLDER}: run make web, which needs Node"
            )
    return PAGE_FOLDER
