"""The user's own folder for all projects. Imports nothing of the project."""

from pathlib import Path

from platformdirs import user_data_path


def user_data() -> Path:
    """Where what belongs to the user lies: artefacts for all projects, and the list of engines built here."""
    return user_data_path("deeplens", appauthor=False)
