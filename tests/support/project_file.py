"""What `pyproject.toml` says of this project. Python 3.10 reads TOML with the library that pytest brings there."""

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
"""The whole file."""

PROJECT: dict[str, Any] = PYPROJECT["project"]

EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
