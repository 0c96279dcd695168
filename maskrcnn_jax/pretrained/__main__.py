"""`python -m maskrcnn_jax.pretrained` is the command in `maskrcnn_jax/cli/pretrained.py`."""

import sys

from maskrcnn_jax.cli.pretrained import main

if __name__ == "__main__":
    sys.exit(main())
