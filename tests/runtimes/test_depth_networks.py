"""Depth networks of others by name: framed and native, in PyTorch and from an ONNX file, on equal terms with ours."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import VARIANTS, composed, part_of
from deeplens.model.depth_registry import DepthCard
from deeplens.runtimes import Accelerator, depth_store, manifest, open_runtime, ort
from deeplens.runtimes.accelerator import Ran, notes
from deeplens.runtimes.depth_convention import Convention
from deeplens.runtimes.depth_file import DepthFileSession
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.depth_networks import fit_of
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.providers import PROVIDERS
from tests.conftest import Command
from tests.runtimes.test_depth_model import write_model
from tests.support.ort_stand_in import OrtStandIn
from tests.support.tiny import textured

torch: Any = pytest.importorskip("torch")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class OneConvolution(torch.nn.Module):
    """Sees a pixel and its neighbours; the border is padded with zeros, as in all depth networks."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, picture: Any) -> Any:
        return self.layer(picture)


class Deep(torch.nn.Module):
    """Three convolutions with biases: what it gives within three pixels of a border depends on what is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(8, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, picture: Any) -> Any:
        return self.layers(picture)[:, 0]


def here(kind: type) -> str:
    return f"{kind.__module__}:{kind.__name__}"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    monkeypatch.setenv(depth_store.ENVIRONMENT, str(path))
    return path


def add_module(kind: type, name: str, deeplens: Command, folder: Path, *told: object) -> None:
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(kind().state_dict(), folder / f"{name}.safetensors")
    result = deeplens(
        "depth", "add", name, "--from", folder / f"{name}.safetensors", "--module", here(kind), "--output", "disparity",
        "--size", "64x64", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", *told,
    )  # fmt: skip
    assert result.status == 0, result.err


def raw_maps(name: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a network gives for a photo, framed and native, at the same scale: not normalised."""
    from dataclasses import replace

    from deeplens.model import foreign

    found = depth_store.find(name)
    module = foreign.load(found.card, found.read, found.weights.name)
    framed = fit_of(found.card)
    height, width = framed.framed_size(*pixels.shape[:2])
    native = replace(framed, size=(height, width))  # its scale is then that of the frame
    maps = []
    for fit in (framed, native):
        placed = fit.placed(pixels)
        with torch.inference_mode():
            maps.append(placed.cropped(module(torch.from_numpy(placed.picture))[0, 0].numpy()))
    return maps[0], maps[1]


class TestFrame:
    def test_framed_and_native_are_the_same_to_rounding(self, deeplens: Command, tmp_path: Path) -> None:
        """Also at the border: the frame is the mean, so that the network sees the zeros that it pads with."""
        add_module(OneConvolution, "one", deeplens, tmp_path, "--multiple", "8")
        framed, native = raw_maps("one", textured(96, 160, seed=1))
        assert framed.shape == native.shape == (40, 64)
        np.testing.assert_allclose(framed, native, atol=2e-6 * np.ptp(native))

    def test_of_a_deep_network_away_from_the_border(self, deeplens: Command, tmp_path: Path) -> None:
        add_module(Deep, "deep", deeplens, tmp_path, "--multiple", "8")
        framed, native = raw_maps("deep", textured(96, 160, seed=1))
        spread = float(np.ptp(native))
        np.testing.assert_allclose(framed[3:-3], native[3:-3], atol=2e-6 * spread)
        # Its biases fill the frame, which shows within its reach: the check would see a shift by a pixel.
        assert np.abs(framed - native)[:3].max() > 1e-3 * spread
        assert np.abs(framed[4:-4] - native[3:-5]).max() > 1e-2 * spread

    @pytest.mark.slow
    def test_a_vision_transformer_in_a_canvas_of_the_photos_aspect(self, deeplens: Command, tmp_path: Path) -> None:
        """Its attention sees the frame; without one, framed and native are the same."""
        pytest.importorskip("transformers")
        from tests.support.tiny_depth import depth_anything

        folder = depth_anything(tmp_path / "vit")
        wide = ("--size", "98x70", "--replace")
        assert deeplens("depth", "add", "vit", "--from", folder, *wide).status == 0
        framed, native = raw_maps("vit", textured(140, 196, seed=1))
        np.testing.assert_allclose(framed, native, atol=2e-6 * np.ptp(native))

    @pytest.mark.slow
    def test_from_the_command_to_the_picture(self, deeplens: Command, artifacts: Path, tmp_path: Path) -> None:
        """A photo of 5:3 in an artefact's square frame on ONNX Runtime, and at its own aspect ratio in PyTorch."""
        Image.fromarray(textured(96, 160, seed=1)).save(tmp_path / "photo.png")
        out = tmp_path / "out"
        shutil.copytree(artifacts, out)
        written: dict[str, list[np.ndarray]] = {"png": [], "npy": []}
        for name, size in (("framed", "64x64"), ("native", "64x40")):  # 40 rows are the photo's in the frame
            add_module(OneConvolution, name, deeplens, tmp_path, "--multiple", "8", "--size", size)
            exported = deeplens("export", "onnx", "--depth-network", name, "--out", out)
            assert exported.status == 0, exported.err
        for name, runtime in (("framed", "onnx"), ("native", "torch")):
            with open_runtime(
                runtime, variant=composed("edge", name), artifacts=out if runtime == "onnx" else None
            ) as opened:
                fit = opened.open("depth").fit
                height, width = fit.placed(textured(96, 160, seed=1)).picture.shape[2:]
                assert (fit.native, height, width) == ((True, 40, 64) if name == "native" else (False, 64, 64))
                found = Harness(opened).disparity(textured(96, 160, seed=1))
                written["npy"].append(found)
        np.testing.assert_allclose(written["npy"][0], written["npy"][1], rtol=0, atol=1e-5)
        for name in ("framed", "native"):
            target = tmp_path / f"{name}.png"
            result = deeplens(
                "refocus", tmp_path / "photo.png", "--focus", "0.4,0.6", "--runtime", "onnx", "--artifacts", out,
                "--depth-network", name, "-o", target,
            )  # fmt: skip
            assert result.status == 0, result.err
            written["png"].append(np.asarray(Image.open(target)).astype(int))
        assert np.abs(written["png"][0] - written["png"][1]).max() <= 1


class TestTorch:
    @pytest.mark.slow
    def test_it_is_what_the_library_itself_gives(self, deeplens: Command, tmp_path: Path) -> None:
        """The library's own processor and network, on a photo that is wider than high."""
        transformers = pytest.importorskip("transformers")
        from tests.support.tiny_depth import depth_anything

        folder = depth_anything(tmp_path / "vit")
        assert deeplens("depth", "add", "vit", "--from", folder).status == 0
        pixels = textured(150, 230, seed=3)
        try:
            processor = transformers.DPTImageProcessorPil.from_pretrained(folder)
        except AttributeError:
            processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
        network = transformers.AutoModelForDepthEstimation.from_pretrained(folder)
        with torch.inference_mode():
            raw = network(**processor(images=Image.fromarray(pixels), return_tensors="pt")).predicted_depth[0].numpy()
        expected = (raw - raw.min()) / np.ptp(raw)
        with open_runtime("torch", variant=composed("edge", "vit")) as runtime:
            fit = runtime.open("depth").fit
            found = Harness(runtime).disparity(pixels)
        assert fit.native_size(150, 230) == raw.shape == (70, 112)
        assert found.shape[1] / found.shape[0] == pytest.approx(230 / 150, rel=0.02)
        shown = np.asarray(Image.fromarray(expected).resize(found.shape[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_allclose(found, shown, atol=2e-5)

    def test_depth_is_turned_into_disparity(self) -> None:
        from deeplens.model.foreign import ForeignDepth

        card = DepthCard(name="x", output="depth", channels="bgr", mean=IMAGENET[0], std=IMAGENET[1])
        picture = torch.rand(1, 3, 8, 8)
        module = ForeignDepth(torch.nn.Conv2d(3, 1, 1), card)
        with torch.inference_mode():
            normalised = (picture.flip(1) - torch.tensor(IMAGENET[0]).view(1, 3, 1, 1)) / torch.tensor(
                IMAGENET[1]
            ).view(1, 3, 1, 1)
            depth = module.network(normalised)
            found = module(picture)
        expected = torch.where(depth > 1e-6, 1 / depth, torch.full_like(depth, 1e6))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)

    @pytest.mark.parametrize(
        ("options", "status", "text"),
        [
            (("--module", "no.such:Class"), MissingError.exit_code, "can't be imported"),
            (("--module", "torch.nn:Conv2d"), InputError.exit_code, "--module-arguments"),
            (("--module", "torch.nn:Identity"), MismatchError.exit_code, "does not hold the weights"),
            (("--module", "pathlib:Path"), InputError.exit_code, "no torch.nn.Module"),
        ],
    )
    def test_classes_that_can_not_be(
        self, deeplens: Command, photo: Path, folder: Path, tmp_path: Path, options: tuple, status: int, text: str
    ) -> None:
        add_module(OneConvolution, "one", deeplens, tmp_path, "--aspect", "stretch")
        told = ("--output", "disparity", "--size", "64x64", "--aspect", "stretch", "--replace")
        assert deeplens("depth", "add", "one", "--from", tmp_path / "one.safetensors", *options, *told).status == 0
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "torch", "--weights", "initial", "--depth-network",
            "one", "-o", folder / "out.png",
        )  # fmt: skip
        assert (result.status, text in result.error) == (status, True), result.err

    def test_a_pickle_is_not_opened(self, tmp_path: Path) -> None:
        from deeplens.model import foreign

        torch.save(OneConvolution(), tmp_path / "whole.pt")
        card = DepthCard(name="x", kind="module", module=here(OneConvolution), output="disparity")
        with pytest.raises(InputError, match="more than tensors"):
            foreign.load(card, lambda name: (tmp_path / name).read_bytes(), "whole.pt")
        torch.save({"state_dict": OneConvolution().state_dict()}, tmp_path / "state.pt")
        foreign.load(card, lambda name: (tmp_path / name).read_bytes(), "state.pt")


class TestFile:
    def test_an_onnx_file_by_name_is_the_file_named(self, deeplens: Command, artifacts: Path, tmp_path: Path) -> None:
        """`--depth-network NAME` gives what `--depth-model FILE` gives, framed and native."""
        for shape, name in (((1, 3, 32, 48), "fixed"), ((1, 3, "h", "w"), "free")):
            path = write_model(tmp_path / f"{name}.onnx", shape=shape)
            told = ("--output", "disparity", "--multiple", "8", "--mean", "0.4", "--std", "0.2", "--aspect", "keep")
            assert deeplens("depth", "add", name, "--from", path, *told, "--size", "48x32").status == 0
            pixels = textured(60, 130, seed=2)
            convention = Convention((32, 48), (0.4,) * 3, (0.2,) * 3, "rgb", "disparity", "keep", 8)
            expected = DepthModel(path, told=convention).disparity(pixels)
            with open_runtime("onnx", variant=composed("edge", name), artifacts=artifacts) as runtime:
                session = runtime.open("depth")
                assert session.fit.native is (name == "free")
                found = Harness(runtime).disparity(pixels)
                assert session.weights_sha256() == depth_store.find(name).sha256[path.name]
            np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.slow
    def test_refocus_by_name_without_torch(
        self, deeplens: Command, deeplens_process: Command, artifacts: Path, tmp_path: Path
    ) -> None:
        told = ("--output", "disparity", "--size", "48x32", "--aspect", "stretch")
        assert deeplens("depth", "add", "mine", "--from", write_model(tmp_path / "m.onnx"), *told).status == 0
        Image.fromarray(textured(40, 60, seed=0)).save(tmp_path / "photo.png")
        result = deeplens_process(
            "refocus", "photo.png", "--focus", "0.5,0.5", "--artifacts", artifacts, "--depth-network", "mine",
            "-o", "out.png", "--json", "report.json", without=("torch", "scipy", "onnx", "huggingface_hub"),
        )  # fmt: skip
        assert result.status == 0, result.err
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["depth_network"], report["variant"], report["runtime"]) == ("mine", "edge", "onnx")

    def test_a_provider_takes_the_file_in_its_form(
        self, deeplens: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Without such an artefact the file itself runs on the CPU, and that is told."""
        told = ("--output", "disparity", "--size", "48x32", "--aspect", "stretch")
        assert deeplens("depth", "add", "mine", "--from", write_model(tmp_path / "m.onnx"), *told).status == 0
        provider = PROVIDERS["webgpu"]
        monkeypatch.setattr(ort, "import_onnxruntime", lambda: OrtStandIn(provider.library_name))
        picture = {"picture": np.random.default_rng(0).random((1, 3, 32, 48), np.float32)}
        found = []
        for form in ("cpu", "webgpu"):
            exported = deeplens("export", "onnx", "--depth-network", "mine", "--form", form, "--out", tmp_path / "a")
            assert exported.status == 0, exported.err
            with open_runtime(
                "onnx", variant=composed("edge", "mine"), artifacts=tmp_path / "a", accelerator=Accelerator("webgpu")
            ) as runtime:
                session = runtime.open("depth")
                found.append(session.run(picture)["disparity"])
                ran = {"depth": session.ran, "upsample": Ran("webgpu", "onnxruntime")}
                told_in_note = ["depth: runs on the CPU, the other networks on webgpu"] if form == "cpu" else []
                assert notes(ran) == told_in_note
                assert isinstance(session, DepthFileSession) is (form == "cpu")
        np.testing.assert_allclose(found[1], found[0], atol=1e-6)
        assert {each.runtime for each in manifest.read(tmp_path / "a")} == {"onnx", "onnx-webgpu"}

    def test_a_folder_of_photos_by_name(self, deeplens: Command, artifacts: Path, tmp_path: Path) -> None:
        told = ("--output", "disparity", "--size", "48x32", "--aspect", "stretch")
        assert deeplens("depth", "add", "mine", "--from", write_model(tmp_path / "m.onnx"), *told).status == 0
        (tmp_path / "in").mkdir()
        Image.fromarray(textured(40, 60, seed=0)).save(tmp_path / "in" / "a.png")
        once = ("refocus", tmp_path / "in", "--focus", "nearest", "--artifacts", artifacts, "-o", tmp_path / "out")
        assert deeplens(*once, "--depth-network", "mine").status == 0
        again = deeplens(*once)  # another depth network is another picture
        assert "1 of 1 photos refocused" in again.out


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (("--depth-network", "nobody"), InputError.exit_code, "no depth network is called 'nobody'"),
        (("--depth-network", "depth-pro"), MissingError.exit_code, "run `deeplens depth add depth-pro`"),
        (("--depth-network", "../x"), InputError.exit_code, "no depth network is called"),
        (("--depth-network", "mine", "--depth", "d.npy"), 2, "give only one of these options"),
    ],
)
def test_names_that_can_not_be(
    deeplens: Command, photo: Path, artifacts: Path, folder: Path, options: tuple, status: int, text: str
) -> None:
    result = deeplens(
        "refocus", photo, "--focus", "0.5,0.5", "--artifacts", artifacts, "-o", folder / "o.png", *options
    )
    assert (result.status, text in result.error) == (status, True), result.err


def test_composed_names() -> None:
    name = composed("edge", "mine")
    assert [part_of(name, network) for network in ("depth", "lens_blur", "upsample")] == ["mine", "edge", "edge"]
    assert [part_of("paper", network) for network in ("depth", "upsample")] == ["paper", "paper"]
    assert VARIANTS[name] is VARIANTS["edge"]
    assert name not in VARIANTS
    with pytest.raises(KeyError):
        VARIANTS["nobody"]
