"""A short run of the commands of `tests.trust`: full disks, and kills."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trust.full_disk import INSIDE
from tests.trust.kills import Victim, ill_treated, pictures_are_whole

WRITE = (
    "import sys; from pathlib import Path; import numpy as np; from deeplens.runtimes.photo import write_photo\n"
    "pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)\n"
    "for turn in range(40): write_photo(Path(sys.argv[1]) / f'{turn % 4}.png', pixels)"
)
BADLY = WRITE.replace("write_photo(Path", "(lambda path, pixels: path.write_bytes(b'half'))(Path")


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_whole_files(tmp_path: Path) -> None:
    random.seed(1)
    assert ill_treated("write", Victim(("-c", WRITE, "OUT"), pictures_are_whole), tmp_path / "out", kills=4) == []
    wrong = ill_treated("control", Victim(("-c", BADLY, "OUT"), pictures_are_whole), tmp_path / "bad", kills=1)
    assert wrong, "what writes halves must be found out"


@pytest.mark.slow
def test_a_full_disk_is_never_a_picture() -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this system lends no file systems of its own (unshare -rm)")
    code = (
        "import sys; from pathlib import Path; import numpy as np; from tests.trust.full_disk import whole_or_refused\n"
        "from deeplens.runtimes.photo import write_photo\n"
        "pixels = np.random.default_rng(1).integers(0, 256, (90, 90, 3), np.uint8)\n"
        "good = whole_or_refused('a.jpg', lambda path: write_photo(path, pixels), steps=3, old=True)\n"
        "def badly(path):\n"
        "    try: path.write_bytes(bytes(40_000))\n"
        "    except OSError: pass\n"
        "bad = whole_or_refused('a.bin', badly, steps=3, old=False)\n"
        "print(good, len(bad[2]) > 0)"
    )
    result = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, INSIDE: "1"},
    )  # fmt: skip
    assert result.stdout.strip() == "(1, 3, []) True", result.stderr
