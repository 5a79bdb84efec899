"""How the page answers a drag: the finest way that is fast enough on the device, told from the answers before."""

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT

ESBUILD = ROOT / "web" / "node_modules" / ".bin" / "esbuild"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not ESBUILD.exists(), reason="the packages of web/ are not installed: make web"),
]

SCRIPT = """
import { Pace } from "../../web/page/pace.js";
const pace = new Pace();
const level = { whole: 0, draft: 0, half: -1 };
const asked = [];
for (const { whole, draft, half, reset } of JSON.parse(process.argv[2])) {
  if (reset) pace.reset();
  const way = pace.next();
  asked.push(way);
  const given = way === "draft" && draft === null ? "whole" : way;  // the engine has no INT8
  const milliseconds = { whole, draft, half }[given];
  pace.add({ level: level[given], draft: given === "draft", milliseconds });
  pace.add({ level: 1, draft: false, milliseconds: 5000 });  // of a finer level: it tells nothing
}
console.log(JSON.stringify(asked));
"""

Device = dict[str, Any]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Device]], list[str]]:
    """Which ways are asked for, of a device that takes so many milliseconds each time."""
    out = tmp_path_factory.mktemp("pace") / "pace.mjs"
    command = [str(ESBUILD), "--bundle", "--format=esm", "--platform=node", f"--outfile={out}", "--log-level=error"]
    subprocess.run(command, input=SCRIPT, text=True, cwd=ROOT / "tests" / "web", check=True)

    def run(answers: list[Device]) -> list[str]:
        given = ["node", str(out), json.dumps(answers)]
        done = subprocess.run(given, capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout))

    return run


def device(whole: float, draft: float | None, half: float, count: int = 60, noise: float = 0.0) -> list[Device]:
    shares = 1 + noise * np.random.default_rng(1).uniform(-1, 1, (count, 3))
    return [{"whole": whole * a, "draft": None if draft is None else draft * b, "half": half * c} for a, b, c in shares]


@pytest.mark.parametrize(
    ("times", "way"),
    [
        ((60, 45, 25), "whole"),
        ((98, 70, 35), "whole"),
        ((112, 85, 45), "draft"),
        ((160, 120, 60), "draft"),
        ((170, 140, 65), "half"),
        ((900, 700, 250), "half"),
        ((90, None, 35), "whole"),
        ((118, None, 38), "whole"),
        ((150, None, 42), "half"),
    ],
)
def test_the_finest_way_in_time_is_found(
    asked: Callable[..., list[str]], times: tuple[float, float | None, float], way: str
) -> None:
    found = asked(device(*times, noise=0.02))
    assert found[0] == "half", "nothing is known yet"
    assert found[12:].count(way) >= 41, "but for a few tries"


def test_a_slow_device_is_never_made_to_wait(asked: Callable[..., list[str]]) -> None:
    assert set(asked(device(900, 700, 250))) == {"half"}


def test_what_was_too_slow_is_tried_now_and_then(asked: Callable[..., list[str]]) -> None:
    then = asked([*device(170, 140, 65, 30), *device(100, 75, 40, 60)])
    assert then[:30].count("draft") <= 8
    assert set(then[-20:]) <= {"whole", "draft"}


def test_a_slow_beginning_does_not_decide(asked: Callable[..., list[str]]) -> None:
    found = asked([*device(170, 150, 60, 4), *device(170, 112, 55, 40)])
    assert found[8:].count("draft") >= 34


def test_a_way_that_got_slow_is_left(asked: Callable[..., list[str]]) -> None:
    found = asked([*device(170, 112, 55, 40), *device(230, 150, 68, 40)])
    assert found[30:40] == ["draft"] * 10
    assert found[-30:].count("half") >= 27


@pytest.mark.parametrize("slow", [("draft", (112, 85, 45)), ("whole", (60, 45, 25))])
def test_one_slow_answer_changes_nothing(
    asked: Callable[..., list[str]], slow: tuple[str, tuple[float, float, float]]
) -> None:
    way, times = slow
    answers = device(*times)
    answers[40] = {"whole": 2000, "draft": 2000, "half": 2000}
    assert set(asked(answers)[20:]) == {way}


def test_another_photo_begins_anew(asked: Callable[..., list[str]]) -> None:
    answers = device(60, 45, 25, 20)
    answers[10]["reset"] = True
    found = asked(answers)
    assert found[9:11] == ["whole", "half"]


def test_a_device_at_the_limit_does_not_waver(asked: Callable[..., list[str]]) -> None:
    found = asked(device(170, 122, 60, 200, noise=0.12))
    assert found[12:].count("draft") >= 180
