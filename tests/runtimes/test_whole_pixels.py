"""The two ends of a graph of the whole effect, in ONNX Runtime: a photo's bytes to numbers, and numbers to bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.model.whole_contract import PIXELS, PIXELS_IN, PIXELS_OUT, REFOCUSED, TOTAL
from deeplens.runtimes.pyramid import quantise, read_picture
from deeplens.runtimes.whole_pixels import pixel_graphs
from tests.support.device import needs

pytestmark = [needs("onnx"), needs("onnxruntime")]

SIZE = (32, 33)


def run(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(pixel_graphs(SIZE)[name], providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {taken.name: array}), strict=True))


def test_every_byte_is_what_the_hosts_loop_reads_and_comes_back_as_it_was() -> None:
    pixels = np.resize(np.arange(256, dtype=np.uint8), (*SIZE, 3))
    picture = run(PIXELS_IN, pixels)["picture"]
    np.testing.assert_array_equal(picture, read_picture(pixels, slice(0, SIZE[0]), slice(0, SIZE[1])))
    np.testing.assert_array_equal(run(PIXELS_OUT, picture)[REFOCUSED], pixels)


HALVES = st.integers(0, 254).map(lambda each: float(np.float32((each + 0.5) / 255)))
"""What lies between two bytes, as near as float32 has it."""


@settings(max_examples=40)
@given(st.lists(st.one_of(st.floats(-2, 3, width=32), HALVES), min_size=1, max_size=60))
def test_numbers_are_rounded_and_clipped_as_on_the_host(values: list[float]) -> None:
    refocused = np.resize(np.array(values, np.float32), (1, 3, *SIZE))
    due = np.empty((*SIZE, 3), np.uint8)
    quantise(refocused, due)
    found = run(PIXELS_OUT, refocused)
    np.testing.assert_array_equal(found[REFOCUSED], due)
    assert found[TOTAL].item() == pytest.approx(float(refocused.sum(dtype=np.float64)), rel=1e-3, abs=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_sum_tells_of_one_value_that_is_not_finite(value: float) -> None:
    refocused = np.full((1, 3, *SIZE), 0.5, np.float32)
    refocused[0, 1, 7, 9] = value
    assert not np.isfinite(run(PIXELS_OUT, refocused)[TOTAL]).all()


def test_the_graphs_keep_their_contracts() -> None:
    import onnx

    for name, graph in pixel_graphs(SIZE).items():
        onnx.checker.check_model(graph, full_check=True)
        assert {each.name for each in onnx.load_from_string(graph).graph.input} == (
            {PIXELS} if name == PIXELS_IN else {"refocused"}
        )
