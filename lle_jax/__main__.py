"""`python -m lle_jax`: the command `lle`."""

import sys

from lle_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
