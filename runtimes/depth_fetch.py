"""Brings the files of a known depth network with the Hugging Face client, which is imported when it is used."""

import shutil
from pathlib import Path
from typing import Any

from deeplens.console.errors import MissingError, one_line
from deeplens.console.package import pip_install
from deeplens.model.depth_registry import DepthCard

FULL = 40
"""Digits of a commit in full."""

TIMEOUT = 15.0
"""Seconds to wait for the first answer."""


def fetch(card: DepthCard, staging: Path, *, revision: str | None = None) -> str:
    """Put the files of `card` into `staging`, by their names alone.

    Args:
        revision: commit, tag or branch; None: the card's, else the newest.

    Returns:
        the full commit that the files came from.

    Raises:
        MissingError: the client is not installed, or the files can't be had; the message says which file to bring.
    """
    wanted = revision or card.revision
    if card.repository is None:
        raise MissingError(f"nothing is known of where {card.name} can be fetched: give --from FILE")
    try:
        client = _client()
    except ImportError as error:
        raise MissingError(
            f"fetching needs the Hugging Face client ({error}): {pip_install('depth-networks')}; or {_bring(card)}"
        ) from error
    try:
        # This asks once, where a download would try for half a minute.
        newest = client.HfApi().model_info(card.repository, revision=wanted, timeout=TIMEOUT).sha
        wanted = wanted if wanted is not None and len(wanted) == FULL else str(newest)
        for name in card.files:
            found = client.hf_hub_download(card.repository, name, revision=wanted, cache_dir=staging / "cache")
            shutil.copyfile(found, staging / Path(name).name)
    except Exception as error:  # the client's own and those of the libraries below it share no base class
        raise MissingError(
            f"{card.repository} can't be reached or does not give its files ({_reason(error)}): {_bring(card)}"
        ) from error
    finally:
        shutil.rmtree(staging / "cache", ignore_errors=True)
    return wanted


def _bring(card: DepthCard) -> str:
    """What to do where there is no network."""
    at = f" at revision {card.revision}" if card.revision else ""
    files = " and ".join((", ".join(card.files[:-1]), card.files[-1])) if len(card.files) > 1 else card.files[0]
    where = "FOLDER" if len(card.files) > 1 else "FILE"
    return (
        f"bring {files} of the Hugging Face repository {card.repository}{at} here, then run "
        f"`deeplens depth add {card.name} --from {where}`"
    )


def _reason(error: Exception) -> str:
    """What happened, in a few words: the first sentence of the message."""
    return one_line(error).split(". ")[0][:200]


def _client() -> Any:
    import huggingface_hub
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its warnings would stand beside our one line
    return huggingface_hub
