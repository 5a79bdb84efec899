"""One photo in, a shallow depth-of-field photo out, on PyTorch and on edge runtimes.

    import deeplens

    deeplens.refocus("photo.jpg", focus=(0.5, 0.5), f_number=1.4).save("out.jpg")

What `__all__` lists is the public API; it is imported when it is first used, so that `import deeplens` is light.
Everything else in this package is internal and may change in any release.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deeplens.console import package

if TYPE_CHECKING:
    from deeplens.api import Refocuser, refocus
    from deeplens.console.errors import Cancelled, DeepLensError, InputError, MismatchError, MissingError
    from deeplens.runtimes import open_runtime
    from deeplens.runtimes.depth_model import DepthModel
    from deeplens.runtimes.disparity import focal_disparity_at
    from deeplens.runtimes.harness import Harness, aperture_from_f_number
    from deeplens.runtimes.photo import Photo, read_photo, write_photo

__version__ = package.VERSION

__all__ = [
    "Cancelled",
    "DeepLensError",
    "DepthModel",
    "Harness",
    "InputError",
    "MismatchError",
    "MissingError",
    "Photo",
    "Refocuser",
    "__version__",
    "aperture_from_f_number",
    "focal_disparity_at",
    "open_runtime",
    "read_photo",
    "refocus",
    "write_photo",
]

_HOME = {
    "Cancelled": "console.errors",
    "DeepLensError": "console.errors",
    "DepthModel": "runtimes.depth_model",
    "Harness": "runtimes.harness",
    "InputError": "console.errors",
    "MismatchError": "console.errors",
    "MissingError": "console.errors",
    "Photo": "runtimes.photo",
    "Refocuser": "api",
    "aperture_from_f_number": "runtimes.harness",
    "focal_disparity_at": "runtimes.disparity",
    "open_runtime": "runtimes",
    "read_photo": "runtimes.photo",
    "refocus": "api",
    "write_photo": "runtimes.photo",
}
"""Public name → the module that it is imported from when it is first used."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deeplens' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"deeplens.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
