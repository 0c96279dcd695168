"""`python -m maskrcnn_jax.doctor` is the command in `maskrcnn_jax/cli/doctor.py`."""

import sys

from maskrcnn_jax.cli.doctor import main

if __name__ == "__main__":
    sys.exit(main())
