"""Building engines: options, caches, what can go wrong. TensorRT itself is a stand-in here, held to real bindings."""

import errno
import os
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.export import trt, trt_place
from deeplens.export.trt_build import MEBIBYTE, Options, TimingCache, build
from deeplens.export.trt_jobs import Job
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import manifest
from deeplens.runtimes.cuda import Cuda
from deeplens.runtimes.engine_key import ANY, Profile, from_entry
from deeplens.runtimes.trt_api import TensorRt
from tests.support.cuda_stand_in import Cudart
from tests.support.trt_stand_in import BINDINGS, TensorRtStandIn

PROFILES = (Profile.static((40, 48)), Profile((32, 32), (64, 64), (256, 256)))
CLASSIC = [name for name in BINDINGS if name.startswith("tensorrt ")]
UPSAMPLE = CONTRACTS["upsample"]


@pytest.fixture(params=CLASSIC)
def module(request: pytest.FixtureRequest) -> TensorRtStandIn:
    return TensorRtStandIn(request.param)


def place_of(module: TensorRtStandIn) -> trt_place.Place:
    api = TensorRt("tensorrt", module)
    return trt_place.Place(api, api.machine(Cuda(module.cudart)))


def job_of(**options: Any) -> Job:
    return Job("edge", "upsample", "fp32", "desktop", Options(profiles=PROFILES, **options))


@pytest.fixture
def out(tmp_path: Path, artifacts: Path) -> Path:
    """A folder with an FP32 graph of the step."""
    entry = manifest.find(artifacts, network="upsample", variant="edge", runtime="onnx")
    path = tmp_path / entry.path
    path.parent.mkdir()
    path.write_bytes((artifacts / entry.path).read_bytes())
    manifest.add(tmp_path, entry)
    return tmp_path


def source_of(out: Path) -> manifest.Entry:
    return manifest.find(out, network="upsample", variant="edge", runtime="onnx")


def built(out: Path, module: TensorRtStandIn, job: Job | None = None, **options: Any) -> tuple[manifest.Entry, bool]:
    place = place_of(module)
    return trt.export(job or job_of(), place, source_of(out), out=out, command="deeplens export trt", **options)


def left(out: Path) -> list[str]:
    """Engines and temporary files in the folder of engines."""
    folder = out / "trt"
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".cache") if folder.is_dir() else []


def test_what_the_builder_is_told(module: TensorRtStandIn) -> None:
    api = TensorRt("tensorrt", module)
    build(api, b"graph", UPSAMPLE, Options(profiles=PROFILES, workspace=64, version_compatible=True, refit=True))
    (record,) = module.built
    assert record["graph"] == b"graph"
    assert record["cleared"] == ["BuilderFlag.TF32"]
    assert record["flags"] == ["BuilderFlag.VERSION_COMPATIBLE", "BuilderFlag.REFIT"]
    assert record["pools"] == {"MemoryPoolType.WORKSPACE": 64 * MEBIBYTE}
    assert [each["picture_high"] for each in record["profiles"]] == [
        ((1, 3, 80, 96),) * 3,
        ((1, 3, 64, 64), (1, 3, 128, 128), (1, 3, 512, 512)),
    ]
    assert all(set(each) == {tensor.name for tensor in UPSAMPLE.inputs} for each in record["profiles"])
    build(api, b"graph", CONTRACTS["depth"], Options())
    assert module.built[1]["flags"] == module.built[1]["profiles"] == []


def test_the_accelerator_of_an_orin(module: TensorRtStandIn) -> None:
    build(TensorRt("tensorrt", module), b"graph", UPSAMPLE, Options(profiles=PROFILES[:1], dla_core=1))
    assert module.built[0]["flags"] == ["BuilderFlag.GPU_FALLBACK"]
    can_adjust = "ADJUST_FOR_DLA" in module.classes["OnnxParserFlag"]
    assert ("parser OnnxParserFlag.ADJUST_FOR_DLA" in module.log) is can_adjust


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        ("parse", MismatchError, "can't take the graph .GridSample: no importer"),
        ("build", MismatchError, "can't build an engine of upsample .no implementation for node /conv"),
        ("profile", InputError, "upsample: .* refuses the profile 40x48"),
    ],
)
def test_a_failed_build_says_why_and_leaves_nothing(
    out: Path, module: TensorRtStandIn, step: str, kind: type[Exception], message: str
) -> None:
    module.fail = step
    with pytest.raises(kind, match=message):
        built(out, module)
    assert left(out) == []
    assert [entry.runtime for entry in manifest.read(out)] == ["onnx"]


def test_the_entry_says_what_it_is_and_an_engine_with_its_key_is_found(out: Path, module: TensorRtStandIn) -> None:
    entry, new = built(out, module)
    assert new
    assert manifest.verify(out, entry).read_bytes().startswith(b'{"built": 1')
    key = from_entry(entry)
    assert (key.machine.version, key.machine.gpu, key.machine.driver) == (module.__version__, "Orin", "12.8")
    assert key.onnx_sha256 == source_of(out).sha256
    assert key.profiles == PROFILES
    assert key.digest in entry.path
    assert entry.tools["tensorrt"] == module.__version__
    assert entry.weights_sha256 == source_of(out).weights_sha256
    assert built(out, module) == (entry, False)
    assert module.log.count("build") == 1
    assert built(out, module, rebuild=True)[1]
    # Another key is another engine, beside it.
    assert built(out, module, job_of(refit=True))[1]
    other = TensorRtStandIn(f"tensorrt {module.__version__}", Cudart(gpu="RTX 4090", capability="8.9"))
    assert built(out, other)[1]
    assert len(left(out)) == len([each for each in manifest.read(out) if each.runtime == "trt"]) == 3


@pytest.mark.parametrize("damage", ["truncated", "other", "gone"])
def test_a_damaged_engine_is_built_again(out: Path, module: TensorRtStandIn, damage: str) -> None:
    entry, _ = built(out, module)
    path = out / entry.path
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] if damage == "truncated" else b"another engine")
    entry, new = built(out, module)
    assert new
    manifest.verify(out, entry)


def test_a_full_disk_leaves_nothing(out: Path, module: TensorRtStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        built(out, module)
    monkeypatch.undo()
    assert left(out) == []
    assert [entry.runtime for entry in manifest.read(out)] == ["onnx"]
    assert built(out, module)[1]


def test_a_changed_graph_is_not_built(out: Path, module: TensorRtStandIn) -> None:
    path = out / source_of(out).path
    model = onnx.load(path)
    model.producer_name = "another"
    onnx.save(model, path)
    with pytest.raises(MismatchError, match="SHA-256"):
        built(out, module)
    assert module.log == []


def test_two_builds_of_one_engine_at_once(out: Path, module: TensorRtStandIn) -> None:
    start, results, errors = threading.Barrier(4), [], []

    def work() -> None:
        mine = TensorRtStandIn(f"tensorrt {module.__version__}")
        start.wait(20)
        try:
            results.append(built(out, mine, rebuild=True)[0])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(results) == 4
    (entry,) = [each for each in manifest.read(out) if each.runtime == "trt"]
    manifest.verify(out, entry)
    assert left(out) == [Path(entry.path).name]


class TestTimingCache:
    def path(self, out: Path) -> Path:
        (path,) = (out / "trt").glob("*.cache")
        return path

    def test_what_was_measured_is_given_to_the_next_build(self, out: Path, module: TensorRtStandIn) -> None:
        built(out, module)
        built(out, module, rebuild=True)
        assert [record["timings"] for record in module.built] == [b"", b"+timed"]
        assert self.path(out).read_bytes().endswith(b"\n+timed+timed")
        named = out / "my.cache"
        built(out, module, rebuild=True, timing_cache=named)
        assert named.read_bytes().endswith(b"\n+timed")

    @pytest.mark.parametrize("damage", ["truncated", "changed", "foreign", "nonsense", "empty"])
    def test_a_damaged_or_foreign_one_is_never_given_to_tensorrt(
        self, out: Path, module: TensorRtStandIn, damage: str
    ) -> None:
        built(out, module)
        path = self.path(out)
        whole = path.read_bytes()
        path.write_bytes(
            {
                "truncated": whole[:-1],
                "changed": whole[:-1] + b"D",
                "foreign": whole.replace(b'"Orin"', b'"Thor"'),
                "nonsense": b"\x00\xff" * 50,
                "empty": b"",
            }[damage]
        )
        with pytest.warns(UserWarning, match=r"timings_.*it is ignored and will be replaced"):
            assert built(out, module, rebuild=True)[1]
        assert module.built[-1]["timings"] == b""
        assert path.read_bytes() == whole

    def test_one_that_tensorrt_refuses_is_replaced(self, out: Path, module: TensorRtStandIn) -> None:
        built(out, module)
        module.fail = "timing cache"
        with pytest.warns(UserWarning, match="is refused by TensorRT"):
            built(out, module, rebuild=True)
        assert self.path(out).read_bytes().endswith(b"\n+timed")

    def test_two_that_save_at_once_leave_a_whole_one(self, tmp_path: Path) -> None:
        machine = place_of(TensorRtStandIn(CLASSIC[0])).machine
        assert machine is not None
        path = tmp_path / "x.cache"
        caches = [TimingCache(path, machine) for _ in range(8)]
        for index, cache in enumerate(caches):
            cache.data = bytes([index]) * 100_000
        threads = [threading.Thread(target=cache.save) for cache in caches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert TimingCache(path, machine).data in [cache.data for cache in caches]
        assert [each.name for each in tmp_path.iterdir()] == ["x.cache"]


def test_ahead_of_time_engines_are_bound_to_neither_gpu_nor_driver() -> None:
    module = TensorRtStandIn("tensorrt_rtx 1.7.1.116")
    api = TensorRt("tensorrt_rtx", module)
    machine = trt_place.Place(api, None).key_machine(Options(compute_capability="8.9"))
    assert (machine.compute_capability, machine.gpu, machine.cuda, machine.driver, machine.system) == (
        "8.9",
        *[ANY] * 4,
    )
    build(api, b"graph", UPSAMPLE, Options(profiles=PROFILES, compute_capability="12.0"))
    assert module.built[0]["capability"] == "ComputeCapability.SM120"
    with pytest.raises(InputError, match=r"compute capability 8.7: tensorrt_rtx 1.7.1.116 knows 7.5, .*12.1"):
        build(api, b"graph", UPSAMPLE, Options(compute_capability="8.7"))
    with pytest.raises(InputError, match="builds on the GPU that it runs on"):
        build(TensorRt("tensorrt", TensorRtStandIn(CLASSIC[0])), b"", UPSAMPLE, Options(compute_capability="8.6"))


@pytest.mark.gpu
def test_a_classic_engine_on_a_gpu_gives_what_onnx_runtime_gives(out: Path) -> None:
    """On a machine with TensorRT and a GPU only."""
    try:
        place = trt_place.place("desktop", command="")
    except MissingError as error:
        pytest.skip(str(error))
    from deeplens.runtimes.ort import OnnxRuntime
    from deeplens.runtimes.trt import TrtRuntime

    entry, _ = trt.export(job_of(), place, source_of(out), out=out, command="deeplens export trt")
    rng = np.random.default_rng(0)
    inputs = {each.name: rng.random(each.shape(40, 48), np.float32) for each in UPSAMPLE.inputs}
    manifest.add(out, replace(entry, precision="fp32"))
    with TrtRuntime(artifacts=out, precision="fp32") as ours, OnnxRuntime(artifacts=out) as theirs:
        for _ in range(3):  # plain, recorded, from the graph
            found = ours.open("upsample").run(inputs)["blurred_high"]
            np.testing.assert_allclose(found, theirs.open("upsample").run(inputs)["blurred_high"], atol=1e-5)
