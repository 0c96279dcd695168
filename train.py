"""Trains Mask R-CNN: `python train.py --config=coco`; maskrcnn_jax/cli/train.py."""

from maskrcnn_jax.cli.train import main

if __name__ == "__main__":
    main()
