"""Writing an animation as WebP, GIF or MP4, and reading it back before it takes its place.

WebP and GIF need Pillow alone, MP4 the extra `video`.
"""

import io
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.files import replacing
from deeplens.console.package import pip_install

if TYPE_CHECKING:
    from av import VideoFrame

SUFFIXES = (".webp", ".gif", ".mp4")

LONGEST_SIDE = {".webp": 16383, ".gif": 65535, ".mp4": 4096}
"""Most pixels of a side; of MP4 what players can be trusted to show."""

WEBP_QUALITY = 90
H264_QUALITY = "18"
"""Of x264, from 0 (no loss) to 51."""


@dataclass(frozen=True)
class Frame:
    """One picture of an animation.

    Attributes:
        pixels: H×W×3, uint8, sRGB.
        seconds: how long it is shown.
    """

    pixels: np.ndarray
    seconds: float


def check_writable(path: Path, *, width: int, height: int) -> None:
    """Refuse before the work begins what could not be written after it.

    Raises:
        InputError: another suffix, or a size that the format can't hold.
        MissingError: MP4, and PyAV is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: an animation can't be written as this file type; use {', '.join(SUFFIXES)}")
    if max(width, height) > LONGEST_SIDE[suffix]:
        raise InputError(
            f"{path} would have {width}×{height} pixels, but at most {LONGEST_SIDE[suffix]} a side can be written as "
            f"{suffix}: give a smaller --side"
        )
    if suffix == ".mp4":
        _import_av()
        if min(width, height) < 2:
            raise InputError(f"{path} would have {width}×{height} pixels, and MP4 needs at least 2 a side: use .webp")


def write_animation(path: Path, frames: Sequence[Frame], *, rate: float, lossless: bool = False) -> int:
    """Write frames that repeat for ever (WebP, GIF) or run once (MP4). The file appears whole or not at all.

    Args:
        path: with one of `SUFFIXES`.
        frames: of one size. Equal pictures that follow each other become one that is shown longer.
        rate: frames a second of an MP4, in which a picture that is shown longer is repeated.
        lossless: of WebP: keep each pixel as it is.

    Returns:
        how many pictures the file holds.

    Raises:
        InputError: another suffix, a size that the format can't hold, or a folder that can't be written to.
        MissingError: MP4, and PyAV is not installed.
        MismatchError: it does not read back as what was to be written; then no file appears.
    """
    height, width = frames[0].pixels.shape[:2]
    suffix = path.suffix.lower()
    check_writable(path, width=width, height=height)
    shown = _merged(frames)
    try:
        if suffix == ".webp":
            data = _webp(shown, lossless=lossless)
        else:
            data = _gif(shown) if suffix == ".gif" else _mp4(shown, rate)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} can't be written: {one_line(error)}") from error
    try:
        if suffix == ".mp4":
            written = _checked_video(data, shown, rate)
        else:
            written = _checked_images(data, shown, lossless=lossless and suffix == ".webp")
    except Exception as error:  # decoders raise anything
        raise MismatchError(
            f"{path} does not read back as it was written ({one_line(error)}): try another file type"
        ) from error
    with replacing(path) as file:
        file.write(data)
    return written


def _merged(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of which no two that follow each other are equal."""
    shown: list[Frame] = []
    for frame in frames:
        if shown and np.array_equal(shown[-1].pixels, frame.pixels):
            shown[-1] = Frame(frame.pixels, shown[-1].seconds + frame.seconds)
        else:
            shown.append(frame)
    return shown


def _ticks(frames: Sequence[Frame], rate: float) -> list[int]:
    """How many units of 1 / rate seconds each frame is shown, from 1 up, so that the sum is as exact as it can be."""
    ticks, shown, due = [], 0, 0.0
    for frame in frames:
        due += frame.seconds * rate
        ticks.append(max(1, math.floor(due - shown + 0.5)))
        shown += ticks[-1]
    return ticks


def _webp(frames: Sequence[Frame], *, lossless: bool) -> bytes:
    images = [Image.fromarray(frame.pixels) for frame in frames]
    stream = io.BytesIO()
    images[0].save(
        stream, "WEBP", save_all=True, append_images=images[1:], duration=_ticks(frames, 1000), loop=0,
        lossless=lossless, quality=75 if lossless else WEBP_QUALITY, method=4,
    )  # fmt: skip
    return stream.getvalue()


def _gif(frames: Sequence[Frame]) -> bytes:
    """With one palette for all frames, of the first, the middle and the last: so that colours do not flicker."""
    chosen = [frames[index].pixels for index in sorted({0, len(frames) // 2, len(frames) - 1})]
    palette = Image.fromarray(np.concatenate(chosen)).quantize(256, method=Image.Quantize.MEDIANCUT)
    images = [Image.fromarray(frame.pixels).quantize(palette=palette) for frame in frames]
    stream = io.BytesIO()
    images[0].save(
        stream, "GIF", save_all=True, append_images=images[1:], loop=0, optimize=False,
        duration=[10 * each for each in _ticks(frames, 100)],
    )  # fmt: skip
    return stream.getvalue()


def _mp4(frames: Sequence[Frame], rate: float) -> bytes:
    """H.264 in 4:2:0, which every player takes: an odd last row or column is left out."""
    with tempfile.TemporaryDirectory(prefix="deeplens-") as folder:
        path = Path(folder) / "animation.mp4"  # with its index in front, for which FFmpeg reads the file again
        _encode_h264(path, frames, rate)
        return path.read_bytes()


def _encode_h264(path: Path, frames: Sequence[Frame], rate: float) -> None:
    av = _import_av()
    height, width = (side // 2 * 2 for side in frames[0].pixels.shape[:2])
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"crf": H264_QUALITY, "preset": "medium"}
        # What it is converted with is what it says: BT.709 of the range of video, as players expect it.
        video.codec_context.color_range, video.codec_context.colorspace = 1, 1
        video.codec_context.color_primaries, video.codec_context.color_trc = 1, 1
        for frame, count in zip(frames, _ticks(frames, rate), strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels[:height, :width]), "rgb24")
            converted = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            for _ in range(count):
                converted.pts = None
                container.mux(video.encode(converted))
        container.mux(video.encode(None))


def _checked_images(data: bytes, frames: Sequence[Frame], *, lossless: bool) -> int:
    """How many pictures a WebP or a GIF holds: fewer than were given where the format can't tell two from each other.

    Raises:
        ValueError: another size or another length in time; without loss, another picture.
        Exception: what Pillow's decoders raise.
    """
    height, width = frames[0].pixels.shape[:2]
    with Image.open(io.BytesIO(data)) as image:
        count = getattr(image, "n_frames", 1)
        form, shown = image.format, 0
        for index in range(count):
            image.seek(index)
            pixels = np.asarray(image.convert("RGB"))
            shown += int(image.info.get("duration", 0))
            if pixels.shape[:2] != (height, width):
                raise ValueError(f"picture {index + 1} has another size")
            if lossless and (count != len(frames) or not np.array_equal(pixels, frames[index].pixels)):
                raise ValueError(f"picture {index + 1} is another one")
    due = sum(_ticks(frames, 1000)) if form == "WEBP" else 10 * sum(_ticks(frames, 100))
    if shown != due:
        raise ValueError(f"it takes {shown} ms, and not {due} ms")
    return count


def _checked_video(data: bytes, frames: Sequence[Frame], rate: float) -> int:
    """How many pictures an MP4 holds. ValueError: another number or size than was given."""
    height, width = (side // 2 * 2 for side in frames[0].pixels.shape[:2])
    found = [(each.height, each.width) for each in decoded_video(data)]
    if found != [(height, width)] * sum(_ticks(frames, rate)):
        raise ValueError(f"it has {len(found)} pictures of {found[:1]}")
    return len(found)


def decoded_video(data: bytes) -> "list[VideoFrame]":
    """All frames of an MP4. MissingError: PyAV is not installed."""
    with _import_av().open(io.BytesIO(data)) as container:
        return list(container.decode(video=0))


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise MissingError(
            f"MP4 needs PyAV, which can't be imported ({error}): {pip_install('video')}, or write .webp or .gif"
        ) from error
    module: ModuleType = av
    return module
