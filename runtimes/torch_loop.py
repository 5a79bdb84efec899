"""The loop on PyTorch's device, in tensors: what `runtimes.focusing` and `runtimes.pyramid` do in NumPy on the host.

Nothing is left out: every level is run whole where the memory holds it, else in tiles. No value is read back before the
result, so that the host never waits in between; with a range in focus one number is.
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
from deeplens.model.contract import CONTRACTS, FINER_BASE, R_MAX, Variant
from deeplens.runtimes.assembly import Progress
from deeplens.runtimes.depth_levels import FocalPlane
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.pyramid import geometry, reflected, registered_disparity
from deeplens.runtimes.sharp import BLURRED_RADIUS, DIAGONAL, SHARP_RADIUS, FinerMap
from deeplens.runtimes.tiling import split

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
    """

    def __init__(
        self,
        sessions: Mapping[str, Network],
        variant: Variant,
        pixels: np.ndarray,
        disparity: np.ndarray,
        *,
        tile: int | None = None,
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
        with torch.inference_mode():
            self.pictures = self._pictures(self.upload(_signed(pixels)))
            self._maps = self._disparities(self.upload(registered))
            if finer.last:
                self._finest = self._padded(self.upload(finer.finest), max(finer.last, self.levels.finest_depth))
                self._nearest = self.upload(finer.nearest)[None, None]
            self._extremes = self._read(torch.stack((self._maps[0].amin(), self._maps[0].amax())))
        self.held_bytes = sum(each.nbytes for each in (*self.pictures, *self._maps))

    def upload(self, array: np.ndarray) -> Tensor:
        """To the device; all that goes there goes through this."""
        return torch.from_numpy(np.require(array, requirements=("C", "W"))).to(self.device)

    def download(self, tensor: Tensor) -> np.ndarray:
        """From the device; all pictures that come from there go through this."""
        found: np.ndarray = tensor.cpu().numpy()
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
            made, end = self._run(plane, level, begun, progress)
            flat = self._integers(made, level)
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

    def _run(
        self,
        plane: FocalPlane,
        level: int,
        begun: Begun,
        progress: Progress | None,
    ) -> tuple[Tensor, Begun]:
        """The picture of a level, and what the next one goes on from."""
        depths = self._signed_depths(plane)
        finer = self._finer(plane, depths[0]) if level else 0.0
        first = 1 if finer == 1 else 0
        before, made, blurred = begun
        if before != plane or blurred is None or not first <= made <= level:
            made = -1
        shares = self._reached(plane) if self._sharp_last else None
        for each in range(max(first, made + 1), level + 1):
            if each == first:
                blurred = self._lens_blur(each, depths)
            else:
                assert blurred is not None
                low = each - 1
                inputs = (self.pictures[each], self.pictures[low], blurred, depths[low])
                blurred = self._net("upsample", self.levels.padded(low), inputs)
                if each == 1 and 0 < finer < 1:
                    blurred = (1 - finer) * blurred + finer * self._lens_blur(1, depths)
            if shares is not None and 1 <= each <= self._sharp_last:
                blurred = self._sharpened(each, blurred, plane, depths, shares)
            if progress is not None:
                progress((each + 1) / (level + 1))
        assert blurred is not None
        return blurred, (plane, level, blurred) if level < self.levels.steps else NOTHING

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
        pixel = PIXEL_BYTES * self._sessions["upsample"].element_bytes // 4
        return side_for(size, room(self.device), pixel, halo)

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

    def _signed(self, disparity: Tensor, plane: FocalPlane) -> Tensor:
        signed = disparity - np.float32(plane.focal_disparity).item()
        if plane.focus_range:
            half = np.float32(plane.focus_range / 2).item()
            signed = signed - signed.clamp(-half, half)
        return (signed * np.float32(plane.aperture * self.levels.blur_scale).item()).clamp(-1.0, 1.0)

    def _signed_depths(self, plane: FocalPlane) -> list[Tensor]:
        """See `runtimes.depth_levels.SignedDepths`."""
        if plane.focus_range:
            found = [self._signed(self._maps[-1], plane)]
            for _ in self._maps[1:]:
                found.append(F.avg_pool2d(found[-1], 2))
            found.reverse()
        else:
            found = [self._signed(each, plane) for each in self._maps]
        if not self._variant.depth_by_level:
            return found
        return [depth if not level else (depth * 2.0**level).clamp(-1.0, 1.0) for level, depth in enumerate(found)]

    def _finer(self, plane: FocalPlane, base: Tensor) -> float:
        """See `runtimes.focusing.Focusing`. Of a plane the extremes of the base's disparity say it."""
        if not self._variant.finer_base or self.levels.steps == 0:
            return 0.0
        if plane.focus_range:
            most = self._read(base.abs().amax()[None])[0]
        else:
            most = max(abs(float(self._signed(torch.tensor(each), plane))) for each in self._extremes)
        whole, none = FINER_BASE
        return min(1.0, max(0.0, (none - most) / (none - whole)))

    # What a finer map says is sharp: see `runtimes.sharp`

    def _reached(self, plane: FocalPlane) -> Tensor:
        found = (self._signed(self._nearest, plane).clamp(min=0) * R_MAX).contiguous()
        for _ in range(int(R_MAX)):  # no disc reaches further
            wide = F.pad(found, (1, 1, 1, 1), mode="replicate")
            rows, columns = F.max_pool2d(wide[..., 1:-1], (3, 1), 1), F.max_pool2d(wide[..., 1:-1, :], (1, 3), 1)
            corners = F.max_pool2d(wide, 3, 1)
            found = torch.maximum(found, torch.maximum(torch.maximum(rows, columns) - 1, corners - float(DIAGONAL)))
        return found

    def _sharpened(
        self, level: int, blurred: Tensor, plane: FocalPlane, depths: list[Tensor], reached: Tensor
    ) -> Tensor:
        if level < len(depths):
            by_level = 1.0 if self._variant.depth_by_level else 2.0**level
            signed = depths[level].abs() * by_level
        else:
            signed = self._signed(self._finest, plane).abs() * 2.0**level
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
