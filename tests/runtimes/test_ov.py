"""OpenVINO as a runtime: the same contract as all others, several runs at the same time, sizes, precisions."""

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deeplens.benchmarks.candidate import Candidate
from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import CONTRACTS, VARIANTS
from deeplens.parity_tests.produce import artefact_opener
from deeplens.runtimes import RUNTIMES, manifest, open_runtime, ov, resolved
from deeplens.runtimes.ov import SIZES, OpenVinoRuntime, import_openvino
from deeplens.runtimes.publish import publish
from tests.conftest import Command

SIZE = (32, 40)
OUTPUT = "blurred_high"


def inputs(seed: int = 0, size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {each.name: generator.random(each.shape(*size), np.float32) for each in CONTRACTS["upsample"].inputs}


@pytest.fixture
def graphs(artifacts: Path, tmp_path: Path) -> Path:
    """The graphs that can be reckoned by hand, as those of OpenVINO's form, and ONNX Runtime's beside them."""
    folder = tmp_path / "graphs"
    shutil.copytree(artifacts, folder)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"runtime": "onnx"', '"runtime": "onnx-openvino"'))
    for entry in manifest.read(artifacts):
        manifest.add(folder, entry)
    return folder


class TestInstalled:
    @pytest.fixture(autouse=True)
    def _openvino(self) -> None:
        pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'deeplens-edge[openvino]'")

    def test_it_computes_what_onnx_runtime_does(self, graphs: Path) -> None:
        sizes = [SIZE, (40, 32)] * 4
        given = [inputs(seed, size) for seed, size in enumerate(sizes)]
        with (
            open_runtime("openvino", artifacts=graphs, threads=2) as runtime,
            open_runtime("onnx", artifacts=graphs) as judge,
        ):
            session, other = runtime.open("upsample"), judge.open("upsample")
            assert session.lanes == 2
            assert runtime.open("lens_blur").lanes == 1
            assert runtime.open("upsample") is session
            assert session.entry is not None
            assert session.entry.runtime == "onnx-openvino"
            assert session.ran is not None
            assert session.ran.library.startswith("openvino 20")
            with ThreadPoolExecutor(4) as pool:  # more at a time than there are lanes, of two sizes
                found = list(pool.map(session.run, given))
            for each, made in zip(given, found, strict=True):
                assert np.abs(made[OUTPUT] - other.run(each)[OUTPUT]).max() < 1e-5
            assert np.abs(found[0][OUTPUT] - found[2][OUTPUT]).max() > 0.1
            kept = found[0][OUTPUT].copy()
            session.run(given[2])
            np.testing.assert_array_equal(found[0][OUTPUT], kept)  # the caller's own

    def test_no_more_sizes_stay_compiled_than_a_large_photo_needs(self, graphs: Path) -> None:
        with OpenVinoRuntime(artifacts=graphs, threads=1) as runtime:
            session = runtime.open("upsample")
            sizes = [(32, 32 + 8 * index) for index in range(SIZES + 2)]
            first = [session.run(inputs(0, size))[OUTPUT] for size in sizes]
            engine = session._engine
            assert engine is not None
            assert len(engine._compiled) == SIZES
            np.testing.assert_array_equal(session.run(inputs(0, sizes[0]))[OUTPUT], first[0])

    @pytest.mark.parametrize(
        ("precision", "network", "computed"),
        [
            ("fp32", "upsample", "f32"),
            ("bf16", "upsample", "bf16"),
            ("bf16", "lens_blur", "bf16"),
            ("bf16", "depth", "f32"),
        ],
    )
    def test_what_a_precision_is_computed_in(self, graphs: Path, precision: str, network: str, computed: str) -> None:
        try:
            runtime = OpenVinoRuntime(artifacts=graphs, precision=precision)
        except MissingError as error:
            pytest.skip(str(error))
        session = runtime.open(network)
        size = session.describe().fixed_size or SIZE
        session.run({each.name: np.zeros(each.shape(*size), np.float32) for each in CONTRACTS[network].inputs})
        engine = session._engine
        assert engine is not None
        (requests,) = engine._compiled.values()
        hint = requests.get().get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
        assert hint.to_string() == computed

    def test_what_it_does_not_take_is_said(self, graphs: Path) -> None:
        runtime = OpenVinoRuntime(artifacts=graphs)
        session = runtime.open("upsample")
        with pytest.raises(InputError, match="upsample: got the inputs picture, expected"):
            session.run({"picture": inputs()["picture"]})
        runtime.close()
        with pytest.raises(InputError, match="session is closed"):
            session.run(inputs())
        with pytest.raises(MissingError, match="export onnx --variant edge --form openvino --precision int8"):
            OpenVinoRuntime(artifacts=graphs, precision="int8").open("upsample")

    def test_onnx_runtimes_graphs_are_not_its_own(self, artifacts: Path) -> None:
        with pytest.raises(MissingError, match="run `deeplens export onnx --variant edge --form openvino"):
            OpenVinoRuntime(artifacts=artifacts).open("upsample")

    def test_a_graph_that_is_none_is_refused(self, tmp_path: Path, graphs: Path) -> None:
        entry = manifest.find(graphs, network="upsample", variant="edge", runtime="onnx-openvino")
        for data, said in ((b"no graph", "is not an ONNX model"), (b"", "openvino 20.* can't load")):
            with publish(tmp_path, entry.path) as artefact:
                artefact.file.write_bytes(data)
                artefact.describe(entry)
            with pytest.raises(MismatchError, match=rf"{said}.*deeplens export onnx --variant edge --form openvino"):
                OpenVinoRuntime(artifacts=tmp_path).open("upsample")

    def test_benchmarks_and_parity_open_this_one(self, graphs: Path) -> None:
        by_bench = Candidate("edge", "openvino", artifacts=graphs, threads=1).open()
        by_parity = artefact_opener("openvino", "edge", artifacts=graphs, fixed_size=SIZE)("dynamic")
        assert type(by_bench) is type(by_parity) is OpenVinoRuntime

    def test_a_photo_by_the_command(self, graphs: Path, photo: Path, tmp_path: Path, deeplens: Command) -> None:
        made = [tmp_path / f"{name}.png" for name in ("onnx", "openvino")]
        for path in made:
            options = ("--focus", "0.5,0.5", "--runtime", path.stem, "--artifacts", graphs, "-o", path)
            assert deeplens("refocus", photo, *options).status == 0
        assert made[0].read_bytes() == made[1].read_bytes()
        told = deeplens("refocus", photo, *options[:-1], tmp_path / "no.png", "--precision", "fp16")
        assert "runtime 'openvino' has no precision 'fp16': choose fp32 or bf16 or int8 or mixed" in told.error


@pytest.mark.parametrize(
    ("precision", "abilities", "refused"),
    [
        ("fp32", ["FP32"], None),
        ("bf16", ["FP32", "INT8"], "BF16"),
        ("mixed", ["FP32", "INT8"], "BF16"),
        ("int8", ["FP32", "BF16"], "INT8"),
        ("mixed", ["FP32", "BF16", "INT8"], None),
    ],
)
def test_a_processor_that_lacks_what_a_precision_needs(
    precision: str, abilities: Sequence[str], refused: str | None, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"OPTIMIZATION_CAPABILITIES": abilities, "FULL_DEVICE_NAME": "An Old Processor"}
    core = SimpleNamespace(get_property=lambda _device, name: told[name])
    monkeypatch.setattr(ov, "import_openvino", lambda: SimpleNamespace(Core=lambda: core))
    if refused is None:
        OpenVinoRuntime(artifacts=graphs, precision=precision)
        return
    with pytest.raises(MissingError, match=rf"in {precision} here: .*{refused}.* An Old Processor has none"):
        OpenVinoRuntime(artifacts=graphs, precision=precision)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match=r"deeplens-edge\[openvino\]"):
        OpenVinoRuntime(variant=next(iter(VARIANTS)))


def test_auto_does_not_choose_it(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved("auto", variant="edge", artifacts=graphs)[0] == "onnx"
    monkeypatch.setattr("deeplens.runtimes.spec.RuntimeSpec.is_installed", lambda spec: spec.name == "openvino")
    with pytest.raises(MissingError):
        resolved("auto", variant="edge", artifacts=graphs)
    assert resolved("openvino", variant="edge", artifacts=graphs) == ("openvino", "fp32")
    assert {RUNTIMES["openvino"].stored_precision(each) for each in ("bf16", "fp32")} == {"fp32"}


def test_its_table_of_types_is_made_before_threads_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that make it at once hang: 4 of 12 processes did, with a switch interval of 0.1 ms."""
    asked: list[str] = []
    single = SimpleNamespace(to_dtype=lambda: asked.append("f32"))
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Type=SimpleNamespace(f32=single)))
    import_openvino()
    assert asked == ["f32"]
