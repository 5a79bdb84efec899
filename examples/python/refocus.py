"""Refocus a photo with the exported ONNX files: onnxruntime, NumPy and Pillow, and nothing of this project.

Every step follows docs/harness.md; the numbers of its sections stand in the comments. It makes no tiles and no skips.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


class Effect:
    """The networks of one variant and the constants around them.

    Args:
        artifacts: the folder with manifest.json and harness.json that `deeplens export onnx` wrote.
    """

    def __init__(self, artifacts, variant="edge"):
        self.constants = json.loads((artifacts / "harness.json").read_text())
        if self.constants["format"] != 1:
            raise SystemExit("error: this program reads harness.json of format 1")
        self.variant = self.constants["variants"][variant]
        self.sessions = {}
        for entry in json.loads((artifacts / "manifest.json").read_text())["artifacts"]:
            wanted = (entry["variant"], entry["runtime"], entry["precision"]) == (variant, "onnx", "fp32")
            if wanted and (entry["dynamic"] or entry["network"] == "depth"):
                model = (artifacts / entry["path"]).read_bytes()
                if hashlib.sha256(model).hexdigest() != entry["sha256"]:
                    raise SystemExit(f"error: {entry['path']} is not the file that the manifest describes")
                self.sessions[entry["network"]] = onnxruntime.InferenceSession(model)

    def disparity(self, photo):
        """Section 5: h×w in [0, 1], near = large, from the depth network."""
        picture = np.float32(self.depth_picture(photo)) / np.float32(255)
        found = self.sessions["depth"].run(None, {"picture": picture.transpose(2, 0, 1)[None]})[0][0, 0]
        low, high = float(found.min()), float(found.max())
        return np.minimum((found - low) / (high - low + self.constants["epsilon"]), 1).astype(np.float32)

    def depth_picture(self, photo):
        """Section 5: what the depth network sees."""
        size = self.constants["depth_size"]
        return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR))

    def refocus(self, photo, disparity, f_number, focus, stages=None):
        """The photo, H×W×3 of uint8, with a shallow depth of field. `stages` receives every array on the way."""
        stages = {} if stages is None else stages
        c, (height, width), n = self.constants, photo.shape[:2], 0
        while math.ceil(max(height, width) / 2**n) > c["base_long_side"] and c["alignment"] * 2**n < min(height, width):
            n += 1
        cell = c["alignment"] << n  # section 2
        base = [max(c["min_size"], c["alignment"] * math.ceil(side / cell)) for side in (height, width)]
        blur_scale = min(1.0, max(height, width) / 2**n / c["base_long_side"])

        padded = reflected(photo, base[0] << n, base[1] << n)  # sections 3 and 4
        pictures = [padded.transpose(2, 0, 1)[None] / np.float32(255)]
        for _ in range(n):
            pictures.insert(0, halved(pictures[0]))
        stages.update({f"picture_{k}": pictures[k] for k in range(max(n, 1))})
        stages["depth_picture"] = self.depth_picture(photo)

        finest = max(n - 1, min(n, 1))  # section 5
        stages["registered"] = registered(disparity, height, width, 2 ** (n - finest))
        rows, columns = disparity.shape  # section 6
        x, y = focus
        focal = float(disparity[min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)])
        aperture = c["n_min"] / f_number  # section 7
        stages["scalars"] = np.array([aperture, focal, blur_scale], np.float32)
        signed = (stages["registered"] - np.float32(focal)) * np.float32(aperture * blur_scale)
        depths = [reflected(np.clip(signed, -1, 1), base[0] << finest, base[1] << finest)[None, None]]
        for _ in range(finest):
            depths.insert(0, quartered(depths[0]))

        start = 0  # section 8
        if self.variant["finer_base"] and n >= 1 and np.abs(depths[0]).max() <= c["finer_base_limit"]:
            start = 1
        if self.variant["depth_by_level"]:
            depths = [at_level(depth, k) for k, depth in enumerate(depths)]
        stages.update({f"signed_depth_{k}": depths[k] for k in range(start, max(n, start + 1))})
        blurred = self.run("lens_blur", picture=pictures[start], signed_depth=depths[start])
        for k in range(start, n):
            stages[f"blurred_{k}"] = blurred
            blurred = self.run(
                "upsample", picture_high=pictures[k + 1], picture=pictures[k], blurred=blurred, signed_depth=depths[k]
            )
        result = np.rint(blurred[0, :, :height, :width].transpose(1, 2, 0) * np.float32(255))  # section 9
        stages["picture"] = result.astype(np.uint8)
        return stages["picture"]

    def run(self, network, **inputs):
        """A network over a whole level; the result is clipped to [0, 1]."""
        inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return np.clip(self.sessions[network].run(None, inputs)[0], 0, 1)


def reflected(array, height, width):
    """Section 3: continued at the bottom and the right; the border pixel is not repeated."""
    more = [(0, height - array.shape[0]), (0, width - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, more, mode="reflect")


def halved(picture):
    """Section 4: the root of the mean of the squares."""
    return np.sqrt(quartered(picture**2))


def quartered(array):
    """The mean of each 2×2."""
    rows = array[..., 0::2, :] + array[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)


def at_level(depth, k):
    """Section 7: signed depth as the networks take it at level k."""
    return np.clip(depth * np.float32(2**k), -1, 1)


def registered(disparity, height, width, pixel):
    """Section 5: the map where the pixels of a level lie, of which each covers pixel×pixel of the photo."""
    rows, columns = math.ceil(height / pixel), math.ceil(width / pixel)
    bottom, right = disparity.shape[0] * (pixel * rows / height), disparity.shape[1] * (pixel * columns / width)
    more = [(0, max(0, math.ceil(edge) - side)) for edge, side in zip((bottom, right), disparity.shape, strict=True)]
    image = Image.fromarray(np.pad(disparity, more, mode="edge"))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR, box=(0, 0, right, bottom)))


def command():
    """Read the command line, refocus, write."""
    parser = argparse.ArgumentParser(description="Refocus a photo with exported ONNX files.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="folder of `deeplens export onnx`")
    parser.add_argument("--focus", default="0.5,0.5", help="X,Y from 0 to 1, from the top left")
    parser.add_argument("--f-number", type=float, default=2.8, help="1.4 (most blur) or more")
    given = parser.parse_args()
    effect, focus = Effect(given.artifacts), [float(each) for each in given.focus.split(",")]
    photo = np.asarray(ImageOps.exif_transpose(Image.open(given.photo)).convert("RGB"))
    result = effect.refocus(photo, effect.disparity(photo), given.f_number, focus)
    Image.fromarray(result).save(given.output, quality=95)


if __name__ == "__main__":
    command()
