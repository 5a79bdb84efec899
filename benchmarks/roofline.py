"""What a network costs at a size, and how near to the machine's limits it runs. Needs PyTorch, on shapes alone.

Two limits, both from this machine's measured rates, in seconds:

    whole:      max(2 · multiplications / sgemm rate, (inputs + outputs + weights) / bandwidth)
    by layers:  Σ over operations of max(2 · its multiplications / sgemm rate, its inputs and outputs / bandwidth)

The first is what no implementation can beat; the second what one operation after another can reach when every tensor
goes through memory. A runtime that fuses operations, or whose tensors stay in a cache, beats the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from deeplens.model.contract import CONTRACTS, VARIANTS, part_of
from deeplens.model.shipped import Weights
from deeplens.runtimes import depth_store

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Operation:
    """One operation of a network: multiplications (a multiply-add counts once), and bytes it reads and writes."""

    name: str
    multiplications: int
    bytes: int


@dataclass(frozen=True)
class Work:
    """One run of a network in float32.

    Attributes:
        operations: in order, views left out.
        compulsory: bytes of inputs, outputs and weights.
    """

    operations: tuple[Operation, ...]
    compulsory: int

    @property
    def multiplications(self) -> int:
        return sum(each.multiplications for each in self.operations)

    @property
    def by_layers(self) -> int:
        """Bytes that all operations read and write."""
        return sum(each.bytes for each in self.operations)

    def limits(self, *, gflops: float, gbytes: float) -> tuple[float, float]:
        """Seconds: the whole, and by layers (see the head of this file)."""
        rate, bandwidth = gflops * 1e9, gbytes * 1e9
        whole = max(2 * self.multiplications / rate, self.compulsory / bandwidth)
        layers = sum(max(2 * each.multiplications / rate, each.bytes / bandwidth) for each in self.operations)
        return whole, layers


@lru_cache(maxsize=64)
def work(variant: str, network: str, height: int, width: int) -> Work:
    """What one run at a low-resolution size of `height` × `width` pixels costs.

    Raises:
        ImportError: PyTorch is not installed.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    from deeplens.export.foreign_depth import network_module

    operations: list[Operation] = []

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
        ) -> Any:
            result = function(*arguments, **(keywords or {}))
            if any(each.alias_info is not None and not each.alias_info.is_write for each in function._schema.returns):
                return result  # a view moves nothing
            count = flop_registry.get(function.overloadpacket)
            flops = count(*arguments, **(keywords or {}), out_val=result) if count is not None else 0
            tensors = [each for each in tree_leaves((arguments, keywords, result)) if isinstance(each, torch.Tensor)]
            name = function.overloadpacket.__name__
            operations.append(Operation(name, flops // 2, sum(_bytes(each) for each in tensors)))
            return result

    contract = CONTRACTS[network]
    name = part_of(variant, network)
    # Trained weights of ours may not be there, and cost the same.
    source: Weights = "initial" if name in VARIANTS else "shipped"
    module = network_module(variant, network, source).to("meta").eval()
    inputs = [torch.empty(tensor.shape(height, width), device="meta") for tensor in contract.inputs]
    with torch.no_grad(), Counter():
        outputs = tree_leaves(module(*inputs))
    weights = [p for name, p in module.named_parameters() if not name.startswith("segmentation_head.")]
    return Work(tuple(operations), sum(_bytes(each) for each in (*inputs, *outputs, *weights)))


def _is_counted(variant: str, network: str) -> bool:
    """Whether PyTorch has the network: not of an ONNX file."""
    name = part_of(variant, network)
    return name in VARIANTS or depth_store.find(name).card.kind != "onnx"


def _bytes(tensor: "torch.Tensor") -> int:
    return tensor.numel() * tensor.element_size()


def roofline(rows: list[dict[str, Any]], *, gflops: float, gbytes: float) -> list[dict[str, Any]]:
    """An entry for each network alone and each level of a refocus, of every candidate of `measure.results`.

    Returns:
        candidate, what, height, width, tiles, multiplications, compulsory and by_layers (bytes), seconds (the median),
        limit and limit_by_layers (seconds), share and share_by_layers (limit / seconds), gflops (reached). Empty where
        PyTorch is not installed.
    """
    found = []
    try:
        for row in rows:
            for what, seconds, network, sizes in _measured(row):
                if not _is_counted(row["variant"], network):
                    continue
                total = [work(row["variant"], network, height, width) for height, width, _ in sizes]
                counts = [count for *_, count in sizes]
                limits = [each.limits(gflops=gflops, gbytes=gbytes) for each in total]
                whole, layers = (sum(n * each[k] for n, each in zip(counts, limits, strict=True)) for k in (0, 1))
                multiplications = sum(n * each.multiplications for n, each in zip(counts, total, strict=True))
                found.append(
                    {
                        "candidate": row["name"],
                        "what": what,
                        "tiles": [{"height": h, "width": w, "count": n} for h, w, n in sizes],
                        "multiplications": multiplications,
                        "compulsory": sum(n * each.compulsory for n, each in zip(counts, total, strict=True)),
                        "by_layers": sum(n * each.by_layers for n, each in zip(counts, total, strict=True)),
                        "seconds": seconds,
                        "limit": whole,
                        "limit_by_layers": layers,
                        "share": whole / seconds,
                        "share_by_layers": layers / seconds,
                        "gflops": 2 * multiplications / seconds / 1e9,
                    }
                )
    except ImportError:
        return []
    return found


def _measured(row: Mapping[str, Any]) -> list[tuple[str, float, str, list[tuple[int, int, int]]]]:
    """What was measured of a candidate: name, median seconds, network, and (height, width, count) of its runs."""
    found: list[tuple[str, float, str, list[tuple[int, int, int]]]] = []
    for item, timing in row["items"].items():
        if timing["size"] is not None:
            found.append((item, timing["p50"], item, [(*timing["size"], 1)]))
        for index, level in enumerate(timing["levels"] if item == "refocus" else ()):
            sizes = [(each["height"], each["width"], each["count"]) for each in level["tiles"]]
            if sizes:
                found.append((f"level {index}, {level['network']}", level["host"]["p50"], level["network"], sizes))
    return found
