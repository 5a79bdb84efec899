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
from arrays import at_level, covered, enlarged, halved, quartered, reach, reflected, registered
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

        def signed(values):
            return np.clip((values - np.float32(focal)) * np.float32(aperture * blur_scale), -1, 1)

        depths = [reflected(signed(stages["registered"]), base[0] << finest, base[1] << finest)[None, None]]
        for _ in range(finest):
            depths.insert(0, quartered(depths[0]))
        most = float(np.abs(depths[0]).max())  # section 8
        low, high = c["finer_base_range"]
        finer = min(max((high - most) / (high - low), 0), 1) if self.variant["finer_base"] and n else 0
        sharpened = self.sharpener(disparity, stages["registered"], (height, width, n, finest, base), depths, signed)
        if self.variant["depth_by_level"]:
            depths = [at_level(depth, k) for k, depth in enumerate(depths)]
        used = range(1 if finer == 1 else 0, max(n, 2 if finer else 1))
        stages.update({f"signed_depth_{k}": depths[k] for k in used})

        blurred = None if finer == 1 else self.run("lens_blur", picture=pictures[0], signed_depth=depths[0])
        for k in range(1, n + 1):
            if blurred is not None:
                stages[f"blurred_{k - 1}"] = blurred
                below = {"picture": pictures[k - 1], "blurred": blurred, "signed_depth": depths[k - 1]}
                blurred = self.run("upsample", picture_high=pictures[k], **below)
            if k == 1 and finer > 0:
                begun = self.run("lens_blur", picture=pictures[1], signed_depth=depths[1])
                blurred = begun if blurred is None else np.float32(1 - finer) * blurred + np.float32(finer) * begun
            blurred = sharpened(k, blurred, pictures[k])
        result = np.rint(blurred[0, :, :height, :width].transpose(1, 2, 0) * np.float32(255))  # section 9
        stages["picture"] = result.astype(np.uint8)
        return stages["picture"]

    def sharpener(self, disparity, registered_map, sizes, depths, signed):
        """Section 8: where a map as fine as a level says so, x is the photo. Gives sharpened(k, x, picture)."""
        height, width, n, finest, base = sizes
        fine = [k for k in range(1, n + 1) if all(np.greater_equal(disparity.shape, covered(height, width, n - k)))]
        last = 0 if self.variant["sharp_bound"] is None else max(fine, default=0)
        level = max(last, finest)
        values = registered_map if level == finest else registered(disparity, height, width, 1)
        whole = reflected(values, base[0] << level, base[1] << level)
        nearest = whole.reshape(base[0], 2**level, base[1], 2**level).max((1, 3))
        reached = reach(np.maximum(signed(nearest), 0) * np.float32(self.constants["r_max"]))

        def sharpened(k, x, picture):
            if k > last:
                return x
            radius = self.constants["r_max"] * 2**k * np.abs(depths[k][0, 0] if k <= finest else signed(whole))
            sharp, soft = self.constants["sharp_radius"], self.constants["blurred_radius"]
            share = np.clip((soft - radius) / (soft - sharp), 0, 1)
            return x + share * np.clip(1 - 2**k * enlarged(reached, 2**k), 0, 1) * (picture - x)

        return sharpened

    def run(self, network, **inputs):
        """A network over a whole level; the result is clipped to [0, 1]."""
        inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return np.clip(self.sessions[network].run(None, inputs)[0], 0, 1)


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
