"""What each kind of MIL operation computes, by family, in NumPy: those of our networks, and near ones."""

from deeplens.runtimes.coreml.operations import compressed, elementwise, reductions, resize, shapes, windows

OPERATIONS = {
    **compressed.OPERATIONS,
    **elementwise.OPERATIONS,
    **reductions.OPERATIONS,
    **resize.OPERATIONS,
    **shapes.OPERATIONS,
    **windows.OPERATIONS,
}
"""Kind → its computation."""
