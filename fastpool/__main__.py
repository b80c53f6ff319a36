"""`python -m fastpool` is the command `fastpool`."""

import sys

from fastpool.cli import main

if __name__ == "__main__":
    sys.exit(main())
