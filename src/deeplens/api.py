"""The public API: a photo in, a photo with a shallow depth of field out. `import deeplens` offers it, lazily.

What `deeplens.__all__` lists is public. Everything else in this package is internal and may change in any release.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.model.contract import composed
from deeplens.model.shipped import Weights
from deeplens.runtimes import AUTO, open_runtime, resolved
from deeplens.runtimes.accelerator import CPU, Accelerator
from deeplens.runtimes.depth_kind import Kind, checked_kind
from deeplens.runtimes.device_loop import Loop
from deeplens.runtimes.focus import Focus
from deeplens.runtimes.given_depth import Depth, given_disparity
from deeplens.runtimes.harness import Harness, aperture_from_f_number
from deeplens.runtimes.photo import Photo, photo_of, read_photo
from deeplens.runtimes.preview import Preview
from deeplens.runtimes.tiling import TILE

Point = tuple[float, float]
PhotoLike = str | Path | Image.Image | np.ndarray | Photo


def refocus(
    photo: PhotoLike,
    *,
    focus: Point | Sequence[Point] | None = None,
    focus_depth: float | None = None,
    focus_range: float = 0.0,
    f_number: float = 2.8,
    depth: Depth | None = None,
    depth_kind: Kind | None = None,
    runtime: str = AUTO,
    variant: str = "edge",
    depth_network: str | None = None,
    precision: str | None = None,
    artifacts: Path | None = None,
    weights: Weights = "shipped",
    threads: int | None = None,
    provider: str = CPU,
    device: str = CPU,
    cpu_nodes: int | None = None,
    compiled: bool = False,
    cuda_graph: bool = False,
    tile: int | None = TILE,
    loop: Loop = "auto",
    progress: Callable[[float], None] | None = None,
) -> Photo:
    """Refocus a photo, as `deeplens refocus` does.

    For several focal planes or apertures of one photo, `Refocuser` opens the networks and finds the depth once.

    Args:
        photo: the path of a file; a Pillow image; pixels in sRGB as H×W, H×W×3 or H×W×4 of uint8 or uint16; or a
            `Photo` of `read_photo`. Files and Pillow images are turned as their EXIF orientation says.
        focus: the point that is sharp, x and y from 0 to 1, from the top left of the upright photo. Of several
            points, all that lies between them in depth is sharp. Without either focus: the nearest subject.
        focus_depth: instead of `focus`: the disparity that is sharp, from 0 (far) to 1 (near).
        focus_range: further disparity that is sharp, from 0 to 1, half of it on each side; 0: one plane, as in a lens.
        f_number: from 1.4 (most blur) up.
        depth: instead of the depth network: a file with a disparity map, "embedded" (the photo's own), an array of
            height × width (near = large), or a `DepthModel`.
        depth_kind: what a depth file or array holds: "disparity" (near = large) or "depth" (a distance, far = large);
            None: what the file says, else disparity.
        runtime: "torch", "onnx", "trt", "coreml", or "auto": the first that is installed and has what it runs.
        variant: "edge" or "paper".
        depth_network: instead of the variant's own: the name of one that `deeplens depth add` added.
        precision: of the artefacts; None: the runtime's default.
        artifacts: the folder of the artefacts; None: `artifacts/` here, else the user's, else those in the package.
        weights: PyTorch's: "shipped", "initial" (untrained), or a file or folder.
        threads: CPU threads; None: all.
        provider: ONNX Runtime's execution provider: "cpu", "cuda", "openvino" … as `deeplens refocus --provider` lists
            them, or "auto".
        device: PyTorch's device: "cpu", "cuda" or "mps".
        cpu_nodes: with a provider: how many operations of a network may run on the CPU instead; None: any number.
        compiled: whether PyTorch compiles the networks.
        cuda_graph: whether PyTorch's loop on an NVIDIA GPU is recorded as one CUDA graph; for a photo that is refocused
            more than once.
        tile: largest side of a tile in low-resolution pixels; None: each level at once.
        loop: where the loop over the levels runs. "device": where the runtime computes, nothing is copied in between.
            "host": here. "auto": on the device where the runtime uses one beside the CPU and has such a loop.
        progress: called with the share done, up to 1.0.

    Returns:
        the refocused photo, of the same size and bit depth, with the photo's EXIF and alpha. `Photo.save` writes it,
        `Photo.image` is a Pillow image, `Photo.pixels` an array.

    Raises:
        InputError: a photo, a depth map or an argument that can't be used.
        MissingError: a library, weights or artefacts that are not there.
        MismatchError: an artefact that is not what its manifest says.
    """
    with _Opened(
        photo, depth=depth, depth_kind=depth_kind, runtime=runtime, variant=composed(variant, depth_network),
        precision=precision, artifacts=artifacts, weights=weights, threads=threads, tile=tile, loop=loop,
        accelerator=Accelerator(provider, cpu_nodes, device, compiled=compiled, cuda_graph=cuda_graph),
    ) as opened:  # fmt: skip
        focal, in_focus = _focus(focus, focus_depth).of(opened.disparity, focus_range=focus_range)
        pixels = opened.harness.refocus(
            opened.photo.pixels,
            opened.disparity,
            focal_disparity=focal,
            aperture=aperture_from_f_number(f_number),
            focus_range=in_focus,
            progress=progress,
        )
        return opened.photo.with_pixels(pixels)


class Refocuser:
    """One photo, ready to be refocused again and again. A context manager.

    The networks are opened and the depth is found once; the photo and its depth are kept at every level. It holds up to
    9 bytes a pixel of the photo. Several threads may use it.

    Args: as in `refocus`.

    Attributes:
        photo: the photo, upright and in sRGB.
        disparity: h×w, float32, in [0, 1], near = large.
        runtime: the name of the runtime that was chosen.
        last_level: number of the level that is the photo's own size; 0 is the base, with a long side of 320 at most.

    Raises: as `refocus`.
    """

    def __init__(
        self,
        photo: PhotoLike,
        *,
        depth: Depth | None = None,
        depth_kind: Kind | None = None,
        runtime: str = AUTO,
        variant: str = "edge",
        depth_network: str | None = None,
        precision: str | None = None,
        artifacts: Path | None = None,
        weights: Weights = "shipped",
        threads: int | None = None,
        provider: str = CPU,
        device: str = CPU,
        cpu_nodes: int | None = None,
        compiled: bool = False,
        cuda_graph: bool = False,
        tile: int | None = TILE,
        loop: Loop = "auto",
    ) -> None:
        self._opened = _Opened(
            photo, depth=depth, depth_kind=depth_kind, runtime=runtime, variant=composed(variant, depth_network),
            precision=precision, artifacts=artifacts, weights=weights, threads=threads, tile=tile, loop=loop,
            accelerator=Accelerator(provider, cpu_nodes, device, compiled=compiled, cuda_graph=cuda_graph),
        )  # fmt: skip
        self.photo, self.disparity, self.runtime = self._opened.photo, self._opened.disparity, self._opened.name
        self._refocuser = self._opened.harness.photo(self.photo.pixels, self.disparity)
        self.last_level = self._refocuser.levels.steps

    def refocus(
        self,
        *,
        focus: Point | Sequence[Point] | None = None,
        focus_depth: float | None = None,
        focus_range: float = 0.0,
        f_number: float = 2.8,
        progress: Callable[[float], None] | None = None,
    ) -> Photo:
        """The photo at a focus and an f-number: see `deeplens.refocus` for the arguments, the result and the errors."""
        focal, in_focus = _focus(focus, focus_depth).of(self.disparity, focus_range=focus_range)
        pixels = self._refocuser.refocus(
            focal_disparity=focal,
            aperture=aperture_from_f_number(f_number),
            focus_range=in_focus,
            progress=progress,
        )
        return self.photo.with_pixels(pixels)

    def preview(
        self,
        level: int | None = None,
        *,
        focus: Point | Sequence[Point] | None = None,
        focus_depth: float | None = None,
        focus_range: float = 0.0,
        f_number: float = 2.8,
    ) -> Preview:
        """The same picture while a person drags: the base at once, then each further level when it is done.

            for pixels in photo.preview(focus=(0.4, 0.6)):
                window.show(pixels)

        A newer preview of this photo cancels the older one, also from another thread: what is in work there ends with
        its tile, and the loop over it gets `Cancelled`. `preview(0)` stops at the base.

        Args:
            level: the last level, from 0 to `last_level`; None: the photo's own size.
            focus, focus_depth, focus_range, f_number: as in `refocus`.

        Returns:
            an iterator over the levels from 0 up. Each is an array H×W×3 of the photo's dtype in sRGB, without alpha,
            about twice the size of the one before; the last is what `refocus` gives. A level is made when it is asked
            for. `cancel()` ends it from any thread.

        Raises:
            InputError: a level that there is not, and as `refocus`.
            Cancelled: by the iterator, where a newer preview has taken its place.
        """
        focal, in_focus = _focus(focus, focus_depth).of(self.disparity, focus_range=focus_range)
        return self._refocuser.preview(
            focal_disparity=focal, aperture=aperture_from_f_number(f_number), focus_range=in_focus, level=level
        )

    def close(self) -> None:
        """Close the networks. The photo and its disparity can still be read."""
        self._opened.close()

    def __enter__(self) -> "Refocuser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Opened:
    """A photo with its disparity, and the harness on an opened runtime. Closed again where something is wrong."""

    def __init__(
        self,
        photo: PhotoLike,
        *,
        depth: Depth | None,
        depth_kind: Kind | None,
        runtime: str,
        variant: str,
        precision: str | None,
        artifacts: Path | None,
        weights: Weights,
        threads: int | None,
        tile: int | None,
        loop: Loop,
        accelerator: Accelerator,
    ) -> None:
        path = Path(photo) if isinstance(photo, str | Path) else None
        if isinstance(photo, str | Path):
            self.photo = read_photo(Path(photo))
        else:
            self.photo = photo if isinstance(photo, Photo) else photo_of(photo)
        given, notes = None, list(self.photo.notes)
        if depth is not None:
            given = given_disparity(
                depth, path=path, pixels=self.photo.pixels, kind=checked_kind(depth_kind), notes=notes
            )
        self.photo = replace(self.photo, notes=tuple(notes))
        self.name, precision = resolved(
            runtime,
            variant=variant,
            artifacts=artifacts,
            weights=weights,
            precision=precision,
            accelerator=accelerator,
        )
        self._runtime = open_runtime(
            self.name,
            variant=variant,
            artifacts=artifacts,
            weights=weights,
            threads=threads,
            precision=precision,
            accelerator=accelerator,
        )
        try:
            self.harness = Harness(self._runtime, tile=tile, loop=loop)
            self.disparity = self.harness.disparity(self.photo.pixels) if given is None else given
        except BaseException:
            self._runtime.close()
            raise

    def close(self) -> None:
        self._runtime.close()

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


def _focus(focus: Point | Sequence[Point] | None, depth: float | None) -> Focus:
    if focus is not None and depth is not None:
        raise InputError("give a focus or a focus depth, not both")
    if focus is None:
        return Focus(depth=depth, nearest=depth is None)
    try:
        points = np.asarray(focus, np.float64).reshape(-1, np.shape(focus)[-1])
        return Focus(points=tuple((float(x), float(y)) for x, y in points))
    except (TypeError, ValueError, IndexError):
        raise InputError(f"focus is a point (x, y) or a sequence of points, not {focus!r}") from None
