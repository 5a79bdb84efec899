"""A folder of photos: the pipeline's stages, the focus rules, what a killed run leaves, and photos that are broken."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from deeplens.commands.folder_jobs import LOG, Job, Log, jobs, read_focus_file
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.runtimes.disparity import nearest_subject
from deeplens.runtimes.focus import Focus
from deeplens.runtimes.pipeline import pipeline
from tests.conftest import ROOT, Command


class TestPipeline:
    def test_stages_overlap(self) -> None:
        """Two stages that each wait for the other's next item would stand still one after the other."""
        together = threading.Barrier(2, timeout=10)
        seen: list[int] = []

        def first(value: int) -> int:
            if value:
                together.wait()  # while `second` has the item before
            return value

        def second(value: int) -> int:
            if value < 3:
                together.wait()
            seen.append(value)
            return 10 * value

        found = list(pipeline(range(4), (("first", first), ("second", second))))
        assert [each.value for each in found] == [0, 10, 20, 30]
        assert [each.item for each in found] == seen == [0, 1, 2, 3]
        assert all(set(each.seconds) == {"first", "second"} for each in found)

    def test_no_more_items_are_on_the_way_than_it_says(self) -> None:
        taken: list[int] = []

        def items() -> Iterator[int]:
            for each in range(100):
                taken.append(each)
                yield each

        running = pipeline(items(), (("one", lambda x: x), ("two", lambda x: x)), ahead=1)
        next(running)
        time.sleep(0.3)
        assert len(taken) <= 2 * (1 + 1) + 4  # those, one before, one behind, and the feeder's own
        running.close()  # type: ignore[attr-defined]
        assert not [each for each in threading.enumerate() if each.name in ("feed", "one", "two")]

    @pytest.mark.parametrize(
        "error", [InputError("bad"), MemoryError("large"), RuntimeError("a decoder"), MissingError("HEIC")]
    )
    def test_a_bad_item_does_not_stop_the_rest(self, error: Exception) -> None:
        def fail(value: int) -> int:
            if value == 1:
                raise error
            return value

        later: list[int] = []
        found = list(pipeline(range(3), (("fail", fail), ("later", later.append))))
        assert [each.error for each in found] == [None, error, None]
        assert later == [0, 2]

    @pytest.mark.parametrize("error", [MismatchError("artefact"), KeyboardInterrupt()])
    def test_anything_else_stops_all(self, error: BaseException) -> None:
        count = 0

        def fail(_value: int) -> int:
            nonlocal count
            count += 1
            raise error

        with pytest.raises(type(error)):
            list(pipeline(range(1000), (("fail", fail), ("later", lambda x: x))))
        assert count == 1


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for index in range(4):
        picture(folder / f"{index}.png", index)
    picture(folder / "in" / "deep.PNG", 9, (60, 40))
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


class TestJobs:
    def test_all_photos_below_with_their_folders(self, photos: Path) -> None:
        found = jobs(photos, photos / "out", Focus(nearest=True), suffix=None)
        assert [job.output.relative_to(photos / "out").as_posix() for job in found] == [
            "0.png", "1.png", "2.png", "3.png", "in/deep.PNG",
        ]  # fmt: skip
        picture(photos / "out" / "0.png", 5)  # what was written is no photo to read
        assert len(jobs(photos, photos / "out", Focus(nearest=True), suffix=".jpg")) == 5

    def test_one_output_for_two_photos_is_refused(self, photos: Path) -> None:
        picture(photos / "0.bmp", 1)
        with pytest.raises(InputError, match=r"both be written to .*0\.jpg"):
            jobs(photos, photos / "out", Focus(nearest=True), suffix=".jpg")
        with pytest.raises(InputError, match="has no photos"):
            jobs(photos / "in", photos / "in", Focus(nearest=True), suffix=None)

    def test_focus_file(self, tmp_path: Path, photos: Path) -> None:
        path = tmp_path / "focus.csv"
        path.write_text("photo,x,y\n0.png,0.5,0.25\nin/deep.PNG,0,1\n0.png,0.75,1\n")
        rule = read_focus_file(path)
        assert rule["0.png"] == Focus(points=((0.5, 0.25), (0.75, 1.0)))
        found = {job.photo.name: job for job in jobs(photos, tmp_path / "out", rule, suffix=None)}
        assert found["deep.PNG"].focus.points == ((0.0, 1.0),)
        assert found["deep.PNG"].problem is None
        assert found["1.png"].problem == "1.png has no line in the focus file"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("photo,x\na,1\n", "must name the columns"),
            ("photo,x,y\na.png,2,0\n", "line 2: .*outside"),
            ("", "must name the columns"),
        ],
    )
    def test_bad_focus_files(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "focus.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_focus_file(path)

    def test_the_log_survives_a_torn_line_and_notices_changes(self, tmp_path: Path) -> None:
        job = Job(picture(tmp_path / "a.png", 1), tmp_path / "b.png", Focus(depth=0.5))
        key = job.key({"aperture": 1.0})
        assert key != job.key({"aperture": 0.5})
        log = Log(tmp_path)
        assert not log.is_done(job, key)
        job.output.write_bytes(b"1234")
        log.add({"output": str(job.output), "key": key, "bytes": 4})
        with log.path.open("a") as file:
            file.write('{"output": "torn')
        again = Log(tmp_path)
        assert again.is_done(job, key)
        assert not again.is_done(job, "another")
        again.add({"output": str(tmp_path / "c.png"), "key": "k", "bytes": 1})
        assert len(list(Log(tmp_path).lines())) == 2  # the torn line did not swallow the next
        job.output.write_bytes(b"12")
        assert not Log(tmp_path).is_done(job, key), "the output was changed"
        os.utime(job.photo, ns=(1, 1))
        assert job.key({"aperture": 1.0}) != key, "the photo was changed"


def test_the_nearest_subject_stands_in_the_middle() -> None:
    disparity = np.full((100, 200), 0.1)
    disparity[30:80, 80:120] = 0.7  # the subject, 10 % of the picture
    disparity[92:] = 0.9  # the floor before it
    assert nearest_subject(disparity) == 0.7
    disparity[48:51, 98:103] = 1.0  # a speck in front
    assert nearest_subject(disparity) == 0.7
    assert nearest_subject(np.full((1, 1), 0.3)) == 0.3


class TestCommand:
    @pytest.fixture
    def run(self, deeplens: Command, artifacts: Path) -> Command:
        def call(*arguments: object) -> Any:
            return deeplens(
                "refocus", *arguments, "--runtime", "onnx", "--artifacts", artifacts, "--threads", 1, "--f-number", 1.4
            )

        return call

    def test_a_folder_is_what_its_photos_are_alone(self, run: Command, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run(photos, "-o", out, "--focus", "0.5,0.5", "--json", tmp_path / "report.json")
        assert (result.status, result.err) == (0, "")
        assert "5 of 5 photos refocused" in result.out
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["done"], report["skipped"], report["failed"]) == (5, 0, {})
        assert set(report["parts"]) == {"read", "depth", "refocus", "write"}
        assert report["megapixels"] == pytest.approx(5 * 2400 / 1e6)
        for name in ("2.png", "in/deep.PNG"):
            alone = tmp_path / "alone.png"
            assert run(photos / name, "-o", alone, "--focus", "0.5,0.5").status == 0
            np.testing.assert_array_equal(np.asarray(Image.open(out / name)), np.asarray(Image.open(alone)))

    def test_it_goes_on_where_it_was_and_redoes_what_changed(self, run: Command, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(photos, "-o", out, "--focus", "nearest")
        times = {path: path.stat().st_mtime_ns for path in out.rglob("*.[pP]*")}
        (out / "1.png").unlink()
        picture(photos / "2.png", 77)
        result = run(photos, "-o", out, "--focus", "nearest")
        assert "2 of 5 photos refocused, 3 were done before" in result.out
        kept = {path for path, at in times.items() if path.stat().st_mtime_ns == at}
        assert {path.name for path in kept} == {"0.png", "3.png", "deep.PNG"}
        assert "5 of 5 photos refocused" in run(photos, "-o", out, "--focus", "0.1,0.1").out

    def test_nothing_to_do_is_said_and_no_speed(self, run: Command, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(photos, "-o", out, "--focus", "nearest")
        result = run(photos, "-o", out, "--focus", "nearest", "--json", tmp_path / "report.json")
        passed_over = "; passed over, because they are no photos: 1 hidden, 1 .txt\n"
        assert result.out == f"{out}: nothing to do: all 5 photos were done before{passed_over}"
        assert json.loads((tmp_path / "report.json").read_text())["of_limit"] is None
        (photos / "0.png").write_bytes(b"broken")
        told = run(photos, "-o", out, "--focus", "nearest").out
        assert f"0 of 5 photos refocused, 4 were done before, 1 failed{passed_over}" in told

    def test_bad_photos_are_reported_and_the_rest_is_done(self, run: Command, photos: Path, tmp_path: Path) -> None:
        (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:200])
        (photos / "empty.jpg").write_bytes(b"")
        out = tmp_path / "out"
        result = run(photos, "-o", out, "--focus", "0.5,0.5")
        assert result.status == 3
        lines = result.err.splitlines()
        assert [line.split(":")[0] for line in lines] == ["failed", "failed", "error"]
        assert "1.png is truncated" in lines[0]
        assert "2 of 6 photos failed (1.png, empty.jpg)" in lines[2]
        assert sorted(path.name for path in out.rglob("*.[pP]*")) == ["0.png", "2.png", "3.png", "deep.PNG"]
        logged = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
        assert sum("error" in line for line in logged) == 2
        picture(photos / "1.png", 1)  # mended: done now, the other tried again
        assert "1 of 6 photos refocused, 4 were done before" in run(photos, "-o", out, "--focus", "0.5,0.5").out

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["--focus", "0.5,0.5", "--focus-depth", "0.5"], 2, "give exactly one of these options"),
            (["--focus", "0.5,0.5", "--save-depth", "d.png"], 3, "work for a single photo only"),
            (["--focus", "0.5,0.5", "--suffix", ".gif"], 3, "can't be written"),
            (["--focus-file", "none.csv"], 3, "can't be read as a focus file"),
        ],
    )
    def test_bad_options(
        self, run: Command, photos: Path, tmp_path: Path, arguments: list[str], status: int, message: str
    ) -> None:
        result = run(photos, "-o", tmp_path / "out", *arguments)
        assert result.status == status
        assert message in result.err

    def test_folder_options_are_not_for_a_photo(self, run: Command, photos: Path, tmp_path: Path) -> None:
        result = run(photos / "0.png", "-o", tmp_path / "a.png", "--focus", "0.5,0.5", "--suffix", ".jpg")
        assert "work for a folder only" in result.error

    def test_a_killed_run_loses_nothing_and_redoes_at_most_what_was_under_way(
        self, run: Command, photos: Path, tmp_path: Path, artifacts: Path
    ) -> None:
        """Killed for good (SIGKILL) in the middle of writing the third photo."""
        code = (
            "import os, signal, sys; import deeplens.console.files as f; from deeplens.app import main\n"
            "replace, count = os.replace, []\n"
            "def kill(source, target):\n"
            "    count.append(target)\n"
            "    if len(count) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
            "    replace(source, target)\n"
            "f.os.replace = kill\n"
            "main(sys.argv[1:])"
        )
        out = tmp_path / "out"
        arguments = [
            "refocus", photos, "-o", out, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "--threads", 1, "--f-number", 1.4,
        ]  # fmt: skip
        killed = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, timeout=300, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        done = {path: path.stat().st_mtime_ns for path in out.rglob("*.[pP]*") if not path.name.startswith(".")}
        assert len(done) == 2
        # The third can be written while the second is in place and its line in the log still due.
        logged = [json.loads(line)["output"] for line in (out / LOG).read_text().splitlines()]
        assert 1 <= len(logged) <= 2
        told = f"{5 - len(logged)} of 5 photos refocused, {len(logged)} were done before"
        assert told in run(photos, "-o", out, "--focus", "0.5,0.5").out
        assert all(path.stat().st_mtime_ns == done[path] for path in map(Path, logged))
        assert len([path for path in out.rglob("*.[pP]*") if not path.name.startswith(".")]) == 5


class TestScale:
    MEASURED: ClassVar = {
        "done": 100, "seconds": 50.0, "threads": 2, "cpu_seconds": 95.0, "megapixels": 300.0, "bytes": 2e8,
    }  # fmt: skip

    def test_by_hand(self, deeplens: Command, tmp_path: Path) -> None:
        """2 photos a second on 2 cores: a core-second each; at 90 % of that 1.11, so 308.6 core-hours for a million."""
        path = tmp_path / "report.json"
        path.write_text(json.dumps(self.MEASURED))
        result = deeplens("scale", path, "--price", 0.05, "--cores", 100, "--json", "-")
        assert result.status == 0
        found = json.loads(result.out)
        assert found["core_hours"] == pytest.approx(1e6 / 0.9 / 3600)
        assert found["hours"] == pytest.approx(1e4 / 0.9 / 3600)
        assert found["cost_of_computing"] == pytest.approx(0.05 * 1e6 / 0.9 / 3600)
        assert (found["photos_a_second"], found["busy_cores"], found["gigabytes"]) == (2.0, 1.9, pytest.approx(2000))
        assert found["assumptions"] == {"price": 0.05, "cores": 100, "storage": 0.02, "efficiency": 0.9}

    @pytest.mark.parametrize(
        ("text", "message"), [('{"done": 3}', "at least 10"), ("[]", "was not written by"), ("", "not")]
    )
    def test_what_is_no_measurement(self, deeplens: Command, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "report.json"
        path.write_text(text)
        result = deeplens("scale", path)
        assert result.status == 3
        assert message in result.error


class TestRay:
    def test_a_cluster_gives_the_same(self, deeplens: Command, artifacts: Path, photos: Path, tmp_path: Path) -> None:
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'deeplens-edge[ray]'")
        arguments = ["--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts, "--threads", 1]
        (photos / "1.png").write_bytes(b"broken")
        one, many = tmp_path / "one", tmp_path / "many"
        assert deeplens("refocus", photos, "-o", one, *arguments).status == 3
        assert deeplens("refocus", photos, "-o", many, *arguments, "--ray", "local").status == 3
        for path in one.rglob("*.[pP]*"):
            assert (many / path.relative_to(one)).read_bytes() == path.read_bytes()
        again = deeplens("refocus", photos, "-o", many, *arguments, "--ray", "local")
        assert "0 of 5 photos refocused, 4 were done before" in again.out

    def test_without_ray_the_extra_is_named(
        self, deeplens: Command, artifacts: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        result = deeplens(
            "refocus", photos, "-o", tmp_path / "o", "--focus", "nearest", "--runtime", "onnx",
            "--artifacts", artifacts,
            "--ray", "local",
        )  # fmt: skip
        assert result.status == 4
        assert "deeplens-edge[ray]" in result.error
