"""The page asks for a depth map once at most, and says where there is none."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

ESBUILD = ROOT / "web" / "node_modules" / ".bin" / "esbuild"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not ESBUILD.exists(), reason="the packages of web/ are not installed: make web"),
]

SCRIPT = """
import { Maps } from "../../web/page/maps.js";
let calls = 0;
const map = (value) => ({ channels: 1, height: 1, width: 1, data: Float32Array.of(value) });
const predict = async () => map(++calls);
const both = new Maps(map(9), predict);
const asked = [];
for (const source of ["embedded", "predicted", "embedded", "predicted"]) asked.push((await both.from(source)).data[0]);
const said = await new Maps(null, predict).from("embedded").catch((error) => error.message);
console.log(JSON.stringify({ asked, calls, said }));
"""


def test_each_map_is_made_once(tmp_path: Path) -> None:
    out = tmp_path / "maps.mjs"
    command = [str(ESBUILD), "--bundle", "--format=esm", "--platform=node", f"--outfile={out}", "--log-level=error"]
    subprocess.run(command, input=SCRIPT, text=True, cwd=ROOT / "tests" / "web", check=True)
    done = subprocess.run(["node", str(out)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["asked"] == [9, 1, 9, 1]
    assert found["calls"] == 1
    assert found["said"] == "This photo holds no depth map that can be used."
