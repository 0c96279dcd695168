"""`python -m maskrcnn_jax.data` is the command in `maskrcnn_jax/cli/data.py`."""

import sys

from maskrcnn_jax.cli.data import main

if __name__ == "__main__":
    sys.exit(main())
