"""`python -m maskrcnn_jax.serve`."""

import sys

from maskrcnn_jax.cli.serve import main

if __name__ == "__main__":
    sys.exit(main())
