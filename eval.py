"""Evaluates a trained model: `python eval.py --workdir=DIR`; maskrcnn_jax/cli/eval.py."""

from maskrcnn_jax.cli.eval import main

if __name__ == "__main__":
    main()
