"""`python -m maskrcnn_jax.plan` is the command in `maskrcnn_jax/cli/plan.py`."""

import sys

from maskrcnn_jax.cli.plan import main

if __name__ == "__main__":
    sys.exit(main())
