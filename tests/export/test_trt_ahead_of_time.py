"""NVIDIA's own parser and builder on our graphs, without a GPU: TensorRT for RTX, for several compute capabilities.

An engine that comes out proves that each operation, type and profile is taken; nothing about numbers or speed.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import MismatchError
from deeplens.export import fp16, onnx_trace
from deeplens.export.trt_build import Options, build
from deeplens.model import build as networks
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.model.whole_contract import PIXEL_CONTRACTS, PIXELS_IN
from deeplens.runtimes import manifest
from deeplens.runtimes.engine_key import Profile, from_entry
from deeplens.runtimes.trt_api import TensorRt
from deeplens.runtimes.whole_pixels import pixel_graphs
from tests.conftest import Command

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'deeplens-edge[rtx]'")

pytestmark = pytest.mark.slow

PROFILES = (Profile.static((40, 48)), Profile((32, 32), (64, 64), (128, 128)))
CAPABILITIES = ("7.5", "8.6", "12.0")
ALL = [(variant, network) for variant in VARIANTS for network in NETWORKS]


@pytest.fixture(scope="module")
def api() -> TensorRt:
    return TensorRt("tensorrt_rtx")


_made: dict[tuple[str, str], onnx.ModelProto] = {}


def graph(variant: str, network: str) -> onnx.ModelProto:
    """The FP32 graph of a network with initial weights: free sizes, made once."""
    if (variant, network) not in _made:
        contract = CONTRACTS[network]
        module = networks.build(variant, network)
        traced = onnx_trace.traced(module, contract, contract.fixed_size)
        _made[variant, network] = onnx_trace.simplified(traced)
    return _made[variant, network]


def engine(
    api: TensorRt, network: str, model: onnx.ModelProto, *, capability: str = "8.6", dynamic: bool = True
) -> bytes:
    profiles = () if CONTRACTS[network].fixed_size or not dynamic else PROFILES
    options = Options(profiles=profiles, compute_capability=capability)
    return build(api, model.SerializeToString(), CONTRACTS[network], options)


@pytest.mark.parametrize(("variant", "network"), ALL)
def test_fp32_and_fp16_graphs_are_taken(api: TensorRt, variant: str, network: str) -> None:
    single = graph(variant, network)
    half = fp16.convert(single)
    weights = sum(numpy_helper.to_array(each).nbytes for each in half.graph.initializer)
    sizes = [len(engine(api, network, model)) for model in (single, half)]
    assert min(sizes) > 0.5 * weights


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_fp16_for_each_compute_capability(api: TensorRt, capability: str) -> None:
    half = fp16.convert(graph("edge", "upsample"))
    other = "8.6" if capability != "8.6" else "8.9"
    assert engine(api, "upsample", half, capability=capability) != engine(api, "upsample", half, capability=other)


def test_half_inputs_and_outputs_are_taken(api: TensorRt) -> None:
    half = fp16.convert(graph("edge", "lens_blur"), fp16_io=True)
    assert engine(api, "lens_blur", half)


def test_an_int8_graph_with_q_dq_is_taken(api: TensorRt, tmp_path: Path) -> None:
    """Of random numbers: that the graph is taken, not that it is any good."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Random(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = 2

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            if self.left < 0:
                return None
            rng = np.random.default_rng(self.left)
            return {each.name: rng.random(each.shape(32, 40), np.float32) for each in CONTRACTS["upsample"].inputs}

    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    onnx.save(graph("edge", "upsample"), source)
    quantize_static(
        source, target, Random(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=["Conv"],
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
                       "DedicatedQDQPair": True},
    )  # fmt: skip
    model = onnx.load(target)
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) > 10
    assert engine(api, "upsample", model)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_photo_s_bytes_are_taken_and_given(api: TensorRt, capability: str) -> None:
    for name, bytes_graph in pixel_graphs((96, 130)).items():
        assert build(api, bytes_graph, PIXEL_CONTRACTS[name], Options(compute_capability=capability))


def tiny(nodes: list[onnx.NodeProto], weight: np.ndarray) -> onnx.ModelProto:
    shape = [1, 3, 320, 320]
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("disparity", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class TestWhatIsRefused:
    """The controls: what the tests above would not survive."""

    @pytest.mark.parametrize(
        ("nodes", "why"),
        [
            (
                [
                    helper.make_node("Transpose", ["pixels"], ["planes"], perm=[2, 0, 1]),
                    helper.make_node("Cast", ["planes"], ["picture"], to=TensorProto.FLOAT),
                ],
                "Transpose",
            ),
            (
                [
                    helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
                    helper.make_node("Cast", ["numbers"], ["bytes"], to=TensorProto.UINT8),
                    helper.make_node("Transpose", ["bytes"], ["picture"], perm=[2, 0, 1]),
                ],
                "UINT8",
            ),
        ],
    )
    def test_bytes_that_are_turned_before_they_are_numbers(
        self, api: TensorRt, nodes: list[onnx.NodeProto], why: str
    ) -> None:
        """What `pixel_graphs` must not do."""
        kind = TensorProto.FLOAT if why == "Transpose" else TensorProto.UINT8
        made = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [96, 128, 3])],
            [helper.make_tensor_value_info("picture", kind, [3, 96, 128])],
        )  # fmt: skip
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        with pytest.raises(MismatchError, match=why):
            build(api, model.SerializeToString(), PIXEL_CONTRACTS[PIXELS_IN], Options(compute_capability="8.6"))

    def test_mixed_types_without_a_cast(self, api: TensorRt) -> None:
        model = tiny([helper.make_node("Mul", ["picture", "weight"], ["disparity"])], np.array([2.0], np.float16))
        with pytest.raises(MismatchError, match=r"tensorrt_rtx .* can't take the graph|can't build an engine"):
            engine(api, "depth", model)

    def test_an_operation_that_is_not_there(self, api: TensorRt) -> None:
        model = tiny([helper.make_node("Det", ["picture"], ["disparity"])], np.array([2.0], np.float32))
        with pytest.raises(MismatchError, match=r"can't take the graph .*Det"):
            engine(api, "depth", model)

    def test_free_sizes_without_a_profile(self, api: TensorRt) -> None:
        with pytest.raises(MismatchError, match=r"can't build an engine of upsample .*profile"):
            engine(api, "upsample", graph("edge", "upsample"), dynamic=False)

    def test_what_is_no_graph(self, api: TensorRt) -> None:
        with pytest.raises(MismatchError, match=r"can't take the graph|can't build an engine"):
            build(api, b"\x00" * 100, CONTRACTS["depth"], Options(compute_capability="8.6"))


def test_the_command_from_weights_to_engines(deeplens: Command, tmp_path: Path) -> None:
    arguments: tuple[str, ...] = ("--variant", "edge", "--network", "upsample", "--size", "48x40", "--target", "rtx")
    arguments += ("--compute-capability", "8.6", "--compute-capability", "12.0", "--out", str(tmp_path))
    result = deeplens("export", "trt", *arguments)
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert len(lines) == 3
    assert all(" MB  built in " in line for line in lines[:2])
    entries = [each for each in manifest.read(tmp_path) if each.runtime == "trt"]
    assert [from_entry(each).machine.compute_capability for each in entries] == ["12.0", "8.6"]
    assert {each.precision for each in entries} == {"fp16"}
    (half,) = [each for each in manifest.read(tmp_path) if each.precision == "fp16" and each.runtime == "onnx"]
    assert {from_entry(each).onnx_sha256 for each in entries} == {half.sha256}
    for entry in entries:
        assert manifest.verify(tmp_path, entry).stat().st_size == entry.more["bytes"]
        assert "deeplens export trt --target rtx --variant edge" in entry.more["command"]
    again = deeplens("export", "trt", *arguments)
    assert again.out.count("already there, with the same key") == 2
