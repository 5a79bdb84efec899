"""Hooks of the site: pages from the top of the repository, and links that work on a Git host and on the site alike.

On a Git host `docs/tensorrt.md` links to `../CHANGELOG.md`, and README links to `docs/tensorrt.md`. On the site all
pages lie in one folder. So a link to a page is turned into that page's name there, and a link to a file that is no page
(source code, a licence) becomes plain text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

FROM_ROOT = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""File at the top of the repository → its page on the site."""

_LINK = re.compile(r"(?<!!)\[([^\]\[]*)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_WEB = re.compile(r"^(https?:|mailto:|#)")


def rewritten(text: str, *, folder: str) -> str:
    """The Markdown of a page with links as the site needs them.

    Args:
        folder: where the file lies, from the top of the repository: "" or "docs".
    """

    def link(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        if _WEB.match(target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path in FROM_ROOT:
            page = FROM_ROOT[path]
        elif path.startswith("docs/") and (ROOT / path).is_file():
            page = path.removeprefix("docs/")
        elif (ROOT / path).exists():
            return label
        else:
            return match[0]  # a broken link: the strict build names it
        return f"[{label}]({page}{'#' + anchor if anchor else ''})"

    def image(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        return f"![{match[1]}]({target.removeprefix('docs/')})"

    return _IMAGE.sub(image, _LINK.sub(link, text))


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages from the top of the repository."""
    for source, page in FROM_ROOT.items():
        content = rewritten((ROOT / source).read_text(encoding="utf-8"), folder="")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page in `docs/` into those of the site."""
    del config, files
    return markdown if page.file.src_uri in FROM_ROOT.values() else rewritten(markdown, folder="docs")
