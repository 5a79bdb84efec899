import hashlib
import json
import signal
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.files import file_sha256
from deeplens.model.contract import NETWORKS, VARIANTS
from deeplens.runtimes import manifest
from deeplens.runtimes.manifest import Entry, TensorEntry
from tests.conftest import ROOT


def make_entry(network: str = "lens_blur", *, size: tuple[int, int] | None = None, path: str = "onnx/a.onnx") -> Entry:
    height, width = size or ("8*h", "8*w")
    return Entry(
        network=network,
        variant="edge",
        runtime="onnx",
        precision="fp32",
        path=path,
        sha256="0" * 64,
        weights_sha256="1" * 64,
        inputs=(TensorEntry("picture", (1, 3, height, width), "float32"),),
        outputs=(TensorEntry("blurred", (1, 3, height, width), "float32"),),
        tools={"torch": "2.13.0"},
        opset=20,
        dynamic=size is None,
        created="2026-01-01T00:00:00+00:00",
    )


NAMES = st.text(string.ascii_letters + string.digits + "_-. äß", min_size=1).filter(lambda text: text.strip("."))
TENSORS = st.lists(
    st.builds(
        TensorEntry,
        st.text(),
        st.lists(st.integers(0, 9999) | st.text(), min_size=2, max_size=5).map(tuple),
        st.sampled_from(["float32", "float16", "int8"]),
    ),
    max_size=4,
).map(tuple)
ENTRIES = st.builds(
    Entry,
    network=st.sampled_from(NETWORKS),
    variant=st.sampled_from(list(VARIANTS)),
    runtime=st.sampled_from(["onnx", "trt", "coreml"]),
    precision=st.text(),
    path=st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    sha256=st.text(),
    weights_sha256=st.text(),
    inputs=TENSORS,
    outputs=TENSORS,
    tools=st.dictionaries(st.text(), st.text(), max_size=3),
    opset=st.none() | st.integers(1, 99),
    dynamic=st.booleans(),
    created=st.text(),
    more=st.dictionaries(st.sampled_from(["target", "calibration"]), st.text() | st.integers(), max_size=2),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(ENTRIES, max_size=5, unique_by=lambda entry: entry.key))
def test_what_is_added_is_read_back(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "new" / "folder"
        for entry in entries:
            manifest.add(folder, entry)
        assert sorted(manifest.read(folder), key=lambda entry: entry.key) == sorted(
            entries, key=lambda entry: entry.key
        )


def test_the_file_has_the_keys_that_others_rely_on(tmp_path: Path) -> None:
    manifest.add(tmp_path, replace(make_entry(), more={"calibration": "ranges.json"}))
    (item,) = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    assert item["inputs"] == [{"name": "picture", "shape": [1, 3, "8*h", "8*w"], "dtype": "float32"}]
    keys = "network variant runtime precision path sha256 weights_sha256 inputs outputs tools opset dynamic created"
    assert set(item) == {*keys.split(), "calibration"}


def test_the_same_artefact_is_replaced_and_others_stay(tmp_path: Path) -> None:
    manifest.add(tmp_path, make_entry(path="onnx/a.onnx"))
    manifest.add(tmp_path, make_entry(path="onnx/b.onnx"))
    newer = replace(make_entry(path="onnx/a.onnx"), sha256="2" * 64)
    manifest.add(tmp_path, newer)
    assert manifest.read(tmp_path) == [newer, make_entry(path="onnx/b.onnx")]


def test_a_staged_file_takes_its_place_with_its_entry(tmp_path: Path) -> None:
    staged = tmp_path / ".a.tmp"
    staged.write_bytes(b"artefact")
    manifest.add(tmp_path, make_entry(path="a.onnx"), made=staged)
    assert (tmp_path / "a.onnx").read_bytes() == b"artefact"
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", manifest.FILE_NAME, manifest.LOCK_NAME}


ADD_MANY = """
import sys
from dataclasses import replace
from pathlib import Path
from deeplens.runtimes import manifest
folder, prefix = Path(sys.argv[1]), sys.argv[2]
(seed,) = manifest.read(folder / "seed")
for i in range(25):
    manifest.add(folder, replace(seed, path=f"{prefix}{i}.onnx"))
"""


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    manifest.add(tmp_path / "seed", make_entry())
    commands = [[sys.executable, "-c", ADD_MANY, str(tmp_path), prefix] for prefix in ("left", "right")]
    processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [process.wait() for process in processes] == [0, 0]
    expected = {f"{prefix}{i}.onnx" for prefix in ("left", "right") for i in range(25)}
    assert {entry.path for entry in manifest.read(tmp_path)} == expected


def test_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from deeplens.runtimes import manifest\n"
    code += "with manifest.locked(Path(sys.argv[1]) / manifest.LOCK_NAME): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    manifest.add(tmp_path, make_entry())
    assert len(manifest.read(tmp_path)) == 1


def item(**changes: object) -> str:
    entry = manifest.entry_to(make_entry()) | changes
    return json.dumps({"artifacts": [{name: value for name, value in entry.items() if value is not ...}]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"artifacts": {}}',
        '{"artifacts": [1]}',
        "\xff\xfe",
        "[" * 100_000,
        item(sha256=...),
        item(sha256=5),
        item(network="denoise"),
        item(path="../outside.onnx"),
        item(path="/etc/passwd"),
        item(path=""),
        item(dynamic="yes"),
        item(opset=True),
        item(inputs=[{"name": "picture", "shape": "1x3", "dtype": "float32"}]),
        item(outputs=["blurred"]),
        item(tools={"torch": 2}),
    ],
)
def test_what_is_not_a_manifest_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode("latin-1"))
    calls: list[Callable[[], object]] = [
        lambda: manifest.read(tmp_path),
        lambda: manifest.add(tmp_path, make_entry()),
        lambda: manifest.find(tmp_path, network="depth", variant="edge", runtime="onnx"),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"not a manifest.*export again") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == text.encode("latin-1")
    assert {each.name for each in tmp_path.iterdir()} <= {manifest.FILE_NAME, manifest.LOCK_NAME}


def test_an_unchanged_item_is_a_manifest(tmp_path: Path) -> None:
    """The control of the test above: its helper makes a file that is accepted."""
    (tmp_path / "manifest.json").write_text(item())
    assert manifest.read(tmp_path) == [make_entry()]


def test_find_tells_free_from_fixed_sizes(tmp_path: Path) -> None:
    free, fixed = make_entry(path="free.onnx"), make_entry(path="fixed.onnx", size=(256, 320))
    depth = make_entry("depth", path="depth.onnx", size=(320, 320))
    for entry in (fixed, depth, free):
        manifest.add(tmp_path, entry)

    def found(network: str, shape: tuple[int, int] | None = None) -> Entry:
        return manifest.find(tmp_path, network=network, variant="edge", runtime="onnx", shape=shape)

    assert found("lens_blur") == free
    assert found("lens_blur", (256, 320)) == fixed
    assert found("depth") == depth
    with pytest.raises(MissingError, match=r"deeplens export onnx --variant edge --size 256x320"):
        found("lens_blur", (320, 256))
    with pytest.raises(MissingError, match=r"deeplens export onnx --variant edge --out"):
        found("upsample")
    with pytest.raises(MissingError, match=r"no onnx artefact of paper depth \(fp32, 320x320\)"):
        manifest.find(tmp_path, network="depth", variant="paper", runtime="onnx")
    with pytest.raises(MissingError, match="fp16"):
        manifest.find(tmp_path, network="depth", variant="edge", runtime="onnx", precision="fp16")


def test_verify_accepts_the_file_and_no_other(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    entry = replace(make_entry(path="a.onnx"), sha256=hashlib.sha256(data).hexdigest())
    assert manifest.verify(tmp_path, entry) == path

    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(MismatchError) as caught:
        manifest.verify(tmp_path, entry)
    for part in (file_sha256(path)[:12], entry.sha256[:12], "deeplens export onnx --variant edge"):
        assert part in str(caught.value)

    path.unlink()
    with pytest.raises(MissingError, match="does not exist"):
        manifest.verify(tmp_path, entry)


def test_find_looks_at_what_only_one_target_has(tmp_path: Path) -> None:
    entries = [
        replace(
            make_entry(path=f"coreml/{target}.mlpackage", size=(64, 64)),
            runtime="coreml",
            precision="fp16",
            more={"target": target, "shapes": "fixed"},
        )
        for target in ("iOS17", "iOS18")
    ]
    for entry in entries:
        manifest.add(tmp_path, entry)

    def found(**more: str) -> Entry:
        return manifest.find(
            tmp_path, network="lens_blur", variant="edge", runtime="coreml", precision="fp16", shape=(64, 64), more=more
        )

    assert found() == entries[0]
    assert found(target="iOS18", shapes="fixed") == entries[1]
    with pytest.raises(MissingError, match=r"\(fp16, 64x64, target iOS16\).*deeplens export coreml --variant edge"):
        found(target="iOS16")


def test_the_command_names_a_precision_that_is_not_the_usual_one() -> None:
    folder = manifest.DEFAULT_FOLDER
    usual = manifest.export_command(folder, variant="edge", runtime="coreml", precision="fp16")
    other = manifest.export_command(folder, variant="edge", runtime="coreml", precision="fp32")
    assert (usual, other) == (
        "deeplens export coreml --variant edge",
        "deeplens export coreml --variant edge --precision fp32",
    )
