"""`web/parts.ts` lays the windows of `runtimes/parts.py`."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.runtimes import parts
from deeplens.runtimes.harness_file import described
from deeplens.runtimes.parts import BLOCK, Blocks, Part
from deeplens.runtimes.tiling import Span, split
from tests.conftest import ROOT
from tests.support.blocks import SIDES, blobs

ESBUILD = ROOT / "web" / "node_modules" / ".bin" / "esbuild"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not ESBUILD.exists(), reason="the packages of web/ are not installed: make web"),
]

SCRIPT = """
import { createInterface } from "node:readline";
import { allNear, around, blocksWhere, ofTiles } from "../../web/parts.js";
import { split } from "../../web/tiling.js";

const mask = (rows) => ({ height: rows.length, width: rows[0].length, data: Uint8Array.from(rows.flat()) });
const window = ({ start, end, from, to }) => [start, end, from, to];
const listed = (parts) => parts.map(({ kind, rows, columns }) => [kind, window(rows), window(columns)]);
const hold = (rows) =>
  ({ channels: 1, height: rows.length, width: rows[0].length, data: Float32Array.from(rows.flat()) });

const tasks = {
  around: ({ constants, size, soft, sharp, halo, tile, lanes }) =>
    listed(around(size, { soft: mask(soft), sharp: mask(sharp) }, halo, tile, lanes, constants)),
  tiles: ({ constants, size, soft, sharp, halo, tile, lanes }) =>
    listed(ofTiles(split(size, halo, tile, lanes, constants), { soft: mask(soft), sharp: mask(sharp) }, constants)),
  near: ({ constants, blocks, reach }) => [...allNear(mask(blocks), reach, constants).data],
  blocks: ({ constants, values, end, least }) =>
    [...blocksWhere(hold(values), end, (value) => value >= least, constants).data],
};

for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...given } = JSON.parse(line);
  console.log(JSON.stringify(tasks[task](given)));
}
"""

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Gives a task to the modules of the page, in one Node for all."""
    out = tmp_path_factory.mktemp("parts") / "parts.mjs"
    command = [str(ESBUILD), "--bundle", "--format=esm", "--platform=node", f"--outfile={out}", "--log-level=error"]
    subprocess.run(command, input=SCRIPT, text=True, cwd=ROOT / "tests" / "web", check=True)
    constants = {name: value for name, value in described().items() if name != "variants"}
    with subprocess.Popen(["node", out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin is not None
        assert node.stdout is not None

        def asked(task: str, **given: Any) -> Any:
            assert node.stdin is not None
            assert node.stdout is not None
            node.stdin.write(json.dumps({"task": task, "constants": constants, **given}) + "\n")
            node.stdin.flush()
            return json.loads(node.stdout.readline())

        yield asked
        node.stdin.close()


def listed(found: list[Part]) -> list[list[Any]]:
    def window(span: Span) -> list[int]:
        return [span.start, span.stop, span.keep_start, span.keep_stop]

    return [[part.kind, window(part.rows), window(part.columns)] for part in found]


def as_json(blocks: Blocks) -> dict[str, Any]:
    return {"soft": blocks.soft.astype(int).tolist(), "sharp": blocks.sharp.astype(int).tolist()}


HALOS = st.sampled_from([8, 12, 16, 52])
TILES = st.sampled_from([64, 96, 136, 256])
LANES = st.sampled_from([1, 2, 4])


@settings(max_examples=150, deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**32 - 1), HALOS, TILES, LANES)
def test_windows_are_those_of_python(
    ask: Ask, height: int, width: int, seed: int, halo: int, tile: int, lanes: int
) -> None:
    size, blocks = (height, width), blobs((height, width), seed)
    tile = max(tile, 2 * halo + 8)
    asked = {"size": size, "halo": halo, "tile": tile, "lanes": lanes, **as_json(blocks)}
    assert ask("around", **asked) == listed(parts.around(size, blocks, halo=halo, tile=tile, lanes=lanes))
    tiles = split(height, width, halo=halo, tile=tile, lanes=lanes)
    assert ask("tiles", **asked) == listed(parts.of_tiles(tiles, blocks))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_blocks_are_those_of_python(ask: Ask, rows: int, columns: int, seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = rng.random((rows, columns)) < 0.95
    found = ask("near", blocks=blocks.astype(int).tolist(), reach=reach)
    np.testing.assert_array_equal(found, parts.all_near(blocks, reach).ravel())
    values = rng.uniform(-1, 1, (BLOCK * rows, BLOCK * columns)).astype(np.float32)
    far = np.abs(values)
    for end, due in (("smallest", parts.smallest(far)), ("largest", -parts.smallest(-far))):
        least = float(np.median(due))
        found = ask("blocks", values=values.tolist(), end=end, least=least)
        np.testing.assert_array_equal(found, (due >= least).ravel())


def test_what_makes_a_run_worth_it_is_the_same() -> None:
    text = (ROOT / "web" / "parts.ts").read_text(encoding="utf-8")
    for name in ("RUN_PIXELS", "FULL", "FILLED_BLOCKS"):
        assert f"const {name} = {getattr(parts, name)};" in text
