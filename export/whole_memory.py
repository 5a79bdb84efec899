"""How much memory a graph of the whole effect takes, from its tensors: those that are alive at the same time.

The program is walked in its order. A tensor lives from the operation that makes it to the last that reads it; one that
is only a view of another costs nothing. A runtime can do better, by computing in place or by fusing operations, and
worse, by other layouts, work space and memory that it keeps.
"""

from typing import TYPE_CHECKING, Any

from deeplens.console.errors import InputError

if TYPE_CHECKING:
    import torch

MIB = 1 << 20

SHARES = {"onnx": 0.75}
"""Target → what its runtime takes of the bytes that PyTorch's tensors take, 1.0 where it was not measured. ONNX Runtime
takes 0.62 to 0.67 (`benchmarks.whole_memory`): its graph has weighted sums as slices, which need fewer copies."""

LIMITS: dict[str, tuple[int, str]] = {
    "onnx": (4096, "the most that WebAssembly can address"),
    "coreml": (1536, "3/8 of an iPhone with 4 GB, the smallest share for an app that developers report"),
    "desktop": (8192, "a GPU with 8 GB"),
    "rtx": (8192, "a GPU with 8 GB"),
    "jetson-orin": (4096, "half of a Jetson Orin with 8 GB, which CPU and GPU share"),
    "jetson-thor": (65536, "half of a Jetson Thor"),
}
"""Target → MiB that a graph may take unless told otherwise, and what that is."""

VIEWS = frozenset({"view", "slice", "select", "expand", "permute", "transpose", "squeeze", "unsqueeze", "alias"})
"""Operations of PyTorch whose result shares the memory of their first input."""

PARTS = frozenset({"split", "split_with_sizes", "chunk", "getitem"})
"""Those that give several such results, and the one that takes one of them."""


def peak(program: "torch.export.ExportedProgram", *, half: bool) -> int:
    """The most bytes that a program's tensors take at the same time, weights included.

    Args:
        program: decomposed, of fixed shapes.
        half: floating point numbers have two bytes.
    """
    nodes = list(program.graph.nodes)
    owner: dict[Any, Any] = {}
    for node in nodes:
        name = node.op == "call_function" and getattr(node.target, "__name__", "").split(".")[0]
        owner[node] = owner[node.args[0]] if name in VIEWS | PARTS else node
    last = {owner[node]: place for place, node in enumerate(nodes)}
    for place, node in enumerate(nodes):
        for source in node.all_input_nodes:
            last[owner[source]] = place
    held = {node for node in nodes if node.op == "placeholder"}  # weights and inputs stay
    alive = sum(_bytes(node, half=half) for node in held)
    largest = alive
    ends: dict[int, list[Any]] = {}
    for node, place in last.items():
        if node not in held:
            ends.setdefault(place, []).append(node)
    for place, node in enumerate(nodes):
        if node.op == "call_function" and owner[node] is node:
            alive += _bytes(node, half=half)
        largest = max(largest, alive)
        alive -= sum(_bytes(each, half=half) for each in ends.get(place, ()) if each.op == "call_function")
    return largest


def _bytes(node: Any, *, half: bool) -> int:
    values = node.meta.get("val")
    total = 0
    for value in values if isinstance(values, list | tuple) else (values,):
        if value is not None and hasattr(value, "numel"):
            size = 2 if half and value.dtype.is_floating_point else value.element_size()
            total += int(value.numel()) * size
    return total


def needed(peak_bytes: int, target: str) -> int:
    """MiB that a target's runtime takes for a program of this `peak`: its share in `SHARES`, rounded up."""
    return -(-int(SHARES.get(target, 1.0) * peak_bytes) // MIB)


def check(needs: int, target: str, *, size: tuple[int, int], given: int | None = None) -> None:
    """Refuse a size whose graph takes more memory than its target has.

    Args:
        needs: MiB, from `needed`.
        target: a key of `LIMITS`.
        size: height and width of the photo, for the message.
        given: MiB that the target has; None: its limit in `LIMITS`.

    Raises:
        InputError: it takes more.
    """
    limit, what = LIMITS[target]
    has = limit if given is None else given
    if needs > has:
        which = what if given is None else "--memory"
        raise InputError(
            f"a graph of {size[1]}x{size[0]} takes about {needs} MiB on {target}, and there are {has} ({which}): "
            "choose a smaller size, or --memory if there is more"
        )
