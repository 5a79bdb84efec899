"""Decompression of constants: hand-computed cases, coremltools' documented ones, and coremltools itself."""

import numpy as np
import pytest

from deeplens.runtimes.coreml.operations.compressed import (
    affine_dequantize,
    blockwise_shift_scale,
    constant_cast,
    lut_to_dense,
    lut_to_sparse,
    sparse_blockwise_shift_scale,
    sparse_to_dense,
)


def test_affine_of_each_channel_and_of_all() -> None:
    data = np.array([[0, 255], [10, 20]], np.uint8)
    found = affine_dequantize(data, np.array([0, 10], np.uint8), np.array([0.5, 2], np.float16), 0)
    np.testing.assert_array_equal(found, [[0, 127.5], [0, 20]])
    found = affine_dequantize(data, np.array([0, 20], np.uint8), np.array([0.5, 2], np.float16), -1)
    np.testing.assert_array_equal(found, [[0, 470], [5, 0]])
    found = affine_dequantize(np.array([-128, 127], np.int8), np.array(-1, np.int8), np.array(0.25, np.float32), 0)
    np.testing.assert_array_equal(found, [-31.75, 32])  # beyond what 8 bits hold


def test_blocks() -> None:
    data = np.arange(8, dtype=np.int8).reshape(2, 4)
    scale = np.array([[1, 10], [2, 20]], np.float16)
    np.testing.assert_array_equal(blockwise_shift_scale(data, scale), [[0, 1, 20, 30], [8, 10, 120, 140]])
    found = blockwise_shift_scale(data, scale, np.array([[1, 2], [4, 5]], np.int8))
    np.testing.assert_array_equal(found, [[-1, 0, 0, 10], [0, 2, 20, 40]])


def test_packed_table() -> None:
    """The documented order of bits: lowest first, indices 0, 3, 2, 1, 3 of 2 bits."""
    indices = np.array([0b01101100, 0b00000011], np.uint8)
    lut = np.array([10, 11, 12, 13], np.float16)
    np.testing.assert_array_equal(lut_to_dense(indices, lut, np.array([5], np.uint32)), [10, 13, 12, 11, 13])


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_tables_of_all_widths(bits: int) -> None:
    """Indices of 6 bits go on in the next byte. Packed here as one long number."""
    generator = np.random.default_rng(bits)
    indices = generator.integers(0, 2**bits, 35)
    number = sum(int(index) << (bits * place) for place, index in enumerate(indices))
    packed = np.frombuffer(number.to_bytes(-(-35 * bits // 8), "little"), np.uint8)
    lut = generator.normal(size=2**bits).astype(np.float16)
    np.testing.assert_array_equal(lut_to_dense(packed, lut, np.array([5, 7], np.uint32)), lut[indices].reshape(5, 7))


def test_documented_tables_of_groups() -> None:
    indices = np.array([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], np.uint8).reshape(6, 2)
    lut = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float16).reshape(2, 1, 4, 1)
    expected = [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
    np.testing.assert_array_equal(lut_to_dense(indices, lut), expected)


def test_documented_tables_of_vectors() -> None:
    indices = np.array([0, 0, 1, 0, 1, 1, 0, 0], np.uint8).reshape(2, 2, 2)
    a, b = (1, 2, 3), (4, 5, 6)
    lut = np.array([a, b], np.int8).reshape(1, 1, 1, 2, 3)
    first = [[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]]
    second = [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]]
    np.testing.assert_array_equal(lut_to_dense(indices, lut, vector_axis=1), [first, second])
    expected = [[a + a, b + a], [b + b, a + a]]
    np.testing.assert_array_equal(lut_to_dense(indices, lut, vector_axis=-1), expected)


def test_packed_mask() -> None:
    found = sparse_to_dense(np.array([7, 8], np.float16), np.array([0b00001100], np.uint8), np.array([5], np.uint32))
    np.testing.assert_array_equal(found, [0, 0, 7, 8, 0])
    assert found.dtype == np.float16


def test_documented_sparse_table() -> None:
    mask = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]], np.uint8)
    indices = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], np.uint8)
    found_mask, found = lut_to_sparse(mask, indices, np.array([2, 3], np.float16).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(found_mask, mask)
    np.testing.assert_array_equal(found, [2, 3, 3, 2, 3, 3, 2, 2, 3])
    lut = np.array([[2, 4], [3, 5]], np.float16).reshape(1, 1, 2, 2)
    found_mask, found = lut_to_sparse(mask, indices, lut, vector_axis=0)
    np.testing.assert_array_equal(found_mask, mask.repeat(2, 0))
    np.testing.assert_array_equal(sparse_to_dense(found, found_mask)[:4, :2], [[2, 3], [4, 5], [3, 2], [5, 4]])


def test_documented_sparse_scale() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], np.uint8)
    data = np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8)
    scale, offset = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32), np.array([[1, 2, 3, 4]], np.int8)
    found_mask, found = sparse_blockwise_shift_scale(data_mask=mask, nonzero_data=data, scale=scale, offset=offset)
    np.testing.assert_array_equal(found_mask, mask)
    np.testing.assert_allclose(found, [0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4], rtol=1e-6)


def test_constant_cast() -> None:
    found = constant_cast(np.array([0.1], np.float16), "fp32")
    assert found.dtype == np.float32
    assert found[0] == np.float16(0.1)


@pytest.mark.slow
def test_as_coremltools_does() -> None:
    """Random tensors against the library's own decompression, which makes FP16 values of the same bits."""
    pytest.importorskip("coremltools")
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops as ios16
    from coremltools.converters.mil.mil.ops.defs.iOS18 import compression as ios18

    generator = np.random.default_rng(0)
    data = generator.integers(-128, 128, (8, 6, 3, 3)).astype(np.int8)
    scale = generator.uniform(1e-3, 1e-2, 8).astype(np.float16)
    zero = generator.integers(-9, 9, 8).astype(np.int8)
    expected = ios16.constexpr_affine_dequantize.decompress(data, zero, scale, 0)
    np.testing.assert_array_equal(affine_dequantize(data, zero, scale, 0).astype(np.float16), expected)

    blocks, offset = generator.uniform(1e-3, 1e-2, (4, 3, 1, 3)).astype(np.float16), data[::2, ::2, :1]
    expected = ios18.constexpr_blockwise_shift_scale.decompress(data, blocks, offset)
    found = blockwise_shift_scale(data, blocks, offset).astype(np.float16)
    np.testing.assert_allclose(found, expected, rtol=1e-3)

    indices = generator.integers(0, 16, (8, 6, 3, 3)).astype(np.uint8)
    lut = generator.normal(size=(2, 3, 1, 1, 16, 2)).astype(np.float16)
    expected = ios18.constexpr_lut_to_dense.decompress(indices, lut, 1)
    np.testing.assert_array_equal(lut_to_dense(indices, lut, vector_axis=1), expected)

    mask = generator.integers(0, 2, (8, 6)).astype(np.uint8)
    kept = generator.normal(size=int(mask.sum())).astype(np.float16)
    expected = ios18.constexpr_sparse_to_dense.decompress(kept, mask)
    np.testing.assert_array_equal(sparse_to_dense(kept, mask), expected)
