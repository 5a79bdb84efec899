"""One photo with its depth map, ready to be refocused again and again: the ×2 loop over tiles.

What does not depend on the focal plane or the aperture is made once and kept: the photo at every level, and its
disparity at the finest of them. NumPy and Pillow only.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from threading import Lock

import numpy as np

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.progress import Stopwatch
from deeplens.model.contract import CONTRACTS, FINER_BASE, R_MAX, VARIANTS, Variant
from deeplens.runtimes.assembly import Progress, Share, Whole, each_tile
from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.pyramid import (
    Geometry,
    doubled,
    geometry,
    halved_window,
    pad_to,
    picture_levels,
    quantise,
    read_picture,
    registered_disparity,
    signed_depth_levels,
)
from deeplens.runtimes.sharp import FinerMap, SharpShares
from deeplens.runtimes.tiling import Span, split

Observer = Callable[[int, str, Arrays], None]
Source = Callable[[slice, slice], np.ndarray]
Sink = Callable[[slice, slice, np.ndarray], None]
"""Takes the rows and columns of a level and what a tile gave there, (1, 3, rows, columns); called from any thread."""

FEATURES_BYTES = 1 << 28
"""As much is kept of what the networks make of a photo alone, at most: 2048×1536 pixels of `edge` need 160 MB."""

UNBLURRED = 1e-3
"""A blurred picture that is nowhere farther than this from the photo, in [0, 1], has no blur: rounding, not light."""


class Refocuser:
    """Refocuses one photo; made by `runtimes.harness.Harness.photo`, which checks what it is given.

    It holds the photo's levels below its full size as float32 (4 bytes a pixel of the photo, or 1) and its disparity
    (1 byte a pixel, 4 where there is but one step), until it is dropped. The runtime stays the caller's to close.

    Args:
        again: it will be refocused more than once. Then the level below the photo's own is held too, three quarters of
            them all, which else is made tile by tile; and what the networks make of the photo alone, where the runtime
            can tell it apart, up to `FEATURES_BYTES`.
    """

    def __init__(
        self, runtime: Runtime, pixels: np.ndarray, disparity: np.ndarray, *, tile: int | None, again: bool
    ) -> None:
        self._runtime = runtime
        self._tile = tile
        self._pixels = pixels
        self._levels = geometry(*pixels.shape[:2])
        pictures = picture_levels(pixels, self._levels, finest=again)
        self._pictures = [_slices(each) for each in pictures]
        if len(self._pictures) < self._levels.steps:
            self._pictures.append(partial(halved_window, pixels))
        self._pictures.append(partial(read_picture, pixels))
        self._disparity = registered_disparity(disparity, self._levels)
        finer = self._variant.sharp_bound is not None  # else the variant changes what is in focus
        self._finer = FinerMap(disparity if finer else np.empty((0, 0)), self._disparity, self._levels)
        self._features = _Features() if again else None
        self._held = sum(each.nbytes for each in pictures) + self._disparity.nbytes

    @property
    def levels(self) -> Geometry:
        """The sizes of the photo's levels."""
        return self._levels

    @property
    def held_bytes(self) -> int:
        """As much memory as is kept between two refocusings, beside the photo itself."""
        return self._held + (0 if self._features is None else self._features.held_bytes)

    def refocus(
        self,
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float = 0.0,
        observe: Observer | None = None,
        from_base: bool | None = None,
        level: int | None = None,
        progress: Progress | None = None,
        watch: Stopwatch | None = None,
    ) -> np.ndarray:
        """The photo with a shallow depth of field: see `runtimes.harness.Harness.refocus`.

        Args:
            level: the last level that is made, 0 (the base) to n; None: n, the photo's own size. Without an observer.
            watch: gets the time of the lens blur as "lens_blur", of the step that makes level k as "step_k".

        Returns:
            H×W×3 of the photo's dtype; of a level below n `Geometry.covered` of it, as the loop has it there. The base
            always comes from the lens blur at the base, also where the loop would begin above it.
        """
        for name, value in (
            ("focal_disparity", focal_disparity),
            ("aperture", aperture),
            ("focus_range", focus_range),
        ):
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} must be from 0 to 1, not {value:g}")
        levels, by_level = self._levels, self._variant.depth_by_level
        focus = {"focal_disparity": focal_disparity, "aperture": aperture, "focus_range": focus_range}
        depths = signed_depth_levels(self._disparity, levels, **focus, by_level=by_level)
        shares = self._finer.shares(depths, **focus, by_level=by_level) if self._finer.last else None
        end = levels.steps if level is None else level
        if not 0 <= end <= levels.steps:
            raise InputError(f"the levels of this photo go from 0 to {levels.steps}, not to {end}")
        if from_base is None:
            from_base = observe is not None
        finer = 0.0 if from_base or end == 0 else self._finer_share(depths[0])
        first = 1 if finer == 1 else 0
        lows = [max(first, each - 1) for each in range(first, end + 1)] + [1] * (0 < finer < 1)
        report = Share(levels, lows, progress)
        result = np.empty((*levels.covered(end), 3), self._pixels.dtype)

        def run(network: str, level: int, blurred: np.ndarray, sink: Sink) -> None:
            sources = self._sources(network, level, depths, blurred)
            if shares is not None and observe is None and 1 <= level <= self._finer.last:
                sink = partial(_sharpened, sink, shares, level, self._pictures[level])
            low = level if network == "lens_blur" else level - 1
            part = network if network == "lens_blur" else f"step_{level}"
            with nullcontext() if watch is None else watch.part(part):
                self._run(network, levels.padded(low), sources, report, sink, skip=observe is None)

        blurred = np.empty(0, np.float32)
        for level in range(first, end + 1):
            last = level == end
            network = "lens_blur" if level == first else "upsample"
            mixed = level == 1 and 0 < finer < 1
            if last and observe is None and not mixed:
                run(network, level, blurred, partial(_store, result))
                break
            made = self._whole(run, network, level, depths, blurred, observe)
            if mixed:
                begun = self._whole(run, "lens_blur", level, depths, blurred, observe)
                made = np.float32(1 - finer) * made + np.float32(finer) * begun
            if observe is not None and shares is not None and 1 <= level <= self._finer.last:
                rows, columns = (slice(0, side) for side in levels.padded(level))
                made = shares.apply(level, rows, columns, made, self._pictures[level](rows, columns))
            blurred = made
            if last:
                quantise(blurred[:, :, : result.shape[0], : result.shape[1]], result)
        return result

    def _whole(
        self,
        run: Callable[[str, int, np.ndarray, Sink], None],
        network: str,
        level: int,
        depths: list[np.ndarray],
        blurred: np.ndarray,
        observe: Observer | None,
    ) -> np.ndarray:
        """What `network` makes of a whole level, as the next step takes it: clipped to [0, 1], float32."""
        whole = Whole(self._levels.padded(level), raw=observe is not None)
        run(network, level, blurred, whole.store)
        if observe is None:
            return whole.array
        low = self._levels.padded(level if network == "lens_blur" else level - 1)
        observe(level, network, _observed(network, low, self._sources(network, level, depths, blurred), whole.array))
        return np.clip(whole.array, 0.0, 1.0).astype(np.float32, copy=False)

    def _sources(self, network: str, level: int, depths: list[np.ndarray], blurred: np.ndarray) -> dict[str, Source]:
        """What `network` sees when it makes `level`, by the names of the contract."""
        low = level if network == "lens_blur" else level - 1
        return {
            "picture": self._pictures[low],
            "signed_depth": _slices(depths[low]),
            "blurred": _slices(blurred),
            "picture_high": self._pictures[level],
        }

    @property
    def _variant(self) -> Variant:
        return VARIANTS[self._runtime.variant]

    def _finer_share(self, base_depth: np.ndarray) -> float:
        """The share of the loop that begins at level 1 in what it gives: see `model.contract.Variant`."""
        if not self._variant.finer_base or self._levels.steps == 0:
            return 0.0
        whole, none = FINER_BASE
        return min(1.0, max(0.0, (none - float(np.abs(base_depth).max())) / (none - whole)))

    def _run(
        self,
        network: str,
        size: tuple[int, int],
        sources: dict[str, Source],
        report: Share,
        sink: Sink,
        *,
        skip: bool,
    ) -> None:
        """Run `network` over a level of `size` low-resolution pixels, a tile in each of the session's lanes.

        Args:
            sink: gets each tile's output.
            skip: give the photo where nothing is blurred, and the blurred picture upsampled where nothing is less than
                very blurred, if the variant does so itself.
        """
        session = self._runtime.open(network)
        contract = session.describe()
        output = contract.outputs[0]
        count = session.lanes
        windows = partial(split, *size, halo=self._variant.halo[network], fixed_size=contract.fixed_size, lanes=count)
        tiles = windows(tile=self._tile)
        if self._tile and network == "lens_blur" and size != self._levels.padded(0):
            # One that begins at level 1 sees twice as much at once, where it can: its halo is large beside a tile.
            wider = windows(tile=2 * self._tile)
            tiles = wider if session.takes((wider.height, wider.width)) else tiles
        sharp = sources[contract.inputs[0].name]  # what the output is where nothing is blurred
        soft = self._variant.soft_radius if skip and network == "upsample" else None
        skip = skip and self._variant.sharp_bound is not None

        def run(rows: Span, columns: Span) -> None:
            kept = rows.keep(output.scale), columns.keep(output.scale)
            if skip and _all_sharp(sources, network, rows, columns):
                sink(*kept, sharp(*kept))
                return
            if soft is not None and _all_soft(sources, soft, rows, columns):
                sink(*kept, _upsampled(sources["blurred"], size, rows, columns))
                return
            inputs = {
                tensor.name: pad_to(
                    sources[tensor.name](rows.read(tensor.scale), columns.read(tensor.scale)),
                    tensor.scale * tiles.height,
                    tensor.scale * tiles.width,
                )
                for tensor in contract.inputs
            }
            tile = (network, size, rows, columns)
            features = None if self._features is None else self._features.of(session, tile, inputs)
            result = (session.run(inputs) if features is None else session.run_rest(inputs, features))[output.name]
            check_result(network, self._runtime.name, result, output.shape(tiles.height, tiles.width))
            sink(*kept, result[:, :, rows.core(output.scale), columns.core(output.scale)])

        each_tile(run, list(tiles), count, report)


class _Features:
    """What the networks make of the photo alone, tile by tile, as far as there is room."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Arrays | None] = {}
        self._room = FEATURES_BYTES
        self._lock = Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(each.nbytes for made in list(self._kept.values()) for each in (made or {}).values())

    def of(self, session: Session, tile: tuple[object, ...], inputs: Arrays) -> Arrays | None:
        """The features of a tile, made now if they were not yet; None: the session has none, or there is no room."""
        if tile in self._kept:
            return self._kept[tile]
        if self._room <= 0:
            return None
        made = session.features(inputs)
        size = sum(each.nbytes for each in (made or {}).values())
        with self._lock:
            self._room -= size
            if self._room >= 0:
                self._kept[tile] = made
        return made


def _all_sharp(sources: dict[str, Source], network: str, rows: Span, columns: Span) -> bool:
    """Whether all that a tile sees is at the focal plane, and no blur of what lies elsewhere reaches into it."""
    where = rows.read(), columns.read()
    if sources["signed_depth"](*where).any():
        return False
    if network == "lens_blur":
        return True
    return bool(np.abs(sources["blurred"](*where) - sources["picture"](*where)).max() <= UNBLURRED)


def _all_soft(sources: dict[str, Source], radius: float, rows: Span, columns: Span) -> bool:
    """Whether the circle of confusion of all that a tile gives has `radius` low-resolution pixels or more."""
    return bool(np.abs(sources["signed_depth"](rows.keep(), columns.keep())).min() * R_MAX >= radius)


def _upsampled(blurred: Source, size: tuple[int, int], rows: Span, columns: Span) -> np.ndarray:
    """What a tile keeps of the blurred picture, of `size` pixels, bilinearly at twice the size."""
    windows, cores = [], []
    for span, length in zip((rows, columns), size, strict=True):
        start, stop = max(0, span.keep_start - 1), min(length, span.keep_stop + 1)
        windows.append(slice(start, stop))
        cores.append(slice(2 * (span.keep_start - start), 2 * (span.keep_stop - start)))
    return doubled(blurred(*windows))[:, :, cores[0], cores[1]]


def check_result(network: str, runtime: str, result: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise MismatchError unless `result` has `shape` and only finite values."""
    if result.shape != shape:
        raise MismatchError(f"{network} on {runtime} gave the shape {result.shape}, expected {shape}: export it again")
    if not np.isfinite(result.sum()):  # one fast pass that NaN and infinity survive
        raise MismatchError(f"{network} on {runtime} gave values that are not finite: use another precision or runtime")


def _slices(array: np.ndarray) -> Source:
    return lambda rows, columns: array[:, :, rows, columns]


def _store(result: np.ndarray, rows: slice, columns: slice, part: np.ndarray) -> None:
    """Write a tile into the photo's pixels; what lies in the padding is dropped."""
    target = result[rows, columns]
    if target.size:
        quantise(part[:, :, : target.shape[0], : target.shape[1]], target)


def _sharpened(
    sink: Sink, shares: SharpShares, level: int, photo: Source, rows: slice, columns: slice, part: np.ndarray
) -> None:
    sink(rows, columns, shares.apply(level, rows, columns, part, photo(rows, columns)))


def _observed(network: str, size: tuple[int, int], sources: dict[str, Source], raw: np.ndarray) -> Arrays:
    """The whole inputs of a level of `size` low-resolution pixels, and its output, by the names of the contract."""
    contract = CONTRACTS[network]
    arrays = {
        tensor.name: sources[tensor.name](slice(0, tensor.scale * size[0]), slice(0, tensor.scale * size[1]))
        for tensor in contract.inputs
    }
    return {**arrays, contract.outputs[0].name: raw}
