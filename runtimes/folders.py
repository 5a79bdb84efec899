"""Where artefacts are looked for: the working folder's, then the user's own, then those that a wheel carries."""

from pathlib import Path

from deeplens.model.contract import part_of
from deeplens.model.whole_contract import OF_ONE_PHOTO
from deeplens.runtimes import folders_of_user
from deeplens.runtimes.manifest import DEFAULT_FOLDER, read

PACKAGED_FOLDER = Path(__file__).parent.parent / "packaged"
"""Where a wheel carries artefacts (`make dist`); not there in a checkout until they are made."""


def user_folder() -> Path:
    """The user's own folder of artefacts, for all projects."""
    return folders_of_user.user_data() / "artifacts"


def search_path() -> tuple[Path, ...]:
    """Where artefacts are looked for unless told otherwise: the working folder's, the user's, the packaged ones."""
    return DEFAULT_FOLDER, user_folder(), PACKAGED_FOLDER


def folder_of(
    runtime: str,
    *,
    variant: str | None = None,
    precision: str | None = None,
    artifacts: Path | None = None,
    whole: bool = False,
) -> Path | None:
    """The first folder that has artefacts of a kind; None: there is none.

    Args:
        variant, precision: None: any.
        artifacts: the only folder to look in; None: those of `search_path`.
        whole: graphs of the whole effect, which the harness has no use for; else the networks alone.

    Raises:
        InputError: a manifest on the way can't be read.
    """
    own = None if variant is None else part_of(variant, "lens_blur")
    for folder in search_path() if artifacts is None else (artifacts,):
        for each in read(folder):
            fits = each.runtime == runtime and own in (None, each.variant) and precision in (None, each.precision)
            if fits and (each.network in OF_ONE_PHOTO) == whole:
                return folder
    return None


def opened_folder(
    runtime: str,
    *,
    variant: str | None = None,
    precision: str | None = None,
    artifacts: Path | None = None,
    whole: bool = False,
) -> Path:
    """The folder that is read: the one it was given, else as `folder_of`, else `DEFAULT_FOLDER`."""
    if artifacts is not None:
        return artifacts
    return folder_of(runtime, variant=variant, precision=precision, whole=whole) or DEFAULT_FOLDER
