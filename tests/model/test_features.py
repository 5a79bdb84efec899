"""What the networks make of a photo alone is made once: the graph cut in two, and what is kept between refocusings."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deeplens.export.onnx_graph import export
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import open_runtime
from deeplens.runtimes.contract import Arrays, Runtime
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.ort import OnnxRuntime, OnnxSession
from deeplens.runtimes.photo_part import cut
from deeplens.runtimes.wrapped import Around
from tests.support.device import needs_torch
from tests.support.fake_runtime import OPEN, depth_map, photo

pytestmark = [needs_torch, pytest.mark.slow]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real networks that the tests cut."""
    folder = tmp_path_factory.mktemp("artifacts")
    for network in ("lens_blur", "upsample"):
        export("edge", network, out=folder)
    export("paper", "lens_blur", out=folder, weights="initial")
    return folder


class CountedSession(Around):
    """One network, which counts what was asked of it."""

    def __init__(self, session: OnnxSession, counts: Counter[str]) -> None:
        super().__init__(session)
        self.lanes = 1
        self._counts = counts
        self._network = session.describe().network

    def features(self, inputs: Mapping[str, np.ndarray]) -> Arrays | None:
        found = super().features(inputs)
        self._counts[f"{self._network} features"] += found is not None
        return found

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        self._counts[f"{self._network} whole"] += 1
        return super().run(inputs)

    def run_rest(self, inputs: Mapping[str, np.ndarray], features: Arrays) -> Arrays:
        self._counts[f"{self._network} rest"] += 1
        return super().run_rest(inputs, features)


class Counted(Runtime):
    """ONNX Runtime, which counts what was asked of its networks."""

    def __init__(self, runtime: OnnxRuntime) -> None:
        self.name, self.variant, self.counts = runtime.name, runtime.variant, Counter[str]()
        self._runtime = runtime

    def open(self, network: str) -> CountedSession:
        return CountedSession(self._runtime.open(network), self.counts)

    def close(self) -> None:
        self._runtime.close()


class TestFeatures:
    """What the networks make of the photo alone is kept, and the picture stays the same."""

    LOOKS = ((0.4, 1.0), (0.9, 0.3), (0.1, 0.7))

    def pictures(self, artifacts: Path, variant: str, pixels: np.ndarray) -> tuple[list[np.ndarray], Counter[str]]:
        with Counted(OnnxRuntime(variant=variant, artifacts=artifacts, threads=1)) as runtime:
            ready = Harness(runtime, tile=128).photo(pixels, depth_map())
            return [
                ready.refocus(focal_disparity=focal, aperture=aperture) for focal, aperture in self.LOOKS
            ], runtime.counts

    def test_made_once_and_the_picture_is_the_same(self, artifacts: Path) -> None:
        pixels = photo(500, 700)
        found, counts = self.pictures(artifacts, "edge", pixels)
        tiles = counts["upsample features"]
        assert tiles > 4
        assert counts["upsample rest"] == 3 * tiles
        assert (counts["upsample whole"], counts["lens_blur features"]) == (0, 0)
        with open_runtime("onnx", artifacts=artifacts, threads=1) as runtime:
            for picture, (focal, aperture) in zip(found, self.LOOKS, strict=True):
                expected = Harness(runtime, tile=128).refocus(
                    pixels, depth_map(), focal_disparity=focal, aperture=aperture
                )
                off = np.abs(picture.astype(int) - expected)
                assert off.max() <= 1
                assert (off > 0).mean() < 1e-3
        assert np.abs(found[0].astype(int) - found[1]).max() > 20

    def test_another_photos_features_would_be_seen(self, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = photo(500, 700)
        expected, _ = self.pictures(artifacts, "edge", pixels)
        own = OnnxSession.features

        def features(self: OnnxSession, inputs: Arrays) -> Arrays | None:
            return own(self, {name: 1 - array if name == "picture_high" else array for name, array in inputs.items()})

        monkeypatch.setattr(OnnxSession, "features", features)
        found, _ = self.pictures(artifacts, "edge", pixels)
        assert np.abs(found[0].astype(int) - expected[0]).max() > 5

    @pytest.mark.parametrize("room", [0, 1 << 20])
    def test_no_more_is_kept_than_there_is_room_for(
        self, artifacts: Path, monkeypatch: pytest.MonkeyPatch, room: int
    ) -> None:
        _, roomy = self.pictures(artifacts, "edge", photo(500, 700))
        monkeypatch.setattr("deeplens.runtimes.refocuser.FEATURES_BYTES", room)
        _, counts = self.pictures(artifacts, "edge", photo(500, 700))
        assert counts["upsample whole"] + counts["upsample rest"] == roomy["upsample rest"]
        assert (counts["upsample rest"] > 0) == (room > 0)
        assert counts["upsample features"] < roomy["upsample features"]

    def test_without_the_package_that_cuts_all_is_run(self, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnx", None)
        _, counts = self.pictures(artifacts, "edge", photo(500, 700))
        assert set(counts) == {"upsample whole", "lens_blur whole", "upsample features", "lens_blur features"}
        assert counts["upsample features"] == 0

    def test_they_serve_sessions_that_were_opened_again(self, artifacts: Path) -> None:
        with OnnxRuntime(artifacts=artifacts, threads=1) as runtime:
            ready = Harness(runtime, tile=128).photo(photo(500, 700), depth_map())
            first = ready.refocus(**OPEN)
            runtime.close()
            np.testing.assert_array_equal(ready.refocus(**OPEN), first)

    def test_a_single_refocus_keeps_nothing(self, artifacts: Path) -> None:
        with Counted(OnnxRuntime(artifacts=artifacts, threads=1)) as runtime:
            Harness(runtime).refocus(photo(500, 700), depth_map(), **OPEN)
            assert set(runtime.counts) == {"upsample whole", "lens_blur whole"}


class TestCut:
    """The two graphs are the one."""

    @pytest.mark.parametrize(("variant", "network"), [("edge", "upsample"), ("paper", "lens_blur")])
    def test_the_parts_give_what_the_whole_gives(self, artifacts: Path, variant: str, network: str) -> None:
        size = (64, 96)
        inputs = {
            tensor.name: np.random.default_rng(tensor.channels).random(tensor.shape(*size), np.float32)
            for tensor in CONTRACTS[network].inputs
        }
        with OnnxRuntime(variant=variant, artifacts=artifacts, threads=1) as runtime:
            session = runtime.open(network)
            features = session.features(inputs)
            assert features is not None
            expected, found = session.run(inputs), session.run_rest(inputs, features)
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, atol=2e-5)
            others = {name: array if name.startswith("picture") else 1 - array for name, array in inputs.items()}
            again = session.features(others)
            assert again is not None
            for name, array in features.items():
                np.testing.assert_array_equal(again[name], array)

    def test_what_depends_on_more_than_the_photo_is_no_feature(self) -> None:
        """Two convolutions, of the photo and of its blurred version: only the first one's result may be kept."""
        names = ("picture_high", "blurred")
        kernel = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
        graph = helper.make_graph(
            [*(helper.make_node("Conv", [name, "kernel"], [f"seen_{name}"]) for name in names),
             helper.make_node("Add", [f"seen_{name}" for name in names], ["y"])],
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in names],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "h", "w"])],
            [kernel],
        )  # fmt: skip
        parts = cut(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
        assert parts is not None
        assert parts.features == ("seen_picture_high",)
        rest = onnx.load_from_string(parts.rest).graph
        assert [each.name for each in rest.input] == ["blurred", "seen_picture_high"]

    def test_networks_that_mix_all_at_once_have_no_part(self, artifacts: Path) -> None:
        assert cut((artifacts / "onnx" / "edge_lens_blur.onnx").read_bytes()) is None
