"""Finds objects in images: `python predict.py --workdir=DIR IMAGE`; maskrcnn_jax/cli/predict.py."""

import sys

from maskrcnn_jax.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
