"""What a folder of the transformers library says of its network: its class, its input and its output. No torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplens.console.errors import InputError, MismatchError
from deeplens.console.inputs import read_json
from deeplens.model.depth_registry import DepthCard

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"

FAMILIES = {"depth_anything": "disparity", "depth_pro": "disparity", "zoedepth": "depth", "dpt": None}
"""model_type of the library → what the network gives; None: it depends on the weights, so it must be told."""

RESAMPLE = {2: "bilinear", 3: "bicubic"}
"""The library's number of a way to resize, which is Pillow's."""


def described(card: DepthCard, folder: Path) -> DepthCard:
    """The card with what the folder's files say; what both say must be the same.

    Args:
        card: of kind "transformers".
        folder: with `config.json` and, where there is one, `preprocessor_config.json`.

    Raises:
        InputError: the folder holds no depth network of the library, or one of an unknown family.
        MismatchError: the files say something else than the card.
    """
    config = _read(folder / CONFIG)
    family = config.get("model_type")
    if family not in FAMILIES:
        raise InputError(f"{CONFIG} describes a network of type {family!r}: known are {', '.join(FAMILIES)}")
    output = FAMILIES[family]
    if config.get("depth_estimation_type") == "metric":
        output = "depth"
    found: dict[str, Any] = {"output": output, "multiple": _patch(config)}
    if (folder / PROCESSOR).is_file():
        found |= _processor(_read(folder / PROCESSOR))
    found.setdefault("aspect", "stretch" if family == "depth_pro" else None)
    if family == "dpt" and config.get("backbone_config") is None:
        # The library's class cuts its tokens into a square.
        found |= {"aspect": "stretch", "multiple": None}
    for key, value in found.items():
        known = getattr(card, key)
        if value is not None and known is not None and value != known:
            raise MismatchError(
                f"the files of {card.name} say {key} {value}, but {known} was expected: is it another network? Add it "
                "under a name of your own"
            )
    return replace(card, **{key: value for key, value in found.items() if value is not None})


def _processor(text: dict[str, Any]) -> dict[str, Any]:
    size = text.get("size") or {}
    scale = 1.0 if text.get("do_rescale", True) else 255.0
    mean, std = text.get("image_mean"), text.get("image_std")
    if not text.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    found: dict[str, Any] = {
        "size": (int(size["height"]), int(size["width"])) if {"height", "width"} <= size.keys() else None,
        "mean": None if mean is None else tuple(float(each) / scale for each in mean),
        "std": None if std is None else tuple(float(each) / scale for each in std),
        "resample": RESAMPLE.get(text.get("resample", 0)),
    }
    if "keep_aspect_ratio" in text:
        found["aspect"] = "keep" if text["keep_aspect_ratio"] else "stretch"
        multiple = text.get("ensure_multiple_of") or 0
        # ZoeDepth's class begins with 1/32, by which nothing is a whole number of pixels.
        found["multiple"] = int(multiple) if text["keep_aspect_ratio"] and multiple >= 1 else None
    return found


def _patch(config: dict[str, Any]) -> int | None:
    if config["model_type"] != "depth_anything":
        return None
    return int((config.get("backbone_config") or {}).get("patch_size", config.get("patch_size", 14)))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} can't be read ({error}): bring the whole folder of the network") from error
    if not isinstance(text, dict):
        raise InputError(f"{path.name} holds no settings: bring the whole folder of the network")
    return text
