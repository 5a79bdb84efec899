"""NumPy's files as depth maps: the header decides before anything is unpacked."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from deeplens.console.errors import InputError
from deeplens.runtimes.bounds import MODEST_PIXELS
from deeplens.runtimes.disparity import read_map
from deeplens.runtimes.numpy_file import read_array


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@given(
    stn.arrays(
        st.sampled_from([np.dtype(kind) for kind in ("u1", "<i2", "<u2", "<f2", "<f4", "<f8", ">f4", ">u2", "?")]),
        stn.array_shapes(min_dims=2, max_dims=2, max_side=6),
    ),
    st.booleans(),
    st.booleans(),
)
def test_what_numpy_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, packed: bool, columns: bool
) -> None:
    path = tmp_path_factory.mktemp("numpy") / ("a.npz" if packed else "a.npy")
    values = np.asfortranarray(values) if columns else values
    np.savez_compressed(path, values) if packed else np.save(path, values)
    found, name = read_array(path, max_pixels=None)
    assert (found.dtype, name) == (values.dtype, "arr_0" if packed else "")
    assert found.tobytes() == values.tobytes()


def bomb(path: Path, side: int) -> Path:
    """A square of zeros, packed, made without holding it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        file.write(header((side, side)))
        for _ in range(side):
            file.write(bytes(4 * side))
    return path


@pytest.mark.parametrize(
    ("side", "packed", "text"),
    [(5_200, True, "in [0-9]{3} bytes, which no photo does"), (15_000, False, "at most 200 megapixels")],
)
def test_claims_of_gigabytes(tmp_path: Path, side: int, packed: bool, text: str) -> None:
    """Refused by the header: not a hundredth of what is claimed is ever held."""
    assert side * side > MODEST_PIXELS
    path = tmp_path / "a.npz"
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", header((side, side)) + bytes(1000))
    else:
        path.write_bytes(header((side, side)))
    tracemalloc.start()
    with pytest.raises(InputError, match=text):
        read_map(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < side * side * 4 / 100


def test_a_limit_that_a_person_gives(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((20, 30)))
    with pytest.raises(InputError, match="--max-megapixels"):
        read_map(path, max_pixels=599)
    assert read_map(path, max_pixels=600).shape == (20, 30)
    path = bomb(tmp_path / "b.npz", 5_100)  # what no photo does is read when a person wants it
    assert read_map(path, max_pixels=5_100**2).shape == (5_100, 5_100)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4",
        b"\x93NUMPY",
        b"\x93NUMPY\1\0\xff\xff{",
        b"\x93NUMPY\4\0\x10\0{'descr': '<f4'}",
        header((2, 3)),
        header((2, 3)) + bytes(23),
        header((2, 3))[:10] + b"(" * 60,
        header((2, 3)).replace(b"(2, 3)", b"(-2,3)") + bytes(24),
        header((2, 3)).replace(b"(2, 3)", b"2.5, 3") + bytes(24),
        header((2, 3)).replace(b"'<f4'", b"'|O8'") + bytes(48),
        header((2, 3)).replace(b"'<f4'", b"'<zz'") + bytes(24),
        header((2, 3)).replace(b"False", b"'''  ") + bytes(24),
        header((2, 3)).replace(b"False", b"\0\0\0\0\0") + bytes(24),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_files(tmp_path: Path, content: bytes, packed: bool) -> None:
    path = tmp_path / "a.npz"
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz"):
        read_map(path)


def test_a_torn_stream(tmp_path: Path) -> None:
    """A byte of the packed data is another one: zlib's error or the checksum's."""
    whole = tmp_path / "a.npz"
    np.savez_compressed(whole, np.random.default_rng(1).random((30, 40)))
    data = whole.read_bytes()
    for at in range(100, len(data) - 200, 397):
        whole.write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
        with pytest.raises(InputError, match="not a NumPy file"):
            read_map(whole)


def test_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=np.ones((2, 3)), disparity=np.zeros((2, 3)))
    with pytest.raises(InputError, match="holds depth, disparity, but"):
        read_map(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", depth=np.ones((2, 3)), confidence=np.zeros((2, 3)))
    assert read_map(tmp_path / "b.npz").all()


def test_more_than_an_array(tmp_path: Path) -> None:
    """Bytes behind the array in its member: the file is not what its header says."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", header((2, 3)) + bytes(25))
    with pytest.raises(InputError, match="not a NumPy file"):
        read_map(tmp_path / "a.npz")
