"""One target for each reader: what it starts from, and what reads a file that was changed.

A reader may refuse with one of the errors for people. Any other exception is a finding, and so is what
`tests.fuzz.watch` sees.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz import seeds

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: of the file that it is given.
        seeds: good files; gets an empty folder to work in.
        open: gives what reads a file; called once in a process, with an empty folder to work in.
        needs: a module without which it can't run; "": none.
    """

    name: str
    seeds: Callable[[Path], list[bytes]]
    open: Callable[[Path], Read]
    needs: str = ""


def _photo(_folder: Path) -> Read:
    from deeplens.runtimes.photo import read_photo

    return read_photo


def _depth(_folder: Path) -> Read:
    from deeplens.runtimes.disparity import read_disparity

    return read_disparity


def _embedded(_folder: Path) -> Read:
    from deeplens.runtimes.portrait import embedded_disparity, holds_depth

    return lambda path: (holds_depth(path), embedded_disparity(path, kind="disparity"))


def _manifest(_folder: Path) -> Read:
    from deeplens.runtimes import artefact, manifest
    from deeplens.runtimes.engine_key import from_entry

    def read(path: Path) -> None:
        for entry in manifest.read(path.parent):
            if entry.runtime == "trt":
                from_entry(entry)
            artefact.load(path.parent, entry)

    return read


def _manifest_seeds(_folder: Path) -> list[bytes]:
    entry = {
        "network": "depth", "variant": "edge", "runtime": "onnx", "precision": "fp32", "path": "onnx/a.onnx",
        "sha256": "0" * 64, "weights_sha256": "0" * 64, "opset": 20, "dynamic": False, "created": "2026-01-01",
        "inputs": [{"name": "picture", "shape": [1, 3, 320, 320], "dtype": "float32"}],
        "outputs": [{"name": "disparity", "shape": [1, 1, "8*h", 320], "dtype": "float32"}], "tools": {"onnx": "1"},
    }  # fmt: skip
    machine = dict.fromkeys(("library", "version", "gpu", "compute_capability", "cuda", "driver", "system"), "any")
    profile = {"low": [8, 8], "best": [8, 8], "high": [8, 16]}
    key = {"machine": machine, "onnx_sha256": "0" * 64, "profiles": [profile], "flags": {}}
    engine = {**entry, "runtime": "trt", "path": "manifest.json", "key": key, "command": "deeplens export trt"}
    return seeds.text({"artifacts": [entry, engine]}) + seeds.text({"artifacts": [engine]})


def _signature(folder: Path) -> Read:
    from deeplens.runtimes import manifest, trust
    from tests.runtimes.test_trust import KEY, MANIFEST

    (folder / "manifest.json").write_bytes(MANIFEST)

    def read(path: Path) -> None:
        (path.parent / "manifest.json").write_bytes(MANIFEST)
        with trust.trusting(KEY):
            manifest.read(path.parent)

    return read


def _signature_seeds(_folder: Path) -> list[bytes]:
    from tests.runtimes.test_trust import HASHED, LEGACY

    return [HASHED.encode(), LEGACY.encode()]


def _keys(_folder: Path) -> Read:
    from deeplens.runtimes import trust

    return lambda path: trust.parsed(str(path))


def _keys_seeds(_folder: Path) -> list[bytes]:
    from tests.runtimes.test_trust import KEY, OTHER_KEY

    return [f"untrusted comment: a key\n{KEY}\n{OTHER_KEY}\n".encode()]


def _model(_folder: Path) -> Read:
    from deeplens.runtimes.depth_convention import Convention
    from deeplens.runtimes.depth_model import DepthModel

    photo = np.repeat(seeds.PIXELS, 2, axis=0)
    told = Convention(size=(16, 16), output="disparity")
    return lambda path: DepthModel(path, told=told, threads=1).disparity(photo)


def _model_seeds(folder: Path) -> list[bytes]:
    from tests.runtimes.test_depth_model import write_model

    return [
        seeds.written(folder, "a.onnx", lambda path: write_model(path, shape=(1, 3, "h", "w"), tail="Sigmoid")),
        seeds.written(
            folder, "a.onnx", lambda path: write_model(path, shape=(1, 3, 16, 16), rank=2, metadata={"mean": "0.5"})
        ),
    ]


def _graph(_folder: Path) -> Read:
    from deeplens.console.inputs import read_bytes
    from deeplens.runtimes.onnx_bytes import check_self_contained

    return lambda path: check_self_contained(read_bytes(path), str(path))


def _weights(_folder: Path) -> Read:
    from torch import nn

    from deeplens.model.build import read_weights

    module = nn.Linear(3, 2)
    return lambda path: read_weights(module, path, what="a layer")


def _weights_seeds(folder: Path) -> list[bytes]:
    from safetensors.torch import save
    from torch import nn

    del folder
    return [save(nn.Linear(3, 2).state_dict())]


def _checkpoint(folder: Path) -> Read:
    from deeplens.training.fit import fit
    from tests.training.test_fit import ALONE, toy

    del folder
    return lambda path: fit(toy(), out=path.parent, machine=ALONE, resume=True, stop_at=3)


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    from deeplens.training.fit import fit
    from tests.training.test_fit import ALONE, toy

    fit(toy(), out=folder / "run", machine=ALONE, stop_at=3)
    return [(folder / "run" / "checkpoint.ckpt").read_bytes()]


def _plan(_folder: Path) -> Read:
    from deeplens.export import precision_plan

    return precision_plan.read


def _plan_seeds(_folder: Path) -> list[bytes]:
    from deeplens.export import precision_plan

    folder = Path(precision_plan.__file__).parent / "plans"
    return [path.read_bytes() for path in sorted(folder.glob("*.json"))[:2]]


def _scales(_folder: Path) -> Read:
    from deeplens.calibration import scales

    return scales.read


def _scales_seeds(_folder: Path) -> list[bytes]:
    from deeplens.calibration.scales import FORMAT

    source: dict[str, object] = {"photos": "0", "count": 1, "weights": {}, "settings": {}}
    layers = {"depth": {"a": {"minmax": [0.0, 1.0]}}}
    return seeds.text(
        {"format": FORMAT, "variant": "edge", "source": source, "layers": layers, "shifts": {"depth": {"a": [0.5]}}}
    )


def _measured(_folder: Path) -> Read:
    from deeplens.calibration.sensitivity import Notebook

    return lambda path: Notebook(path, "k")


def _golden(_folder: Path) -> Read:
    from deeplens.export import golden

    return lambda path: (golden.variant_of(path), golden.read(path))


def _golden_seeds(_folder: Path) -> list[bytes]:
    from deeplens.export.golden import FORMAT, array_sha256
    from deeplens.export.golden_inputs import GENERATOR, golden_inputs
    from deeplens.model.contract import CONTRACTS

    made = golden_inputs(CONTRACTS["depth"], (320, 320), seed=3)["picture"]
    tensor = {"name": "picture", "generator": GENERATOR, "seed": 3, "sha256": array_sha256(made)}
    return seeds.text(
        {
            "format": FORMAT, "variant": "edge", "network": "depth", "size": [320, 320], "weights_sha256": "0",
            "inputs": [tensor], "outputs": [], "largest_difference": {"fp32": 1}, "smallest_agreement_db": {},
        }
    )  # fmt: skip


def _collection(_folder: Path) -> Read:
    from deeplens.parity_tests import collection

    return lambda path: collection.read(path.parent)


def _collection_seeds(_folder: Path) -> list[bytes]:
    from deeplens.parity_tests.collection import COMPILED, FORMAT

    item = {
        "file": "a.npz", "weights": "0", "missing": "", "broken": {}, "artifacts": {}, "variant": "edge", "label": "a",
        "precision": "fp32", "role": "runtime", "cases": [], "seconds": 1.0,
    }  # fmt: skip
    return seeds.text(
        {
            "format": FORMAT, "inputs": {"edge": "collection.json"}, "files": {"collection.json": "0" * 64},
            "cases": {"edge": []}, "produced": [item], "compiled": [], "photo": None, "machine": {}, "tools": {},
        }
    ) + seeds.text(
        {
            "format": FORMAT, "inputs": {}, "files": {}, "cases": {}, "produced": [], "photo": None, "machine": {},
            "compiled": [dict.fromkeys(COMPILED, "a")], "tools": {},
        }
    )  # fmt: skip


def _timings(_folder: Path) -> Read:
    from deeplens.export.trt_build import TimingCache
    from deeplens.runtimes.engine_key import Machine

    return lambda path: TimingCache(path, Machine(*["any"] * 7))


def _bench(_folder: Path) -> Read:
    from deeplens.benchmarks import report

    return report.read


def _focus(_folder: Path) -> Read:
    from deeplens.commands.folder_jobs import read_focus_file

    return read_focus_file


def _log(_folder: Path) -> Read:
    from deeplens.commands.folder_jobs import Log

    return lambda path: Log(path.parent)


def _inputs(_folder: Path) -> Read:
    from deeplens.calibration import inputs

    return lambda path: list(inputs.read([path]))


def _package(folder: Path) -> Read:
    from deeplens.runtimes.coreml.program import check_package
    from tests.runtimes.test_coreml_package import GOOD, package

    del folder

    def read(path: Path) -> None:
        place = path.parent / "a.mlpackage"
        if not place.exists():
            package(path.parent, GOOD)
        (place / "Manifest.json").write_bytes(path.read_bytes())
        check_package(place)

    return read


def _package_seeds(_folder: Path) -> list[bytes]:
    from tests.runtimes.test_coreml_package import GOOD

    return seeds.text(GOOD)


TARGETS = {
    "photo": Target("photo", lambda _: seeds.photos(), _photo),
    "photo_heic": Target("photo.heic", lambda _: seeds.heic(), _photo, needs="pillow_heif"),
    "depth_picture": Target("a.png", lambda _: seeds.depth_pictures(), _depth),
    "depth_array": Target("a.npz", lambda _: seeds.arrays(), _depth),
    "portrait": Target("a.jpg", seeds.portraits, _embedded),
    "portrait_heic": Target("a.heic", lambda _: seeds.heic(), _embedded, needs="pillow_heif"),
    "manifest": Target("manifest.json", _manifest_seeds, _manifest),
    "signature": Target("manifest.json.minisig", _signature_seeds, _signature, needs="cryptography"),
    "keys": Target("keys.pub", _keys_seeds, _keys),
    "depth_model": Target("a.onnx", _model_seeds, _model, needs="onnx"),
    "graph": Target("a.onnx", _model_seeds, _graph, needs="onnx"),
    "weights": Target("a.safetensors", _weights_seeds, _weights, needs="torch"),
    "checkpoint": Target("checkpoint.ckpt", _checkpoint_seeds, _checkpoint, needs="lightning_fabric"),
    "plan": Target("plan.json", _plan_seeds, _plan, needs="torch"),
    "scales": Target("scales.json", _scales_seeds, _scales, needs="torch"),
    "measured": Target(
        "a.jsonl", lambda _: seeds.text({"key": "k", "what": "a", "errors": [1, 2]}), _measured, needs="torch"
    ),
    "golden": Target("a.json", _golden_seeds, _golden, needs="torch"),
    "collection": Target("collection.json", _collection_seeds, _collection, needs="torch"),
    "timings": Target("a.cache", lambda _: [b'{"sha256": "0"}\nabc', b'{"library": "any"}\n'], _timings, needs="torch"),
    "bench": Target("a.json", lambda _: seeds.text({"format": 2, "rows": []}), _bench, needs="torch"),
    "focus": Target("a.csv", lambda _: [b"photo,x,y\na.jpg,0.5,0.5\n", b'photo,x,y\n"a\nb",0,1\n'], _focus),
    "log": Target("refocus.jsonl", lambda _: [json.dumps({"output": "a", "key": "b"}).encode() + b"\n"], _log),
    "inputs": Target("a.npz", lambda _: seeds.inputs(), _inputs, needs="torch"),
    "package": Target("Manifest.txt", _package_seeds, _package, needs="coremltools"),
}
