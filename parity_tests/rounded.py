"""FP16 graphs on the CPU with the rounding that ONNX Runtime leaves out: each tensor is rounded to FP16."""

from deeplens.runtimes.ort import OnnxRuntime


class RoundedOnnxRuntime(OnnxRuntime):
    """The FP16 artefacts in ONNX Runtime as a device would compute that accumulates in FP32.

    ONNX Runtime itself computes FP16 graphs on the CPU in FP32 from end to end: it shows the rounding of the weights
    alone, and no overflow. Takes the arguments of `OnnxRuntime`, but for the precision. Needs `onnx`.
    """

    def _graph(self, data: bytes) -> bytes:
        import onnx

        from deeplens.export.fp16_check import rounded

        return rounded(onnx.load_from_string(data)).SerializeToString()
