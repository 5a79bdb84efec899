"""What a tensor holds over many runs, in one pass and bounded memory: a histogram whose bins grow with the value.

A bin is the exponent and the first 7 bits of the mantissa of |x|: 128 bins an octave, 0.8 % wide at most. So no range
has to be known beforehand, and where FP16 becomes subnormal or 0 is the edge of a bin.
"""

from dataclasses import dataclass, field

import numpy as np

DROPPED_BITS = 16
BINS = 1 << (31 - DROPPED_BITS)

FP16_LARGEST = 65504.0
FP16_NORMAL = 2.0**-14
FP16_ZERO = 2.0**-25


def edges() -> np.ndarray:
    """Lower edges of the bins, float64, with the upper edge of the last one behind them."""
    bits = (np.arange(BINS, dtype=np.int64) << DROPPED_BITS).astype(np.int32)
    with np.errstate(invalid="ignore"):
        values = bits.view(np.float32).astype(np.float64)
    return np.append(values, np.inf)


EDGES = edges()
FIRST_INFINITE = int(np.searchsorted(EDGES, 3.4e38))


@dataclass
class Histogram:
    """All values of one tensor.

    Attributes:
        low, high: the smallest and the largest value.
        counts: of |x|, by bin; exact zeros are in bin 0.
        zeros: how many are exactly 0.
        above: how many |x| FP16 can't hold; `broken`: how many are no finite numbers.
        channels: the largest |x| of each channel (axis 1); empty for what has none.
        sums: the sum of the values of each channel.
    """

    low: float = np.inf
    high: float = -np.inf
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    zeros: int = 0
    above: int = 0
    broken: int = 0
    channels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, array: np.ndarray) -> None:
        """Take a float32 array, N×C×…, into account."""
        size = np.abs(np.ascontiguousarray(array, np.float32))
        largest = float(size.max(initial=0.0))
        if not np.isfinite(largest):
            self.broken += int((~np.isfinite(size)).sum())
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))
        self.zeros += int((size == 0).sum())
        if not largest <= FP16_LARGEST:
            self.above += int((size > FP16_LARGEST).sum())
        self.counts += np.bincount(size.view(np.int32).ravel() >> DROPPED_BITS, minlength=BINS)
        if array.ndim == 4:
            channels = size.max((0, 2, 3))
            sums = array.sum((0, 2, 3), dtype=np.float64)
            self.channels = np.maximum(self.channels, channels) if self.channels.size else channels
            self.sums = self.sums + sums if self.sums.size else sums

    def merged(self, other: "Histogram") -> "Histogram":
        """Both together."""
        channels, sums = self.channels, self.sums
        if channels.shape == other.channels.shape:
            channels, sums = np.maximum(channels, other.channels), sums + other.sums
        elif not channels.size:
            channels, sums = other.channels, other.sums
        return Histogram(
            min(self.low, other.low),
            max(self.high, other.high),
            self.counts + other.counts,
            self.zeros + other.zeros,
            self.above + other.above,
            self.broken + other.broken,
            channels,
            sums,
        )

    @property
    def values(self) -> int:
        """How many numbers were added."""
        return int(self.counts.sum())

    @property
    def largest(self) -> float:
        """The largest |x|."""
        return max(abs(self.low), abs(self.high)) if self.values else 0.0

    def percentile(self, share: float) -> float:
        """|x| that `share` percent of all values do not pass: the middle of its bin, at most `largest`."""
        wanted = share / 100 * self.values
        place = int(np.searchsorted(np.cumsum(self.counts), wanted))
        upper = EDGES[place + 1] if np.isfinite(EDGES[place + 1]) else EDGES[place]
        return float(min((EDGES[place] + upper) / 2 if place else 0.0, self.largest))

    def share_between(self, low: float, high: float) -> float:
        """Share of all values with low < |x| <= high, to a bin; exact where both are powers of two or 0."""
        inside = (EDGES[:-1] >= low) & (EDGES[:-1] < high)
        count = int(self.counts[inside].sum()) - (self.zeros if low == 0 else 0)
        return count / max(1, self.values)

    @property
    def means(self) -> np.ndarray:
        """The mean of each channel, (C,) float64."""
        return self.sums * len(self.sums) / max(1, self.values)

    @property
    def subnormal(self) -> float:
        """Share of values that are not 0 and that FP16 holds with fewer digits, or as 0."""
        return self.share_between(0.0, FP16_NORMAL)

    @property
    def zeroed(self) -> float:
        """Share of values that are not 0 and become 0 in FP16."""
        return self.share_between(0.0, FP16_ZERO)

    @property
    def spread(self) -> float:
        """The largest |x| of the largest channel over that of the median channel that holds anything; 1 for none."""
        alive = self.channels[self.channels > 0]
        return float(alive.max() / np.median(alive)) if alive.size else 1.0

    def linear(self, bins: int) -> np.ndarray:
        """Counts of |x| in `bins` equal steps up to `largest`; a bin that lies across several is shared out evenly."""
        top = self.largest
        below = np.concatenate(([0.0], np.cumsum(self.counts)))
        upper = np.minimum(EDGES, top)
        place = np.arange(bins + 1) * (top / bins)
        return np.diff(np.interp(place, upper[: FIRST_INFINITE + 1], below[: FIRST_INFINITE + 1]))
