"""What each kind of MIL operation computes, by family, in NumPy: those of ours, of transformers, and near ones."""

from deeplens.runtimes.coreml.operations import (
    compressed,
    elementwise,
    reductions,
    resize,
    shapes,
    transformer,
    windows,
)

OPERATIONS = {
    **compressed.OPERATIONS,
    **elementwise.OPERATIONS,
    **reductions.OPERATIONS,
    **resize.OPERATIONS,
    **shapes.OPERATIONS,
    **transformer.OPERATIONS,
    **windows.OPERATIONS,
}
"""Kind → its computation."""
