"""Pictures of the page for the docs, taken in Chromium: python -m tests.web.pictures [--out docs/images]."""

from pathlib import Path
from typing import Annotated

import typer

from deeplens.console.script import run_script
from deeplens.runtimes.web_browser import Browser
from deeplens.runtimes.web_page import page_folder
from deeplens.runtimes.web_server import PageServer
from tests.conftest import ROOT
from tests.web.conftest import Visitor, visit

DRUM = (0.34, 0.58)


def _opened(browser: Browser, server: PageServer, **options: object) -> Visitor:
    visitor = visit(browser, server, **options)
    visitor.open((ROOT / "samples" / "drum.jpg").read_bytes(), "drum.jpg", "image/jpeg")
    visitor.tap(*DRUM)
    visitor.page.wait_for_timeout(1800)  # the mark of the focus point fades
    return visitor


def _taken(visitor: Visitor, path: Path) -> None:
    visitor.page.screenshot(path=str(path), type="jpeg", quality=85)


def take(folder: Path) -> list[Path]:
    """Write the pictures; returns their paths."""
    names = ("web_compare", "web_depth", "web_phone", "web_welcome")
    paths = {name: folder / f"{name}.jpg" for name in names}
    with Browser() as browser, PageServer(page_folder(), isolated=False) as server:
        light = visit(browser, server, viewport={"width": 1100, "height": 640})
        _taken(light, paths["web_welcome"])
        desk = _opened(browser, server, viewport={"width": 1100, "height": 760})
        desk.choose("view", "compare")
        _taken(desk, paths["web_compare"])
        desk.choose("view", "depth")
        _taken(desk, paths["web_depth"])
        phone = _opened(
            browser, server, viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=2
        )
        _taken(phone, paths["web_phone"])
    return list(paths.values())


def main(
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the pictures.")] = ROOT
    / "docs"
    / "images",
) -> None:
    """Take the pictures of the page that the docs show."""
    for path in take(folder):
        typer.echo(path)


if __name__ == "__main__":
    run_script(main)
