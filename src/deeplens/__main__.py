"""`python -m deeplens`: the same as the command `deeplens`."""

import sys

from deeplens.app import main

if __name__ == "__main__":
    sys.exit(main())
