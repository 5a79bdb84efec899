"""Where artefacts are looked for: the working folder's, then the user's own, then those that a wheel carries."""

from pathlib import Path

from platformdirs import user_data_path

from deeplens.model.contract import part_of
from deeplens.runtimes.manifest import DEFAULT_FOLDER, read

PACKAGED_FOLDER = Path(__file__).parent.parent / "packaged"
"""Where a wheel carries artefacts (`make dist`); not there in a checkout until they are made."""


def user_folder() -> Path:
    """The user's own folder of artefacts, for all projects."""
    return user_data_path("deeplens", appauthor=False) / "artifacts"


def search_path() -> tuple[Path, ...]:
    """Where artefacts are looked for unless told otherwise: the working folder's, the user's, the packaged ones."""
    return DEFAULT_FOLDER, user_folder(), PACKAGED_FOLDER


def folder_of(
    runtime: str, *, variant: str | None = None, precision: str | None = None, artifacts: Path | None = None
) -> Path | None:
    """The first folder that has artefacts of a kind; None: there is none.

    Args:
        variant, precision: None: any.
        artifacts: the only folder to look in; None: those of `search_path`.

    Raises:
        InputError: a manifest on the way can't be read.
    """
    own = None if variant is None else part_of(variant, "lens_blur")
    for folder in search_path() if artifacts is None else (artifacts,):
        for each in read(folder):
            if each.runtime == runtime and own in (None, each.variant) and precision in (None, each.precision):
                return folder
    return None


def opened_folder(
    runtime: str, *, variant: str | None = None, precision: str | None = None, artifacts: Path | None = None
) -> Path:
    """The folder that is read: the one it was given, else as `folder_of`, else `DEFAULT_FOLDER`."""
    if artifacts is not None:
        return artifacts
    return folder_of(runtime, variant=variant, precision=precision) or DEFAULT_FOLDER
