"""What this distribution is called: the one place that says it. Imports nothing."""

DISTRIBUTION = "deeplens-edge"
"""The name to install by. `deeplens` on the public package index is another project."""

VERSION = "0.2.0"


def pip_install(extra: str = "") -> str:
    """The command that installs this distribution with an extra, for messages.

    Args:
        extra: one or more names separated by commas, without spaces; empty: none.
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"
