"""`deeplens rack`: every picture is a refocusing of the photo, the focus moves, and what can't be done is told."""

import json
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from deeplens.console.errors import InputError, MismatchError
from deeplens.runtimes import animation
from deeplens.runtimes.animation import Frame, write_animation
from deeplens.runtimes.rack import eased, focal_path
from tests.conftest import Command
from tests.support.device import needs, needs_torch

needs_av = needs("av")


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """A depth map for the photo: near on the left, far on the right."""
    path = tmp_path / "stripes.npy"
    np.save(path, np.repeat(np.linspace(1, 0, 72, dtype=np.float32)[None], 48, axis=0))
    return path


@pytest.fixture
def options(photo: Path, stripes: Path, artifacts: Path) -> tuple[object, ...]:
    return (
        photo, "--depth", stripes, "--depth-kind", "disparity", "--runtime", "onnx", "--artifacts", artifacts,
        "--from", "0.1,0.5", "--to", "0.9,0.5", "--seconds", 0.5, "--fps", 10,
    )  # fmt: skip


def read(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def durations(path: Path) -> list[int]:
    with Image.open(path) as image:
        found = []
        for index in range(image.n_frames):
            image.seek(index)
            image.load()  # WebP says it only then
            found.append(image.info["duration"])
        return found


def test_each_picture_is_what_refocus_gives(
    deeplens: Command, options: tuple[object, ...], photo: Path, stripes: Path, artifacts: Path, folder: Path
) -> None:
    out = folder / "out.webp"
    report = folder / "report.json"
    result = deeplens("rack", *options, "--lossless", "--hold", 0.3, "-o", out, "--json", report)
    assert (result.status, result.err) == (0, "")
    told = json.loads(report.read_text())
    frames = read(out)
    assert len(frames) == told["pictures"] == len(told["focal_disparities"]) == 8  # 5 there, 3 back
    assert durations(out) == [400, 100, 100, 100, 400, 100, 100, 100]
    for index, disparity in enumerate(told["focal_disparities"]):
        single = folder / f"{index}.png"
        again = deeplens(
            "refocus", photo, "--depth", stripes, "--runtime", "onnx", "--artifacts", artifacts,
            "--focus-depth", repr(disparity), "--f-number", 1.4, "-o", single,
        )  # fmt: skip
        assert again.status == 0, again.err
        np.testing.assert_array_equal(frames[index], np.asarray(Image.open(single)))
    assert not np.array_equal(frames[0], frames[4])


def test_one_way_and_the_smaller_size(deeplens: Command, options: tuple[object, ...], folder: Path) -> None:
    out = folder / "out.gif"
    result = deeplens("rack", *options, "--one-way", "--hold", 0, "--side", 36, "-o", out)
    assert (result.status, result.err) == (0, "")
    assert [frame.shape for frame in read(out)] == [(24, 36, 3)] * 5
    assert durations(out) == [100] * 5


@pytest.mark.slow
@needs_torch
def test_the_focus_moves(deeplens: Command, tmp_path: Path) -> None:
    """With the shipped networks, on noise: detail appears at the target and goes at the start, step by step."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    np.save(tmp_path / "step.npy", np.repeat((np.arange(160) < 80).astype(np.float32)[None], 96, axis=0))
    out = tmp_path / "out.webp"
    result = deeplens(
        "rack", tmp_path / "noise.png", "--depth", tmp_path / "step.npy", "--runtime", "torch", "--lossless",
        "--from", "0.2,0.5", "--to", "0.8,0.5", "--one-way", "--seconds", 0.5, "--fps", 10, "-o", out,
    )  # fmt: skip
    assert result.status == 0, result.err
    frames = [frame.astype(float) for frame in read(out)]
    near, far = ([np.abs(np.diff(frame[:, part], axis=1)).mean() for frame in frames] for part in (
        slice(8, 64), slice(96, 152),
    ))  # fmt: skip
    assert len(frames) == 5
    assert all(before > after for before, after in pairwise(near)), near
    assert all(before < after for before, after in pairwise(far)), far
    assert near[0] > 2 * near[-1]
    assert far[-1] > 2 * far[0]


@needs_av
def test_mp4_holds_all_pictures_in_their_colours(deeplens: Command, options: tuple[object, ...], folder: Path) -> None:
    out, exact = folder / "out.mp4", folder / "out.webp"
    for each, more in ((out, ()), (exact, ("--lossless",))):
        result = deeplens("rack", *options, "--hold", 0.2, *more, "-o", each)
        assert (result.status, result.err) == (0, "")
    frames = animation.decoded_video(out.read_bytes())
    assert len(frames) == 8 + 2 * 2  # the rests are pictures that are repeated
    assert [float(frame.time or 0) for frame in frames] == pytest.approx([index / 10 for index in range(12)])
    due = read(exact)
    for index, place in ((0, 0), (2, 0), (3, 1), (8, 4)):
        found = frames[index].to_ndarray(format="rgb24").astype(float)
        assert np.abs(found - due[place]).mean() < 3
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a page can begin before all is there


@needs_av
def test_mp4_leaves_out_an_odd_row(tmp_path: Path) -> None:
    pixels = np.full((25, 31, 3), (200, 60, 20), np.uint8)
    write_animation(tmp_path / "out.mp4", [Frame(pixels, 0.1), Frame(255 - pixels, 0.1)], rate=10)
    first, second = animation.decoded_video((tmp_path / "out.mp4").read_bytes())
    assert (first.width, first.height) == (30, 24)
    for frame, colour in ((first, (200, 60, 20)), (second, (55, 195, 235))):
        np.testing.assert_allclose(frame.to_ndarray(format="rgb24").mean((0, 1)), colour, atol=3)


def test_the_path_is_eased_and_even_in_disparity() -> None:
    steps = focal_path(0.2, 0.8, seconds=2.0, rate=10, hold=0.5)
    there = [step.disparity for step in steps[:20]]
    assert [there[0], there[-1]] == pytest.approx([0.2, 0.8])
    moves = np.diff(there)
    assert (moves > 0).all()
    assert moves[0] < moves[5] < moves[9]
    np.testing.assert_allclose(moves, moves[::-1])
    assert [step.disparity for step in steps[20:]] == there[-2:0:-1]
    assert sum(step.seconds for step in steps) == pytest.approx(2 * 2.0 + 2 * 0.5 - 2 / 10)
    assert [eased(each) for each in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    with pytest.raises(InputError, match="nothing would move"):
        focal_path(0.5, 0.5004, seconds=1, rate=10)


def test_times_that_a_format_can_not_hold_add_up(tmp_path: Path) -> None:
    """A thirtieth of a second is no whole number of hundredths."""
    frames = [Frame(np.full((4, 4, 3), index, np.uint8), 1 / 30) for index in range(0, 240, 8)]
    write_animation(tmp_path / "out.gif", frames, rate=30)
    assert sum(durations(tmp_path / "out.gif")) == 1000
    again = [*frames, frames[-1]]
    assert write_animation(tmp_path / "again.webp", again, rate=30, lossless=True) == 30
    assert sum(durations(tmp_path / "again.webp")) == 1033


def test_what_does_not_read_back_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Frame(np.full((8, 8, 3), value, np.uint8), 0.1) for value in (0, 100, 200)]

    def short(*_: object, **__: object) -> bytes:
        stream = BytesIO()
        Image.new("RGB", (8, 8)).save(stream, "WEBP", lossless=True)
        return stream.getvalue()

    monkeypatch.setattr(animation, "_webp", short)
    with pytest.raises(MismatchError, match="it takes 0 ms, and not 300 ms"):
        write_animation(folder / "out.webp", frames, rate=10)
    with pytest.raises(MismatchError, match="picture 1 is another one"):
        write_animation(folder / "out.webp", frames, rate=10, lossless=True)
    monkeypatch.setattr(animation, "_webp", lambda *_, **__: b"no picture")
    with pytest.raises(MismatchError, match="does not read back"):
        write_animation(folder / "out.webp", frames, rate=10)
    assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--from": "0.1;0.5"}, "is not X,Y"),
        ({"--to": "0.9,1.5"}, "lies outside the picture"),
        ({"--to": "0.1,0.4"}, "nothing would move"),
        ({"-o": "out.avi"}, "can't be written; use .webp, .gif, .mp4"),
        ({"-o": "out.gif", "--lossless": None}, "leave out --lossless"),
        ({"-o": "missing/out.gif"}, "does not exist"),
        ({"--f-number": "0.5"}, "the f-number must be 1.4 or more"),
        ({"--fps": "0"}, "--fps"),
        ({"--seconds": "nan"}, "seconds"),
        ({"--depth-kind": "metres"}, "metres"),
    ],
)
def test_bad_input_is_one_line(
    deeplens: Command, options: tuple[object, ...], folder: Path, changed: dict[str, str | None], said: str
) -> None:
    given = list(options)
    defaults = {str(name): value for name, value in zip(given[1::2], given[2::2], strict=True)}
    arguments: dict[str, object] = {"-o": "out.webp", **defaults, **changed}
    if isinstance(arguments["-o"], str):
        arguments["-o"] = folder / arguments["-o"]
    flat = [part for pair in arguments.items() for part in pair if part is not None]
    assert said in deeplens("rack", given[0], *flat).error
    assert not any(folder.iterdir())


def test_too_many_pictures_are_refused_before_the_work(
    deeplens: Command, options: tuple[object, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeplens.commands.rack.MOST_BYTES", 50_000)
    assert "too many to be held" in deeplens("rack", *options, "-o", folder / "out.webp").error


def test_without_pyav_the_message_names_the_extra(
    deeplens_process: Command, options: tuple[object, ...], folder: Path
) -> None:
    result = deeplens_process("rack", *options, "-o", folder / "out.mp4", without=("av",))
    assert "pip install 'deeplens-edge[video]', or write .webp or .gif" in result.error
    assert result.status == 4
