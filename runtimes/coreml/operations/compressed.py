"""Operations that decompress constants.

A device may run them when it loads a program, or each time it needs the weights; here they run once. iOS 16 packs
indices and masks into bytes and names the shape, iOS 18 has tensors of few bits, which arrive unpacked.
"""

import numpy as np

from deeplens.runtimes.coreml.arithmetic import Computation, Rounding


def affine_dequantize(quantized_data: np.ndarray, zero_point: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """scale · (q − zero_point), one scale and zero point for each index of `axis`, or one for all."""
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    zero, step = (np.asarray(each).astype(np.float32).reshape(shape) for each in (zero_point, scale))
    return step * (quantized_data.astype(np.float32) - zero)


def blockwise_shift_scale(data: np.ndarray, scale: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    """scale · (q − offset), one scale and offset for each block; the blocks divide each axis evenly."""
    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - _repeated(offset.astype(np.float32), data.shape)
    return shifted * _repeated(scale.astype(np.float32), data.shape)


def lut_to_dense(
    indices: np.ndarray, lut: np.ndarray, shape: np.ndarray | None = None, vector_axis: int | None = None
) -> np.ndarray:
    """Each index's entry of its table.

    Args:
        indices: packed bits and `shape` (iOS 16), or an array (iOS 18).
        lut: (entries,) in iOS 16; in iOS 18 blocks of tables, as many axes as the indices and then (entries, values).
        vector_axis: along which the values of an entry lie, when there is more than one.
    """
    if shape is not None:
        sizes = tuple(int(size) for size in shape)
        return lut[_unpacked(indices, int(np.log2(len(lut))), int(np.prod(sizes)))].reshape(sizes)
    rank = indices.ndim
    tables = _repeated(lut, (*indices.shape, *lut.shape[rank:]))
    entries = np.take_along_axis(tables, indices.astype(np.int64)[..., None, None], rank)[..., 0, :]
    if lut.shape[-1] == 1:
        return entries[..., 0]
    assert vector_axis is not None
    axis = int(vector_axis) % rank
    wide = [size * (lut.shape[-1] if each == axis else 1) for each, size in enumerate(indices.shape)]
    return np.moveaxis(entries, -1, axis + 1).reshape(wide)


def sparse_to_dense(nonzero_data: np.ndarray, mask: np.ndarray, shape: np.ndarray | None = None) -> np.ndarray:
    """The data in order where the mask is set, else 0; the mask is packed (iOS 16, with `shape`) or an array."""
    if shape is not None:
        sizes = tuple(int(size) for size in shape)
        mask = _unpacked(mask, 1, int(np.prod(sizes))).reshape(sizes)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def lut_to_sparse(
    indices_mask: np.ndarray, indices_nonzero_data: np.ndarray, lut: np.ndarray, vector_axis: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and data of a tensor that is sparse and has tables: what `sparse_to_dense` takes."""
    dense = lut_to_dense(sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        assert vector_axis is not None
        mask = mask.repeat(lut.shape[-1], int(vector_axis))
    return mask, dense[mask != 0]


def sparse_blockwise_shift_scale(
    data_mask: np.ndarray, nonzero_data: np.ndarray, scale: np.ndarray, offset: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and data of a tensor that is sparse and quantised: what `sparse_to_dense` takes."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def constant_cast(source_val: np.ndarray, output_dtype: str) -> np.ndarray:
    """FP16 → float32, the only cast of a constant that there is."""
    assert output_dtype == "fp32"
    return source_val.astype(np.float32)


def _unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """`count` whole numbers of `bits` bits each, the lowest bit of a byte first; one may go on in the next byte."""
    unpacked = np.unpackbits(packed.view(np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(unpacked, axis=1, bitorder="little")[:, 0]


def _repeated(blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each value as often along each axis as it takes to fill `shape`."""
    for axis, (have, wanted) in enumerate(zip(blocks.shape, shape, strict=True)):
        if have != wanted:
            blocks = blocks.repeat(wanted // have, axis)
    return blocks


OPERATIONS = {
    "constexpr_affine_dequantize": Computation(affine_dequantize, Rounding.RESULT),
    "constexpr_blockwise_shift_scale": Computation(blockwise_shift_scale, Rounding.RESULT),
    "constexpr_cast": Computation(constant_cast, Rounding.NONE),
    "constexpr_lut_to_dense": Computation(lut_to_dense, Rounding.NONE),
    "constexpr_lut_to_sparse": Computation(lut_to_sparse, Rounding.NONE),
    "constexpr_sparse_blockwise_shift_scale": Computation(sparse_blockwise_shift_scale, Rounding.RESULT),
    "constexpr_sparse_to_dense": Computation(sparse_to_dense, Rounding.NONE),
}
