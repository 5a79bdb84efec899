"""The cheapest precision of each layer that keeps the final picture above a floor.

It begins with everything as low as it can be and raises layers one after another, the one first that takes away the
most error for its cost. Errors of single layers are taken to add up for the order alone; how far along that order the
floor is reached is measured, on whole graphs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deeplens.calibration.quality import decibels
from deeplens.calibration.sensitivity import Unit
from deeplens.export.layers import REST, Layer

BITS = {"fp32": 32, "fp16": 16, "int8": 8}

Assignment = dict[tuple[str, str], str]
"""Network and path of the layer → precision."""


@dataclass(frozen=True)
class Costs:
    """What a precision costs, as shares of the whole in FP32.

    A multiplication costs as its number of bits does: an FP16 one half, an INT8 one a quarter of an FP32 one.

    Attributes:
        multiplications: network and path → how many a photo takes.
        weights: network and path → how many numbers it stores.
    """

    multiplications: Mapping[tuple[str, str], int]
    weights: Mapping[tuple[str, str], int]

    def arithmetic(self, chosen: Assignment) -> float:
        """1 is all FP32."""
        total = sum(self.multiplications.values())
        return sum(self.multiplications[unit] * BITS[each] / 32 for unit, each in chosen.items()) / total

    def size(self, chosen: Assignment) -> float:
        """Of the weights; 1 is all FP32."""
        return sum(self.weights[unit] * BITS[each] / 32 for unit, each in chosen.items()) / sum(self.weights.values())

    def step(self, unit: tuple[str, str], low: str, high: str) -> float:
        """What raising one layer costs: the mean of its share in arithmetic and in size."""
        share = self.multiplications[unit] / sum(self.multiplications.values())
        share += self.weights[unit] / sum(self.weights.values())
        return share / 2 * (BITS[high] - BITS[low]) / 32


def costs(layers: Mapping[str, Sequence[Layer]], rest: Mapping[str, int]) -> Costs:
    """Of the layers of each network, and of the operations `rest` of each that are in none."""
    multiplications = {(network, each.path): each.multiplications for network, own in layers.items() for each in own}
    weights = {(network, each.path): each.weights for network, own in layers.items() for each in own}
    for network, count in rest.items():
        multiplications[network, REST] = count
        weights[network, REST] = 0
    return Costs(multiplications, weights)


@dataclass
class Search:
    """One search.

    Attributes:
        ladder: the precisions, lowest first.
        order: what is raised, in order: unit, from, to.
        tried: how many of `order` were raised → the errors measured then.
    """

    ladder: tuple[str, ...]
    units: Sequence[tuple[str, str]]
    order: list[tuple[tuple[str, str], str, str]] = field(default_factory=list)
    tried: dict[int, list[float]] = field(default_factory=dict)

    def lowest(self, unit: tuple[str, str]) -> str:
        """What a layer begins with: the rest, which holds exact arithmetic, is never INT8."""
        ladder = self.steps(unit)
        return ladder[0]

    def steps(self, unit: tuple[str, str]) -> tuple[str, ...]:
        """The precisions that a layer can have."""
        return tuple(each for each in self.ladder if unit[1] != REST or each != "int8")

    def at(self, raised: int) -> Assignment:
        """The precision of each layer after the first `raised` of `order`."""
        chosen = {unit: self.lowest(unit) for unit in self.units}
        for unit, _, high in self.order[:raised]:
            chosen[unit] = high
        return chosen


def ordered(ladder: tuple[str, ...], errors: Mapping[Unit, Sequence[float]], costs: Costs) -> Search:
    """The order in which layers are raised.

    Args:
        errors: of each layer alone, from `calibration.sensitivity.measure`.
    """
    units = list(costs.multiplications)
    search = Search(ladder, units)

    def error(unit: tuple[str, str], precision: str) -> float:
        return 0.0 if precision == "fp32" else sum(errors[unit[0], unit[1], precision])

    place = dict.fromkeys(units, 0)
    while True:
        gains = []
        for unit in units:
            steps = search.steps(unit)
            for upper in range(place[unit] + 1, len(steps)):
                low, high = steps[place[unit]], steps[upper]
                gain = error(unit, low) - error(unit, high)
                gains.append((gain / max(costs.step(unit, low, high), 1e-12), unit, upper))
        if not gains:
            return search
        _, unit, upper = max(gains)
        search.order.append((unit, search.steps(unit)[place[unit]], search.steps(unit)[upper]))
        place[unit] = upper


def cheapest(search: Search, measure: Callable[[Assignment], list[float]], *, floor: float) -> int:
    """The fewest raised layers of a search with which every photo reaches `floor` dB, by bisection.

    With all raised everything is FP32, so that there is always an answer.
    """

    def reaches(raised: int) -> bool:
        if raised not in search.tried:
            search.tried[raised] = measure(search.at(raised))
        return decibels(search.tried[raised]) >= floor

    if reaches(0):
        return 0
    low, high = 0, len(search.order)  # low does not reach it, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    reaches(high)
    return high
