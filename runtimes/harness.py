"""Everything around the networks, once, for all runtimes: depth map, signed depth, the ×2 loop, clipping, output depth.

    photo → picture at the base ─┐
                                 ├→ lens blur → step ×2 → step ×2 → … → photo
    disparity → signed depth ────┘

Section 3.2 of the paper; sizes in `runtimes.pyramid`, tiles in `runtimes.tiling`. NumPy and Pillow only.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from model.contract import ALIGNMENT, CONTRACTS, DEPTH_BY_LEVEL, DEPTH_SIZE, HALO, MIN_SIZE
from model.errors import InputError, MismatchError
from runtimes.contract import Arrays, Runtime
from runtimes.disparity import focal_disparity_at, normalise_disparity
from runtimes.photo import to_8_bit
from runtimes.pyramid import Geometry, geometry, pad_to, picture_levels, quantise, read_picture, signed_depth_levels
from runtimes.tiling import Span, plan

__all__ = ["N_MIN", "Harness", "aperture_from_f_number", "focal_disparity_at", "normalise_disparity"]

N_MIN = 1.4
"""The f-number of the fully open lens: aperture 1."""

ASPECT_TOLERANCE = 0.02
"""How far the aspect ratio of a depth map may be from the photo's."""

Observer = Callable[[int, str, Arrays], None]
Progress = Callable[[float], None]
Source = Callable[[slice, slice], np.ndarray]


def aperture_from_f_number(n: float) -> float:
    """α = N_MIN / n, in (0, 1].

    Raises:
        InputError: n is less than `N_MIN` or not finite.
    """
    if not (math.isfinite(n) and n >= N_MIN):
        raise InputError(f"the f-number is a number from {N_MIN:g} up, not {n:g}")
    return N_MIN / n


class Harness:
    """Refocuses photos with the networks of one runtime.

    The runtime stays the caller's to close. A harness holds nothing between calls; keep the disparity to refocus the
    same photo again.
    """

    def __init__(self, runtime: Runtime, *, tile: int | None = 256) -> None:
        """
        Args:
            runtime: opens the networks.
            tile: largest height and width, in low-resolution pixels, that lens blur and step see at once: a multiple
                of `ALIGNMENT`, at least `MIN_SIZE` and more than twice the networks' halo. None: the whole level.

        Raises:
            InputError: `tile` is not such a number.
        """
        halos = {network: HALO[runtime.variant, network] for network in ("lens_blur", "upsample")}
        smallest = max(MIN_SIZE, 2 * max(halos.values()) + ALIGNMENT)
        if tile is not None and (tile < smallest or tile % ALIGNMENT):
            raise InputError(f"tile is a multiple of {ALIGNMENT} from {smallest} up for {runtime.variant}, not {tile}")
        self._runtime = runtime
        self._tile = tile
        self._halos = halos

    def disparity(self, pixels: np.ndarray) -> np.ndarray:
        """The depth network's estimate for a photo.

        Args:
            pixels: H×W×3, uint8 or uint16, sRGB.

        Returns:
            (DEPTH_SIZE, DEPTH_SIZE), float32, normalised to [0, 1], near = large; it shows the whole photo.

        Raises:
            InputError: pixels of another shape or dtype.
            MissingError, MismatchError: from the runtime.
        """
        _check_pixels(pixels)
        size = (DEPTH_SIZE, DEPTH_SIZE)
        small = np.asarray(Image.fromarray(to_8_bit(pixels)).resize(size, Image.Resampling.BILINEAR))
        picture = read_picture(small, slice(0, DEPTH_SIZE), slice(0, DEPTH_SIZE))
        result = self._runtime.open("depth").run({"picture": picture})["disparity"]
        self._check_result("depth", result, CONTRACTS["depth"].outputs[0].shape(*size))
        return normalise_disparity(result[0, 0])

    def refocus(
        self,
        pixels: np.ndarray,
        disparity: np.ndarray,
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float = 0.0,
        observe: Observer | None = None,
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
                of the contract. They must not be changed. The last level is only held whole if there is an observer.
            progress: called with the share done after each tile, up to 1.0.

        Returns:
            H×W×3 of the dtype of `pixels`, rounded half to even.

        Raises:
            InputError: an argument out of range, or a depth map of the wrong size.
            MissingError, MismatchError: from the runtime, or values that are not finite from a network.
        """
        _check_pixels(pixels)
        _check_disparity(disparity, pixels)
        for name, value in (
            ("focal_disparity", focal_disparity),
            ("aperture", aperture),
            ("focus_range", focus_range),
        ):
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} goes from 0 to 1, not {value:g}")
        levels = geometry(*pixels.shape[:2])
        pictures = picture_levels(pixels, levels)
        depths = signed_depth_levels(
            disparity,
            levels,
            focal_disparity=focal_disparity,
            aperture=aperture,
            focus_range=focus_range,
            by_level=DEPTH_BY_LEVEL[self._runtime.variant],
        )
        report = _Share(levels, progress)
        result = np.empty_like(pixels, order="C", subok=False)

        blurred = np.empty(0, np.float32)
        for level in range(levels.steps + 1):
            last = level == levels.steps
            low = max(0, level - 1)
            network = "lens_blur" if level == 0 else "upsample"
            sources = {
                "picture": _slices(pictures[low]),
                "signed_depth": _slices(depths[low]),
                "blurred": _slices(blurred),
                "picture_high": _pixels(pixels) if last else _slices(pictures[level]),
            }
            tiles = self._run(network, levels.padded(low), sources, report)
            if last and observe is None:
                for (rows, columns), part in tiles:
                    _store(part, rows, columns, result)
                break
            raw = _assemble(tiles, levels.padded(level))
            if observe is not None:
                observe(level, network, _observed(network, levels.padded(low), sources, raw))
            blurred = np.clip(raw, 0.0, 1.0, out=raw if observe is None else None).astype(np.float32, copy=False)
            if last:
                quantise(raw[:, :, : levels.height, : levels.width], result)
        return result

    def _run(
        self, network: str, size: tuple[int, int], sources: dict[str, Source], report: "_Share"
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """Run `network` over a level of `size` low-resolution pixels.

        Yields:
            Where a tile's output goes (rows and columns of the output), and the output, (1, 3, rows, columns).
        """
        session = self._runtime.open(network)
        contract = session.describe()
        output = contract.outputs[0]
        tiles = plan(*size, halo=self._halos[network], tile=self._tile, fixed_size=contract.fixed_size)
        for rows, columns in tiles:
            inputs = {
                tensor.name: pad_to(
                    sources[tensor.name](rows.read(tensor.scale), columns.read(tensor.scale)),
                    tensor.scale * tiles.height,
                    tensor.scale * tiles.width,
                )
                for tensor in contract.inputs
            }
            result = session.run(inputs)[output.name]
            self._check_result(network, result, output.shape(tiles.height, tiles.width))
            where = rows.keep(output.scale), columns.keep(output.scale)
            yield where, result[:, :, rows.core(output.scale), columns.core(output.scale)]
            report.add(rows, columns)

    def _check_result(self, network: str, result: np.ndarray, shape: tuple[int, ...]) -> None:
        """Raise MismatchError unless `result` has `shape` and only finite values."""
        if result.shape != shape:
            raise MismatchError(
                f"{network} on {self._runtime.name} gave {result.shape} where {shape} is due: export it again"
            )
        if not np.isfinite(np.vdot(result, result)):  # one fast pass that NaN and infinity survive
            raise MismatchError(
                f"{network} on {self._runtime.name} gave values that are not finite: use another precision or runtime"
            )


class _Share:
    """Counts low-resolution pixels done, over all levels."""

    def __init__(self, levels: Geometry, progress: Progress | None) -> None:
        sizes = [levels.padded(max(0, level - 1)) for level in range(levels.steps + 1)]
        self._total = sum(height * width for height, width in sizes)
        self._done = 0
        self._progress = progress

    def add(self, rows: Span, columns: Span) -> None:
        self._done += (rows.keep_stop - rows.keep_start) * (columns.keep_stop - columns.keep_start)
        if self._progress is not None:
            self._progress(self._done / self._total)


def _slices(array: np.ndarray) -> Source:
    return lambda rows, columns: array[:, :, rows, columns]


def _pixels(pixels: np.ndarray) -> Source:
    return lambda rows, columns: read_picture(pixels, rows, columns)


def _assemble(tiles: Iterator[tuple[tuple[slice, slice], np.ndarray]], size: tuple[int, int]) -> np.ndarray:
    """The whole level, (1, 3, *size), of the dtype that the network gave; a single tile is not copied."""
    whole: np.ndarray | None = None
    for (rows, columns), part in tiles:
        if part.shape[2:] == size:
            whole = part
            continue
        if whole is None:
            whole = np.empty((*part.shape[:2], *size), part.dtype)
        whole[:, :, rows, columns] = part
    assert whole is not None
    return whole


def _store(part: np.ndarray, rows: slice, columns: slice, result: np.ndarray) -> None:
    """Write a tile into the photo's pixels; what lies in the padding is dropped."""
    target = result[rows, columns]
    if target.size:
        quantise(part[:, :, : target.shape[0], : target.shape[1]], target)


def _observed(network: str, size: tuple[int, int], sources: dict[str, Source], raw: np.ndarray) -> Arrays:
    """The whole inputs of a level of `size` low-resolution pixels, and its output, by the names of the contract."""
    contract = CONTRACTS[network]
    arrays = {
        tensor.name: sources[tensor.name](slice(0, tensor.scale * size[0]), slice(0, tensor.scale * size[1]))
        for tensor in contract.inputs
    }
    return {**arrays, contract.outputs[0].name: raw}


def _check_pixels(pixels: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"a photo is an array of height × width × 3 of uint8 or uint16, not {pixels.shape} of {pixels.dtype}"
        )


def _check_disparity(disparity: np.ndarray, pixels: np.ndarray) -> None:
    """Raise InputError unless `disparity` is a map in [0, 1] that can show the whole photo."""
    if disparity.ndim != 2 or disparity.size == 0 or disparity.dtype.kind not in "biuf":
        raise InputError(
            f"a depth map is an array of height × width real numbers, not {disparity.shape} of {disparity.dtype}"
        )
    if not (float(disparity.min()) >= 0.0 and float(disparity.max()) <= 1.0):  # NaN fails both
        raise InputError("the depth map must hold finite values from 0 to 1: pass it through normalise_disparity")
    (map_height, map_width), (height, width) = disparity.shape, pixels.shape[:2]
    ratio = (map_width * height) / (map_height * width)
    rounded = abs(map_height - map_width * height / width) < 1 or abs(map_width - map_height * width / height) < 1
    square = disparity.shape == (DEPTH_SIZE, DEPTH_SIZE)
    if not (square or rounded or max(ratio, 1 / ratio) <= 1 + ASPECT_TOLERANCE):
        raise InputError(
            f"wrong-sized depth map: {map_width}×{map_height} does not show a photo of {width}×{height}; "
            f"give one of the same aspect ratio, or of {DEPTH_SIZE}×{DEPTH_SIZE}"
        )
