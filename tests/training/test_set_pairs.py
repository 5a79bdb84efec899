"""Which label belongs to which picture: the layouts of public sets."""

from pathlib import Path

import pytest

from deeplens.console.errors import InputError
from deeplens.training.set_pairs import Role, find_pairs


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


DEPTH: tuple[Role, ...] = ("disparity", "depth")


@pytest.mark.parametrize(
    ("picture", "label", "roles", "role"),
    [
        ("rgb/0001.jpg", "depth/0001.png", DEPTH, "depth"),
        ("scene/RGB/1.png", "scene/Disparity/1.pfm", DEPTH, "disparity"),
        ("photo.jpg", "photo_depth.png", DEPTH, "depth"),
        ("photo.jpg", "photo-disp.npy", DEPTH, "disparity"),
        ("photo.jpg", "photo.npy", DEPTH, None),
        ("bath/rgb_00045.jpg", "bath/sync_depth_00045.png", DEPTH, "depth"),
        ("hall/1.jpg", "hall/1.png", DEPTH, None),
        ("a/rgb.png", "a/depth.npz", DEPTH, "depth"),
        ("motorcycle_left.png", "motorcycle_disp.npz", DEPTH, "disparity"),
        ("DUTS-TR/DUTS-TR-Image/x.jpg", "DUTS-TR/DUTS-TR-Mask/x.png", ("mask",), "mask"),
        ("MSRA10K_Imgs_GT/Imgs/77.jpg", "MSRA10K_Imgs_GT/Imgs/77.png", ("mask",), None),
        ("images/x.jpg", "gt/x.png", ("mask",), "mask"),
    ],
)
def test_layouts(tmp_path: Path, picture: str, label: str, roles: tuple[Role, ...], role: Role | None) -> None:
    touch(tmp_path, picture, label, "readme.txt", ".hidden/rgb/0001.jpg", "lonely.jpg")
    (pair,) = find_pairs(tmp_path, roles)
    assert (pair.picture, pair.label, pair.role) == (tmp_path / picture, tmp_path / label, role)


def test_names_that_only_begin_like_a_word_are_names(tmp_path: Path) -> None:
    touch(tmp_path, "leftovers.jpg", "leftovers_depth.png", "depthcharge.jpg", "depthcharge_depth.png")
    assert [pair.picture.name for pair in find_pairs(tmp_path, DEPTH)] == ["depthcharge.jpg", "leftovers.jpg"]


def test_other_labels_of_the_same_picture_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.jpg", "depth/1.png", "masks/1.png")
    assert [pair.label.parent.name for pair in find_pairs(tmp_path, DEPTH)] == ["depth"]
    assert [pair.label.parent.name for pair in find_pairs(tmp_path, ("mask",))] == ["masks"]


def test_what_can_not_be_paired_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        find_pairs(tmp_path / "none", DEPTH)
    touch(tmp_path, "rgb/1.jpg", "depth/2.png")
    with pytest.raises(InputError, match=r"no picture with a label.*disparity.*sync_depth"):
        find_pairs(tmp_path, DEPTH)
    touch(tmp_path, "depth/1.png", "disparity/1.png")
    with pytest.raises(InputError, match="both label the same picture"):
        find_pairs(tmp_path, DEPTH)
