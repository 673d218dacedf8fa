"""`python -m fxq` is the command `fxq`."""

import sys

from fxq.cli import main

if __name__ == "__main__":
    sys.exit(main())
