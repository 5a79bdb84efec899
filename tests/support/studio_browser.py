"""A server of `deeplens studio` in this process, on a real socket, and what asks it as a browser does."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeplens.commands.studio_photos import Limits, Photos
from deeplens.commands.studio_work import Work
from deeplens.runtimes import Runtime, open_runtime


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one sentence of a refusal."""
        assert self.status >= 400, (self.status, self.body[:200])
        said = self.json
        assert list(said) == ["error"]
        text: str = said["error"]
        assert "\n" not in text
        return text


@dataclass
class Browser:
    """Keeps its cookie, and sends what the page sends."""

    port: int
    cookie: str | None = None
    own: dict[str, str] = field(default_factory=lambda: {"X-DeepLens": "1"})

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Reply:
        """One request. A header that is None is left out; _ stands for - in the names."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", **self.own}
        if self.cookie is not None:
            given["Cookie"] = self.cookie
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None and "Transfer-Encoding" not in given and "Content-Length" not in given:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        try:
            if body is not None:
                connection.send(body)
        except OSError:
            pass  # it answers before all was sent
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        reply = Reply(response.status, found, response.read())
        connection.close()
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].split(";")[0]
        return reply

    def upload(self, data: bytes, name: str = "photo.png") -> Reply:
        return self.ask("POST", "/api/photos", data, X_Name=name)

    def wish(self, photo: str, kind: str = "refocus", **said: object) -> Reply:
        return self.ask("POST", f"/api/photos/{photo}/{kind}", json.dumps(said).encode())


@dataclass
class Served:
    """A running server."""

    port: int
    photos: Photos
    work: Work

    def browser(self, *, key: bool = False) -> Browser:
        """A new browser that has loaded the page."""
        made = Browser(self.port)
        made.ask("GET", f"/?key={self.photos.key}" if key else "/")
        assert made.cookie is not None
        return made


@contextmanager
def served(
    artifacts: Path,
    parent: Path,
    *,
    limits: Limits | None = None,
    page: Path = Path("nowhere"),
    given: Mapping[str, Path] | None = None,
    memory: int = 1 << 30,
    runtime: Runtime | None = None,
    clock: Any = time.monotonic,
    tile: int = 256,
) -> Iterator[Served]:
    """Serve until the block ends.

    Args:
        artifacts: of ONNX Runtime.
        parent: where the private folder is made.
        runtime: stands in for ONNX Runtime.
    """
    import uvicorn

    from deeplens.commands.studio import _listening
    from deeplens.commands.studio_app import Studio

    def opened(name: str) -> Runtime:
        return open_runtime(name, artifacts=artifacts) if runtime is None else runtime

    listening = _listening(0)
    port: int = listening.getsockname()[1]
    with listening, Photos(limits or Limits(), parent=parent, clock=clock) as photos:
        for name, path in (given or {}).items():
            photos.add_given(path, name)
        with Work(photos, opened, runtime="onnx", runtimes=("onnx",), tile=tile, memory=memory) as work:
            app = Studio(photos, work, page=page, port=port).app()
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, ws="none"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            try:
                while not server.started:
                    time.sleep(0.005)
                yield Served(port, photos, work)
            finally:
                server.should_exit = True
                thread.join(10)


def until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that happens in another thread."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
