"""Pictures of glowing triangles by Mitsuba 3: a pinhole, a thin lens, and depth. Imports Mitsuba (extra `truth`) late.

All surfaces are area emitters and nothing reflects, so that a ray ends where it meets the first one: the only noise is
that of where in the pixel and in the lens rays start, and jittered grids of those converge far faster than independent
rays. Pixels are means over their squares (box filter).
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens.console.errors import MissingError
from deeplens.console.package import pip_install
from deeplens.evaluation.lens_shapes import Mesh, Surface
from deeplens.evaluation.lens_textures import FOV, LONG
from deeplens.scenes.renderer import Array

VECTORISED, PLAIN = "llvm_ad_rgb", "scalar_rgb"
"""Mitsuba's variants that are used: the first, two to four times faster, needs the LLVM library, the second nothing."""

_PROBE = f"""
import mitsuba
mitsuba.set_variant("{VECTORISED}")
film = {{"type": "hdrfilm", "width": 4, "height": 4}}
ball = {{"type": "sphere", "emitter": {{"type": "area"}}}}
sensor = {{"type": "perspective", "film": film}}
scene = {{"type": "scene", "integrator": {{"type": "path"}}, "sensor": sensor, "ball": ball}}
assert mitsuba.render(mitsuba.load_dict(scene), spp=4).shape == (4, 4, 3)
"""


def best_variant() -> str:
    """`VECTORISED` where it works, else `PLAIN`. Tried in another process: some versions of LLVM crash it.

    Raises:
        MissingError: Mitsuba is not installed.
    """
    _mitsuba(PLAIN)
    tried = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    return PLAIN if tried.returncode else VECTORISED


def use_threads(count: int) -> None:
    """Let Mitsuba use so many threads; 0: one a core."""
    _mitsuba(PLAIN)
    import drjit

    drjit.set_thread_count(count or os.cpu_count() or 1)


class Renderer:
    """One scene, ready to be rendered at one size.

    Attributes:
        version: Mitsuba's version and variant.
    """

    def __init__(
        self, parts: Sequence[Surface], *, long_side: int, portrait: bool = False, variant: str = PLAIN
    ) -> None:
        """
        Args:
            parts: every triangle with its glowing side towards the camera.
            long_side: in pixels; the short side is three quarters of it.
            portrait: the long side is upright.

        Raises:
            MissingError: Mitsuba is not installed.
        """
        self._mi = _mitsuba(variant)
        self.version = f"{self._mi.__version__} {variant}"
        self._vectorised = variant != PLAIN
        self._long = long_side
        self._height, self._width = (long_side, long_side * 3 // 4) if portrait else (long_side * 3 // 4, long_side)
        with tempfile.TemporaryDirectory() as folder:
            shapes = {
                f"part{index}": self._shape(part, Path(folder) / f"{index}.ply") for index, part in enumerate(parts)
            }
            self._scene = self._mi.load_dict({"type": "scene", **shapes})
        # max_depth 1: what glows, seen directly, and nothing else.
        self._integrator = self._mi.load_dict({"type": "path", "max_depth": 1})

    def photo(self, *, samples: int, seed: int) -> Array:
        """The picture through a pinhole, (h, w, 3) linear light, of `samples` rays a pixel."""
        return self._render({"type": "perspective"}, samples=samples, seed=seed)

    def picture(self, *, radius: float, focus: float, samples: int, seed: int) -> Array:
        """The picture through a lens, (h, w, 3) linear light.

        Args:
            radius: of the lens's opening, in the scene's units.
            focus: depth of the plane in focus.
            samples: rays a pixel.
        """
        lens = {"type": "thinlens", "aperture_radius": radius, "focus_distance": focus}
        return self._render(lens, samples=samples, seed=seed)

    def depth(self) -> NDArray[np.float64]:
        """Depth (h, w) along the optical axis, where the ray through each pixel's centre ends, or inf."""
        scale = 2 * LONG / self._long
        y, x = np.indices((self._height, self._width)) + 0.5
        x, y = (x - self._width / 2) * scale, (y - self._height / 2) * scale
        depth = self._trace(x, y)
        # A ray that meets the very edge between two triangles can slip through; one right beside it does not.
        missed = np.isinf(depth)
        if missed.any():
            depth[missed] = self._trace(x[missed] + 1e-3 * scale, y[missed] + 0.7e-3 * scale)
        return depth

    def _trace(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Depths where rays from the origin through (x, y, 1) end. A ray's length in such directions is its depth."""
        mi = self._mi
        if self._vectorised:
            ray = mi.Ray3f(mi.Point3f(0, 0, 0), mi.Vector3f(mi.Float(x.ravel()), mi.Float(y.ravel()), mi.Float(1)))
            found = np.array(self._scene.ray_intersect_preliminary(ray).t)
        else:
            rays = (mi.Ray3f([0, 0, 0], [dx, dy, 1]) for dx, dy in zip(x.flat, y.flat, strict=True))
            found = np.array([self._scene.ray_intersect_preliminary(ray).t for ray in rays])
        return found.reshape(x.shape).astype(np.float64)

    def _render(self, sensor: dict[str, Any], *, samples: int, seed: int) -> Array:
        mi = self._mi
        film = {
            "type": "hdrfilm",
            "width": self._width,
            "height": self._height,
            "pixel_format": "rgb",
            "component_format": "float32",
            "rfilter": {"type": "box"},
        }
        camera = {
            **sensor,
            "fov": FOV,
            "fov_axis": "larger",
            "near_clip": 0.01,
            "far_clip": 1000.0,
            # Mitsuba's camera looks along z with x to the left and y up; ours has x to the right and y down.
            "to_world": mi.ScalarTransform4f().rotate([0, 0, 1], 180),
            "film": film,
            "sampler": {"type": "multijitter", "sample_count": samples},
        }
        light = mi.render(
            self._scene, sensor=mi.load_dict(camera), integrator=self._integrator, spp=samples, seed=seed % 2**32
        )
        return np.array(light, np.float32)

    def _shape(self, part: Surface, path: Path) -> dict[str, Any]:
        _write_ply(path, part.mesh)
        texture = {
            "type": "bitmap",
            "bitmap": self._mi.Bitmap(np.ascontiguousarray(part.radiance)),
            "raw": True,
            "wrap_mode": "mirror",
        }
        return {
            "type": "ply",
            "filename": str(path),
            "face_normals": True,
            "flip_tex_coords": False,
            "emitter": {"type": "area", "radiance": texture},
        }


def _write_ply(path: Path, mesh: Mesh) -> None:
    """A mesh with texture coordinates as a binary PLY file."""
    corners = np.zeros(len(mesh.faces), [("count", "u1"), ("corner", "<i4", 3)])
    corners["count"], corners["corner"] = 3, mesh.faces
    numbers = "".join(f"property float {name}\n" for name in ("x", "y", "z", "u", "v"))
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(mesh.vertices)}\n{numbers}"
        f"element face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    vertices = np.concatenate((mesh.vertices, mesh.uv), axis=1).astype("<f4")
    path.write_bytes(header.encode() + vertices.tobytes() + corners.tobytes())


def _mitsuba(variant: str) -> Any:
    try:
        import mitsuba
    except ImportError as error:
        raise MissingError(f"Mitsuba can't be loaded ({error}): {pip_install('truth')}") from error
    if mitsuba.variant() != variant:
        mitsuba.set_variant(variant)
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    return mitsuba
