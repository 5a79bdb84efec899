"""The loop on PyTorch's device, in tensors: what `runtimes.focusing` and `runtimes.pyramid` do in NumPy on the host.

Nothing is left out: every level is run whole where the memory holds it, else in tiles. No value is read back before the
result, so that the host never waits in between; with a range in focus one number is. What is recorded as a graph
(`runtimes.torch_graph`) reads back none: with a range in focus it makes level 1 in both ways, and mixes them.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deeplens.console.errors import MismatchError
from deeplens.model.contract import CONTRACTS, R_MAX, Variant
from deeplens.runtimes.assembly import Progress
from deeplens.runtimes.depth_levels import FocalPlane, finer_share
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.pyramid import geometry, reflected, registered_disparity
from deeplens.runtimes.sharp import BLURRED_RADIUS, DIAGONAL, SHARP_RADIUS, FinerMap
from deeplens.runtimes.tiling import split
from deeplens.runtimes.torch_graph import Record, Recorded
from deeplens.runtimes.torch_plane import Plan, Planes

Size = tuple[int, int]
Begun = tuple[FocalPlane | None, int, Tensor | None]

NOTHING: Begun = (None, -1, None)


class Network(Protocol):
    """What is needed of `runtimes.pytorch.TorchSession`."""

    @property
    def device(self) -> torch.device: ...
    @property
    def element_bytes(self) -> int: ...
    def compute(self, tensors: Sequence[Tensor]) -> Tensor: ...
    def settings(self) -> AbstractContextManager[None]: ...


PIXEL_BYTES = 3000
"""Memory that a step takes in FP32 for each low-resolution pixel: twice what its tensors take, for work space."""

SIDES = (4096, 2048, 1024, 512, 256)
"""Sides of tiles that are tried where a level is too large for the memory, in low-resolution pixels."""


class TorchLoop(DeviceLoop):
    """A photo and its disparity as tensors.

    Args:
        sessions: "lens_blur" and "upsample"; they say device and precision.
        pixels, disparity: as `runtimes.harness.Harness.photo` takes them.
        tile: the largest side of a tile; None: as the memory allows.
        record: records a whole picture, from its second time on, so that it is launched as one; None: nothing does.
    """

    def __init__(
        self,
        sessions: Mapping[str, Network],
        variant: Variant,
        pixels: np.ndarray,
        disparity: np.ndarray,
        *,
        tile: int | None = None,
        record: Record | None = None,
    ) -> None:
        self._sessions, self._variant, self._tile = sessions, variant, tile
        self.device = sessions["upsample"].device
        self._dtype = pixels.dtype
        self._largest = float(np.iinfo(pixels.dtype).max)
        self.levels = geometry(*pixels.shape[:2])
        registered = registered_disparity(disparity, self.levels)
        finer = FinerMap(disparity if variant.sharp_bound is not None else np.empty((0, 0)), registered, self.levels)
        self._sharp_last = finer.last
        self._lock = Lock()
        self._begun: Begun = NOTHING
        self._recorded = None if record is None else Recorded(record)
        self._sides: dict[Size, int | None] = {}
        with torch.inference_mode():
            self._planes = Planes(self.device, variant, self.levels)
            self.pictures = self._pictures(self.upload(_signed(pixels)))
            self._maps = self._disparities(self.upload(registered))
            if finer.last:
                self._finest = self._padded(self.upload(finer.finest), max(finer.last, self.levels.finest_depth))
                self._nearest = self.upload(finer.nearest)[None, None]
            self._extremes = self._read(torch.stack((self._maps[0].amin(), self._maps[0].amax())))
        self._photo_bytes = self.held_bytes = sum(each.nbytes for each in (*self.pictures, *self._maps))

    def upload(self, array: np.ndarray) -> Tensor:
        """To the device; all that goes there goes through this."""
        return torch.from_numpy(np.require(array, requirements=("C", "W"))).to(self.device)

    def download(self, tensor: Tensor) -> np.ndarray:
        """From the device; all pictures that come from there go through this."""
        if self.device.type != "cuda":
            found: np.ndarray = tensor.cpu().numpy()
            return found
        there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)  # what the GPU itself can write to
        there.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        found = there.numpy()
        return found

    def _read(self, numbers: Tensor) -> list[float]:
        """A few numbers from the device: with the photo once, and then only where a range is in focus."""
        found: list[float] = numbers.tolist()
        return found

    def picture(self, plane: FocalPlane, level: int, progress: Progress | None = None) -> np.ndarray:
        with self._lock, torch.inference_mode(), self._sessions["upsample"].settings():
            begun, self._begun = self._begun, NOTHING
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * (self.device.type == "cuda"))]
            for event in events[:1]:
                event.record()
            self._planes.numbers.copy_(self.upload(self._planes.numbers_of(plane)))
            flat, end = self._made(plane, level, begun, progress)
            for event in events[1:]:
                event.record()
            found = self.download(flat)
            self._begun = end
            if events:
                self.device_seconds = events[0].elapsed_time(events[1]) / 1000
        if found[-1]:
            raise MismatchError("the networks gave values that are not finite: use another precision or runtime")
        height, width = self.levels.covered(level)
        return found[:-1].view(self._dtype).reshape(height, width, 3)

    def _made(self, plane: FocalPlane, level: int, begun: Begun, progress: Progress | None) -> tuple[Tensor, Begun]:
        """The integers of a level, and what the next one goes on from."""
        if self._recorded is not None and level == self.levels.steps and begun[0] != plane:
            plan = self._plan(plane, level, exact=False)
            flat = self._recorded.run(plan, lambda: self._integers(self._run(plan), level))
            self.held_bytes = self._photo_bytes + self._recorded.held_bytes
            if progress is not None:
                progress(1.0)
            return flat, NOTHING
        plan = self._plan(plane, level, exact=True)
        before, made, blurred = begun
        if before != plane or not plan.first <= made <= level:
            made, blurred = -1, None
        result = self._run(plan, made, blurred, progress)
        return self._integers(result, level), (plane, level, result) if level < self.levels.steps else NOTHING

    def _plan(self, plane: FocalPlane, level: int, *, exact: bool) -> Plan:
        """What a plane decides.

        Args:
            exact: read the device's signed depth where nothing else tells; else level 1 is made in both ways there.
        """
        ranged = plane.focus_range > 0
        if level == 0 or not self._planes.has_finer:
            share = 0.0
        elif not ranged:
            share = self._planes.share(plane, self._extremes)
        elif exact:
            base = self._planes.depths(self._maps, ranged=True)[0]
            share = finer_share(self._read(base.abs().amax()[None])[0])
        else:
            share = 0.5
        return Plan(level, share if share in (0.0, 1.0) else 0.5, ranged)

    def _run(
        self, plan: Plan, made: int = -1, blurred: Tensor | None = None, progress: Progress | None = None
    ) -> Tensor:
        """The picture of a level, from level `made`, which is `blurred`, or from the beginning."""
        depths = self._planes.depths(self._maps, ranged=plan.ranged)
        shares = self._reached(plan) if self._sharp_last else None
        for each in range(max(plan.first, made + 1), plan.level + 1):
            if each == plan.first:
                blurred = self._lens_blur(each, depths)
            else:
                assert blurred is not None
                low = each - 1
                inputs = (self.pictures[each], self.pictures[low], blurred, depths[low])
                blurred = self._net("upsample", self.levels.padded(low), inputs)
                if each == 1 and plan.finer:
                    share = self._planes.share_of_depth(depths[0])
                    blurred = (1 - share) * blurred + share * self._lens_blur(1, depths)
            if shares is not None and 1 <= each <= self._sharp_last:
                blurred = self._sharpened(each, blurred, plan, depths, shares)
            if progress is not None:
                progress((each + 1) / (plan.level + 1))
        assert blurred is not None
        return blurred

    def _lens_blur(self, level: int, depths: list[Tensor]) -> Tensor:
        return self._net("lens_blur", self.levels.padded(level), (self.pictures[level], depths[level]))

    def _net(self, network: str, size: Size, inputs: tuple[Tensor, ...]) -> Tensor:
        """A network over a level of `size` low-resolution pixels, clipped to [0, 1], float32."""
        session, contract = self._sessions[network], CONTRACTS[network]
        scale, halo = contract.outputs[0].scale, self._variant.halo[network]
        tiles = split(*size, halo=halo, tile=self._side(size, halo))
        result: Tensor | None = None
        for rows, columns in tiles:
            windows = [
                each[:, :, rows.read(tensor.scale), columns.read(tensor.scale)]
                for each, tensor in zip(inputs, contract.inputs, strict=True)
            ]
            made = session.compute(windows).to(torch.float32).clamp(0.0, 1.0)
            if tiles.size == size:
                return made
            if result is None:
                result = made.new_empty(1, 3, scale * size[0], scale * size[1])
            result[:, :, rows.keep(scale), columns.keep(scale)] = made[:, :, rows.core(scale), columns.core(scale)]
        assert result is not None
        return result

    def _side(self, size: Size, halo: int) -> int | None:
        """The side of the tiles of a level; None: it is run whole."""
        if self._tile is not None:
            return self._tile
        if self._recorded is None or size not in self._sides:  # while it is recorded the device can't be asked
            pixel = PIXEL_BYTES * self._sessions["upsample"].element_bytes // 4
            self._sides[size] = side_for(size, room(self.device), pixel, halo)
        return self._sides[size]

    def _integers(self, picture: Tensor, level: int) -> Tensor:
        """The part of a level that shows the photo, in the photo's bits, and behind it 1 if a value is not finite."""
        height, width = self.levels.covered(level)
        broken = (~torch.isfinite(picture.sum())).to(torch.int32)
        whole = torch.round(picture[0, :, :height, :width] * self._largest).to(torch.int32)
        flat = torch.cat((whole.permute(1, 2, 0).reshape(-1), broken[None]))
        return flat.to(torch.uint8 if self._dtype == np.uint8 else torch.int16)

    # The photo

    def _pictures(self, pixels: Tensor) -> list[Tensor]:
        """(1, 3, *padded(k)) in [0, 1], base first, halved as light is: see `runtimes.pyramid`."""
        whole = pixels.permute(2, 0, 1)[None].to(torch.int32)
        if self._dtype != np.uint8:
            whole = whole & 0xFFFF
        found = [self._reflected(whole.to(torch.float32) / self._largest, self.levels.steps)]
        for _ in range(self.levels.steps):
            found.append(torch.sqrt(F.avg_pool2d(found[-1] * found[-1], 2)))
        return found[::-1]

    def _padded(self, values: Tensor, level: int) -> Tensor:
        return self._reflected(values[None, None], level)

    def _reflected(self, values: Tensor, level: int) -> Tensor:
        """(1, C, h, w) continued by reflection to `padded(level)`."""
        for axis, side in zip((2, 3), self.levels.padded(level), strict=True):
            if side != values.shape[axis]:
                place = torch.from_numpy(reflected(0, side, values.shape[axis])).to(values.device)
                values = values.index_select(axis, place)
        return values.contiguous()

    # Depth

    def _disparities(self, registered: Tensor) -> list[Tensor]:
        maps = [self._padded(registered, self.levels.finest_depth)]
        for _ in range(self.levels.finest_depth):
            maps.append(F.avg_pool2d(maps[-1], 2))
        return maps[::-1]

    # What a finer map says is sharp: see `runtimes.sharp`

    def _reached(self, plan: Plan) -> Tensor:
        found = (self._planes.signed(self._nearest, ranged=plan.ranged).clamp(min=0) * R_MAX).contiguous()
        for _ in range(int(R_MAX)):  # no disc reaches further
            wide = F.pad(found, (1, 1, 1, 1), mode="replicate")
            rows, columns = F.max_pool2d(wide[..., 1:-1], (3, 1), 1), F.max_pool2d(wide[..., 1:-1, :], (1, 3), 1)
            corners = F.max_pool2d(wide, 3, 1)
            found = torch.maximum(found, torch.maximum(torch.maximum(rows, columns) - 1, corners - float(DIAGONAL)))
        return found

    def _sharpened(self, level: int, blurred: Tensor, plan: Plan, depths: list[Tensor], reached: Tensor) -> Tensor:
        if level < len(depths):
            by_level = 1.0 if self._variant.depth_by_level else 2.0**level
            signed = depths[level].abs() * by_level
        else:
            signed = self._planes.signed(self._finest, ranged=plan.ranged).abs() * 2.0**level
        width = BLURRED_RADIUS - SHARP_RADIUS
        own = ((BLURRED_RADIUS - signed * R_MAX) / width).clamp(0, 1)
        size = self.levels.padded(level)
        wide = F.interpolate(reached, size=size, mode="bilinear", align_corners=False) * 2.0**level
        share = own * (1 - wide).clamp(0, 1)
        return blurred + share * (self.pictures[level] - blurred)


def side_for(size: Size, free: int | None, pixel: int, halo: int) -> int | None:
    """The side of tiles of a level that fit into half of the free memory; None: the whole level does.

    Args:
        free: bytes; None: not known.
        pixel: bytes for each low-resolution pixel.
    """
    if free is None or size[0] * size[1] * pixel <= free // 2:
        return None
    fitting = [
        side for side in SIDES if side > 2 * halo and min(side, size[0]) * min(side, size[1]) * pixel <= free // 2
    ]
    return fitting[0] if fitting else SIDES[-1]


def room(device: torch.device) -> int | None:
    """Free memory of a device, in bytes; None: it does not tell."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        return free - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def _signed(pixels: np.ndarray) -> np.ndarray:
    """16 bits as PyTorch's signed type: not every device has the unsigned one."""
    return pixels if pixels.dtype == np.uint8 else pixels.view(np.int16)
