"""Run refocus.py on end-to-end vectors, and write every stage under the names that `deeplens golden --check` reads."""

import argparse
import json
from pathlib import Path

import numpy as np
from refocus import Effect


def write(effect, vectors, results, variant="edge"):
    """What `effect` makes of each photo and setting in the folder `vectors`, into the folder `results`."""
    results.mkdir(parents=True, exist_ok=True)
    for path in sorted(vectors.glob(f"{variant}_loop_*.json")):
        text = json.loads(path.read_text())
        given = {
            stage["name"]: read(vectors, stage) for stage in text["stages"] if stage["name"] in ("photo", "disparity")
        }
        for case in text["cases"]:
            found = {}
            effect.refocus(given["photo"], given["disparity"], case["f_number"], case["focus"], stages=found)
            for stage in [*text["stages"], *case["stages"]]:
                if stage["name"] in found:
                    (results / stage["file"]).write_bytes(np.ascontiguousarray(found[stage["name"]]).tobytes())


def read(folder, stage):
    """The array of a stage."""
    kind = {"uint8": "u1", "float32": "<f4"}[stage["dtype"]]
    return np.fromfile(folder / stage["file"], kind).reshape(stage["shape"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the example on end-to-end vectors.")
    parser.add_argument("vectors", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    asked = parser.parse_args()
    write(Effect(asked.artifacts), asked.vectors, asked.results)
