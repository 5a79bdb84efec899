"""The HTTP side of `deeplens studio`: the page's files, and the photos and pictures that the page asks for."""

import asyncio
import contextlib
import hmac
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from deeplens.commands.studio_guard import Guard, error
from deeplens.commands.studio_photos import Photos, Record, Refused, Session
from deeplens.commands.studio_wish import Wish, depth_named
from deeplens.commands.studio_work import Token, Work
from deeplens.console.errors import Cancelled, DeepLensError, InputError
from deeplens.console.inputs import parse_json
from deeplens.console.package import VERSION
from deeplens.console.progress import Stopwatch
from deeplens.runtimes.bounds import MAX_PIXELS

T = TypeVar("T")
Answer = Callable[[Request], Awaitable[Response]]

MOST_JSON = 1 << 16
LOOK_AGAIN = 0.05
"""Seconds after which it is looked whether the page still waits for an answer."""

SWEEP = 60.0
"""Seconds between two looks for uploads that nobody asked for."""

NO_STORE = {"Cache-Control": "no-store"}
TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".webmanifest": "application/manifest+json"}

NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>DeepLens</title>
<h1>The page is not built</h1><p>Run <code>make web</code>, which needs Node, and load this page again.</p></html>
"""


class Studio:
    """The handlers. One for all sessions.

    Args:
        page: the folder of the built page; it may be missing.
        port: the server's own.
    """

    def __init__(self, photos: Photos, work: Work, *, page: Path, port: int) -> None:
        self._photos, self._work, self._page, self._port = photos, work, page, port
        self._cookie = f"deeplens_session_{port}"  # browsers do not tell the ports of one machine apart

    def app(self) -> Starlette:
        """The application."""
        for suffix, kind in TYPES.items():
            mimetypes.add_type(kind, suffix)
        photo = "/api/photos/{photo}"
        routes: list[Route | Mount] = [
            Route("/", self._index, methods=["GET"]),
            Route("/index.html", self._index, methods=["GET"]),
            Route("/api/about", self._about, methods=["GET"]),
            Route("/api/photos", self._upload, methods=["POST"]),
            Route(photo, self._describe, methods=["GET"]),
            Route(photo, self._remove, methods=["DELETE"]),
            Route(f"{photo}/file", self._file, methods=["GET"]),
            Route(f"{photo}/picture", self._picture, methods=["GET"]),
            Route(f"{photo}/disparity", self._disparity, methods=["GET"]),
            Route(f"{photo}/refocus", self._refocus, methods=["POST"]),
            Route(f"{photo}/result", self._result, methods=["POST"]),
        ]
        if (self._page / "index.html").is_file():
            routes.append(Mount("/", _Files(directory=self._page)))
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, port=self._port)],
            exception_handlers={HTTPException: _http_error, DeepLensError: _known_error, Exception: _fault},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP)
                await run_in_threadpool(self._photos.sweep)

        task = asyncio.create_task(sweep())
        try:
            yield
        finally:
            task.cancel()
            self._work.stop()

    def _session(self, request: Request) -> Session:
        return self._photos.session(request.cookies.get(self._cookie))

    def _with_session(self, request: Request, response: Response, *, owner: bool = False) -> Session:
        session = self._photos.session(request.cookies.get(self._cookie), made=True, owner=owner)
        response.set_cookie(self._cookie, session.key, httponly=True, samesite="strict", path="/")
        return session

    async def _index(self, request: Request) -> Response:
        """The page. With the key of the printed address, this browser may see the photos of the command line."""
        if "key" in request.query_params:
            given = request.query_params["key"]
            response: Response = RedirectResponse("/", 303, headers=NO_STORE)
            self._with_session(request, response, owner=_same(given, self._photos.key))
            return response
        index = self._page / "index.html"
        if index.is_file():
            response = HTMLResponse(await run_in_threadpool(index.read_bytes), headers={"Cache-Control": "no-cache"})
        else:
            response = HTMLResponse(NOT_BUILT, 404, headers=NO_STORE)
        self._with_session(request, response)
        return response

    async def _about(self, request: Request) -> Response:
        response = JSONResponse({}, headers=NO_STORE)
        session = self._with_session(request, response)
        limits = self._photos.limits
        text = {
            "name": "deeplens",
            "version": VERSION,
            "runtime": self._work.runtime,
            "runtimes": list(self._work.runtimes),
            "limits": {"bytes": limits.bytes, "photos": limits.photos, "pixels": limits.pixels or MAX_PIXELS},
            "photos": [record.about() for record in self._photos.visible(session)],
        }
        made = JSONResponse(text, headers=NO_STORE)
        made.raw_headers += [header for header in response.raw_headers if header[0] == b"set-cookie"]
        return made

    async def _upload(self, request: Request) -> Response:
        session = self._session(request)
        name = unquote(request.headers.get("x-name", ""), errors="replace")
        most = self._photos.limits.bytes
        too_large = Refused(413, f"a photo may have at most {most / 1e6:.0f} MB: make it smaller")
        said = request.headers.get("content-length")
        if said is not None and (not said.isdigit() or int(said) > most):
            raise too_large
        with self._photos.arriving(session, name) as record:
            total = 0
            try:
                with record.path.open("xb") as file:
                    async for block in request.stream():
                        total += len(block)
                        if total > most:
                            raise too_large
                        await run_in_threadpool(file.write, block)
            except ClientDisconnect:
                raise Refused(400, "the upload was cut off: send the photo again") from None
            if total == 0:
                raise Refused(400, "the request holds no file: send the photo's bytes")
            await run_in_threadpool(self._photos.read, record)
            return JSONResponse(record.about(), 201, headers=NO_STORE)

    async def _describe(self, request: Request) -> Response:
        """What a photo holds. One of the command line is read now, if it was not yet."""
        _, record = self._record(request)
        if not record.described:
            await run_in_threadpool(self._photos.read, record)
        return JSONResponse(record.about(), headers=NO_STORE)

    async def _file(self, request: Request) -> Response:
        """The file itself, as something to be saved: a browser must not take it for a page."""
        _, record = self._record(request)
        if not record.path.is_file():
            raise Refused(404, f"{record.name} can't be read any more: open it again")
        headers = {"Content-Disposition": "attachment", **NO_STORE}
        return FileResponse(record.path, media_type="application/octet-stream", headers=headers)

    async def _remove(self, request: Request) -> Response:
        self._photos.remove(self._session(request), request.path_params["photo"])
        return Response(status_code=204, headers=NO_STORE)

    def _record(self, request: Request) -> tuple[Session, Record]:
        session = self._session(request)
        return session, self._photos.find(session, request.path_params["photo"])

    async def _picture(self, request: Request) -> Response:
        _, record = self._record(request)
        side = request.query_params.get("side", "1024")
        if not (side.isascii() and side.isdigit() and 0 < len(side) < 7):
            raise Refused(400, "side is a whole number of pixels, such as 1024")
        data, kind = await run_in_threadpool(self._work.picture, record, int(side))
        return Response(data, media_type=kind, headers=NO_STORE)

    async def _disparity(self, request: Request) -> Response:
        session, record = self._record(request)
        depth = depth_named(request.query_params.get("depth"))
        found = await self._while_wanted(
            request, session, record, "disparity", lambda token: self._work.disparity(record, depth, token)
        )
        height, width = found.shape
        data = np.ascontiguousarray(found, "<f4").tobytes()
        headers = {"X-Width": str(width), "X-Height": str(height), **NO_STORE}
        return Response(data, media_type="application/octet-stream", headers=headers)

    async def _refocus(self, request: Request) -> Response:
        session, record = self._record(request)
        wish, watch = Wish.parsed(await _json(request)), Stopwatch()
        data, at = await self._while_wanted(
            request, session, record, "refocus", lambda token: self._work.refocus(record, wish, token, watch)
        )
        headers = {"X-Focus-Disparity": repr(at), "Server-Timing": _timing(watch), **NO_STORE}
        return Response(data, media_type="image/png", headers=headers)

    async def _result(self, request: Request) -> Response:
        session, record = self._record(request)
        wish, watch = Wish.parsed(await _json(request)), Stopwatch()
        data, name = await self._while_wanted(
            request, session, record, "result", lambda token: self._work.result(record, wish, token, watch)
        )
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "Server-Timing": _timing(watch),
            **NO_STORE,
        }
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(data, media_type=kind, headers=headers)

    async def _while_wanted(
        self, request: Request, session: Session, record: Record, kind: str, work: Callable[[Token], T]
    ) -> T:
        """Do work in a thread, until it is done, something newer is asked for or the page is gone."""
        token = self._work.newest(session.key, record.key, kind)
        running = asyncio.ensure_future(run_in_threadpool(work, token))
        try:
            while not (await asyncio.wait({running}, timeout=LOOK_AGAIN))[0]:
                if await request.is_disconnected():
                    token.cancel()
            return await running
        except Cancelled:
            raise Refused(409, "a newer request has taken the place of this one") from None
        finally:
            token.cancel()
            self._work.done(token)


class _Files(StaticFiles):
    """The page's files; a browser asks each time whether its own are still right."""

    async def get_response(self, path: str, scope: Any) -> Response:
        try:
            response = await super().get_response(path, scope)
        except ValueError:  # a name that no file can have
            raise HTTPException(404) from None
        response.headers.setdefault("Cache-Control", "no-cache")
        return response


async def _json(request: Request) -> object:
    """What a small request holds. Refused: too long, or no JSON."""
    data = bytearray()
    async for block in request.stream():
        data += block
        if len(data) > MOST_JSON:
            raise Refused(413, f"a request has at most {MOST_JSON // 1024} KB")
    try:
        return parse_json(data.decode())
    except ValueError:
        raise Refused(400, "the request is not JSON: send an object") from None


def _timing(watch: Stopwatch) -> str:
    parts = {**watch.seconds, "total": watch.total}
    return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in parts.items())


def _same(given: str, due: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), due.encode())


async def _http_error(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    texts = {404: "there is no such file or address", 405: "this address does not take that kind of request"}
    answer = error(failure.status_code, texts.get(failure.status_code, str(failure.detail)))
    for name, value in (failure.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _known_error(_request: Request, failure: Exception) -> Response:
    if isinstance(failure, Refused):
        return error(failure.status, str(failure))
    return error(400 if isinstance(failure, InputError) else 500, str(failure))


async def _fault(_request: Request, failure: Exception) -> Response:
    return error(500, f"a fault of the program ({type(failure).__name__}): its window says more")
