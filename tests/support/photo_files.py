"""Photos as their formats say, made by hand where Pillow writes none: profiles, chunks, 12 bits."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

COLORANTS = {
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    "P3": ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    "Adobe": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
}
"""XYZ of red, green and blue under D50, as they stand in the profiles that Apple and Adobe publish."""

SRGB_CURVE = b"para" + struct.pack(">IHH5i", 0, 3, 0, *(round(each * 65536) for each in (
    2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
)))  # fmt: skip


def gamma_curve(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))


def table_curve(values: np.ndarray) -> bytes:
    return b"curv" + struct.pack(">II", 0, values.size) + np.rint(values * 65535).astype(">u2").tobytes()


def profile(space: bytes, tags: Mapping[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 4."""

    def text(words: str) -> bytes:
        encoded = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(encoded), 28) + encoded

    every = {b"desc": text("test"), b"cprt": text("none"), b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    at, table, body = 132 + 12 * len(every), b"", b""
    for name, value in every.items():
        table += struct.pack(">4sII", name, at + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    size, version = at + len(body), 0x04200000
    head = struct.pack(">III4s4s4s12s4s", size, 0, version, b"mntr", space, connection, bytes(12), b"acsp")
    head += bytes(68 - len(head)) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(every)) + table + body


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(round(each * 65536) for each in (x, y, z)))


def rgb_profile(name: str, curve: bytes = SRGB_CURVE) -> bytes:
    colours = {each + b"XYZ": xyz(*value) for each, value in zip((b"r", b"g", b"b"), COLORANTS[name], strict=True)}
    return profile(b"RGB ", {**colours, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def grey_profile(curve: bytes, connection: bytes = b"XYZ ") -> bytes:
    return profile(b"GRAY", {b"kTRC": curve}, connection)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunks(path: Path, *chunks: bytes) -> Path:
    """A PNG with chunks behind its header."""
    data = path.read_bytes()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


def tiff_12_bits(path: Path, values: np.ndarray) -> Path:
    """A grey TIFF of 12 bits a sample, two in three bytes; an even width."""
    height, width = values.shape
    pairs = values.astype(np.uint32).reshape(height, -1, 2)
    joined = (pairs[:, :, 0] << 12) | pairs[:, :, 1]
    data = np.stack([joined >> 16, joined >> 8 & 255, joined & 255], axis=-1).astype(np.uint8).tobytes()
    entries = [(256, 3, width), (257, 3, height), (258, 3, 12), (259, 3, 1), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 3, height), (279, 4, len(data))]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4))
    return path
