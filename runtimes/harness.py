"""Everything around the networks, once, for all runtimes: depth map, signed depth, the ×2 loop, clipping, output depth.

    photo → picture at the base ─┐
                                 ├→ lens blur → step ×2 → step ×2 → … → photo
    disparity → signed depth ────┘

Section 3.2 of the paper; the loop in `runtimes.refocuser`, sizes in `runtimes.pyramid`, tiles in `runtimes.tiling`.
NumPy and Pillow only.
"""

import math

import numpy as np
from PIL import Image

from deeplens.console.errors import InputError
from deeplens.model.contract import ALIGNMENT, CONTRACTS, DEPTH_SIZE, MIN_SIZE, VARIANTS
from deeplens.runtimes.assembly import Progress
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.device_loop import loop_named
from deeplens.runtimes.disparity import focal_disparity_at, normalise_disparity
from deeplens.runtimes.fit import in_aspect, made_smaller
from deeplens.runtimes.level_run import check_result
from deeplens.runtimes.refocuser import Observer, Refocuser
from deeplens.runtimes.tiling import TILE

__all__ = ["N_MIN", "Harness", "aperture_from_f_number", "focal_disparity_at", "normalise_disparity"]

N_MIN = 1.4
"""The f-number of the fully open lens: aperture 1."""

ASPECT_TOLERANCE = 0.02
"""How far the aspect ratio of a depth map may be from the photo's."""


def aperture_from_f_number(n: float) -> float:
    """α = N_MIN / n, in (0, 1].

    Raises:
        InputError: n is less than `N_MIN` or not finite.
    """
    if not (math.isfinite(n) and n >= N_MIN):
        raise InputError(f"the f-number must be {N_MIN:g} or more, not {n:g}")
    return N_MIN / n


class Harness:
    """Refocuses photos with the networks of one runtime.

    The runtime stays the caller's to close. A harness holds nothing between calls; what `photo` gives does, for
    refocusing the same photo again.
    """

    def __init__(self, runtime: Runtime, *, tile: int | None = TILE, loop: str = "auto") -> None:
        """
        Args:
            runtime: opens the networks.
            tile: largest height and width, in low-resolution pixels, that lens blur and step see at once: a multiple
                of `ALIGNMENT`, at least `MIN_SIZE` and more than twice the networks' halo. None: the whole level.

            loop: where the loop runs, as in `runtimes.refocuser.Refocuser`.

        Raises:
            InputError: `tile` is not such a number, or `loop` is unknown.
        """
        halo = max(VARIANTS[runtime.variant].halo.values())
        smallest = max(MIN_SIZE, 2 * halo + ALIGNMENT)
        if tile is not None and (tile < smallest or tile % ALIGNMENT):
            raise InputError(
                f"tile must be a multiple of {ALIGNMENT}, and at least {smallest} for {runtime.variant}, not {tile}"
            )
        self._runtime = runtime
        self._tile = tile
        self._loop = loop_named(loop)

    def disparity(self, pixels: np.ndarray) -> np.ndarray:
        """The depth network's estimate for a photo.

        Args:
            pixels: H×W×3, uint8 or uint16, sRGB.

        Returns:
            h×w, float32, normalised to [0, 1], near = large; it shows the whole photo. Of our own networks
            (DEPTH_SIZE, DEPTH_SIZE), of others of the photo's aspect ratio.

        Raises:
            InputError: pixels of another shape or dtype.
            MissingError, MismatchError: from the runtime.
        """
        _check_pixels(pixels)
        session = self._runtime.open("depth")
        fit = session.fit
        placed = fit.placed(pixels)
        size = placed.picture.shape[2:]
        result = session.run({"picture": placed.picture})["disparity"]
        check_result("depth", self._runtime.name, result, CONTRACTS["depth"].outputs[0].shape(*size))
        disparity = normalise_disparity(placed.cropped(result[0, 0]))
        if fit.aspect == "stretch" and fit.size == (DEPTH_SIZE, DEPTH_SIZE):
            return disparity
        return in_aspect(disparity, pixels.shape[1] / pixels.shape[0])

    @staticmethod
    def depth_picture(pixels: np.ndarray) -> np.ndarray:
        """What the depth network sees of a photo: (DEPTH_SIZE, DEPTH_SIZE, 3), uint8, aspect ignored, antialiased.

        Args:
            pixels: as in `disparity`.

        Raises:
            InputError: pixels of another shape or dtype.
        """
        _check_pixels(pixels)
        return np.asarray(made_smaller(pixels, (DEPTH_SIZE, DEPTH_SIZE), Image.Resampling.BILINEAR))

    def photo(self, pixels: np.ndarray, disparity: np.ndarray) -> Refocuser:
        """A photo ready to be refocused more than once: what does not depend on focus and aperture is made once.

        Refocusing it takes less time than `refocus` from the second time on, and more memory: 3 bytes a pixel of the
        photo. The picture is the same.

        Args:
            pixels: as in `refocus`; it must not be changed while the result is used.
            disparity: as in `refocus`; it must not be changed either.

        Raises:
            InputError: pixels of another shape or dtype, or a depth map of the wrong size.
        """
        return self._photo(pixels, disparity, again=True)

    def _photo(self, pixels: np.ndarray, disparity: np.ndarray, *, again: bool) -> Refocuser:
        _check_pixels(pixels)
        check_disparity(disparity, pixels)
        return Refocuser(self._runtime, pixels, disparity, tile=self._tile, again=again, loop=self._loop)

    def refocus(
        self,
        pixels: np.ndarray,
        disparity: np.ndarray,
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float = 0.0,
        observe: Observer | None = None,
        from_base: bool | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """The photo with a shallow depth of field.

        Args:
            pixels: H×W×3, uint8 or uint16, sRGB, from 1×1 up.
            disparity: h×w in [0, 1], near = large, of the photo's aspect ratio at any size, or as `disparity` gives it.
            focal_disparity: disparity that is sharp, in [0, 1].
            aperture: α in [0, 1]; at 1 a difference in disparity of 1 has a circle of confusion with a radius of
                R_MAX / BASE_LONG_SIDE = 2.5 % of the long side.
            focus_range: width, in [0, 1], of the range of disparities that is sharp, `focal_disparity` in its middle;
                blur grows from its ends. 0: the one plane of a lens.
            observe: called as observe(level, network, arrays) after the lens blur (level 0) and after each step (level
                1 … n) with the network's inputs and its unclipped output at that level, whole and padded, by the names
                of the contract. They must not be changed. Only for an observer the last level is held whole,
                tiles are run where nothing is blurred or everything very much (`model.contract.Variant`,
                `sharp_bound` and `soft_radius`), and the loop begins at the base whatever the blur (`finer_base`)
                unless `from_base` says otherwise. Where both beginnings are mixed, level 1 is seen twice: made by the
                step, then by the lens blur.
            from_base: True: the loop begins at the base. False: at level 1 where the variant may (`finer_base`). None:
                True for an observer, else False.
            progress: called with the share done after each tile, up to 1.0.

        Returns:
            H×W×3 of the dtype of `pixels`, rounded half to even.

        Raises:
            InputError: an argument out of range, or a depth map of the wrong size.
            MissingError, MismatchError: from the runtime, or values that are not finite from a network.
        """
        return self._photo(pixels, disparity, again=False).refocus(
            focal_disparity=focal_disparity,
            aperture=aperture,
            focus_range=focus_range,
            observe=observe,
            from_base=from_base,
            progress=progress,
        )


def _check_pixels(pixels: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"a photo must be a uint8 or uint16 array of height × width × 3, not {pixels.shape} of {pixels.dtype}"
        )


def check_disparity(disparity: np.ndarray, pixels: np.ndarray) -> None:
    """Raise InputError unless `disparity` is a map in [0, 1] that can show the whole photo."""
    if disparity.ndim != 2 or disparity.size == 0 or disparity.dtype.kind not in "biuf":
        raise InputError(
            f"a depth map must be an array of height × width real numbers, not {disparity.shape} of {disparity.dtype}"
        )
    if not (float(disparity.min()) >= 0.0 and float(disparity.max()) <= 1.0):  # NaN fails both
        raise InputError("the depth map must hold finite values from 0 to 1: pass it through normalise_disparity")
    (map_height, map_width), (height, width) = disparity.shape, pixels.shape[:2]
    ratio = (map_width * height) / (map_height * width)
    rounded = abs(map_height - map_width * height / width) < 1 or abs(map_width - map_height * width / height) < 1
    square = disparity.shape == (DEPTH_SIZE, DEPTH_SIZE)
    if not (square or rounded or max(ratio, 1 / ratio) <= 1 + ASPECT_TOLERANCE):
        raise InputError(
            f"the depth map of {map_width}×{map_height} does not fit the photo of {width}×{height}: "
            f"give one with the same aspect ratio, or of {DEPTH_SIZE}×{DEPTH_SIZE}"
        )
