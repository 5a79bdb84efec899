"""Any ONNX depth model: tiny graphs whose answer is known, conventions from metadata and from options, and refusals."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from deeplens.console.errors import InputError, MissingError
from deeplens.model.contract import CONTRACTS, DEPTH_SIZE
from deeplens.runtimes.depth_convention import PREFIX, Convention, depth_convention
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.harness import Harness
from tests.conftest import Command

Side = int | str
RAMP = np.dstack([np.repeat(np.arange(0, 240, 5, dtype=np.uint8)[None], 32, axis=0)] * 3)
"""A photo, 32×48, that brightens to the right by 5 a pixel."""

RGB = np.dstack([np.full((32, 48), value, np.uint8) for value in (255, 0, 0)])
IMAGENET = ("0.485,0.456,0.406", "0.229,0.224,0.225")


def write_model(
    path: Path,
    *,
    shape: Sequence[Side] = (1, 3, "h", "w"),
    channel: int | None = None,
    rank: int = 4,
    dtype: int = TensorProto.FLOAT,
    axis: int = 1,
    metadata: dict[str, str] | None = None,
    tail: str | None = None,
    inputs: int = 1,
    outputs: int = 1,
) -> Path:
    """The mean over the channels, or one of them.

    Args:
        outputs: those after the first hold its negative.
        rank: of the output: 4, 3 or 2 axes.
        axis: the one of the channels.
        tail: an operation with one input after it.
    """
    nodes = [helper.make_node("Cast", ["picture"], ["x"], to=TensorProto.FLOAT)]
    constants = [helper.make_tensor("axis", TensorProto.INT64, [1], [axis])]
    if channel is None:
        nodes.append(helper.make_node("ReduceMean", ["x", "axis"], ["y"], keepdims=1))
    else:
        constants.append(helper.make_tensor("which", TensorProto.INT64, [1], [channel]))
        nodes.append(helper.make_node("Gather", ["x", "which"], ["y"], axis=axis))
    if tail is not None:
        nodes.append(helper.make_node(tail, ["y"], ["z"]))
    last = "y" if tail is None else "z"
    if rank < 4:
        squeezed = [axis] if rank == 3 else [0, axis]
        constants.append(helper.make_tensor("squeezed", TensorProto.INT64, [len(squeezed)], squeezed))
        nodes.append(helper.make_node("Squeeze", [last, "squeezed"], ["map"]))
        last = "map"
    names = ["map", *(f"map{i}" for i in range(1, outputs))]
    nodes += [helper.make_node("Identity", [last], ["map"])] if last != "map" else []
    nodes += [helper.make_node("Neg", [last], [name]) for name in names[1:]]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [info("picture", dtype, shape), *(info(f"more{i}", dtype, [1]) for i in range(1, inputs))],
        [info(name, TensorProto.FLOAT, None) for name in names],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=f"{PREFIX}{key}", value=value)
    onnx.save(model, path)
    return path


def told(**texts: str) -> Convention:
    return Convention.parsed({"output": "disparity", "size": "48x32", **texts})


class TestAnswers:
    @pytest.mark.parametrize("rank", [2, 3, 4])
    def test_shapes_of_the_map(self, tmp_path: Path, rank: int) -> None:
        model = DepthModel(write_model(tmp_path / "m.onnx", rank=rank), told=told())
        np.testing.assert_allclose(model.disparity(RAMP), RAMP[..., 0] / 235, atol=1e-6)

    @pytest.mark.parametrize("shape", [(1, 3, 32, 48), ("n", 3, "h", "w"), (1, "c", "h", "w"), (1, 32, 48, 3)])
    @pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
    def test_inputs(self, tmp_path: Path, shape: Sequence[Side], dtype: int) -> None:
        axis = 3 if shape[3] == 3 else 1
        model = DepthModel(write_model(tmp_path / "m.onnx", shape=shape, dtype=dtype, axis=axis), told=told())
        np.testing.assert_allclose(model.disparity(RAMP), RAMP[..., 0] / 235, atol=1e-3)

    def test_metric_depth_is_inverted(self, tmp_path: Path) -> None:
        photo = RAMP + np.uint8(10)
        model = DepthModel(write_model(tmp_path / "m.onnx"), told=told(output="depth"))
        inverse = 1 / photo[..., 0].astype(float)
        expected = (inverse - inverse.min()) / np.ptp(inverse)
        np.testing.assert_allclose(model.disparity(photo), expected, atol=1e-5)

    @pytest.mark.parametrize(("name", "sign"), [("map", 1), ("map1", -1)])
    def test_one_of_several_outputs(self, tmp_path: Path, name: str, sign: int) -> None:
        """By the option, and by the model's own metadata."""
        expected = RAMP[..., 0] / 235 if sign == 1 else 1 - RAMP[..., 0] / 235
        chosen = DepthModel(write_model(tmp_path / "m.onnx", outputs=2), told=told(output_name=name))
        np.testing.assert_allclose(chosen.disparity(RAMP), expected, atol=1e-6)
        stored = write_model(tmp_path / "stored.onnx", outputs=2, metadata={"output_name": name})
        np.testing.assert_allclose(DepthModel(stored, told=told()).disparity(RAMP), expected, atol=1e-6)

    def test_an_output_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"2 outputs \(map, map1\), and none is called 'conf'"):
            DepthModel(write_model(tmp_path / "m.onnx", outputs=2), told=told(output_name="conf"))

    @pytest.mark.parametrize(("channels", "which"), [("rgb", 0), ("bgr", 2)])
    def test_the_order_of_channels(self, tmp_path: Path, channels: str, which: int) -> None:
        """The model sees red where it says it does, with red's own mean."""
        half = RGB.copy()
        half[:, 24:] = 0
        path = write_model(tmp_path / "m.onnx", channel=which)
        found = DepthModel(path, told=told(channels=channels)).disparity(half)
        np.testing.assert_array_equal(found[:, [0, -1]], [[1, 0]] * 32)
        with pytest.raises(InputError, match="everywhere"):
            DepthModel(path, told=told(channels="bgr" if channels == "rgb" else "rgb")).disparity(half)

    def test_mean_and_std(self, tmp_path: Path) -> None:
        """Of 1/x with x = (pixel/255 − mean)/std the offset shows; a positive scale would not."""
        path = write_model(tmp_path / "m.onnx", channel=1, tail="Reciprocal")
        mean, std = -0.5, 0.25
        x = (RAMP[..., 1] / 255 - mean) / std
        expected = (1 / x - (1 / x).min()) / np.ptp(1 / x)
        found = DepthModel(path, told=told(mean=f"9,{mean},9", std=f"9,{std},9")).disparity(RAMP)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_another_size_shows_the_whole_photo(self, tmp_path: Path) -> None:
        model = DepthModel(write_model(tmp_path / "m.onnx"), told=told(size="16x16"))
        found = model.disparity(RAMP)
        assert found.shape == (16, 24)  # of the photo's aspect, no side smaller
        assert (np.diff(found.mean(0)) >= 0).all()
        model = DepthModel(write_model(tmp_path / "m.onnx", shape=(1, 3, 64, 40)), told=told(size="40x64"))
        assert model.disparity(RAMP).shape == (64, 96)

    def test_16_bit_photos(self, tmp_path: Path) -> None:
        model = DepthModel(write_model(tmp_path / "m.onnx"), told=told())
        deep = RAMP.astype(np.uint16) * 257
        np.testing.assert_array_equal(model.disparity(deep), model.disparity(RAMP))

    @settings(max_examples=25, deadline=None)
    @given(height=st.integers(1, 90), width=st.integers(1, 2000))
    def test_the_harness_takes_the_map_of_any_photo(
        self, tmp_path_factory: pytest.TempPathFactory, height: int, width: int
    ) -> None:
        from deeplens.runtimes.harness import check_disparity

        path = tmp_path_factory.mktemp("model") / "m.onnx"
        model = DepthModel(write_model(path), told=told(size="32x32"))
        photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        if np.ptp(photo) and photo.shape[:2] != (1, 1):
            check_disparity(model.disparity(photo), photo)


class TestConvention:
    def test_it_is_read_from_the_file(self, tmp_path: Path) -> None:
        written = {"size": "30x20", "mean": IMAGENET[0], "std": IMAGENET[1], "output": "depth", "channels": "bgr"}
        model = DepthModel(write_model(tmp_path / "m.onnx", metadata=written))
        assert model.convention == Convention.parsed(dict(written))
        assert model.notes == ()

    def test_what_is_told_goes_first(self, tmp_path: Path) -> None:
        written = {"size": "30x20", "output": "depth", "mean": "0.1", "std": "1"}
        model = DepthModel(write_model(tmp_path / "m.onnx", metadata=written), told=told(size="8x8"))
        assert (model.convention.size, model.convention.output) == ((8, 8), "disparity")
        assert model.convention.mean == (0.1, 0.1, 0.1)

    def test_what_is_taken_for_granted_is_noted(self, tmp_path: Path) -> None:
        model = DepthModel(write_model(tmp_path / "m.onnx", shape=(1, 3, 32, 48)), told=Convention(output="disparity"))
        assert len(model.notes) == 1
        assert "from 0 to 1" in model.notes[0]
        assert model.convention.size == (32, 48)

    def test_our_own_export_says_it(self, tmp_path: Path) -> None:
        path = write_model(
            tmp_path / "m.onnx",
            metadata={k.removeprefix(PREFIX): v for k, v in depth_convention(CONTRACTS["depth"]).items()},
        )
        model = DepthModel(path)
        assert model.notes == ()
        assert model.convention == Convention(
            (DEPTH_SIZE, DEPTH_SIZE), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "rgb", "disparity"
        )

    @pytest.mark.parametrize(
        ("texts", "text"),
        [
            ({"size": "big"}, "WxH"),
            ({"size": "1x2x3"}, "WxH"),
            ({"size": "0x8"}, "WxH"),
            ({"size": "1x8"}, "from 2x2 to 8192x8192"),
            ({"mean": "1,2"}, "three numbers, such as"),
            ({"mean": "a"}, "three numbers, such as"),
            ({"std": "nan"}, "three numbers, such as"),
            ({"std": "1,0,1"}, "divided by"),
            ({"channels": "gbr"}, "rgb or bgr"),
            ({"output": "near"}, "disparity or depth"),
        ],
    )
    def test_what_makes_no_sense(self, tmp_path: Path, texts: dict[str, str], text: str) -> None:
        with pytest.raises(InputError, match=text):
            Convention.parsed(dict(texts))
        with pytest.raises(InputError, match=rf"m\.onnx: in its metadata.*{text}"):
            DepthModel(write_model(tmp_path / "m.onnx", metadata=texts))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"inputs": 2}, r"2 inputs \(picture, more1\)"),
            ({"outputs": 2}, r"2 outputs \(map, map1\): name .* --depth-model-output-name"),
            ({"shape": (1, 4, "h", "w")}, "one picture"),
            ({"shape": (2, 3, "h", "w")}, "one picture"),
            ({"shape": (3, "h", "w")}, "one picture"),
            ({"dtype": TensorProto.INT32}, "tensor.int32"),
        ],
    )
    def test_graphs_that_are_no_depth_model(self, tmp_path: Path, options: dict, text: str) -> None:
        with pytest.raises(InputError, match=text):
            DepthModel(write_model(tmp_path / "m.onnx", **options), told=told())

    def test_what_must_be_known(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "m.onnx")
        with pytest.raises(InputError, match="--depth-model-size"):
            DepthModel(path, told=Convention(output="disparity"))
        with pytest.raises(InputError, match="--depth-model-output"):
            DepthModel(path, told=Convention(size=(8, 8)))
        with pytest.raises(InputError, match="48x32 only, not 8x8"):
            DepthModel(write_model(path, shape=(1, 3, 32, 48)), told=told(size="8x8"))

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"tail": "Log"}, "not finite"),  # of black
            ({"tail": "Floor"}, "everywhere"),
            ({"tail": "GlobalMaxPool"}, "one map"),
        ],
    )
    def test_answers_that_are_no_map(self, tmp_path: Path, options: dict, text: str) -> None:
        with pytest.raises(InputError, match=text):
            DepthModel(write_model(tmp_path / "m.onnx", **options), told=told()).disparity(RAMP)

    def test_depths_of_zero(self, tmp_path: Path) -> None:
        """A few are filled in, with a note; of more the message says what was found, and no advice inverts the map."""
        path, notes, specks = write_model(tmp_path / "m.onnx", shape=(1, 3, 32, 48)), list[str](), RAMP + np.uint8(5)
        specks[4:6, 4:6] = 0
        found = DepthModel(path, told=told(output="depth")).disparity(specks, notes=notes)
        assert (found[4:6, 4:6] == found[4, 6]).all()
        assert ["0.3 % of its values" in note for note in notes] == [True]
        with pytest.raises(InputError, match=r"no distance .* at 2.1 % of its values") as caught:
            DepthModel(path, told=told(output="depth")).disparity(RAMP)
        assert "--depth-model-output" not in str(caught.value)

    def test_files(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        (tmp_path / "empty.onnx").write_bytes(b"")
        for name, text in (
            ("none.onnx", "does not exist"),
            ("text.onnx", "not an ONNX model"),
            ("empty.onnx", "empty"),
        ):
            with pytest.raises(InputError, match=text):
                DepthModel(tmp_path / name, told=told())

    def test_without_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_model(tmp_path / "m.onnx")
        monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
        with pytest.raises(MissingError, match=r"deeplens-edge\[onnx\]"):
            DepthModel(path, told=told())


class TestCommand:
    def test_refocus_without_torch(self, deeplens_process: Command, artifacts: Path, tmp_path: Path) -> None:
        write_model(tmp_path / "m.onnx")
        Image.fromarray(RAMP).save(tmp_path / "ramp.png")
        result = deeplens_process(
            "refocus", "ramp.png", "--focus", "0.99,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "--depth-model", "m.onnx", "--depth-model-size", "48x32", "--depth-model-output", "disparity",
            "-o", "out.png", "--save-depth", "depth.npy", "--json", "report.json",
            without=("torch", "scipy", "skimage", "onnx"),
        )  # fmt: skip
        assert result.status == 0, result.err
        assert result.err.startswith("note: m.onnx does not say how pixels are normalised")
        np.testing.assert_allclose(np.load(tmp_path / "depth.npy"), RAMP[..., 0] / 235, atol=1e-6)
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["depth_model"], report["depth"]) == ("m.onnx", None)
        assert report["focal_disparity"] == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize(
        ("options", "status", "text"),
        [
            (("--depth-model", "none.onnx"), InputError.exit_code, "does not exist"),
            (("--depth-model-size", "48x32"), InputError.exit_code, "give --depth-model FILE"),
            (("--depth-model", "m.onnx", "--depth", "d.npy"), 2, "give only one of these options"),
        ],
    )
    def test_options_that_can_not_be(
        self,
        deeplens: Command,
        photo: Path,
        artifacts: Path,
        folder: Path,
        options: tuple[str, ...],
        status: int,
        text: str,
    ) -> None:
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "-o", folder / "out.png", *options,
        )  # fmt: skip
        assert result.status == status
        assert text in result.error


def test_harness_and_model_agree_on_our_own_network(artifacts: Path) -> None:
    """An artefact of our depth network, named as a depth model, gives what the harness gives."""
    from deeplens.runtimes import manifest, open_runtime

    entry = manifest.find(artifacts, network="depth", variant="edge", runtime="onnx", precision="fp32", shape=None)
    photo = np.random.default_rng(3).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    with open_runtime("onnx", variant="edge", artifacts=artifacts) as runtime:
        expected = Harness(runtime).disparity(photo)
    found = DepthModel(artifacts / entry.path, told=Convention(output="disparity")).disparity(photo)
    np.testing.assert_allclose(found, expected, atol=1e-6)
