"""`harness.json`: every constant of the way from photo to photo, for those who write it anew in another language.

Written beside the artefacts by every exporter, from the constants that the code itself uses. docs/harness.md says what
each one is for; its version is `FORMAT`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deeplens.console.files import staged
from deeplens.console.package import VERSION
from deeplens.model import contract
from deeplens.runtimes import disparity, harness, level_run, sharp, tiling
from deeplens.runtimes.manifest import HARNESS

FORMAT = 1
"""Of the file. A key that changes its meaning, or goes, makes another one; a new key does not."""


def described() -> dict[str, Any]:
    """The content of the file."""
    return {
        "format": FORMAT,
        "release": VERSION,
        "document": "docs/harness.md",
        "alignment": contract.ALIGNMENT,
        "min_size": contract.MIN_SIZE,
        "base_long_side": contract.BASE_LONG_SIDE,
        "depth_size": contract.DEPTH_SIZE,
        "r_max": contract.R_MAX,
        "n_min": harness.N_MIN,
        "epsilon": disparity.EPSILON,
        "aspect_tolerance": harness.ASPECT_TOLERANCE,
        "subject_sigma": disparity.SUBJECT_SIGMA,
        "subject_share": disparity.SUBJECT_SHARE,
        "finer_base_range": list(contract.FINER_BASE),
        "sharp_radius": sharp.SHARP_RADIUS,
        "blurred_radius": sharp.BLURRED_RADIUS,
        "unblurred": level_run.UNBLURRED,
        "tile": tiling.TILE,
        "variants": {name: _variant(name, each) for name, each in contract.VARIANTS.items()},
    }


def write(folder: Path) -> Path:
    """Write the file into `folder`, in place of another one that is there.

    Raises:
        OSError: the folder can't be written to.
    """
    path = folder / HARNESS
    text = json.dumps(described(), indent=2) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with staged(path) as file:
            file.write_text(text, encoding="utf-8")
    return path


def _variant(name: str, variant: contract.Variant) -> dict[str, Any]:
    networks = {network: asdict(contract.contract_of(name, network)) for network in contract.NETWORKS}
    return {**asdict(variant), "networks": networks}
