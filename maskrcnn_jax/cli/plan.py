"""Says what a recipe would need of chips that are not there, and how fast it could be.

    python -m maskrcnn_jax.plan --config=coco --target=v5e:4x4 --config.train.batch_size=32
    python -m maskrcnn_jax.plan --config=coco --target=h100:8 --config.model.dtype=bfloat16 --json
    python -m maskrcnn_jax.plan --config=coco --target=v5p:2x2x2 --config.mesh.fsdp=8

The real training step and the prediction are compiled for them, which takes minutes and no chip:
whether they fit, the arithmetic, what the chips exchange, a lower bound of the time, and what is
suspicious in the programs. Targets: v4, v5e, v5p, v6e (one chip, or a slice as :4x4 or :2x2x2),
h100, a100 (one GPU, or their number as :8). It needs the extra `plan`. docs/accelerators.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from maskrcnn_jax import config_flags
from maskrcnn_jax.cli import command

_STEPS = {"train": "training step", "predict": "prediction"}
_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status, 1 where a step does not fit."""
    options, others = _parser().parse_known_args(arguments)
    if not options.debug:
        # XLA warns of what it could only know with a chip at hand, and of its own slowness. It
        # reads this when JAX is imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return command.status_of(lambda: _plan(options, others), options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__, "python -m maskrcnn_jax.plan")
    command.add_config(parser)
    add = parser.add_argument
    add("--target", required=True, metavar="CHIPS", help="such as v5e, v5e:4x4, v5p:2x2x2, h100:8")
    add("--step", choices=(*_STEPS, "both"), default="both", help="what to compile (both)")
    add("--classes", type=int, default=80, help="K, of the data set (80, as COCO)")
    add("--image", metavar="HxW", help="of the batch; default: the largest of config.data.buckets")
    add("--json", action="store_true", help="one JSON object instead of text")
    add("--hlo", type=Path, metavar="DIR", help="also write the optimised programs into a folder")
    return parser


def _plan(options: argparse.Namespace, others: Sequence[str]) -> int:
    from maskrcnn_jax.plan import steps, targets  # JAX, which --help does not need
    from maskrcnn_jax.plan.analysis import analyse
    from maskrcnn_jax.plan.report import as_text
    from maskrcnn_jax.training.settings import check_run

    config = config_flags.read(options.config, config_flags.only_keys(others))
    target = targets.parse(options.target)
    image = _image(options.image, config.data.buckets)
    if options.classes < 1:
        raise ValueError(f"--classes={options.classes}; give the number of classes, at least 1")
    mesh = check_run(config, targets.devices(target))
    if mesh.size < target.count:
        raise ValueError(
            f"config.mesh has {mesh.size} devices, but --target={target.name} has {target.count}; "
            "make config.mesh.data -1, or take fewer chips"
        )
    sizes = dict(mesh.shape)
    if not options.json:
        print(_head(config.name, target.name, sizes, image, options.classes))
    plans = []
    for key, name in _STEPS.items():
        if options.step not in (key, "both"):
            continue
        print(f"compiling the {name} for {target.name}: minutes", file=sys.stderr, flush=True)
        lower = steps.training if key == "train" else steps.prediction
        images = getattr(config, "train" if key == "train" else "eval").batch_size
        lowered = lower(config, options.classes, image, mesh)
        plan, text = analyse(name, lowered, images, target, sizes, config.model.dtype)
        plans.append(plan)
        if options.hlo and text:
            options.hlo.mkdir(parents=True, exist_ok=True)
            (options.hlo / f"{key}.hlo").write_text(text)
        if not options.json:
            print("\n" + as_text(plan, config, target, sizes), flush=True)
    if options.json:
        head = {"config": config.name, "target": target.name, "chips": target.count}
        head |= {"mesh": sizes, "image": list(image), "dtype": config.model.dtype}
        head |= {"versions": _versions(), "steps": [plan.as_json() for plan in plans]}
        print(json.dumps(head))
    return int(not all(plan.fits for plan in plans))


def _head(
    name: str, target: str, mesh: dict[str, int], image: tuple[int, int], classes: int
) -> str:
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.items())
    versions = ", ".join(f"{package} {number}" for package, number in _versions().items())
    return (
        f"{name} on {target} ({axes}), images of {image[0]}x{image[1]}, {classes} classes\n"
        f"compilers: {versions}. No chip has run anything."
    )


def _image(text: str | None, buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Returns the height and width of `--image`, or of the largest bucket."""
    if text is None:
        return max(buckets, key=lambda bucket: bucket[0] * bucket[1])
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()) or int(height) % 32 or int(width) % 32:
        raise ValueError(f"--image={text}; give HxW, multiples of 32, such as 800x1344")
    return int(height), int(width)


def _versions() -> dict[str, str]:
    found = {}
    for package in _COMPILERS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
