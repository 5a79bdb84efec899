"""`web/parts.ts` lays the windows of `runtimes/parts.py`; `web/features.ts` keeps what the whole level gives."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens.model.contract import ALIGNMENT
from deeplens.runtimes import parts
from deeplens.runtimes.harness_file import described
from deeplens.runtimes.parts import BLOCK, Blocks, Part
from deeplens.runtimes.tiling import Span, split
from tests.conftest import ROOT
from tests.support.blocks import SIDES, blobs

CELL = 232
"""Side of a cell in `web/features.ts`."""

ESBUILD = ROOT / "web" / "node_modules" / ".bin" / "esbuild"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not ESBUILD.exists(), reason="the packages of web/ are not installed: make web"),
]

SCRIPT = """
import { createInterface } from "node:readline";
import { allNear, around, blocksWhere, ofTiles } from "../../web/parts.js";
import { split } from "../../web/tiling.js";
import { PhotoFeatures } from "../../web/features.js";

const mask = (rows) => ({ height: rows.length, width: rows[0].length, data: Uint8Array.from(rows.flat()) });
const window = ({ start, end, from, to }) => [start, end, from, to];
const listed = (parts) => parts.map(({ kind, rows, columns }) => [kind, window(rows), window(columns)]);
const hold = (rows) =>
  ({ channels: 1, height: rows.length, width: rows[0].length, data: Float32Array.from(rows.flat()) });

/** Stands for the photo's part of a network: the largest pixel within `reach`, at half the size. */
const photoPart = (reach) => async ({ picture_high: { height, width, data } }) => {
  const out = { channels: 1, height: height / 2, width: width / 2, data: new Float32Array(height * width / 4) };
  for (let y = 0, at = 0; y < out.height; y++) for (let x = 0; x < out.width; x++, at++) {
    for (let v = Math.max(0, 2 * (y - reach)); v < Math.min(height, 2 * (y + reach + 1)); v++) {
      for (let u = Math.max(0, 2 * (x - reach)); u < Math.min(width, 2 * (x + reach + 1)); u++) {
        out.data[at] = Math.max(out.data[at], data[v * width + u]);
      }
    }
  }
  return out;
};

const tasks = {
  around: ({ constants, size, soft, sharp, halo, tile, lanes }) =>
    listed(around(size, { soft: mask(soft), sharp: mask(sharp) }, halo, tile, lanes, constants)),
  tiles: ({ constants, size, soft, sharp, halo, tile, lanes }) =>
    listed(ofTiles(split(size, halo, tile, lanes, constants), { soft: mask(soft), sharp: mask(sharp) }, constants)),
  near: ({ constants, blocks, reach }) => [...allNear(mask(blocks), reach, constants).data],
  blocks: ({ constants, values, end, least }) =>
    [...blocksWhere(hold(values), end, (value) => value >= least, constants).data],
  features: async ({ constants, high, rounds, halo, reach, room, failing = 0 }) => {
    const kept = new PhotoFeatures(room);
    const whole = hold(high);
    let calls = 0;
    const photo = async (inputs) => {
      if (++calls <= failing) throw new Error("it fails");
      return photoPart(reach)(inputs);
    };
    const full = await photoPart(reach)({ picture_high: whole });
    const same = async ([rows, columns]) => {
      const made = await kept.of(photo, whole, "1", rows, columns, halo, constants).catch(() => "failed");
      if (made === "failed" || !made) return made ?? "no room";
      const due = [];
      for (let y = rows.start; y < rows.end; y++) for (let x = columns.start; x < columns.end; x++) {
        due.push(full.data[y * full.width + x]);
      }
      return made.data.length === due.length && due.every((value, i) => value === made.data[i]);
    };
    const found = [];
    for (const windows of rounds) found.push([await Promise.all(windows.map(same)), calls]);
    return found;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...given } = JSON.parse(line);
  console.log(JSON.stringify(await tasks[task](given)));
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


def window(rows: Span, columns: Span) -> list[dict[str, int]]:
    return [
        {"start": span.start, "end": span.stop, "from": span.keep_start, "to": span.keep_stop}
        for span in (rows, columns)
    ]


@settings(max_examples=8, deadline=None)
@given(st.integers(4, 45), st.integers(4, 45), st.integers(0, 2**32 - 1))
def test_what_is_kept_is_what_the_whole_level_gives(ask: Ask, rows: int, columns: int, seed: int) -> None:
    size = (8 * rows, 8 * columns)
    laid = parts.around(size, blobs(size, seed), halo=12, tile=256, lanes=2)
    windows = [window(part.rows, part.columns) for part in laid if part.kind == "run"]
    high = np.random.default_rng(seed).integers(0, 1 << 20, (2 * size[0], 2 * size[1])).tolist()
    found = ask("features", high=high, rounds=[windows, windows], halo=12, reach=1, room=2**28)
    (first, calls), (second, after) = found
    assert first == second == [True] * len(windows)
    assert calls == after, "the second time nothing is made"
    assert calls <= -(-size[0] // CELL) * -(-size[1] // CELL)


def test_a_halo_that_is_too_small_is_seen(ask: Ask) -> None:
    """The control: a part that sees farther than the halo gives other numbers where two cells meet."""
    read = -(-(CELL + 12) // ALIGNMENT) * ALIGNMENT  # rows of the first cell and its halo, aligned
    high = np.zeros((512, 64), int)
    high[2 * read] = 1
    rows, columns = Span(224, 256, 236, 256), Span(0, 32, 0, 32)
    asked = {"high": high.tolist(), "rounds": [[window(rows, columns)]], "halo": 12, "room": 2**28}
    for reach, same in ((read - CELL, True), (read - CELL + 1, False)):
        assert ask("features", reach=reach, **asked)[0][0] == [same]


def test_no_more_is_kept_than_there_is_room(ask: Ask) -> None:
    high = np.random.default_rng(2).integers(0, 1 << 20, (512, 1024)).tolist()
    rows = Span(0, 32, 0, 20)
    at = [window(rows, Span(left, left + 32, left + 12, left + 20)) for left in (0, 240, 472)]
    room = 4 * CELL * CELL + 1  # one cell, and a little
    rounds = [[at[0]], [at[1]], [at[0]], [at[2]], [at[1]]]
    found = ask("features", high=high, rounds=rounds, halo=12, reach=2, room=room)
    assert [seen for seen, _ in found] == [[True], ["no room"], [True], ["no room"], ["no room"]]
    assert found[-1][1] == 1


def test_what_fails_is_made_again(ask: Ask) -> None:
    high = np.ones((64, 64), int).tolist()
    at = window(Span(0, 32, 0, 32), Span(0, 32, 0, 32))
    found = ask("features", high=high, rounds=[[at], [at]], halo=12, reach=2, room=2**28, failing=1)
    assert found == [[["failed"], 1], [[True], 2]]


def test_what_makes_a_run_worth_it_is_the_same() -> None:
    text = (ROOT / "web" / "parts.ts").read_text(encoding="utf-8")
    for name in ("RUN_PIXELS", "FULL", "FILLED_BLOCKS"):
        assert f"const {name} = {getattr(parts, name)};" in text
