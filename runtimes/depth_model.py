"""Any ONNX model that gives depth for a photo, in place of our depth network. Needs the `onnx` extra; no torch.

What a model takes and gives is written in its metadata (`metadata_props`), or told; what is told comes first:

- deeplens.depth.size: WIDTHxHEIGHT that the network was trained at. Else the graph's own fixed size.
- deeplens.depth.aspect: stretch (else) or keep, what happens to the photo's aspect ratio. A graph of one size gets the
  photo in a frame, one with free sizes gets it at the size that `runtimes.fit` says.
- deeplens.depth.multiple: sides must be multiples of this; it must be known where the aspect ratio is kept.
- deeplens.depth.resample: bilinear (else) or bicubic.
- deeplens.depth.mean, deeplens.depth.std: three numbers each. The model gets (pixel / 255 − mean) / std; where neither
  is known, 0 and 1, with a note.
- deeplens.depth.channels: rgb (else) or bgr, the order of the input's channels, of mean and std too.
- deeplens.depth.output: disparity (near = large, of any scale and offset) or depth (metric, far = large). It must be
  known: nothing could tell a wrong guess.
- deeplens.depth.output_name: which of several outputs is the map.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplens.console.errors import InputError, one_line
from deeplens.console.inputs import read_bytes
from deeplens.console.machine import core_count
from deeplens.runtimes.depth_convention import PREFIX, Convention
from deeplens.runtimes.depth_kind import MOST_UNKNOWN_OF_MODEL, inverse_depth
from deeplens.runtimes.disparity import normalise_disparity
from deeplens.runtimes.fit import Fit, in_aspect
from deeplens.runtimes.image_file import check_file
from deeplens.runtimes.onnx_bytes import check_self_contained
from deeplens.runtimes.ort import import_onnxruntime

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
"""ONNX Runtime's name of an input's type → what it is fed; uint8 gets the pixels as they are, 0 to 255."""


class DepthModel:
    """A depth model, opened.

    Attributes:
        notes: what was taken for granted, one line each.
        fit: how photos are put into it.
        channels_last: whether the input is (1, height, width, 3).
        output_name: of the output that is the map.
    """

    def __init__(
        self,
        path: Path,
        *,
        told: Convention | None = None,
        threads: int | None = None,
        data: bytes | None = None,
    ) -> None:
        """
        Args:
            told: goes before what the file says.
            threads: for one operation; None: all cores.
            data: the bytes of the file, where they were read and checked already; None: it is read.

        Raises:
            InputError: no such file, no ONNX model, not one picture in and one map out, or its convention is not known.
            MissingError: ONNX Runtime is not installed.
        """
        if data is None:
            check_file(path)
        ort = import_onnxruntime()
        try:
            data = read_bytes(path) if data is None else data
        except OSError as error:
            raise InputError(f"{path} can't be read: {one_line(error)}") from error
        check_self_contained(data, str(path))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or core_count()
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            for each in (*self._session.get_inputs(), *self._session.get_outputs()):
                _ = each.name, each.shape  # names that are not UTF-8 fail when they are asked for
            self._props = dict(self._session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise InputError(f"{path} is not an ONNX model that can be loaded: {one_line(error)}") from error
        self.path = path
        self._input = self._only(self._session.get_inputs(), "inputs")
        self.channels_last = self._checked_layout()
        self.convention, self.notes = self._settled(told or Convention())
        self.output_name = self._chosen_output(self.convention.output_name)
        self.fit = self._fit()

    def disparity(self, pixels: np.ndarray, *, notes: list[str] | None = None) -> np.ndarray:
        """The model's estimate for a photo.

        Args:
            pixels: H×W×3, uint8 or uint16, sRGB.
            notes: gets a line where depths of 0 were filled in.

        Returns:
            h×w, float32, normalised to [0, 1], near = large, of the photo's aspect ratio.

        Raises:
            InputError: the model fails at this size, or gives no map of finite numbers that differ.
        """
        placed = self.fit.placed(pixels)
        values = self._inverted(placed.cropped(self._values(placed.picture)), notes)
        return in_aspect(normalise_disparity(values), pixels.shape[1] / pixels.shape[0])

    def map_of(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The model's disparity for a picture that was put into its input: height × width of `size`, float32.

        Args:
            picture: (1, 3, H, W), float32, RGB in [0, 1].

        Raises:
            InputError: as `disparity`.
        """
        values = self._inverted(self._values(picture), None).astype(np.float32)
        if values.shape == size:
            return values
        return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))

    def map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the model's own map for an input of `size`."""
        height, width = self._values(np.random.default_rng(0).random((1, 3, *size), np.float32)).shape
        return height, width

    def _values(self, picture: np.ndarray) -> np.ndarray:
        """What the model gives for a picture of (1, 3, H, W) in [0, 1]: h×w, float64, disparity or depth."""
        height, width = picture.shape[2:]
        try:
            (raw,) = self._session.run([self.output_name], {self._input.name: self._fed(picture[0].transpose(1, 2, 0))})
        except Exception as error:
            raise InputError(f"{self.path} fails on a picture of {height}x{width}: {one_line(error)}") from error
        return self._map(np.asarray(raw))

    def _inverted(self, values: np.ndarray, notes: list[str] | None) -> np.ndarray:
        """Disparity of any scale."""
        if self.convention.output != "depth":
            return values
        return inverse_depth(values, str(self.path), [] if notes is None else notes, most=MOST_UNKNOWN_OF_MODEL)

    def _fed(self, small: np.ndarray) -> np.ndarray:
        ordered = small if self.convention.channels == "rgb" else small[..., ::-1]
        dtype = DTYPES[self._input.type]
        if dtype == np.uint8:
            ordered = np.rint(ordered * np.float32(255))
        else:
            mean, std = (np.asarray(each, np.float32) for each in (self.convention.mean, self.convention.std))
            ordered = (ordered - mean) / std
        ordered = ordered if self.channels_last else ordered.transpose(2, 0, 1)
        return np.ascontiguousarray(ordered[None], dtype)

    def _map(self, raw: np.ndarray) -> np.ndarray:
        """h×w of (h, w), (1, h, w) or (1, 1, h, w); (1, h, w, 1) of models that have channels last."""
        values = raw[..., 0] if raw.ndim == 4 and raw.shape[3] == 1 else raw
        values = values.reshape(values.shape[-2:]) if values.ndim > 2 and values[..., 0, 0].size == 1 else values
        if values.ndim != 2 or min(values.shape) < 2:
            raise InputError(f"{self.path} gave an output of shape {raw.shape}, expected one map of height × width")
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"{self.path} gave values that are not finite: check --depth-model-size, -mean and -std")
        if values.min() == values.max():
            raise InputError(f"{self.path} gave {values.min():g} everywhere: check --depth-model-size, -mean and -std")
        return values

    def _only(self, found: list[Any], what: str) -> Any:
        if len(found) != 1:
            names = ", ".join(each.name for each in found) or "none"
            raise InputError(f"{self.path} has {len(found)} {what} ({names}), expected one")
        return found[0]

    def _chosen_output(self, wanted: str | None) -> str:
        """The name of the output that is the map: the one that was named, or else the only one."""
        names = [each.name for each in self._session.get_outputs()]
        if wanted is None and len(names) == 1:
            return str(names[0])
        if wanted in names:
            return str(wanted)
        have = f"{self.path} has {len(names)} outputs ({', '.join(names) or 'none'})"
        if wanted is None:
            raise InputError(f"{have}: name the one with the depth map with --depth-model-output-name")
        raise InputError(f"{have}, and none is called '{wanted}': give one of these with --depth-model-output-name")

    def _checked_layout(self) -> bool:
        """Whether the channels of the input come last."""
        shape, kind = self._input.shape, self._input.type
        last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
        # A side that is no number is symbolic: it takes any.
        wanted = ((0, 1), (3 if last else 1, 3))
        if len(shape) != 4 or any(isinstance(shape[axis], int) and shape[axis] != side for axis, side in wanted):
            raise InputError(f"{self.path} takes {shape}, expected one picture of shape (1, 3, height, width)")
        if kind not in DTYPES:
            raise InputError(f"{self.path} takes pixels of type {kind}, expected float, float16 or uint8")
        return last

    def _settled(self, told: Convention) -> tuple[Convention, tuple[str, ...]]:
        """The whole convention, and what was taken for granted."""
        try:
            stored = Convention.parsed(
                {key.removeprefix(PREFIX): value for key, value in self._props.items() if key.startswith(PREFIX)}
            )
        except InputError as error:
            raise InputError(f"{self.path}: in its metadata, {error}") from error
        sides = self._sides()
        fixed = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
        found = told.over(stored).over(Convention(size=fixed, channels="rgb"))
        if found.size is None:
            raise InputError(
                f"{self.path} takes any input size: give --depth-model-size with the size it was trained at"
            )
        if fixed is not None and found.size != fixed:
            raise InputError(f"{self.path} takes {fixed[1]}x{fixed[0]} only, not {found.size[1]}x{found.size[0]}")
        if found.output is None:
            raise InputError(
                f"{self.path} does not say whether near is large: give --depth-model-output disparity or depth"
            )
        if found.aspect == "keep" and found.multiple is None:
            raise InputError(
                f"{self.path} does not say which sizes it takes: give --depth-model-multiple, often 14 or 32, or "
                "--depth-model-aspect stretch"
            )
        notes = []
        if found.mean is None and found.std is None and DTYPES[self._input.type] != np.uint8:
            notes.append(f"{self.path.name} does not say how pixels are normalised; it gets pixels from 0 to 1")
        return found.over(Convention(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))), tuple(notes)

    def _fit(self) -> Fit:
        found = self.convention
        assert found.size is not None
        assert found.mean is not None
        sides = self._sides()
        return Fit(
            found.size,
            multiple=found.multiple or 1,
            aspect=found.aspect or "stretch",
            resample=found.resample or "bilinear",
            # Pixels of 0 to 255 that the graph normalises itself: nobody knows its mean.
            frame=found.mean if found.channels == "rgb" else found.mean[::-1],
            native=found.aspect == "keep" and not all(isinstance(side, int) for side in sides),
        )

    def _sides(self) -> list[Any]:
        """Height and width of the input, as they stand in the graph."""
        return list(self._input.shape[1:3] if self.channels_last else self._input.shape[2:])
