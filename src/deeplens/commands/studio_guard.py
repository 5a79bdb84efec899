"""Which requests `deeplens studio` answers at all: those of its own page, in a browser on this machine.

Any page that is open in a browser can send requests to a port of this machine, and a name of its own can lead there
(DNS rebinding). So the name that was asked for must be that of the loopback, the origin our own, and what changes
something must carry a header that no other page can send without asking.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost")
OWN_HEADER = b"x-deeplens"

HEADERS = {
    # Nothing of elsewhere is loaded, and no other page can show or embed this one. WebAssembly needs wasm-unsafe-eval.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src 'self' "
    "blob:; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' "
    "blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",  # these two give the page threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def error(status: int, message: str) -> JSONResponse:
    """What is answered where something went wrong: one sentence in JSON."""
    return JSONResponse({"error": message}, status, headers={"Cache-Control": "no-store"})


class Guard:
    """Refuses what does not come from our own page, and adds `HEADERS` to every answer.

    Args:
        port: the server's own.
    """

    def __init__(self, app: Application, *, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = list(message["headers"]) + [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in given
                ]
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], scope["headers"])
        if refusal is None:
            await self._app(scope, receive, adding)
        else:
            await error(403, refusal)(scope, receive, adding)

    def _refusal(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Why a request is not answered; None: it is."""
        found: dict[bytes, list[str]] = {}
        for name, value in headers:
            found.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts, origins = found.get(b"host", []), found.get(b"origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return f"this program answers under {' and '.join(sorted(self._hosts))} only: open it there"
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            return "another page asked for this: only the program's own page may"
        elsewhere = any(site not in ("same-origin", "none") for site in found.get(b"sec-fetch-site", []))
        opened = found.get(b"sec-fetch-dest") == ["document"]  # somebody follows a link, or is led here
        if elsewhere and (path.startswith("/api") or not opened):
            return "another page asked for this: only the program's own page may"
        if path.startswith("/api") and method not in ("GET", "HEAD") and found.get(OWN_HEADER) != ["1"]:
            return "the header X-DeepLens is missing: only the program's own page may ask for this"
        return None
