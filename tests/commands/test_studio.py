"""`deeplens studio`: what the page gets, what others don't, and what is left when it ends. On real sockets."""

import io
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from deeplens.commands.studio_photos import Limits
from deeplens.console.package import VERSION
from deeplens.runtimes.pyramid import geometry
from tests.conftest import Command, png
from tests.support.studio_browser import Browser, Served, served, until
from tests.support.studio_photos import PHOTO, as_png, made, pixels_of


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built page, and beside its folder a file that is none of its own."""
    folder = tmp_path_factory.mktemp("build") / "web_page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "assets" / "worker.mjs").write_text("export {}")
    (folder / "assets" / "ort.wasm").write_bytes(b"\0asm")
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A photo of the command line: turned by its EXIF, with a camera's name."""
    path = tmp_path_factory.mktemp("given") / "camera.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    Image.fromarray(made(60, 400)).save(path, exif=exif, quality=95)
    return {"album/camera.jpg": path}


@pytest.fixture(scope="module")
def server(artifacts: Path, parent: Path, page: Path, given: dict[str, Path]) -> Iterator[Served]:
    limits = Limits(bytes=1_000_000, pixels=1_000_000, photos=3)
    with served(artifacts, parent, limits=limits, page=page, given=given) as found:
        yield found


@pytest.fixture
def browser(server: Served) -> Browser:
    return server.browser()


@pytest.fixture
def photo_of(browser: Browser) -> str:
    reply = browser.upload(PHOTO, "my%20photo.png")
    assert reply.status == 201, reply.body
    key: str = reply.json["photo"]
    return key


def test_the_page_and_what_it_is_told(server: Served, browser: Browser) -> None:
    reply = browser.ask("GET", "/")
    assert b"<title>page</title>" in reply.body
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"  # so that it has threads
    assert reply.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    for path, kind in (("/assets/worker.mjs", "text/javascript"), ("/assets/ort.wasm", "application/wasm")):
        found = browser.ask("GET", path)
        assert (found.status, found.headers["content-type"].split(";")[0]) == (200, kind)
        assert found.headers["cross-origin-resource-policy"] == "same-origin"
    fresh = Browser(server.port)
    cookie = fresh.ask("GET", "/").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.ask("GET", "/api/about").json == {
        "name": "deeplens", "version": VERSION, "runtime": "onnx", "runtimes": ["onnx"],
        "limits": {"bytes": 1_000_000, "photos": 3, "pixels": 1_000_000}, "photos": [],
    }  # fmt: skip


def test_an_upload_is_described_shown_and_removed(server: Served, browser: Browser) -> None:
    reply = browser.upload(PHOTO, "..%2F..%2Fmy%20photo%20%C3%A4.png")
    said = reply.json
    assert (reply.status, said["name"], said["width"], said["height"]) == (201, "my photo ä.png", 700, 500)
    assert said["levels"] == geometry(500, 700).steps + 1 == 3
    (held,) = [each for each in server.photos.folder.rglob("*") if each.is_file() and said["photo"] in str(each)]
    assert held.parent.parent == server.photos.folder
    assert stat.S_IMODE(server.photos.folder.stat().st_mode) == 0o700
    small = browser.ask("GET", f"/api/photos/{said['photo']}/picture?side=200")
    assert small.headers["content-type"] == "image/jpeg"
    assert small.headers["cache-control"] == "no-store"
    assert pixels_of(small).shape == (143, 200, 3)
    depth = browser.ask("GET", f"/api/photos/{said['photo']}/disparity")
    shape = int(depth.headers["x-height"]), int(depth.headers["x-width"])
    values = np.frombuffer(depth.body, "<f4").reshape(shape)
    assert values.min() >= 0
    assert values.max() <= 1
    assert browser.ask("DELETE", f"/api/photos/{said['photo']}").status == 204
    assert not held.parent.exists()
    assert "no such photo" in browser.ask("GET", f"/api/photos/{said['photo']}/picture").error


def test_levels_lie_on_one_another_and_tell_their_time(browser: Browser, photo_of: str) -> None:
    levels = geometry(500, 700)
    for level in range(levels.steps + 1):
        reply = browser.wish(photo_of, disparity=0.9, f_number=1.4, level=level)
        assert pixels_of(reply).shape[:2] == levels.covered(level)
        timing = {each.split(";")[0].strip() for each in reply.headers["server-timing"].split(",")}
        # With so little blur the loop begins at level 1, which then the lens blur makes. Level 2 goes on from there.
        assert {"lens_blur" if level < 2 else f"step_{level}", "encode", "total"} == timing - {
            "read",
            "depth",
            "prepare",
        }
    full = browser.wish(photo_of, disparity=0.9, f_number=1.4, level="full")
    assert np.array_equal(pixels_of(full), pixels_of(reply))
    assert float(full.headers["x-focus-disparity"]) == 0.9


def test_the_result_is_what_refocus_writes(
    server: Served, given: dict[str, Path], deeplens: Command, artifacts: Path, tmp_path: Path
) -> None:
    browser = server.browser(key=True)
    (said,) = browser.ask("GET", "/api/about").json["photos"]
    assert (said["name"], said["width"], said["height"]) == ("album/camera.jpg", 60, 400)
    wishes: list[tuple[dict[str, object], tuple[object, ...]]] = [
        ({"focus": [0.3, 0.7], "f_number": 2}, ("--focus", "0.3,0.7", "--f-number", 2)),
        (
            {"near": 0.75, "far": 0.25, "disparity": 0.5, "f_number": 1.4},
            ("--focus-depth", 0.5, "--focus-range", 0.5, "--f-number", 1.4),
        ),
    ]
    for wish, arguments in wishes:
        out = tmp_path / "out.jpg"
        done = deeplens(
            "refocus", given["album/camera.jpg"], *arguments, "--runtime", "onnx", "--artifacts", artifacts, "-o", out
        )
        assert done.status == 0, done.err
        reply = browser.wish(said["photo"], "result", **wish)
        assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''camera_refocused.jpg"
        assert reply.headers["content-type"] == "image/jpeg"
        assert reply.body == out.read_bytes()
        assert Image.open(io.BytesIO(reply.body)).getexif()[0x010F] == "A camera"
    assert browser.ask("DELETE", f"/api/photos/{said['photo']}").status == 204
    assert given["album/camera.jpg"].exists()  # what a person named is never deleted
    server.photos.add_given(given["album/camera.jpg"], "album/camera.jpg")


def test_two_people_never_see_each_other(server: Served, browser: Browser, photo_of: str) -> None:
    other = server.browser()
    assert other.cookie != browser.cookie
    refused = [
        other.ask("GET", f"/api/photos/{photo_of}/picture"),
        other.ask("GET", f"/api/photos/{photo_of}/disparity"),
        other.ask("GET", f"/api/photos/{photo_of}/file"),
        other.ask("GET", f"/api/photos/{photo_of}"),
        other.wish(photo_of, disparity=0.5),
        other.wish(photo_of, "result", disparity=0.5),
        other.ask("DELETE", f"/api/photos/{photo_of}"),
        other.ask("GET", "/api/photos/unknown/picture"),
    ]
    assert {(reply.status, reply.error) for reply in refused} == {(404, refused[-1].error)}  # as if there were none
    assert other.ask("GET", "/api/about").json["photos"] == []  # nor what the command line named
    (shared,) = server.photos.given
    assert other.ask("GET", f"/api/photos/{shared.key}/picture").status == 404
    wrong = Browser(server.port)
    wrong.ask("GET", "/?key=guess")
    assert wrong.ask("GET", "/api/about").json["photos"] == []
    assert browser.ask("GET", f"/api/photos/{photo_of}/picture").status == 200


def _hostile(port: int, photo: str) -> dict[str, tuple[str, str, dict[str, str | None], int]]:
    """What a page of somebody else can make a browser send, and worse."""
    refocus = f"/api/photos/{photo}/refocus"
    return {
        "another origin": ("POST", refocus, {"Origin": "http://evil.example"}, 403),
        "another port": ("POST", refocus, {"Origin": f"http://127.0.0.1:{port + 1}"}, 403),
        "no origin of a page": ("POST", refocus, {"Origin": "null"}, 403),
        "an origin that reads": ("GET", f"/api/photos/{photo}/picture", {"Origin": "http://evil.example"}, 403),
        "an embedding page": ("GET", f"/api/photos/{photo}/picture", {"Sec_Fetch_Site": "same-site"}, 403),
        "a picture in another page": ("GET", "/", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "image"}, 403),
        "another host": ("GET", "/", {"Host": f"evil.example:{port}"}, 403),
        "another host of a name like ours": ("GET", "/", {"Host": f"127.0.0.1.evil.example:{port}"}, 403),
        "a host without port": ("GET", "/api/about", {"Host": "127.0.0.1"}, 403),
        "no host": ("GET", "/api/about", {"Host": None}, 400),
        "a form of another page": ("POST", refocus, {"X_DeepLens": None}, 403),
        "a form that removes": ("DELETE", f"/api/photos/{photo}", {"X_DeepLens": None}, 403),
        "no cookie": ("POST", refocus, {"Cookie": None}, 403),
        "a made-up cookie": ("POST", refocus, {"Cookie": f"deeplens_session_{port}=guess"}, 403),
        "a wrong method": ("PUT", refocus, {}, 405),
        "a wrong method for the page": ("POST", "/", {}, 405),
        "an unknown address": ("GET", "/api/secrets", {}, 404),
        "a file beside the page": ("GET", "/../secret.txt", {}, 404),
        "the same, coded": ("GET", "/..%2fsecret.txt", {}, 404),
        "the same, coded twice": ("GET", "/assets/%2e%2e/%2e%2e/secret.txt", {}, 404),
        "a file of the system": ("GET", "//etc/passwd", {}, 404),
        "a link out of the page": ("GET", "/link.txt", {}, 404),
        "a name no file can have": ("GET", "/a%00b", {}, 404),
        "a photo by its path": ("GET", "/api/photos/..%2f..%2fsecret.txt/picture", {}, 404),
        "no number": ("GET", f"/api/photos/{photo}/picture?side=1e9", {}, 400),
        "too much JSON": ("POST", refocus, {"body": "[" * 100_000}, 413),
        "deep JSON": ("POST", refocus, {"body": "[" * 60_000}, 400),
        "no JSON": ("POST", refocus, {"body": "{"}, 400),
        "bytes that are no text": ("POST", refocus, {"body": "\udcff"}, 400),
    }


@pytest.mark.parametrize("case", _hostile(1, "x"))
def test_hostile_requests_are_refused_with_a_reason(server: Served, browser: Browser, photo_of: str, case: str) -> None:
    method, path, headers, status = _hostile(server.port, photo_of)[case]
    body = headers.pop("body", None)
    data = (body or json.dumps({"disparity": 0.5})).encode("utf-8", "surrogateescape") if method == "POST" else None
    if "X_DeepLens" in headers:
        headers = {"X-DeepLens": headers["X_DeepLens"]}
    reply = browser.ask(method, path, data, **headers)
    assert reply.status == status, (reply.status, reply.body[:200])
    if case != "no host":  # which the server itself refuses, before the program sees it
        assert reply.error
    assert b"secret" not in reply.body.replace(b"secrets", b"")
    assert browser.ask("GET", f"/api/photos/{photo_of}/picture").status == 200  # nothing happened to it


def test_the_same_requests_of_the_page_itself_are_answered(server: Served, browser: Browser, photo_of: str) -> None:
    """The control: the refusals above come from what is changed there."""
    for headers in (
        {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"},
        {"Origin": f"http://localhost:{server.port}", "Host": f"localhost:{server.port}", "Sec-Fetch-Site": "none"},
    ):
        body = json.dumps({"disparity": 0.5, "level": 0}).encode()
        assert browser.ask("POST", f"/api/photos/{photo_of}/refocus", body, **headers).status == 200
    followed = browser.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")  # a link to the page
    assert followed.status == 200


@pytest.mark.parametrize(
    ("data", "name", "status", "said"),
    [
        (b"<html>", "page.png", 415, "page.png is not an image"),
        (b"", "empty.png", 400, "holds no file"),
        (PHOTO[: len(PHOTO) // 2], "half.png", 415, "half.png is truncated or broken"),
        (b"x" * 1_000_001, "large.jpg", 413, "at most 1 MB"),
        (png(1001, 1000, bits=8, lines=b""), "wide.png", 413, "megapixels"),
        (png(60_000, 60_000, bits=8, lines=b""), "bomb.png", 413, "megapixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "program.eps", 415, "program.eps is not an image"),
    ],
)  # fmt: skip
def test_uploads_are_checked_by_their_content(
    server: Served, browser: Browser, data: bytes, name: str, status: int, said: str
) -> None:
    before = sorted(server.photos.folder.iterdir())
    reply = browser.upload(data, name)
    assert (reply.status, said in reply.error) == (status, True), reply.body
    assert str(server.photos.folder) not in reply.error
    assert sorted(server.photos.folder.iterdir()) == before  # it is gone again
    assert browser.upload(as_png(made(20, 30))).status == 201


def test_a_body_without_a_length_is_bounded_too(browser: Browser) -> None:
    chunks = b"".join(b"10000\r\n" + b"x" * 0x10000 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
    reply = browser.ask("POST", "/api/photos", chunks, X_Name="chunked.png", **{"Transfer-Encoding": "chunked"})
    assert (reply.status, "at most 1 MB" in reply.error) == (413, True)
    assert browser.ask("POST", "/api/photos", b"x", **{"Content-Length": "99999999999"}).status == 413


def test_an_upload_that_is_cut_off_leaves_nothing(server: Served, browser: Browser) -> None:
    before = sorted(server.photos.folder.iterdir())
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = (
            f"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-DeepLens: 1\r\nCookie: {browser.cookie}"
        )
        raw.sendall(f"{head}\r\nContent-Length: 500000\r\n\r\n".encode() + b"x" * 1000)
        until(lambda: sorted(server.photos.folder.iterdir()) != before)
    until(lambda: sorted(server.photos.folder.iterdir()) == before)


def test_photos_are_bounded_in_number(server: Served, browser: Browser) -> None:
    small = as_png(made(20, 30))
    keys = [browser.upload(small).json["photo"] for _ in range(3)]
    reply = browser.upload(small)
    assert (reply.status, reply.error) == (429, "3 photos are open, and no more are taken: close one first")
    assert server.browser().upload(small).status == 201  # of each session
    browser.ask("DELETE", f"/api/photos/{keys[0]}")
    assert browser.upload(small).status == 201


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({}, "nothing says what is to be sharp"),
        ({"focus": [0.5]}, "focus is a point"),
        ({"focus": [0.5, 1.5]}, "from 0 to 1"),
        ({"focus": [True, 0.5]}, "from 0 to 1"),
        ({"disparity": "0.5"}, "from 0 to 1"),
        ({"disparity": float("nan")}, "from 0 to 1"),
        ({"near": 0.2, "far": 0.8}, "exchange the two"),
        ({"disparity": 0.5, "f_number": 0.5}, "the f-number must be 1.4 or more"),
        ({"disparity": 0.5, "f_number": None}, "f_number is a number"),
        ({"disparity": 0.5, "level": 3}, "the levels 0 to 2"),
        ({"disparity": 0.5, "level": -1}, "the levels 0 to 2"),
        ({"disparity": 0.5, "level": "half"}, "level is a whole number"),
        ({"disparity": 0.5, "runtime": "cuda"}, "the runtime 'cuda' is not here: choose onnx"),
    ],
)
def test_wishes_that_make_no_sense(browser: Browser, photo_of: str, wish: dict[str, Any], said: str) -> None:
    reply = browser.wish(photo_of, **wish)
    assert (reply.status, said in reply.error) == (400, True), reply.body
