"""`python -m maskrcnn_jax.export` is the command in `maskrcnn_jax/cli/export.py`."""

import sys

from maskrcnn_jax.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
