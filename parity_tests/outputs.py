"""What a runtime gave on the cases: the one thing that passes from producing to comparing, in memory or by a file."""

from dataclasses import dataclass, field

from deeplens.runtimes.contract import Arrays

DEPTH_MAP = "depth map"
EIGHT_BIT = "8-bit picture"


@dataclass
class Outputs:
    """What one runtime gave.

    Attributes:
        arrays: name of the output (that of the case; for a loop followed by /depth map, /level k, /8-bit picture) →
            array of the dtype that the runtime gave.
        weights: name of the case → network → SHA-256 of its weights (`model.build.weights_sha256`).
        missing: name of a case that can't run here → what it needs.
        broken: name of a case that was refused → what the runtime said.
        artifacts: paths of the artefacts that were opened → SHA-256, as the manifest says.
    """

    arrays: Arrays = field(default_factory=dict)
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
