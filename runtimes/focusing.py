"""The ×2 loop of one photo for one focal plane and aperture, level by level."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, partial

import numpy as np

from deeplens.console.progress import Stopwatch
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes.assembly import Progress, Share, Whole
from deeplens.runtimes.contract import Arrays
from deeplens.runtimes.depth_levels import FocalPlane, finer_share
from deeplens.runtimes.level_run import LevelRunner, Sink, Source, Sources
from deeplens.runtimes.prepared import PreparedPhoto, slices
from deeplens.runtimes.pyramid import quantise
from deeplens.runtimes.sharp import SharpShares

Observer = Callable[[int, str, Arrays], None]


class Focusing:
    """The loop, as far as it was run: the next level goes on from there. For one thread at a time.

    It holds the level that was made last, 12 bytes a pixel, but not the photo's own.

    Args:
        from_base: the loop begins at the base, also where the variant may begin above it.

    Attributes:
        plane: what it is for.
    """

    def __init__(
        self, photo: PreparedPhoto, runner: LevelRunner, plane: FocalPlane, *, from_base: bool = False
    ) -> None:
        self.plane = plane
        self._photo, self._runner, self._from_base = photo, runner, from_base
        self._depths = photo.depth.signed(plane, by_level=photo.variant.depth_by_level)
        self._made = -1
        self._blurred = np.empty(0, np.float32)

    @property
    def held_bytes(self) -> int:
        return self._blurred.nbytes

    def picture(
        self,
        end: int,
        *,
        observe: Observer | None = None,
        progress: Progress | None = None,
        watch: Stopwatch | None = None,
    ) -> np.ndarray:
        """Run the loop up to level `end`.

        Args:
            end: 0 (the base, which always comes from the lens blur there) to n.
            observe: as in `runtimes.harness.Harness.refocus`; then the loop is run from its beginning.
            progress: called with the share done after each tile; what it raises ends the run.
            watch: gets the time of the lens blur as "lens_blur", of the step that makes level k as "step_k".

        Returns:
            `Geometry.covered` of the level, of the photo's dtype.
        """
        levels, pixels = self._photo.levels, self._photo.pixels
        finer = self._finer if end else 0.0
        first = 1 if finer == 1 else 0
        made = self._made if observe is None and first <= self._made <= end else -1
        todo = range(max(first, made + 1), end + 1)
        lows = [max(first, each - 1) for each in todo] + [1] * (0 < finer < 1 and 1 in todo)
        report = Share(levels, lows, progress)
        result = np.empty((*levels.covered(end), 3), pixels.dtype)

        def run(network: str, level: int, blurred: np.ndarray, sink: Sink) -> None:
            sources = self._sources(network, level, blurred)
            if observe is None and 1 <= level <= self._photo.finer.last:
                sink = partial(_sharpened, sink, self._shares, level, self._photo.pictures[level])
            low = level if network == "lens_blur" else level - 1
            with nullcontext() if watch is None else watch.part("lens_blur" if low == level else f"step_{level}"):
                wide = network == "lens_blur" and low > 0  # its halo is large beside a tile
                extremes = partial(self._depths.extremes, low) if observe is None else None
                self._runner.run(network, levels.padded(low), sources, report, sink, wide=wide, extremes=extremes)

        for level in todo:
            network = "lens_blur" if level == first else "upsample"
            mixed = level == 1 and 0 < finer < 1
            if level == levels.steps and observe is None and not mixed:
                run(network, level, self._blurred, partial(_store, result))
                self._keep(-1, np.empty(0, np.float32))
                return result
            blurred = self._whole(run, network, level, observe)
            if mixed:
                begun = self._whole(run, "lens_blur", level, observe)
                blurred = np.float32(1 - finer) * blurred + np.float32(finer) * begun
            if observe is not None and 1 <= level <= self._photo.finer.last:
                rows, columns = (slice(0, side) for side in levels.padded(level))
                blurred = self._shares.apply(level, rows, columns, blurred, self._photo.pictures[level](rows, columns))
            self._keep(level, blurred)
        quantise(self._blurred[:, :, : result.shape[0], : result.shape[1]], result)
        return result

    def _keep(self, level: int, blurred: np.ndarray) -> None:
        self._made, self._blurred = level, blurred

    def _whole(
        self,
        run: Callable[[str, int, np.ndarray, Sink], None],
        network: str,
        level: int,
        observe: Observer | None,
    ) -> np.ndarray:
        """What `network` makes of a whole level, as the next step takes it: clipped to [0, 1], float32."""
        levels, blurred = self._photo.levels, self._blurred
        whole = Whole(levels.padded(level), raw=observe is not None)
        run(network, level, blurred, whole.store)
        if observe is None:
            return whole.array
        low = levels.padded(level if network == "lens_blur" else level - 1)
        observe(level, network, _observed(network, low, self._sources(network, level, blurred), whole.array))
        return np.clip(whole.array, 0.0, 1.0).astype(np.float32, copy=False)

    def _sources(self, network: str, level: int, blurred: np.ndarray) -> Sources:
        """What `network` sees when it makes `level`, by the names of the contract."""
        low = level if network == "lens_blur" else level - 1
        return {
            "picture": self._photo.pictures[low],
            "signed_depth": self._depths.window(low),
            "blurred": slices(blurred),
            "picture_high": self._photo.pictures[level],
        }

    @cached_property
    def _shares(self) -> SharpShares:
        plane = self.plane
        return self._photo.finer.shares(
            self._depths,
            focal_disparity=plane.focal_disparity,
            aperture=plane.aperture,
            focus_range=plane.focus_range,
            by_level=self._photo.variant.depth_by_level,
        )

    @cached_property
    def _finer(self) -> float:
        """See `runtimes.depth_levels.finer_share`."""
        if self._from_base or not self._photo.variant.finer_base or self._photo.levels.steps == 0:
            return 0.0
        return finer_share(float(np.abs(self._depths[0]).max()))


def _store(result: np.ndarray, rows: slice, columns: slice, part: np.ndarray) -> None:
    """Write a tile into the photo's pixels; what lies in the padding is dropped."""
    target = result[rows, columns]
    if target.size:
        quantise(part[:, :, : target.shape[0], : target.shape[1]], target)


def _sharpened(
    sink: Sink, shares: SharpShares, level: int, photo: Source, rows: slice, columns: slice, part: np.ndarray
) -> None:
    sink(rows, columns, shares.apply(level, rows, columns, part, photo(rows, columns)))


def _observed(network: str, size: tuple[int, int], sources: Sources, raw: np.ndarray) -> Arrays:
    """The whole inputs of a level of `size` low-resolution pixels, and its output, by the names of the contract."""
    contract = CONTRACTS[network]
    arrays = {
        tensor.name: sources[tensor.name](slice(0, tensor.scale * size[0]), slice(0, tensor.scale * size[1]))
        for tensor in contract.inputs
    }
    return {**arrays, contract.outputs[0].name: raw}
