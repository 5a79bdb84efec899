"""What the page reads of ONNX Runtime's log: which operations left the graphics processor."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.conftest import ROOT

ESBUILD = ROOT / "web" / "node_modules" / ".bin" / "esbuild"
WHERE = "2026-11-28 18:04:25.673918 [V:onnxruntime:, session_state.cc:1380 VerifyEachNodeIsAssignedToAnEp]"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not ESBUILD.exists(), reason="the packages of web/ are not installed: make web"),
]

ALL = [f"{WHERE} Node placements", f"{WHERE}  All nodes placed on [WebGpuExecutionProvider]. Number of nodes: 147"]
SOME = [
    f"{WHERE} Node placements",
    f"{WHERE}  Node(s) placed on [WebGpuExecutionProvider]. Number of nodes: 145",
    f"{WHERE}   Conv (node_conv)",
    f"{WHERE}  Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2",
    f"{WHERE}   Shape (node_shape)",
    f"{WHERE}   Gather (node_gather)",
]
UNSAID = ["a line of something else", ""]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`placedBy` and `placedLines` on lists of lines."""
    out = tmp_path_factory.mktemp("placement") / "placement.mjs"
    source = ROOT / "web" / "page" / "placement.ts"
    subprocess.run([ESBUILD, source, "--bundle", "--format=esm", f"--outfile={out}", "--log-level=error"], check=True)

    def run(lines: list[str]) -> tuple[Any, Any]:
        script = (
            f"import {{ placedBy, placedLines }} from {json.dumps(out.as_uri())};"
            f"const placed = placedBy({json.dumps(lines)});"
            "console.log(JSON.stringify([placed, placedLines({ lens_blur: placed })[0]]));"
        )
        done = subprocess.run(
            ["node", "--input-type=module", "-e", script],
            check=True,
            capture_output=True,
            text=True,
        )
        placed, line = json.loads(done.stdout)
        return placed, line

    return run


def test_operations_elsewhere_are_counted(read: Any) -> None:
    placed, line = read(ALL)
    assert placed == {"all": 147, "onProcessor": 0, "kinds": []}
    assert (line["largest"], line["allowed"], line["told"]) == (0, 0, "0 of 147")
    placed, line = read(SOME)
    assert placed == {"all": 147, "onProcessor": 2, "kinds": ["Gather", "Shape"]}
    assert line["largest"] > line["allowed"], "the self-test fails"
    assert line["told"] == "2 of 147 (Gather, Shape)"


def test_a_log_that_does_not_tell_is_no_pass(read: Any) -> None:
    placed, line = read(UNSAID)
    assert placed is None
    assert (line["told"], line["largest"]) == ("not told", None)  # infinity, as JSON has it
