"""One table of discs: the network's shapes, its halo and its cost follow from it."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from deeplens.model.build import build, load
from deeplens.model.contract import R_MAX, VARIANTS
from deeplens.model.discs import DISCS, Disc, lens_blur_reach
from deeplens.model.lens_blur import EdgeLensBlur
from tests.model.test_receptive_fields import measured

WIDER = (*DISCS[:-1], Disc(12.0, union=True))
ONE_MORE = (*DISCS, Disc(10.0))
FEWER = (Disc(0.0), Disc(1.5), Disc(5.0, union=True))
TABLES = {"wider": WIDER, "one more": ONE_MORE, "fewer": FEWER}


def test_the_table_that_is_shipped() -> None:
    assert DISCS[-1].radius == R_MAX, "a circle of confusion has no wider one"
    weights = {name for name in load("edge", "lens_blur").state_dict() if name.startswith("disc")}
    assert weights == {name for disc in DISCS for name in disc.kernels}
    assert VARIANTS["edge"].halo["lens_blur"] == 52


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_halo_is_what_the_network_of_another_table_can_reach(name: str) -> None:
    discs = TABLES[name]
    found = max(measured(EdgeLensBlur(discs=discs).eval(), "lens_blur", length=176))
    assert found == lens_blur_reach(discs)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
@torch.no_grad()
def test_a_network_of_another_table_blurs_by_its_radii(name: str) -> None:
    """Shapes follow, bins are hats around each signed radius, and a flat field stays what it is."""
    discs = TABLES[name]
    blur = EdgeLensBlur(discs=discs).eval()
    radii = [disc.radius for disc in discs]
    assert sorted(blur.centres) == sorted({sign * radius for radius in radii for sign in (-1, 1)})
    signed_depth = torch.tensor(blur.centres).view(1, 1, 1, -1) / R_MAX
    torch.testing.assert_close(blur.membership(signed_depth)[0, :, 0], torch.eye(len(blur.centres)), atol=1e-5, rtol=0)
    picture = torch.full((1, 3, 64, 64), 0.4)
    torch.testing.assert_close(blur(picture, torch.full((1, 1, 64, 64), -0.9)), picture, atol=1e-4, rtol=0)
    assert len(list(blur.parameters())) > len([name for disc in discs for name in disc.kernels])


def test_learned_discs_of_another_table_do_not_load() -> None:
    other = EdgeLensBlur(discs=WIDER)
    with pytest.raises(RuntimeError, match="disc12_inner"):
        other.load_state_dict(load("edge", "lens_blur").state_dict())


CHANGED = """
import deeplens.model.discs as table
table.DISCS = (*table.DISCS[:-1], table.Disc(RADIUS, union=True))
from deeplens.model.build import build
from deeplens.model.contract import VARIANTS
from deeplens.model.cost import cost
from deeplens.runtimes.harness import Harness
from tests.support.fake_runtime import FakeRuntime
try:
    Harness(FakeRuntime(), tile=112)
    least = "at most 112"
except Exception as error:
    least = str(error)
found = cost("edge", "lens_blur", 192, 256)
print(VARIANTS["edge"].halo["lens_blur"], found["parameters"], found["multiplications"], least)
"""


@pytest.mark.slow
def test_one_line_of_the_table_changes_all(pytestconfig: pytest.Config) -> None:
    """The last line of the table with its own radius, and with another: halo, smallest tile, parameters, cost."""

    def told(radius: float) -> tuple[int, int, int, str]:
        code = CHANGED.replace("RADIUS", str(radius))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=pytestconfig.rootpath, capture_output=True, text=True, check=True
        )
        halo, parameters, multiplications, least = done.stdout.split(maxsplit=3)
        return int(halo), int(parameters), int(multiplications), least.strip()

    as_it_is, wider = told(8.0), told(12.0)
    assert as_it_is[0] == VARIANTS["edge"].halo["lens_blur"]
    assert as_it_is[1] == sum(each.numel() for each in build("edge", "lens_blur").parameters())
    assert as_it_is[3] == "at most 112"
    assert wider[0] == 56
    assert "at least 120" in wider[3]
    assert wider[1] == as_it_is[1] + 7 * 7 - 3 * 3, "the outer kernel is 7 wide where it was 3"
    channels = 4 * DISCS[-1].features
    assert wider[2] == as_it_is[2] + (7 * 7 - 3 * 3) * channels * 96 * 128, "at half the size"


@pytest.mark.parametrize(
    ("discs", "message"),
    [
        ((*DISCS, Disc(8.0)), "begin at 0 and grow"),
        (DISCS[1:], "begin at 0 and grow"),
        (DISCS[:4], "nothing is blurred at half size"),
        ((*DISCS[:4], Disc(4.0), *DISCS[4:]), "weights of one name: .*disc4, disc4"),
    ],
)
def test_a_table_that_no_network_can_have(discs: tuple[Disc, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EdgeLensBlur(discs=discs)


@pytest.mark.parametrize("radius", [-1.0, 12.5])
def test_a_radius_that_no_disc_can_have(radius: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 12 pixels"):
        replace(DISCS[1], radius=radius)
