"""The exceptions that mean: the user, not the program, has to change something.

Each carries the exit status of the command line, so that scripts can tell the cases apart. The message is one
line that says what was wrong and what to do about it.
"""


class DeepLensError(Exception):
    """Base of all errors that a user can act on."""

    exit_code = 1

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # what it quotes may have several


class InputError(DeepLensError):
    """A photo, a depth map or an option that can't be used (exit status 3)."""

    exit_code = 3


class MissingError(DeepLensError):
    """A runtime, an extra, an artefact or weights that are not there (exit status 4)."""

    exit_code = 4


class MismatchError(DeepLensError):
    """Two things that should agree do not: a hash, a shape, a parity check (exit status 5)."""

    exit_code = 5


class Cancelled(Exception):  # noqa: N818  (no error: somebody asked for something newer)
    """A newer request has taken the place of this one, or nobody waits for it any more.

    No `DeepLensError`: there is nothing to change, and nothing to tell the user.
    """


def one_line(error: BaseException) -> str:
    """The message of an error on one line; its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
