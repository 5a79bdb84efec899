"""Portrait photos as phones write them, made for tests: GDepth (one packet or extended XMP) and Dynamic Depth."""

import base64
import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
GUID = b"36BE52D449F3E6B9760D7602FF75168D"

META = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    "{}</rdf:RDF></x:xmpmeta>"
)
NAMESPACES = (
    'xmlns:Device="http://ns.google.com/photos/dd/1.0/device/" '
    'xmlns:Camera="http://ns.google.com/photos/dd/1.0/camera/" '
    'xmlns:DepthMap="http://ns.google.com/photos/dd/1.0/depthmap/" '
    'xmlns:Container="http://ns.google.com/photos/{0}container/" xmlns:Item="http://ns.google.com/photos/{0}{1}item/"'
)


def encoded(metres: np.ndarray, *, form: str, near: float, far: float, kind: str = "PNG", bits: int = 8) -> bytes:
    """Depth as the specification encodes it: 0 = near, rounded down to `bits`."""
    if form == "RangeLinear":
        values = (metres - near) / (far - near)
    else:
        values = far * (metres - near) / (metres * (far - near))
    full = 2**bits - 1
    grey = np.floor(np.clip(values, 0, 1) * full).astype(np.uint8 if bits == 8 else np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, kind, quality=98) if kind == "JPEG" else Image.fromarray(grey).save(buffer, kind)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray, *, orientation: int | None = None) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    return buffer.getvalue()


def segment(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def write_gdepth(
    path: Path,
    pixels: np.ndarray,
    metres: np.ndarray,
    *,
    form: str = "RangeInverse",
    extended: bool = False,
    bits: int = 8,
    orientation: int | None = None,
    ends: tuple[float, float] | None = None,
) -> None:
    """A photo with its depth in XMP; `extended`: the data in a packet of its own, in parts out of order.

    Args:
        ends: nearest and farthest that the file tells; None: those of `metres`.
    """
    near, far = ends or (float(metres.min()), float(metres.max()))
    data = base64.b64encode(encoded(metres, form=form, near=near, far=far, bits=bits)).decode()
    head = (
        'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Mime="image/png" '
        f'GDepth:Format="{form}" GDepth:Near="{near}" GDepth:Far="{far}"'
    )
    photo = jpeg(pixels, orientation=orientation)
    if not extended:
        text = META.format(f'<rdf:Description rdf:about="" {head} GDepth:Data="{data}"/>')
        segments = segment(STANDARD + text.encode())
    else:
        note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{GUID.decode()}"'
        segments = segment(STANDARD + META.format(f'<rdf:Description rdf:about="" {head} {note}/>').encode())
        namespace = 'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"'
        body = META.format(f'<rdf:Description rdf:about="" {namespace} GDepth:Data="{data}"/>').encode()
        step = len(body) // 3 + 1
        for offset in (0, 2 * step, step):
            part = body[offset : offset + step]
            segments += segment(EXTENDED + GUID + struct.pack(">II", len(body), offset) + part)
    path.write_bytes(photo[:2] + segments + photo[2:])


def write_dynamic_depth(
    path: Path,
    pixels: np.ndarray,
    metres: np.ndarray,
    *,
    form: str = "RangeInverse",
    elements: bool = False,
    newer: bool = False,
    cut: int = 0,
    trailer: bytes = b"",
    between: bytes = b"",
    junk: bytes = b"",
) -> None:
    """A photo followed by its depth map and another file, listed in its container.

    Args:
        elements: properties are elements, as Android's own writer has them, not attributes.
        newer: the namespaces and Item:Semantic of later cameras.
        cut: bytes that are lost at the end.
        trailer: what a camera of its own writes behind all listed files.
        between: what a program has left between the photo and the first of them; not listed.
        junk: what stands behind the XMP's outermost element.
    """
    near, far = float(metres.min()), float(metres.max())
    depth, other = encoded(metres, form=form, near=near, far=far, kind="JPEG"), b"\xff\xd8 another file \xff\xd9"
    name = ("Semantic", ("Primary", "Depth", "Confidence")) if newer else (
        "DataURI", ("primary_image", "android/depthmap", "android/confidencemap")
    )  # fmt: skip
    items = []
    for title, length in zip(name[1], (0, len(depth), len(other)), strict=True):
        values = {"Mime": "image/jpeg", "Length": str(length), name[0]: title}
        if elements:
            inner = "".join(f"<Item:{key}>{value}</Item:{key}>" for key, value in values.items())
            items.append(
                f'<rdf:li rdf:parseType="Resource"><rdf:value rdf:parseType="Resource">{inner}</rdf:value></rdf:li>'
            )
        else:
            inner = " ".join(f'Item:{key}="{value}"' for key, value in values.items())
            items.append(f'<rdf:li rdf:parseType="Resource"><Container:Item {inner}/></rdf:li>')
    uri = "" if newer else ' DepthMap:DepthURI="android/depthmap"'
    described = (
        f'<Camera:DepthMap DepthMap:Format="{form}" DepthMap:Near="{near}" DepthMap:Far="{far}" '
        f'DepthMap:Units="Meters"{uri}/>'
    )
    spaces = NAMESPACES.format("1.0/" if newer else "dd/1.0/", "container/" if newer else "")
    text = META.format(
        f"<rdf:Description {spaces}><Device:Container><Container:Directory><rdf:Seq>{''.join(items)}</rdf:Seq>"
        f"</Container:Directory></Device:Container>{described}</rdf:Description>"
    )
    photo = jpeg(pixels)
    whole = photo[:2] + segment(STANDARD + text.encode() + junk) + photo[2:] + between + depth + other + trailer
    path.write_bytes(whole[: len(whole) - cut])


def write_mpf(path: Path, pixels: np.ndarray, second: np.ndarray, *, says: str | None = None) -> None:
    """A photo with a second picture that its multi-picture index lists.

    Args:
        second: h×w, or h×w×3.
        says: the AuxiliaryImageType in the second picture's own XMP; None: it has no XMP.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(second)
    if says is not None:
        space = 'xmlns:apdi="http://ns.apple.com/pixeldatainfo/1.0/"'
        bounds = 'apdi:FloatMinValue="0.5" apdi:FloatMaxValue="6.5"'
        text = META.format(f'<rdf:Description rdf:about="" {space} apdi:AuxiliaryImageType="{says}" {bounds}/>')
        picture.encoderinfo = {"xmp": text.encode(), "quality": 98}
    Image.fromarray(pixels).save(buffer, "MPO", save_all=True, append_images=[picture], quality=95)
    path.write_bytes(buffer.getvalue())
