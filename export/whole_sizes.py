"""What the exporters' options say of graphs of the whole effect. Imports neither torch nor a runtime's library."""

from collections.abc import Mapping, Sequence

from deeplens.console.errors import InputError
from deeplens.console.parsing import parse_size
from deeplens.model.whole_contract import SMALLEST

Size = tuple[int, int]


def whole_sizes(
    whole: Sequence[str] | None, *, with_depth: bool, memory: int | None, given: Mapping[str, object]
) -> list[Size]:
    """Height and width of each photo size of `--whole`, in order; empty where none is asked for.

    Args:
        whole: as typed, WxH.
        given: option → value of those that don't go with it.

    Raises:
        InputError: a size that is none or too small, or options that don't go together.
    """
    if not whole:
        for option, unused in (("--with-depth", with_depth), ("--memory", memory)):
            if unused:
                raise InputError(f"{option} works with --whole only: give a photo size with --whole WxH")
        return []
    for option, value in given.items():
        if value:
            raise InputError(f"{option} does not work with --whole: leave it out")
    sizes = list(dict.fromkeys(parse_size(each)[::-1] for each in whole))
    for height, width in sizes:
        if min(height, width) < SMALLEST:
            raise InputError(f"--whole {width}x{height}: expected {SMALLEST}x{SMALLEST} or more")
    return sizes
