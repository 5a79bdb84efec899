"""Serves the built page on loopback to a browser that a program drives, and passes arrays to and from it."""

import threading
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self  # `typing` has it from Python 3.11 on

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers with which a browser lets a page have threads."""

ARRAYS = "/drive/"
"""Where arrays are fetched and posted."""


class PageServer:
    """A server of one folder, and of arrays by name. A context manager.

    Args:
        folder: the built page.
        isolated: whether it sends the headers of cross-origin isolation; a static host usually does not.

    Attributes:
        arrays: name → bytes: what the page may fetch, and what it posted.
        sent: bytes of the files that were sent.
    """

    def __init__(self, folder: Path, *, isolated: bool = True) -> None:
        self.arrays: dict[str, bytes] = {}
        self.sent = 0
        self.headers: Mapping[str, str] = ISOLATION if isolated else {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, page=self, directory=str(folder)))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    @property
    def address(self) -> str:
        """Of the page, with a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".onnx": "application/octet-stream",
        ".webmanifest": "application/manifest+json",
    }

    def __init__(self, *args: object, page: PageServer, directory: str) -> None:
        self._page = page
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def end_headers(self) -> None:
        for name, value in self._page.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def copyfile(self, source: object, outputfile: object) -> None:
        data = source.read()  # type: ignore[attr-defined]
        self._page.sent += len(data)
        outputfile.write(data)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        if not self.path.startswith(ARRAYS):
            super().do_GET()
            return
        data = self._page.arrays.get(self.path.removeprefix(ARRAYS))
        if data is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.path.startswith(ARRAYS):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._page.arrays[self.path.removeprefix(ARRAYS)] = data
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args  # nobody reads it
