"""Which tests `make test-device` runs, and that the device half imports nothing that a device doesn't have."""

import pytest

from tests.conftest import ROOT
from tests.support.device import LIBRARIES, WORKSHOP, needed_elsewhere


@pytest.mark.parametrize(
    "name",
    [
        "parity_tests/test_collection",
        "tests/benchmarks/test_bench",
        "tests/commands/test_bad_input",
        "tests/commands/test_cli",
        "tests/commands/test_folder",
        "tests/commands/test_parity_command",
        "tests/export/test_trt_command",
        "tests/export/test_trt_export",
        "tests/runtimes/test_depth_model",
        "tests/runtimes/test_harness",
        "tests/runtimes/test_manifest",
        "tests/runtimes/test_photo",
        "tests/runtimes/test_pyramid",
        "tests/runtimes/test_refocuser",
        "tests/runtimes/test_runtimes",
        "tests/runtimes/test_tiling",
        "tests/runtimes/test_trt_runtime",
    ],
)
def test_what_runs_on_a_device_is_tested_without_torch(name: str) -> None:
    assert needed_elsewhere(ROOT / f"{name}.py") == set()


def test_what_a_device_does_not_have_is_seen() -> None:
    assert "torch" in needed_elsewhere(ROOT / "tests" / "model" / "test_networks.py")
    helped = needed_elsewhere(ROOT / "tests" / "scenes" / "test_rooms.py")
    assert helped
    assert all(each.startswith((*LIBRARIES, *WORKSHOP)) for each in helped)


def test_the_workshop_is_there() -> None:
    """A module that was renamed would be taken for one of the device half."""
    sources = [path.with_suffix("").as_posix() for path in (ROOT / "src" / "deeplens").glob("*/*.py")]
    for beginning in WORKSHOP:
        assert any(each.replace("/", ".").split("src.")[-1].startswith(beginning) for each in sources), beginning
