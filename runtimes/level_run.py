"""Running a network over one level of the loop, part by part. NumPy only."""

from collections.abc import Callable, Mapping

import numpy as np

from deeplens.console.errors import MismatchError
from deeplens.model.contract import R_MAX, VARIANTS
from deeplens.runtimes.assembly import Share, each_part
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.parts import BLOCK, Blocks, Part, all_near, around, of_tiles, smallest
from deeplens.runtimes.pyramid import doubled, pad_to
from deeplens.runtimes.tiling import Span, split

Source = Callable[[slice, slice], np.ndarray]
Sources = Mapping[str, Source]
Sink = Callable[[slice, slice, np.ndarray], None]
"""Takes the rows and columns of a level and what was made there, (1, 3, rows, columns); called from any thread."""
Extremes = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Gives the smallest and the largest |D̃| of each block of a level: see `runtimes.depth_levels.SignedDepths`."""

UNBLURRED = 1e-3
"""A blurred picture that is nowhere farther than this from the photo, in [0, 1], has no blur: rounding, not light."""

COMPARED_ROWS = 16 * BLOCK
"""As many rows of the blurred picture are compared with the photo at a time."""


class LevelRunner:
    """Runs the networks of a runtime over whole levels, in windows of at most `tile` low-resolution pixels a side."""

    def __init__(self, runtime: Runtime, tile: int | None) -> None:
        self._runtime = runtime
        self._tile = tile

    def run(
        self,
        network: str,
        size: tuple[int, int],
        sources: Sources,
        report: Share,
        sink: Sink,
        *,
        wide: bool,
        extremes: Extremes | None,
    ) -> None:
        """Run `network` over a level, a part in each of the session's lanes.

        Args:
            size: low-resolution height and width of the level.
            sources: what the network sees, by the names of the contract.
            report: is told of each part that is done.
            sink: gets what is made.
            wide: take windows of twice the size where the session can.
            extremes: of the level's signed depth. With them the photo is given where nothing is blurred, and the
                blurred picture upsampled where nothing is less than very blurred, if the variant does so itself.
                None: everything is run.
        """
        session = self._runtime.open(network)
        contract = session.describe()
        output, count = contract.outputs[0], session.lanes
        halo, fixed = VARIANTS[self._runtime.variant].halo[network], contract.fixed_size
        tile = self._tile
        if tile and wide and session.takes((split(*size, halo=halo, tile=2 * tile, fixed_size=fixed)).size):
            tile = 2 * tile
        blocks = self._blocks(network, size, sources, extremes) if extremes else Blocks.none(size)
        padded: tuple[int, int] | None = None
        if session.any_size and tile and fixed is None:
            parts = around(size, blocks, halo=halo, tile=tile, lanes=count)
        else:
            tiles = split(*size, halo=halo, tile=tile, fixed_size=fixed, lanes=count)
            parts, padded = of_tiles(tiles, blocks), tiles.size
        sharp = sources[contract.inputs[0].name]  # what the output is where nothing is blurred

        def work(part: Part) -> None:
            rows, columns = part.rows, part.columns
            kept = rows.keep(output.scale), columns.keep(output.scale)
            if part.kind == "sharp":
                sink(*kept, sharp(*kept))
                return
            if part.kind == "soft":
                sink(*kept, _upsampled(sources["blurred"], size, rows, columns))
                return
            height, width = padded or (rows.stop - rows.start, columns.stop - columns.start)
            inputs = {
                tensor.name: pad_to(
                    sources[tensor.name](rows.read(tensor.scale), columns.read(tensor.scale)),
                    tensor.scale * height,
                    tensor.scale * width,
                )
                for tensor in contract.inputs
            }
            result = session.run(inputs)[output.name]
            check_result(network, self._runtime.name, result, output.shape(height, width))
            sink(*kept, result[:, :, rows.core(output.scale), columns.core(output.scale)])

        each_part(work, parts, count, report)

    def _blocks(self, network: str, size: tuple[int, int], sources: Sources, extremes: Extremes) -> Blocks:
        """What of a level needs no run, by what the variant says of its networks."""
        variant, blocks = VARIANTS[self._runtime.variant], Blocks.none(size)
        if variant.sharp_bound is None and (variant.soft_radius is None or network == "lens_blur"):
            return blocks
        least, most = extremes()
        soft, sharp = blocks.soft, blocks.sharp
        if variant.soft_radius is not None and network == "upsample":
            soft = least * R_MAX >= variant.soft_radius
        if variant.sharp_bound is not None:
            in_focus = most == 0
            sharp = all_near(in_focus, variant.halo[network])
            if network == "upsample" and sharp.any():
                in_focus &= _unblurred(in_focus, sources)
                sharp = all_near(in_focus, variant.halo[network])
        return Blocks(soft, sharp)


def check_result(network: str, runtime: str, result: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise MismatchError unless `result` has `shape` and only finite values."""
    if result.shape != shape:
        raise MismatchError(f"{network} on {runtime} gave the shape {result.shape}, expected {shape}: export it again")
    if not np.isfinite(result.sum()):  # one fast pass that NaN and infinity survive
        raise MismatchError(f"{network} on {runtime} gave values that are not finite: use another precision or runtime")


def _unblurred(in_focus: np.ndarray, sources: Sources) -> np.ndarray:
    """In which of the blocks in focus no blur of what lies elsewhere is seen; False outside them."""
    found = np.zeros_like(in_focus)
    step = COMPARED_ROWS // BLOCK
    for top in range(0, len(in_focus), step):
        strip = in_focus[top : top + step]
        columns = np.flatnonzero(strip.any(0))
        if columns.size:
            across = slice(int(columns[0]), int(columns[-1]) + 1)
            where = (slice(BLOCK * top, BLOCK * (top + len(strip))), slice(BLOCK * across.start, BLOCK * across.stop))
            off = np.abs(sources["blurred"](*where) - sources["picture"](*where)).max((0, 1))
            found[top : top + step, across] = smallest(-off) >= -UNBLURRED
    return found


def _upsampled(blurred: Source, size: tuple[int, int], rows: Span, columns: Span) -> np.ndarray:
    """What a part keeps of the blurred picture, of `size` pixels, bilinearly at twice the size."""
    windows, cores = [], []
    for span, length in zip((rows, columns), size, strict=True):
        start, stop = max(0, span.keep_start - 1), min(length, span.keep_stop + 1)
        windows.append(slice(start, stop))
        cores.append(slice(2 * (span.keep_start - start), 2 * (span.keep_stop - start)))
    return doubled(blurred(*windows))[:, :, cores[0], cores[1]]
