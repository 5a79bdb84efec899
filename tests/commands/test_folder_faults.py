"""A folder of photos of which some are broken or oddly named, and several processes that share its work."""

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from deeplens.commands.folder_jobs import LOG, Claims, Job, Log, jobs
from deeplens.console.errors import InputError
from deeplens.runtimes.focus import Focus
from deeplens.runtimes.image_file import begins_as_photo
from deeplens.runtimes.photo import read_photo
from tests.commands.test_folder import picture
from tests.conftest import ROOT, Command

NEAREST = Focus(nearest=True)


@pytest.fixture
def run(deeplens: Command, artifacts: Path) -> Command:
    def call(*arguments: object) -> Any:
        return deeplens(
            "refocus", *arguments, "--runtime", "onnx", "--artifacts", artifacts, "--threads", 1, "--focus", "nearest"
        )

    return call


def encoded(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, form)
    return stream.getvalue()


class TestBroken:
    @pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
    def test_any_error_of_a_decoder_is_that_photos(self, tmp_path: Path) -> None:
        """An AVIF whose picture points outside the file: libavif's error is a RuntimeError."""
        data = encoded("AVIF")
        at = data.index(b"iloc")
        seen, said = set(), list[str]()
        for place in range(at + 8, at + 40):
            (tmp_path / "a.avif").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
            try:
                read_photo(tmp_path / "a.avif")
            except InputError as error:
                seen.add(type(error.__cause__))
                said.append(str(error))
        assert RuntimeError in seen
        assert not [each for each in said if "\n" in each]

    def test_a_large_tiff_within_our_limit_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pillow's limit holds for a strip of a TIFF too, and is met while it is decoded."""
        pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, pixels)
        assert Image.MAX_IMAGE_PIXELS == 10

    def test_the_rest_is_done(self, run: Command, tmp_path: Path) -> None:
        photos, out = tmp_path / "photos", tmp_path / "out"
        picture(photos / "b.png", 1)
        picture(photos / os.fsdecode(b"caf\xe9.png"), 2)  # Latin-1 in a file system of bytes
        (photos / "a.avif").write_bytes(b"\0\0\0\x1cftypavif" + bytes(60))
        (photos / "c.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(60))
        for done in ("2 of 4 photos refocused, 0 were", "0 of 4 photos refocused, 2 were"):
            result = run(photos, "-o", out)
            assert result.status == 3
            assert done in result.out
            assert "2 of 4 photos failed (a.avif, c.heic)" in result.err
            assert "fault of the program" not in result.err
        assert (out / os.fsdecode(b"caf\xe9.png")).is_file()
        assert sum("error" in json.loads(line) for line in (out / LOG).read_text().splitlines()) == 4


class TestNames:
    @pytest.mark.parametrize(
        ("left", "right"),
        [
            ("IMG_1.JPG", "IMG_1.jpg"),
            ("IMG_1.JPG", "IMG_1.HEIC"),
            ("STRASSE.png", "straße.png"),
            ("caf\u00e9.png", "cafe\u0301.png"),
            ("In/a.png", "in/A.png"),
        ],
    )
    def test_names_that_are_one_on_some_disks_are_refused(self, tmp_path: Path, left: str, right: str) -> None:
        for name in (left, right):
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).write_bytes(b"x")
        if len([path for path in (tmp_path / "photos").rglob("*") if path.is_file()]) < 2:
            pytest.skip("this disk is one of those")
        with pytest.raises(InputError, match=r"would both be written to .*: rename one of them"):
            jobs(tmp_path / "photos", tmp_path / "out", NEAREST, suffix=None)

    def test_photos_by_other_names_and_by_their_bytes(self, tmp_path: Path) -> None:
        for name in ("a.jfif", "b.jpe", "c.HIF", "d.pgm", "e.JP2", "f.txt", "g.mov", "h.mov"):
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "no_suffix").write_bytes(encoded("JPEG"))
        (tmp_path / "README").write_text("no photo")
        (tmp_path / ".DS_Store").touch()
        os.mkfifo(tmp_path / "pipe.jpg")
        counts: Counter[str] = Counter()
        found = jobs(tmp_path, tmp_path / "out", NEAREST, suffix=None, passed_over=counts)
        assert [job.output.name for job in found] == ["a.jfif", "b.jpe", "c.jpg", "d.jpg", "e.jpg", "no_suffix.jpg"]
        assert counts == {".mov": 2, ".txt": 1, "no suffix": 1, "hidden": 1, "no file": 1}

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000"])
    def test_first_bytes(self, tmp_path: Path, form: str) -> None:
        Image.init()
        if form not in Image.SAVE:
            pytest.skip(f"this Pillow writes no {form}")
        (tmp_path / "a").write_bytes(encoded(form))
        assert begins_as_photo(tmp_path / "a")
        (tmp_path / "b").write_bytes(b"%PDF-1.7 " + encoded(form))
        assert not begins_as_photo(tmp_path / "b")

    def test_what_is_passed_over_is_said(self, run: Command, tmp_path: Path) -> None:
        picture(tmp_path / "photos" / "a.png", 1)
        (tmp_path / "photos" / "film.mov").touch()
        result = run(tmp_path / "photos", "-o", tmp_path / "out", "--json", tmp_path / "r.json")
        assert "passed over, because they are no photos: 1 .mov" in result.out
        assert json.loads((tmp_path / "r.json").read_text())["passed_over"] == {".mov": 1}


class TestShared:
    def started(self, *arguments: object) -> "subprocess.Popen[str]":
        places = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)], env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def test_a_claim_keeps_others_away_until_it_is_released_or_its_holder_dies(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from deeplens.commands.folder_jobs import Claims, Job\n"
            "from deeplens.runtimes.focus import Focus\n"
            "claims, job = Claims(Path(sys.argv[1])), Job(Path('a'), Path('a'), Focus())\n"
            "print(claims.take(job), flush=True); sys.stdin.readline()"
        )
        one, other = (Job(Path(name), Path(name), NEAREST) for name in "ab")
        with Claims(tmp_path) as claims:
            assert claims.take(one)
            assert self.started("-c", code, tmp_path).communicate()[0] == "False\n"
            claims.release(one)
            with self.started("-c", code.replace("sys.stdin.readline()", "import time; time.sleep(60)"), tmp_path) as p:
                assert p.stdout is not None
                assert p.stdout.readline() == "True\n"
                assert not claims.take(one)
                assert claims.take(other)
                p.kill()
                p.wait()
            assert claims.take(one)

    def test_the_log_shows_what_another_process_has_done(self, tmp_path: Path) -> None:
        job = Job(picture(tmp_path / "a.png", 1), tmp_path / "b.png", NEAREST)
        mine, other = Log(tmp_path), Log(tmp_path)
        job.output.write_bytes(b"1234")
        other.add({"output": str(job.output), "key": "k", "bytes": 4})
        assert mine.is_done(job, "k")

    @pytest.mark.slow
    def test_three_processes_do_each_photo_once(self, artifacts: Path, tmp_path: Path) -> None:
        photos, out = tmp_path / "photos", tmp_path / "out"
        for index in range(12):
            picture(photos / f"{index}.png", index)
        arguments = [
            "-m", "deeplens", "refocus", photos, "-o", out, "--focus", "nearest", "--runtime", "onnx", "--artifacts",
            artifacts, "--threads", 1,
        ]  # fmt: skip
        running = [self.started(*arguments) for _ in range(3)]
        said = [each.communicate() for each in running]
        assert [each.returncode for each in running] == [0, 0, 0], said
        logged = [json.loads(line)["output"] for line in (out / LOG).read_text().splitlines()]
        assert len(logged) == 12, "a photo was done twice, or not at all"
        assert len(set(logged)) == 12
        assert len(list(out.glob("*.png"))) == 12
