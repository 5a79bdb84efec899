"""Photos that the studio is given in tests, and the pixels that it answers with."""

import io

import numpy as np
from PIL import Image

from tests.support.studio_browser import Reply


def made(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack((x * 255 // width, y * 255 // height, 200 - x * 100 // width), axis=-1).astype(np.uint8)


def as_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


PHOTO = as_png(made(500, 700))


def pixels_of(reply: Reply) -> np.ndarray:
    assert reply.status == 200, reply.body[:300]
    return np.asarray(Image.open(io.BytesIO(reply.body)).convert("RGB"))
