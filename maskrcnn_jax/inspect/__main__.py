"""`python -m maskrcnn_jax.inspect` is the command in `maskrcnn_jax/cli/inspect.py`."""

import sys

from maskrcnn_jax.cli.inspect import main

if __name__ == "__main__":
    sys.exit(main())
