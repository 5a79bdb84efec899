"""INT8 graphs: against whole numbers by hand, against PyTorch with the same rounding, and in TensorRT's compiler."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export import fp16_check, onnx_graph
from deeplens.export import planned as planned_export
from deeplens.export.fake_quant import fake_quantised, folded, planned
from deeplens.export.int8 import LEVELS, quantise, quantised_weight, weight_scales
from deeplens.export.layers import REST, Layer, layers
from deeplens.export.precision_plan import Choice, Plan, Source, read
from deeplens.model import build
from deeplens.model.contract import CONTRACTS, NETWORKS
from deeplens.runtimes import manifest

RNG = np.random.default_rng(0)


def small(activation: str | None = "Relu", *, clip: float = 6.0) -> tuple[onnx.ModelProto, list[Layer]]:
    """Two convolutions, 3 → 4 → 2 channels, with an activation between them."""
    first, second = RNG.normal(0, 0.5, (4, 3, 3, 3)), RNG.normal(0, 0.5, (2, 4, 1, 1))
    constants = {"first.weight": first, "first.bias": RNG.normal(0, 0.1, 4), "second.weight": second}
    nodes = [helper.make_node("Conv", ["x", "first.weight", "first.bias"], ["a"], pads=[1] * 4)]
    between = "a"
    if activation is not None:
        bounds = ["low", "high"] if activation == "Clip" else []
        nodes.append(helper.make_node(activation, ["a", *bounds], ["b"]))
        between = "b"
    nodes.append(helper.make_node("Conv", [between, "second.weight"], ["y"]))
    initial = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    initial += [
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("low", 0.0), ("high", clip))
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 8, 8])], initial,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    own = [
        Layer("depth", "first", "x", "first.weight", "a", between, first.shape, 1),
        Layer("depth", "second", between, "second.weight", "y", "y", second.shape, 1),
    ]
    return model, own


def by_hand(model: onnx.ModelProto, scales: dict[str, tuple[float, float]], x: np.ndarray) -> np.ndarray:
    """The same in whole numbers: int32 sums of int8 products, in float64 only where a scale is applied."""
    held = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}

    def to_int8(values: np.ndarray, scale: float) -> np.ndarray:
        return np.clip(np.rint((values.astype(np.float32) / np.float32(scale)).astype(np.float64)), -128, 127)

    def convolved(numbers: np.ndarray, path: str) -> np.ndarray:
        weight = held[f"{path}.weight"]
        steps = weight_scales(weight)
        whole = quantised_weight(weight, steps).astype(np.int64)
        reach = weight.shape[2] // 2
        padded = np.pad(numbers.astype(np.int64), ((0, 0), (0, 0), (reach, reach), (reach, reach)))
        height, width = numbers.shape[2:]
        sums = np.zeros((1, len(weight), height, width), np.int64)
        for row in range(weight.shape[2]):
            for column in range(weight.shape[3]):
                part = padded[:, :, row : row + height, column : column + width]
                sums += np.einsum("oc,bchw->bohw", whole[:, :, row, column], part)
        bias = held.get(f"{path}.bias", np.zeros(len(weight)))
        return sums * (steps * np.float32(scales[path][0])).reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)

    first = to_int8(convolved(to_int8(x, scales["first"][0]), "first"), scales["first"][1])
    between = np.maximum(first, 0) * scales["first"][1]
    return convolved(to_int8(between, scales["second"][0]), "second")


SCALES = {"first": (1 / 127, 2.0 / 127), "second": (2.0 / 127, 3.0 / 127)}


class TestAgainstWholeNumbers:
    @pytest.mark.parametrize("activation", ["Relu", "Clip"])
    def test_two_layers(self, activation: str) -> None:
        model, own = small(activation)
        x = RNG.random((1, 3, 8, 8), np.float32)
        (found,) = fp16_check.session(quantise(model, own, SCALES)).run(None, {"x": x})
        expected = by_hand(model, SCALES, x)
        one_step = 2.0 / 127 * np.abs(numpy_helper.to_array(model.graph.initializer[2])).max()
        assert np.abs(found - expected).max() <= 1.01 * one_step  # a value on the edge between two may round either way
        assert np.mean(np.abs(found - expected) > 1e-5) < 0.05

    def test_other_scales_are_seen(self) -> None:
        model, own = small()
        x = RNG.random((1, 3, 8, 8), np.float32)
        (found,) = fp16_check.session(quantise(model, own, SCALES | {"first": (3 / 127, 2 / 127)})).run(None, {"x": x})
        assert np.mean(np.abs(found - by_hand(model, SCALES, x)) > 1e-5) > 0.5

    def test_a_bound_below_what_the_scale_holds_stays(self) -> None:
        model, own = small("Clip", clip=0.5)
        made = quantise(model, own, SCALES)
        assert [node.op_type for node in made.graph.node].count("Clip") == 1
        x = RNG.random((1, 3, 8, 8), np.float32)
        kept = fp16_check.session(made).run(None, {"x": x})[0]
        wide = fp16_check.session(quantise(small("Relu")[0], own, SCALES)).run(None, {"x": x})[0]
        assert np.abs(kept - wide).max() > 0.05

    def test_weights_are_stored_in_8_bits_and_biases_are_not_quantised(self) -> None:
        model, own = small()
        made = quantise(model, own, SCALES)
        held = {each.name: each for each in made.graph.initializer}
        assert "first.weight" not in held
        assert held["first.weight_int8"].data_type == TensorProto.INT8
        (conv,) = [node for node in made.graph.node if node.output[0] == "a"]
        assert held[conv.input[2]].data_type == TensorProto.FLOAT
        quantisers = [node for node in made.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert all(not numpy_helper.to_array(held[node.input[2]]).any() for node in quantisers), "symmetric"


@settings(deadline=None, max_examples=50)
@example(np.full((3, 2, 3, 3), 1e-45, np.float32))
@example(np.full((3, 2, 3, 3), 1e-36, np.float32))
@given(npst.arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-8, 8, width=32)))
def test_weight_scales_lose_no_more_than_the_largest_weight_does(weight: np.ndarray) -> None:
    scales = weight_scales(weight)
    assert (scales > 0).all()
    largest = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-30) / LEVELS

    def error(steps: np.ndarray) -> np.ndarray:
        back = quantised_weight(weight, steps) * steps.reshape(-1, 1, 1, 1)
        return np.square(back - weight, dtype=np.float64).sum((1, 2, 3))

    assert (error(scales) <= error(largest.astype(np.float32)) * (1 + 1e-4) + 1e-12).all()


@settings(deadline=None, max_examples=50)
@given(npst.arrays(np.float32, 20, elements=st.floats(-50, 50, width=32)), st.floats(0.01, 1))
def test_the_rounding_of_pytorch_is_that_of_onnx(x: np.ndarray, scale: float) -> None:
    step = np.float32(scale)
    expected = np.clip(np.rint(x / step), -128, 127) * step
    np.testing.assert_array_equal(fake_quantised(torch.from_numpy(x), float(step)).numpy(), expected)


class TestRefused:
    def test_a_layer_that_is_not_there(self) -> None:
        with pytest.raises(MismatchError, match="no layer third"):
            quantise(*small(), {"third": (1.0, 1.0)})

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_scale_that_is_none(self, scale: float) -> None:
        with pytest.raises(MismatchError, match="scales of first"):
            quantise(*small(), {"first": (scale, 1.0)})

    def test_a_path_that_is_no_convolution(self) -> None:
        with pytest.raises(MismatchError, match="no convolution stem2"):
            planned(build.build("edge", "upsample"), {"stem2": Choice("int8", (1.0, 1.0))})


def plan_of(model: onnx.ModelProto, network: str, sha256: str, *, precision: str = "int8", rest: str = "fp32") -> Plan:
    """Every layer in one precision; scales that fit random inputs."""
    choices = {
        each.path: Choice(precision, (4 / 127, 4 / 127) if precision == "int8" else None)
        for each in layers(model, network)
    }
    source = Source("0" * 64, 64, {}, {network: sha256})
    return Plan("edge", source, {network: "mse"}, 40.0, 50.0, {network: {**choices, REST: Choice(rest)}})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, manifest.Entry, torch.nn.Module, Plan]:
    out = tmp_path_factory.mktemp("artifacts")
    module = build.build("edge", "upsample")
    entry = onnx_graph.export_module(module, variant="edge", network="upsample", out=out)
    return out, entry, module, plan_of(onnx.load(out / entry.path), "upsample", entry.weights_sha256)


@pytest.mark.slow
class TestAnArtefact:
    @pytest.mark.slow
    def test_is_what_pytorch_computes_with_the_same_rounding(
        self, exported: tuple[Path, manifest.Entry, torch.nn.Module, Plan]
    ) -> None:
        out, entry, module, plan = exported
        made = planned_export.export(entry, plan, out=out, module=module)
        assert made.precision == "int8"
        assert made.more["layers"] == {"fp32": 1, "fp16": 0, "int8": 7}
        assert made.more["difference"] < 2e-3
        assert (out / made.path).stat().st_size < (out / entry.path).stat().st_size / 2
        assert planned_export.export(entry, plan, out=out, module=module) == made, "not made twice"
        found = manifest.find(out, network="upsample", variant="edge", runtime="onnx", precision="int8")
        assert manifest.verify(out, found)

    @pytest.mark.parametrize(("precision", "rest"), [("int8", "fp16"), ("fp16", "fp16"), ("fp16", "fp32")])
    def test_mixed_follows_all_of_the_plan(
        self, exported: tuple[Path, manifest.Entry, torch.nn.Module, Plan], precision: str, rest: str
    ) -> None:
        out, entry, module, _ = exported
        model = onnx.load(out / entry.path)
        plan = plan_of(model, "upsample", entry.weights_sha256, precision=precision, rest=rest)
        mixed = planned_export.follow(model, "upsample", plan)
        typed = onnx.shape_inference.infer_shapes(mixed, strict_mode=True).graph
        types = {each.name: each.type.tensor_type.elem_type for each in (*typed.value_info, *typed.output)}
        for layer in layers(model, "upsample"):
            expected = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
            assert types[layer.raw] == expected, layer.path
        (last,) = [node for node in mixed.graph.node if "ConvTranspose" in node.op_type][:1]
        assert types[last.output[0]] == (TensorProto.FLOAT16 if rest == "fp16" else TensorProto.FLOAT)
        assert planned_export.check(mixed, module, "upsample", plan, kind="mixed") < 5e-3

    def test_another_weight_or_scale_is_noticed(
        self, exported: tuple[Path, manifest.Entry, torch.nn.Module, Plan]
    ) -> None:
        out, entry, _, plan = exported
        changed = build.build("edge", "upsample")
        with torch.no_grad():
            changed.get_parameter("predict.bias")[16:] += 1.0
        model = planned_export.follow(onnx.load(out / entry.path), "upsample", plan, kind="int8")
        with pytest.raises(MismatchError, match="int8 graph differs from PyTorch"):
            planned_export.check(model, changed, "upsample", plan, kind="int8")

    def test_a_plan_of_other_weights_is_refused(
        self, exported: tuple[Path, manifest.Entry, torch.nn.Module, Plan]
    ) -> None:
        out, entry, _, plan = exported
        other = replace(plan, source=replace(plan.source, weights={"upsample": "f" * 64}))
        with pytest.raises(MismatchError, match=r"to other upsample weights .*deeplens calibrate"):
            planned_export.export(entry, other, out=out)

    def test_tensorrt_takes_it(self, exported: tuple[Path, manifest.Entry, torch.nn.Module, Plan]) -> None:
        pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install 'deeplens-edge[rtx]'")
        from deeplens.export.trt_build import Options
        from deeplens.export.trt_build import build as engine_of
        from deeplens.runtimes.engine_key import Profile
        from deeplens.runtimes.trt_api import TensorRt

        out, entry, _, plan = exported
        options = Options(profiles=(Profile.static((40, 48)),), compute_capability="8.6")
        api = TensorRt("tensorrt_rtx")
        whole = onnx.load(out / entry.path)
        for kind in ("int8", "mixed"):
            model = planned_export.follow(whole, "upsample", plan, kind=kind)
            assert engine_of(api, model.SerializeToString(), CONTRACTS["upsample"], options)
            for node in model.graph.node:  # the control: a quantised bias is what the parser does not take
                if node.op_type == "Conv" and "weight_int8" in node.input[1]:
                    node.input[2] = _int32_bias(model, node.input[2])
                    break
            model = _sorted(model)
            with pytest.raises(MismatchError, match=r"can't take the graph|can't build an engine"):
                engine_of(api, model.SerializeToString(), CONTRACTS["upsample"], options)


def _int32_bias(model: onnx.ModelProto, name: str) -> str:
    values = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == name)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.rint(values / 1e-4).astype(np.int32), "bias_int32"))
    graph.initializer.append(numpy_helper.from_array(np.array(1e-4, np.float32), "bias_step"))
    graph.node.append(helper.make_node("DequantizeLinear", ["bias_int32", "bias_step"], ["bias_back"]))
    return "bias_back"


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[-1], *nodes[:-1]])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_folding_changes_nothing(network: str) -> None:
    module = build.build("edge", network)
    feed = [
        torch.rand(tensor.shape(*(CONTRACTS[network].fixed_size or (40, 48)))) for tensor in CONTRACTS[network].inputs
    ]
    with torch.inference_mode():
        assert torch.allclose(module(*feed), folded(module)(*feed), atol=1e-5)
    assert not any(
        isinstance(each, torch.nn.BatchNorm2d) and not name.startswith("segmentation")
        for name, each in folded(module).named_modules()
    )


class TestAPlanFile:
    def test_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        model, _ = small()
        plan = plan_of(model, "depth", "a" * 64)
        choice = Choice("int8", (0.015625, 0.5), (0.25, -1.0), {"int8": 51.5, "fp16": 80.0})
        plan = replace(plan, layers={"depth": {**plan.layers["depth"], "first": choice}})
        plan.write(tmp_path / "plan.json")
        found = read(tmp_path / "plan.json")
        assert found.layers["depth"]["first"] == choice
        assert found.digest("depth") == plan.digest("depth")
        assert replace(found, layers={}) == replace(plan, layers={})

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 0}', '{"format": 1, "layers": []}'])
    def test_what_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(InputError, match="is not a precision plan"):
            read(tmp_path / "plan.json")
        with pytest.raises(MissingError, match="deeplens calibrate"):
            read(tmp_path / "other.json")
