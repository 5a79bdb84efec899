"""`web/`, the way from photo to photo in TypeScript, against end-to-end vectors; facts taken from it must be named."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from deeplens.export.web_graphs import make
from deeplens.parity_tests.conftest import Artifacts
from deeplens.parity_tests.harness_check import CheckedCase, check
from deeplens.parity_tests.harness_photos import SETTINGS
from deeplens.runtimes.depth_levels import signed_depth_levels
from deeplens.runtimes.disparity import nearest_subject
from deeplens.runtimes.focus import Focus
from deeplens.runtimes.harness import Harness
from deeplens.runtimes.pyramid import doubled, geometry, quantise, registered_disparity

WEB = Path(__file__).resolve().parents[1] / "web"
COMPILER = WEB / "node_modules" / "typescript" / "bin" / "tsc"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not COMPILER.is_file(), reason="the packages of web/ are not installed: make web"),
]

TILE = 136
"""Small enough that both networks run in several tiles."""

FAULTS = {
    "no reflection": (
        "arrays",
        "return Math.min(j, period - j);",
        "return Math.min(i, length - 1);",
        "picture_0",
        "strip",
    ),
    "plain halving": (
        "arrays",
        "Math.sqrt((a * a + b * b + c * c + d * d) / divisor)",
        "(a + b + c + d) / (4 * Math.sqrt(divisor / 4))",
        "picture_0",
        "strip",
    ),
    "no 2^k": ("harness", "scaled(depths[k], 2 ** k)", "depths[k]", "signed_depth_1", "strip"),
    "one beginning": ("harness", "return clip((high - most) / (high - low), 0, 1);", "return 0;", "blurred_1", "strip"),
    "no finer map": ("harness", "if (share === null)", "if (share !== undefined)", "picture", "one_step"),
}
"""What is taken away → module, line, what stands there instead, the stage that departs first, and the photo."""

MIXED = "f1.4"
"""The setting with which both beginnings of the loop are mixed."""


@dataclass(frozen=True)
class Port:
    """The compiled port with what it is run on.

    Attributes:
        program: folder with its modules in `build/`.
        vectors: folder of the vectors of two small photos.
    """

    program: Path
    vectors: Path
    artifacts: Path

    def run(self, out: Path, *options: object, program: Path | None = None, vectors: Path | None = None) -> None:
        command = [
            "node", (program or self.program) / "build" / "vectors.js", "--vectors", vectors or self.vectors,
            "--artifacts", self.artifacts, "--out", out, *options,
        ]  # fmt: skip
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, artifacts: Artifacts, vectors: Path) -> Port:
    program = tmp_path_factory.mktemp("web")
    subprocess.run(["node", str(COMPILER), "--project", str(WEB), "--outDir", str(program / "build")], check=True)
    shutil.copy(WEB / "package.json", program)
    (program / "node_modules").symlink_to(WEB / "node_modules")
    return Port(program, vectors, artifacts("edge"))


@pytest.fixture(scope="module")
def results(port: Port, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the port wrote, without skips."""
    out = tmp_path_factory.mktemp("results")
    port.run(out, "--tile", TILE)
    return out


def by_case(checked: list[CheckedCase]) -> dict[str, CheckedCase]:
    return {f"{each.photo} {each.case}": each for each in checked}


def test_every_stage_agrees(port: Port, results: Path) -> None:
    found = by_case(check(results, port.vectors))
    assert set(found) == {f"{photo} {setting.name}" for photo in ("one_step", "strip") for setting in SETTINGS}
    for name, each in found.items():
        assert each.departure is None, each.sentence()
        assert each.compared == each.stages, name
        assert each.largest is not None
        assert each.decibels is not None
        assert each.largest <= 1
        assert each.decibels >= 60


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fact_that_is_missing_is_named(port: Port, tmp_path: Path, fault: str) -> None:
    module, line, instead, stage, photo = FAULTS[fault]
    program = tmp_path / "web"
    shutil.copytree(port.program, program, symlinks=True)
    path = program / "build" / f"{module}.js"
    text = path.read_text(encoding="utf-8")
    assert text.count(line) == 1
    path.write_text(text.replace(line, instead), encoding="utf-8")

    vectors = tmp_path / "vectors"  # one photo, one setting
    vectors.mkdir()
    for each in port.vectors.iterdir():
        if each.suffix != ".json" or each.name == "harness.json":
            (vectors / each.name).symlink_to(each)
    name = f"edge_loop_{photo}.json"
    about = json.loads((port.vectors / name).read_text(encoding="utf-8"))
    about["cases"] = [case for case in about["cases"] if case["name"] == MIXED]
    (vectors / name).write_text(json.dumps(about), encoding="utf-8")

    port.run(tmp_path / "results", program=program, vectors=vectors)
    (found,) = check(tmp_path / "results", vectors)
    assert found.departure is not None
    assert found.departure.stage == stage


SCRIPT = """
import { readFileSync } from "node:fs";
const [folder, file] = process.argv.slice(-2);
const [{ readConstants, variantOf }, { estimatedDisparity, focusAt, nearestSubject }, { prepare, refocus }] =
  await Promise.all(["constants", "focus", "harness"].map((name) => import(`${folder}/build/${name}.js`)));
const given = JSON.parse(readFileSync(file, "utf8"));
const constants = readConstants(JSON.stringify(given.constants));
const photo = { height: given.height, width: given.width, data: Uint16Array.from(given.photo) };
const map = { channels: 1, height: given.rows, width: given.columns, data: Float32Array.from(given.map) };
const focus = focusAt(map, given.points);
const stages = {};
const result = await refocus(
  prepare(photo, map, constants), focus, given.f_number,
  { lens_blur: async ({ picture }) => picture, upsample: async ({ picture_high }) => picture_high },
  constants, variantOf(constants, "edge"), { onStage: (name, planes) => { stages[name] = [...planes.data]; } },
);
let depth = null;  // what the depth network gets comes back as its answer
const seen = await estimatedDisparity(photo, async ({ picture }) => {
  depth = { ...picture, channels: 1, data: picture.data.slice(0, picture.height * picture.width) };
  return depth;
}, constants);
const run = async (value, disparity) => {
  const wide = { height: 40, width: 400, data: Uint8Array.from({ length: 48000 }, (_, i) => (i * 7) % 256) };
  const flat = { channels: 1, height: 4, width: 40, data: new Float32Array(160).fill(value) };
  const prepared = prepare(wide, flat, constants);
  const calls = [];
  const network = (name) => async ({ picture }) => { calls.push(name); return picture; };
  const kept = {};
  const picture = await refocus(
    prepared, { disparity, range: 0 }, 1.4, { lens_blur: network("lens_blur"), upsample: network("upsample") },
    constants, variantOf(constants, "edge"),
    { tile: 128, skips: true, onStage: (name, planes) => { kept[name] = [...planes.data]; } },
  );
  const same = picture.data.every((each, i) => each === wide.data[i]);
  return { calls, same, low: kept.blurred_0, high: kept.blurred_1 };
};
const skips = { sharp: await run(0.5, 0.5), soft: await run(1, 0) };
const straight = async (data) => {
  const wide = { height: 37, width: 401, data: data.map((_, i) => (i * 7919) % 65536) };
  const flat = { channels: 1, height: 4, width: 43, data: new Float32Array(172).map((_, i) => (i % 43) / 43) };
  const upsample = async ({ picture_high: { data, ...size } }) => ({ ...size, data: data.map((x) => 1.4 * x - 0.2) });
  const networks = { lens_blur: async ({ picture }) => picture, upsample };
  const made = (more) => refocus(
    prepare(wide, flat, constants), { disparity: 0.4, range: 0 }, 2, networks, constants, variantOf(constants, "edge"),
    { tile: 128, lanes: 2, fromBase: true, skips: true, ...more },
  );
  const [there, watched] = [await made({}), await made({ onStage: () => undefined })];
  return there.data.length === 3 * 37 * 401 && there.data.every((each, i) => each === watched.data[i])
    && new Set(there.data).size > 100;
};
const ways = [await straight(new Uint8Array(3 * 37 * 401)), await straight(new Uint16Array(3 * 37 * 401))];
const { runLevel } = await import(`${folder}/build/tiles.js`);
const stepsRun = async (light) => {
  const filled = (channels, side) =>
    ({ channels, height: side, width: 4 * side, data: new Float32Array(4 * channels * side * side).fill(0.5) });
  const blurred = filled(3, 64);
  blurred.data[20 * 256 + 100] += light;  // of what lies elsewhere and is out of focus
  let calls = 0;
  await runLevel(
    async ({ picture_high }) => { calls++; return picture_high; },
    { picture: filled(3, 64), blurred, signed_depth: mapOf(64), picture_high: filled(3, 128) },
    constants, variantOf(constants, "edge"), { tile: 128, skips: true },
  );
  return calls;
};
const mapOf = (side) => ({ channels: 1, height: side, width: 4 * side, data: new Float32Array(4 * side * side) });
const light = [await stepsRun(0), await stepsRun(0.1)];
const { resultOf } = await import(`${folder}/build/result.js`);
const values = { channels: 3, height: 1, width: given.values.length / 3, data: Float32Array.from(given.values) };
const rounded = [Uint8Array, Uint16Array].map((Kind) =>
  [...resultOf(values, { height: 1, width: values.width, data: new Kind(given.values.length) }).data]);
const refused = {};
const attempts = {
  aspect: () => prepare(photo, { ...map, width: map.height, height: map.width }, constants),
  range: () => prepare(photo, { ...map, data: map.data.map((value) => 2 * value + 1) }, constants),
  finite: () => prepare(photo, { ...map, data: map.data.map(() => NaN) }, constants),
  point: () => focusAt(map, [[0.5, 1.5]]),
  format: () => readConstants('{"format": 99}'),
  incomplete: () => readConstants('{"format": 1}'),
  variant: () => variantOf(constants, "none"),
};
for (const [name, attempt] of Object.entries(attempts)) {
  try { attempt(); } catch (error) { refused[name] = error.message; }
}
const nearest = nearestSubject(map, constants).disparity;
console.log(JSON.stringify({
  focus, nearest, result: [...result.data], signed_depth: stages.signed_depth_0, depth: [...depth.data],
  seen: [...seen.data], refused, skips, ways, rounded, light,
}));
"""


def test_what_the_vectors_leave_out(port: Port, tmp_path: Path) -> None:
    """16 bits, no step, focus points, the nearest subject, the depth network's picture, skips, and bad input."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 65536, (37, 55, 3), dtype=np.uint16)
    disparity = rng.random((74, 110), np.float32)
    points = ((0.2, 0.9), (0.7, 0.1), (1.0, 0.5))
    whole = np.repeat(np.arange(-1, 256), 2).astype(np.float32)
    halves = np.stack(((whole + 0.5) / 255, (257 * whole + 0.5) / 65535, (256 * whole + 1.5) / 65535)).astype("f")
    about = {
        "constants": json.loads((port.vectors / "harness.json").read_text(encoding="utf-8")),
        "height": 37, "width": 55, "photo": pixels.ravel().tolist(),
        "rows": 74, "columns": 110, "map": disparity.ravel().tolist(), "points": points, "f_number": 1.8,
        "values": halves.ravel().tolist(),
    }  # fmt: skip
    given = tmp_path / "given.json"
    given.write_text(json.dumps(about), encoding="utf-8")
    command = ["node", "--input-type=module", "--eval", SCRIPT, "--", str(port.program), str(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    focal, width = Focus(points).of(disparity)
    assert width > 0
    assert (found["focus"]["disparity"], found["focus"]["range"]) == pytest.approx((focal, width))
    assert found["nearest"] == pytest.approx(nearest_subject(disparity))
    assert found["result"] == pixels.ravel().tolist()

    levels = geometry(37, 55)
    (depth,) = signed_depth_levels(
        registered_disparity(disparity, levels), levels, focal_disparity=focal, aperture=1.4 / 1.8, focus_range=width
    )
    np.testing.assert_allclose(found["signed_depth"], depth.ravel(), rtol=0, atol=1e-6)
    red = Harness.depth_picture(pixels)[..., 0].ravel() / 255
    np.testing.assert_allclose(found["depth"], red, rtol=0, atol=1.01 / 255)
    values = np.array(found["depth"])
    np.testing.assert_allclose(found["seen"], (values - values.min()) / np.ptp(values), rtol=0, atol=1e-6)
    assert set(found["refused"]) == {"aspect", "range", "finite", "point", "format", "incomplete", "variant"}

    sharp, soft = found["skips"]["sharp"], found["skips"]["soft"]
    assert (sharp["calls"], sharp["same"]) == ([], True)
    assert set(soft["calls"]) == {"lens_blur"}
    for dtype, rounded in zip((np.uint8, np.uint16), found["rounded"], strict=True):
        out = np.zeros((1, halves.shape[1], 3), dtype)
        quantise(halves[None, :, None], out)
        assert rounded == out.ravel().tolist(), "half to even"
    assert found["light"][0] == 0, "all is in focus"
    assert found["light"][1] > 0, "in focus, but light from elsewhere reaches it"
    assert found["ways"] == [True, True], "a last level that is put into the photo part by part is that of the planes"
    low = np.array(soft["low"], np.float32).reshape(1, 3, *geometry(40, 400).padded(0))
    np.testing.assert_allclose(soft["high"], doubled(low).ravel(), rtol=0, atol=1e-6)


def test_the_page_has_the_graphs_of_the_artefacts(artifacts: Artifacts, tmp_path: Path) -> None:
    """Written for WebAssembly, they give the same numbers."""
    out = tmp_path / "models"
    about = make(out, artifacts=artifacts("edge"))
    generator = np.random.default_rng(3)
    inputs = {
        "picture_high": generator.random((1, 3, 48, 80), np.float32),
        "picture": generator.random((1, 3, 24, 40), np.float32),
        "blurred": generator.random((1, 3, 24, 40), np.float32),
        "signed_depth": generator.random((1, 1, 24, 40), np.float32) * 2 - 1,
    }

    def run(path: Path) -> np.ndarray:
        session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {each.name: inputs[each.name] for each in session.get_inputs()})[0])

    for network in ("lens_blur", "upsample"):
        found = run(out / about["networks"][network]["file"])
        np.testing.assert_allclose(found, run(next(artifacts("edge").rglob(f"edge_{network}.onnx"))), atol=2e-6)
    assert not any(b"Resize" in path.read_bytes() for path in out.glob("edge_[lu]*.onnx"))
