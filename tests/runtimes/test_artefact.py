"""Artefacts are loaded from the bytes that were hashed, and from nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.runtimes import artefact, manifest, ort
from deeplens.runtimes.depth_convention import Convention
from deeplens.runtimes.depth_model import DepthModel
from deeplens.runtimes.onnx_bytes import check_self_contained
from tests.runtimes.test_manifest import make_entry


@pytest.fixture
def graph(artifacts: Path) -> manifest.Entry:
    return manifest.find(artifacts, network="upsample", variant="edge", runtime="onnx")


def test_the_bytes_and_their_hash(artifacts: Path, graph: manifest.Entry, tmp_path: Path) -> None:
    assert artefact.load(artifacts, graph) == (artifacts / graph.path).read_bytes()
    with pytest.raises(MismatchError, match="has SHA-256"):
        artefact.load(artifacts, replace(graph, sha256="0" * 64))
    with pytest.raises(MissingError, match="does not exist"):
        artefact.load(tmp_path, graph)


def test_what_is_no_file(tmp_path: Path, graph: manifest.Entry) -> None:
    (tmp_path / "pipe").parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        for check in (artefact.load, manifest.verify):
            with pytest.raises(MismatchError, match="can't be read as an artefact"):
                check(tmp_path, replace(graph, path=name))


def test_a_file_that_is_exchanged_after_it_was_hashed(
    artifacts: Path, tmp_path: Path, graph: manifest.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment after the hash was found good, another file lies there: what was hashed is what runs."""
    path = tmp_path / graph.path
    path.parent.mkdir(parents=True)
    path.write_bytes((artifacts / graph.path).read_bytes())
    manifest.add(tmp_path, graph)
    check = manifest.check_hash

    def exchange(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        path.write_bytes(b"another")

    monkeypatch.setattr(manifest, "check_hash", exchange)
    with ort.OnnxRuntime(artifacts=tmp_path) as runtime:
        session = runtime.open("upsample")
        inputs = {tensor.name: np.zeros(tensor.shape(64, 64), np.float32) for tensor in session.describe().inputs}
        assert session.run(inputs)["blurred_high"].shape == (1, 3, 128, 128)
    assert path.read_bytes() == b"another"


def external(kind: str) -> onnx.ModelProto:
    """A model with data in another file, in one of the places that may hold a tensor."""
    tensor = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
    inner = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "inner", [], [value], [tensor])
    nodes, constants = [helper.make_node("Identity", ["x"], ["y"])], []
    if kind == "initializer":
        constants = [tensor]
    elif kind == "attribute":
        nodes = [helper.make_node("Constant", [], ["y"], value=tensor)]
    elif kind == "subgraph":
        nodes = [helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)]
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [value], constants))
    if kind == "function":
        node = helper.make_node("Constant", [], ["y"], value=tensor)
        model.functions.append(helper.make_function("d", "f", [], ["y"], [node], model.opset_import))
    if kind == "sparse":
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
    if kind == "training":
        model.training_info.add().algorithm.CopyFrom(inner)
    return model


@pytest.mark.parametrize("kind", ["initializer", "attribute", "subgraph", "function", "sparse", "training"])
def test_data_in_other_files(kind: str, tmp_path: Path) -> None:
    data = external(kind).SerializeToString()
    with pytest.raises(InputError, match=r"a\.onnx keeps weights in another file"):
        check_self_contained(data, "a.onnx")
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(InputError, match="external data"):
        DepthModel(tmp_path / "a.onnx", told=Convention(output="disparity"))


def test_an_artefact_with_data_in_another_file(tmp_path: Path, graph: manifest.Entry) -> None:
    (tmp_path / "a.onnx").write_bytes(external("initializer").SerializeToString())
    entry = replace(graph, path="a.onnx", sha256=file_sha256(tmp_path / "a.onnx"))
    with pytest.raises(MismatchError, match=r"external data.*deeplens export onnx"):
        artefact.load(tmp_path, entry)


def test_real_graphs_pass(artifacts: Path) -> None:
    for entry in manifest.read(artifacts):
        check_self_contained((artifacts / entry.path).read_bytes(), "a")
    check_self_contained(external("none").SerializeToString(), "a")


@given(st.binary(max_size=60), st.integers(0, 2000))
def test_broken_bytes(extra: bytes, at: int) -> None:
    """Refused or passed on: never another exception. A group, which parsers skip, hides nothing."""
    data = external("initializer").SerializeToString()
    for broken in (data[: at % len(data)], data[: at % len(data)] + extra, extra):
        try:
            check_self_contained(broken, "a")
        except InputError:
            continue
    with pytest.raises(InputError, match="not an ONNX model"):
        check_self_contained(b"\x0b" + data, "a")


class TestPackages:
    def make(self, root: Path) -> tuple[Path, manifest.Entry]:
        package = root / "a.mlpackage"
        (package / "Data").mkdir(parents=True)
        (package / "Data" / "weight.bin").write_text("1234")
        return package, replace(make_entry(path="a.mlpackage"), runtime="coreml", sha256=file_sha256(package))

    def test_a_private_copy(self, tmp_path: Path) -> None:
        package, entry = self.make(tmp_path)
        with artefact.unpacked(tmp_path, entry) as copy:
            (package / "Data" / "weight.bin").write_text("1235")
            assert (copy / "Data" / "weight.bin").read_text() == "1234"
            assert copy.parent.stat().st_mode & 0o077 == 0
            assert copy.name == "a.mlpackage"
        assert not copy.exists()
        with pytest.raises(MismatchError, match="has SHA-256"), artefact.unpacked(tmp_path, entry):
            pass

    def test_links_and_empty_folders(self, tmp_path: Path) -> None:
        package, entry = self.make(tmp_path)
        (package / "Data" / "empty").mkdir()
        with pytest.raises(MismatchError, match="has SHA-256"):
            manifest.verify(tmp_path, entry)
        (package / "Data" / "empty").rmdir()
        assert manifest.verify(tmp_path, entry)
        for target in ("weight.bin", "/dev/zero", "..", "nowhere"):
            (package / "Data" / "link").symlink_to(target)
            for check in (manifest.verify, lambda *both: artefact.unpacked(*both).__enter__()):
                with pytest.raises(MismatchError, match="is a link"):
                    check(tmp_path, entry)
            (package / "Data" / "link").unlink()
        os.mkfifo(package / "Data" / "pipe")
        with pytest.raises(MismatchError, match="is a pipe"):
            manifest.verify(tmp_path, entry)

    def test_names_of_two_lines(self, tmp_path: Path) -> None:
        package, entry = self.make(tmp_path)
        (package / "a\nb").write_text("")
        with pytest.raises(MismatchError, match="more than one line"):
            manifest.verify(tmp_path, entry)


def test_a_graph_that_fails_while_it_runs(tmp_path: Path, artifacts: Path, graph: manifest.Entry) -> None:
    """It loads, and fails at the first run: one line, not a fault of the program."""
    model = onnx.load(artifacts / graph.path)
    model.graph.initializer.append(helper.make_tensor("seven", TensorProto.INT64, [1], [7]))
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    model.graph.node.extend(
        (
            helper.make_node("Reshape", ["picture_high", "seven"], ["sevenfold"]),
            helper.make_node("ReduceMean", ["sevenfold"], ["mean"], keepdims=0),
            helper.make_node("Add", ["before", "mean"], [output]),
        )
    )
    onnx.save(model, tmp_path / "a.onnx")
    entry = replace(graph, path="a.onnx", sha256=file_sha256(tmp_path / "a.onnx"))
    manifest.add(tmp_path, entry)
    with ort.OnnxRuntime(artifacts=tmp_path) as runtime:
        session = runtime.open("upsample")
        inputs = {tensor.name: np.zeros(tensor.shape(64, 64), np.float32) for tensor in session.describe().inputs}
        with pytest.raises(MismatchError, match=r"fails while it runs a\.onnx"):
            session.run(inputs)
