"""What the forms of an ONNX graph are called in the manifest; the forms themselves are in `export.onnx_forms`."""

CPU = "cpu"
"""The form that every runtime reads which has none of its own. Its artefacts are those of the runtime `onnx`."""

_ONNX = "onnx"


def artefacts_of(form: str) -> str:
    """What the manifest calls the runtime of a form's artefacts, and their folder: "onnx", or "onnx-FORM"."""
    return _ONNX if form == CPU else f"{_ONNX}-{form}"


def form_of(runtime: str) -> str | None:
    """The form behind a runtime of the manifest; None: its artefacts are no ONNX graphs."""
    if runtime == _ONNX:
        return CPU
    kind, _, form = runtime.partition("-")
    return form if kind == _ONNX and form else None
