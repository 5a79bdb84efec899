import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens.console.errors import InputError
from deeplens.export.trt_jobs import profiles
from deeplens.model.contract import ALIGNMENT, CONTRACTS, MIN_SIZE, VARIANTS
from deeplens.runtimes import manifest
from deeplens.runtimes.engine_key import ANY, EngineKey, Machine, Profile, from_entry, to_more
from deeplens.runtimes.pyramid import geometry
from deeplens.runtimes.tiling import split

ORIN = Machine("tensorrt", "10.3.0", "Orin", "8.7", "12.6", "12.6", "Linux aarch64, R36 REVISION: 4.0")
KEY = EngineKey(ORIN, "ab" * 32, (Profile.static((40, 48)), Profile((32, 32), (64, 64), (256, 256))), {"refit": True})


def entry_with(more: dict[str, object]) -> manifest.Entry:
    return manifest.Entry(
        "upsample", "edge", "trt", "fp16", "trt/x.engine", "0" * 64, "0" * 64, (), (), {}, None, True, "", more
    )


def test_a_key_comes_back_from_the_manifest(tmp_path: Path) -> None:
    manifest.add(tmp_path, entry_with(to_more(KEY, command="deeplens export trt")))
    (entry,) = manifest.read(tmp_path)
    assert from_entry(entry) == KEY
    assert from_entry(entry).digest == KEY.digest
    assert entry.more["command"] == "deeplens export trt"


@pytest.mark.parametrize("name", [each.name for each in fields(Machine)])
def test_every_field_of_the_machine_changes_the_digest_and_is_compared(name: str) -> None:
    other = replace(ORIN, **{name: "other"})
    assert replace(KEY, machine=other).digest != KEY.digest
    (difference,) = KEY.differences(other)
    assert difference == f"{name.replace('_', ' ')} {getattr(ORIN, name)}, here other"
    assert replace(KEY, machine=replace(ORIN, **{name: ANY})).differences(other) == []


@pytest.mark.parametrize(
    "change", [{"onnx_sha256": "cd" * 32}, {"profiles": KEY.profiles[:1]}, {"profiles": KEY.profiles[::-1]},
               {"flags": {}}, {"flags": {"refit": True, "dla_core": 0}}]
)  # fmt: skip
def test_all_else_changes_the_digest(change: dict[str, object]) -> None:
    assert replace(KEY, **change).digest != KEY.digest  # type: ignore[arg-type]


def test_the_order_of_flags_does_not_matter() -> None:
    first, second = {"refit": True, "dla_core": 0}, {"dla_core": 0, "refit": True}
    assert replace(KEY, flags=first).digest == replace(KEY, flags=second).digest


@pytest.mark.parametrize(("version", "fits"), [("10.3.0", True), ("10.16.1", True), ("11.4.0", False), ("1.0", False)])
def test_version_compatibility_is_of_one_major(version: str, fits: bool) -> None:
    key = replace(KEY, flags={"version_compatible": True})
    assert (key.differences(replace(ORIN, version=version)) == []) is fits
    assert (KEY.differences(replace(ORIN, version=version)) == []) is (version == "10.3.0")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda more: more.pop("key"),
        lambda more: more["key"].pop("profiles"),
        lambda more: more["key"]["machine"].pop("driver"),
        lambda more: more["key"]["machine"].update(colour="green"),
        lambda more: more["key"]["profiles"][0].update(low=[1]),
        lambda more: more["key"]["profiles"][0].update(low=["40", "48"]),
        lambda more: more.update(key=None),
    ],
)
def test_a_damaged_key_is_refused(break_it: object) -> None:
    more = json.loads(json.dumps(to_more(KEY, command="")))
    break_it(more)  # type: ignore[operator]
    with pytest.raises(InputError, match="the manifest has no readable key"):
        from_entry(entry_with(more))


def test_shapes_are_the_contracts() -> None:
    shapes = KEY.profiles[1].shapes(CONTRACTS["upsample"])
    assert shapes["picture_high"] == ((1, 3, 64, 64), (1, 3, 128, 128), (1, 3, 512, 512))
    assert shapes["signed_depth"] == ((1, 1, 32, 32), (1, 1, 64, 64), (1, 1, 256, 256))
    assert [str(each) for each in KEY.profiles] == ["40x48", "32x32…256x256, best 64x64"]


sides = st.integers(1, 6000)


@given(sides, sides, st.sampled_from(["edge", "paper"]), st.sampled_from([None, 128, 256]))
def test_each_tile_that_the_harness_runs_has_its_profile(
    height: int, width: int, variant: str, tile: int | None
) -> None:
    levels = geometry(height, width)
    for network, count in (("lens_blur", 1), ("upsample", levels.steps)):
        found = profiles(variant, network, photos=[(height, width)], tile=tile)
        assert asdict(found[-1])["low"] == (MIN_SIZE, MIN_SIZE)
        for level in range(count):
            tiles = split(*levels.padded(level), halo=VARIANTS[variant].halo[network], tile=tile)
            size = (tiles.height, tiles.width)
            assert Profile.static(size) in found
            assert found[-1].holds(size)
        assert len(found) <= count + 1
        for profile in found:
            assert all(a <= b <= c and a % ALIGNMENT == b % ALIGNMENT == c % ALIGNMENT == 0
                       for a, b, c in zip(profile.low, profile.best, profile.high, strict=True))  # fmt: skip


def test_profiles_of_no_photo_of_no_fallback_and_of_one_size() -> None:
    assert profiles("edge", "depth", photos=[(100, 100)]) == ()
    assert profiles("edge", "upsample") == (Profile((32, 32), (256, 256), (256, 256)),)
    assert profiles("edge", "upsample", shapes=[(40, 48)], dynamic=False) == (Profile.static((40, 48)),)
    assert profiles("edge", "upsample", shapes=[(512, 40)], tile=128)[-1] == Profile((32, 32), (256, 128), (512, 128))
