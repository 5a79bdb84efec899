"""What a report says of the machine that it was made on, and of the libraries there."""

import platform
from collections.abc import Iterator
from importlib import metadata

TOOLS = ("torch", "onnxruntime", "onnx", "coremltools", "openvino", "tensorrt", "tensorrt_rtx", "numpy")


def machine() -> str:
    """Processor and system."""
    return f"{platform.system()} {platform.machine()}"


def tools() -> dict[str, str]:
    """Library → version, of those that are installed."""
    return {"Python": platform.python_version(), **dict(_versions())}


def _versions() -> Iterator[tuple[str, str]]:
    for library in TOOLS:
        try:
            yield library, metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
