"""`deeplens studio`: newer requests end older ones, what is kept is bounded, and nothing is left at the end."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from deeplens.commands.studio_photos import PREFIX, Limits, Photos, safe_name
from tests.conftest import ROOT, Command
from tests.support.fake_runtime import SlowRuntime
from tests.support.studio_browser import Browser, Reply, served, until
from tests.support.studio_photos import PHOTO, as_png, made, pixels_of


def test_a_newer_request_ends_an_older_one(artifacts: Path, tmp_path: Path) -> None:
    """Many tiles of 20 ms: the older request ends long before all were done, and others are not touched."""
    runtime = SlowRuntime()
    with served(artifacts, tmp_path, runtime=runtime, tile=128) as server:
        browser, other = server.browser(), server.browser()
        keys = [each.upload(as_png(made(1400, 2000))).json["photo"] for each in (browser, other)]
        assert browser.wish(keys[0], disparity=0.9, f_number=1.4, level=0).status == 200  # opens and finds the depth
        replies: dict[str, Reply] = {}

        def ask(name: str, who: Browser, key: str, kind: str, **wish: object) -> threading.Thread:
            thread = threading.Thread(target=lambda: replies.update({name: who.wish(key, kind, **wish)}))
            thread.start()
            return thread

        runtime.runs.clear()
        first = ask("first", browser, keys[0], "refocus", disparity=0.9, f_number=1.4, level="full")
        until(lambda: len(runtime.runs) > 3)
        second = ask("second", browser, keys[0], "refocus", disparity=0.1, f_number=1.4, level=0)
        elsewhere = ask("elsewhere", other, keys[1], "refocus", disparity=0.1, f_number=1.4, level=0)
        for thread in (first, second, elsewhere):
            thread.join(30)
        assert replies["first"].status == 409
        assert "newer request" in replies["first"].error
        assert replies["second"].status == replies["elsewhere"].status == 200
        done = len(runtime.runs)
        assert browser.wish(keys[0], disparity=0.9, f_number=1.4, level="full").status == 200
        whole = len(runtime.runs) - done  # so many tiles it would have been
        assert done < whole

        runtime.runs.clear()
        body = json.dumps({"disparity": 0.9, "f_number": 1.4}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as raw:  # a page that is closed
            raw.sendall(
                f"POST /api/photos/{keys[0]}/refocus HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-DeepLens: 1\r\n"
                f"Cookie: {browser.cookie}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            until(lambda: len(runtime.runs) > 3)
        before = -1
        while before != len(runtime.runs):  # until it rests
            before = len(runtime.runs)
            time.sleep(0.5)
        assert before < whole / 2


def test_what_is_kept_is_bounded_and_used_again(artifacts: Path, tmp_path: Path) -> None:
    with served(artifacts, tmp_path, memory=6_000_000) as server:
        browser = server.browser()
        keys = [browser.upload(PHOTO).json["photo"] for _ in range(4)]
        pictures = [pixels_of(browser.wish(key, disparity=0.9, f_number=1.4)) for key in keys]
        assert all(np.array_equal(each, pictures[0]) for each in pictures)
        assert 0 < server.work.held_bytes() <= 6_000_000
        kept = [key[0] for key in server.work._kept]
        assert kept == keys[-len(kept) :]  # those that were used last
        assert 1 <= len(kept) < 4
        for key, parts in ((keys[-1], set()), (keys[0], {"read", "prepare"})):
            reply = browser.wish(key, disparity=0.5, level=0)
            timing = {each.split(";")[0].strip() for each in reply.headers["server-timing"].split(",")}
            assert timing & {"read", "depth", "prepare"} == parts  # the depth is found once
        for key in keys:
            browser.ask("DELETE", f"/api/photos/{key}")
        assert server.work.held_bytes() == 0


def test_uploads_go_when_nobody_asks_for_them(artifacts: Path, tmp_path: Path) -> None:
    now = [0.0]
    with served(artifacts, tmp_path, limits=Limits(seconds=100, sessions=2), clock=lambda: now[0]) as server:
        browser = server.browser()
        old = browser.upload(as_png(made(20, 30))).json["photo"]
        now[0] = 90.0
        new = browser.upload(as_png(made(20, 30))).json["photo"]
        server.photos.sweep()
        assert {each.name for each in server.photos.folder.iterdir()} == {old, new}
        now[0] = 150.0
        server.photos.sweep()
        assert {each.name for each in server.photos.folder.iterdir()} == {new}
        empty = server.browser()
        for _ in range(3):  # newer sessions take the place of one without photos
            now[0] += 1
            newest = server.browser()
        assert browser.ask("GET", f"/api/photos/{new}/picture").status == 200
        assert empty.ask("GET", f"/api/photos/{new}/picture").status == 403
        assert newest.upload(as_png(made(20, 30))).status == 201
        now[0] += 1
        browser.ask("GET", "/api/about")
        server.browser()  # where all have photos, the one that was silent longest ends
        assert newest.ask("GET", "/api/about").json["photos"] == []
        assert newest.ask("GET", f"/api/photos/{new}/picture").status == 404
        assert {each.name for each in server.photos.folder.iterdir()} == {new}


def test_without_the_page_the_rest_works(artifacts: Path, tmp_path: Path) -> None:
    with served(artifacts, tmp_path) as server:
        browser = server.browser()
        reply = browser.ask("GET", "/")
        assert (reply.status, b"make web" in reply.body) == (404, True)
        assert browser.upload(as_png(made(20, 30))).status == 201


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("..", "photo"),
        ("", "photo"),
        (".hidden", "hidden"),
        ("a\0b\nc.png", "a_b_c.png"),
        ("a<b>:'|\".jpg", "a_b_____.jpg"),
        ("日" * 200 + ".jpg", "日" * 32 + ".jpg"),
        ("Grüße (1).HEIC", "Grüße (1).HEIC"),
    ],
)
def test_names_of_files_are_made_harmless(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_the_folder_is_private_and_what_a_killed_program_left_goes(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f"{PREFIX}{int(ended.stdout)}-abc"
    living = tmp_path / f"{PREFIX}{os.getpid()}-abc"
    for folder in (left, living):
        (folder / "photo").mkdir(parents=True)
    with Photos(Limits(), parent=tmp_path) as photos:
        assert not left.exists()
        assert living.exists()
        assert stat.S_IMODE(photos.folder.stat().st_mode) == 0o700
    assert not photos.folder.exists()


@pytest.mark.slow
def test_the_program_itself(artifacts: Path, tmp_path: Path) -> None:
    """It says its address, answers, refuses a port that is taken, and leaves nothing when it is interrupted."""
    camera = tmp_path / "camera.jpg"
    Image.fromarray(made(60, 400)).save(camera)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "deeplens", "studio", str(camera), "--no-open", "--runtime", "onnx",
        "--artifacts", str(artifacts), "--port",
    ]  # fmt: skip
    options: dict[str, Any] = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "0"], **options) as program:
        assert program.stdout is not None
        address = program.stdout.readline().split()[0]
        port = int(address.split(":")[2].split("/")[0])
        browser = Browser(port)
        browser.ask("GET", address.removeprefix(f"http://127.0.0.1:{port}"))
        (photo,) = browser.ask("GET", "/api/about").json["photos"]
        assert photo["name"] == "camera.jpg"
        assert browser.upload(PHOTO).status == 201
        assert browser.wish(photo["photo"], focus=[0.5, 0.5], level=0).status == 200
        assert len(list(tmp_path.glob(f"{PREFIX}*/*/photo.png"))) == 1
        taken = subprocess.run([*command, str(port)], **options, check=False)
        assert taken.returncode == 3
        assert f"port {port} of this machine can't be used (Address already in use): give" in taken.stderr
        assert len(taken.stderr.splitlines()) == 1
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
        assert (program.returncode, out.splitlines()[-1]) == (0, "ended; what was uploaded is deleted")
        assert "Traceback" not in err
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_bad_arguments_are_one_line(
    deeplens: Command, deeplens_process: Command, artifacts: Path, tmp_path: Path
) -> None:
    common = ("--no-open", "--port", 0, "--runtime", "onnx", "--artifacts", artifacts)
    (tmp_path / "text.jpg").write_text("no photo")
    assert "text.jpg is not an image" in deeplens("studio", tmp_path / "text.jpg", *common).error
    assert "does not exist" in deeplens("studio", tmp_path / "none.jpg", *common).error
    (tmp_path / "empty").mkdir()
    assert "has no photos" in deeplens("studio", tmp_path / "empty", *common).error
    assert "--port" in deeplens("studio", "--port", 70000).error
    missing = deeplens_process("studio", *common, without=("starlette",))
    assert "pip install 'deeplens-edge[studio]'" in missing.error
