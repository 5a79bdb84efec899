"""Inputs of golden vectors: pseudo-random, from integers alone, so that any language makes the same ones.

    x ← (1664525 · x + 1013904223) mod 2³², beginning with x = SEED, is drawn from; each draw gives the byte x >> 24.

First a byte is drawn for each cell of 8×8 low-resolution pixels and each colour, in C order (colour, row, column): C.
Where a side is no multiple of 8, the last cells are cut off.
Then the inputs come in the order of the contract; all values are k/255, rounded to float32:

- a picture: for each value, in C order, a byte n is drawn, and k = (3 · C + n) >> 2, where C is that of the cell
  that it lies in (of 16×16 pixels in a picture of twice the size);
- `blurred`: nothing is drawn, k = (3 · C + 127) >> 2: the same picture without its noise;
- `signed_depth`: a byte d is drawn for each cell, and k = 2 · d − 255.

So pictures hold multiples of 1/255, which fit an image input of 8 bits, and cells keep a deep network's output alive,
as white noise does not.
"""

import numpy as np

from deeplens.model.contract import ALIGNMENT, Contract

GENERATOR = "cells-1"
"""Its name in the files; another rule gets another name."""

SEED = 2018

MULTIPLIER, INCREMENT = 1664525, 1013904223


class Bytes:
    """The stream of bytes.

    Args:
        seed: x to begin with; the first byte is of the x after it.
    """

    def __init__(self, seed: int = SEED) -> None:
        self._x = seed

    def draw(self, *shape: int) -> np.ndarray:
        """The next bytes, in C order, as int64."""
        count = int(np.prod(shape))
        values = np.empty(count, np.uint32)
        values[0] = (MULTIPLIER * self._x + INCREMENT) % 2**32
        # x after m steps is a · x + b: the second half of what is there follows from the first.
        done, a, b = 1, MULTIPLIER, INCREMENT
        while done < count:
            more = min(done, count - done)
            values[done : done + more] = values[:more] * np.uint32(a) + np.uint32(b)
            a, b, done = a * a % 2**32, (a * b + b) % 2**32, done + more
        self._x = int(values[-1])
        return (values >> np.uint32(24)).astype(np.int64).reshape(shape)


def golden_inputs(contract: Contract, size: tuple[int, int], *, seed: int = SEED) -> dict[str, np.ndarray]:
    """The inputs of a network at a low-resolution (height, width): name → float32 N×C×H×W."""
    stream = Bytes(seed)
    rows, columns = (-(-side // ALIGNMENT) for side in size)
    colours = stream.draw(3, rows, columns)
    found = {}
    for tensor in contract.inputs:
        side, shape = ALIGNMENT * tensor.scale, tensor.shape(*size)
        if tensor.name == "signed_depth":
            numbers = _spread(2 * stream.draw(1, rows, columns) - 255, side)[:, : shape[2], : shape[3]]
        else:
            cells = _spread(3 * colours, side)[:, : shape[2], : shape[3]]
            numbers = (cells + (127 if tensor.name == "blurred" else stream.draw(*cells.shape))) >> 2
        found[tensor.name] = (numbers[None] / 255).astype(np.float32)
    return found


def _spread(cells: np.ndarray, side: int) -> np.ndarray:
    return cells.repeat(side, axis=1).repeat(side, axis=2)
