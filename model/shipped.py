"""Where weights are: those that come with the package, their cards, and what a person may give instead.

Imports no torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deeplens.console.errors import MismatchError, MissingError, one_line
from deeplens.console.files import file_sha256
from deeplens.console.inputs import read_text
from deeplens.model.contract import NETWORKS

WEIGHTS = Path(__file__).parent / "weights"
"""Where the weights lie that come with the package."""

Weights = Path | Literal["shipped", "initial"]
"""Which weights: those that come with the package, untrained ones (always the same), a safetensors file, or a folder of
VARIANT_NETWORK.safetensors."""


def weights_from(text: str) -> Weights:
    """What `--weights` names: one of the two words, or a path that is there.

    Raises:
        MissingError: neither.
    """
    if text == "shipped":
        return "shipped"
    if text == "initial":
        return "initial"
    path = Path(text)
    if not path.exists():
        raise MissingError(
            f"there are no weights at {text}: give 'shipped', 'initial', a safetensors file or a folder of such files"
        )
    return path


def weights_file(variant: str, network: str, weights: Weights = "shipped") -> Path | None:
    """The file of a network's weights; None for initial weights.

    Raises:
        MissingError: no such file, or no weights are shipped for this network.
    """
    if weights == "initial":
        return None
    folder = WEIGHTS if weights == "shipped" else Path(weights)
    path = folder / f"{variant}_{network}.safetensors" if weights == "shipped" or folder.is_dir() else folder
    if not path.is_file():
        if weights == "shipped":
            raise MissingError(
                f"no trained weights are shipped for the {variant} {network} network: give your own with --weights, "
                "or --weights initial for untrained ones (parity and benchmarks only)"
            )
        raise MissingError(
            f"there are no weights at {path}: give a .safetensors file or a folder of VARIANT_NETWORK.safetensors"
        )
    return path


def has_weights(variant: str) -> bool:
    """Whether trained weights of all networks of a variant come with the package."""
    return all((WEIGHTS / f"{variant}_{network}.safetensors").is_file() for network in NETWORKS)


@dataclass(frozen=True)
class Shipped:
    """Weights that come with the package.

    Attributes:
        path: the safetensors file.
        card: the text beside it that says what it was trained on and what it scores; None where it is missing.
        sha256: of the file.
    """

    path: Path
    card: Path | None
    sha256: str

    def verify(self) -> None:
        """Check the file against its card, which must name the file's SHA-256.

        Raises:
            MissingError: there is no card.
            MismatchError: the card names no hash, or another one.
        """
        check_card(self.path, self.sha256, needed=True)


def check_card(path: Path, sha256: str, *, needed: bool) -> None:
    """Check weights against the card beside them, NAME.md of NAME.safetensors.

    Args:
        sha256: of the file.
        needed: weights without a card are refused too.

    Raises:
        MissingError: there is no card, and one is needed.
        MismatchError: the card names no hash, or another one.
    """
    card = path.with_suffix(".md")
    if not card.is_file():
        if needed:
            raise MissingError(
                f"{path} has no card beside it, so its origin is unknown: restore the card from the repository"
            )
        return
    try:
        text = read_text(card)
    except (OSError, ValueError) as error:
        raise MismatchError(f"the card {card} can't be read ({one_line(error)}): restore it") from error
    if sha256 not in text.lower():
        raise MismatchError(
            f"{path} has SHA-256 {sha256[:12]}…, but its card {card.name} lists another: restore the file, or write "
            "a card for it"
        )


def shipped_weights(folder: Path = WEIGHTS) -> list[Shipped]:
    """All weights in `folder`, by name; the card of NAME.safetensors is NAME.md."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        card = path.with_suffix(".md")
        found.append(Shipped(path, card if card.is_file() else None, file_sha256(path)))
    return found
