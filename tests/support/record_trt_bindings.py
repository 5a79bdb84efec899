"""Write down what TensorRT's Python bindings offer: python tests/support/record_trt_bindings.py MODULE >> FILE

One line of JSON: library, version, and for each class that we use its members with their signatures. The bindings load
where their libraries are missing too if each library's few entry points are stood in for by an empty one: they are
`createInfer*_INTERNAL`, `createNvOnnxParser*_INTERNAL`, `get*PluginRegistry`, `getNvOnnxParserVersion` and
`initLibNvInferPlugins`. That is how the lines of classic TensorRT came about: real bindings, no TensorRT behind them.
"""

import importlib
import json
import re
import sys
from typing import Any

CLASSES = (
    "Builder", "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "DeviceType", "IBuilderConfig", "ICudaEngine",
    "IExecutionContext", "ILogger", "IOptimizationProfile", "IRuntimeConfig", "ITimingCache", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "OnnxParserFlag", "ParserError", "Runtime",
)  # fmt: skip


def record(module: Any) -> dict[str, Any]:
    """Class → member → its signatures, without the names of the module; none for what is no method."""
    classes = {}
    for name in CLASSES:
        found = getattr(module, name, None)
        if found is not None:
            members = [each for each in dir(found) if not each.startswith("_")]
            classes[name] = {each: signatures(getattr(found, each, None)) for each in members}
    return {"library": library(module), "version": module.__version__, "classes": classes}


def library(module: Any) -> str:
    return "tensorrt_rtx" if "rtx" in module.__name__ else "tensorrt"


def signatures(member: Any) -> list[str]:
    """What pybind11 wrote at the top of the documentation of a method: a line for each overload."""
    text = getattr(member, "__doc__", None) or ""
    name = getattr(member, "__name__", None)
    if name is None or not callable(member):
        return []
    lines = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> ", text, flags=re.MULTILINE)
    return [re.sub(r"[\w.]*\.(?=\w)", "", line) for line in lines if not line.startswith("*args")]


if __name__ == "__main__":
    print(json.dumps(record(importlib.import_module(sys.argv[1]))))
