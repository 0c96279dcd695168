"""`python -m maskrcnn_jax.hub` is the command in `maskrcnn_jax/cli/hub.py`."""

import sys

from maskrcnn_jax.cli.hub import main

if __name__ == "__main__":
    sys.exit(main())
