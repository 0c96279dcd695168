"""Publishes a trained detector, and fetches published ones.

    python -m maskrcnn_jax.hub push runs/mine hf://USER/NAME --license=cc-by-4.0
    python -m maskrcnn_jax.hub push runs/mine mine.zip
    python -m maskrcnn_jax.hub pull hf://USER/NAME mine

What is published: model.safetensors, config.json and a card (README.md); none can execute anything.
maskrcnn_jax.load, python -m maskrcnn_jax.export and python -m maskrcnn_jax.serve take hf://USER/NAME,
the folder or the zip archive. docs/hub.md.
"""

import argparse
from collections.abc import Sequence

from maskrcnn_jax.cli import command
from maskrcnn_jax.export.detector import load
from maskrcnn_jax.hub.publish import metrics_of, push


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return command.status_of(lambda: _run(options), options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__, "python -m maskrcnn_jax.hub")
    actions = parser.add_subparsers(dest="action", required=True, metavar="push|pull")
    to = actions.add_parser("push", help="publish a model", allow_abbrev=False)
    to.add_argument("source", metavar="SOURCE", help="a work directory, or a file of weights")
    to.add_argument("place", metavar="PLACE", help="hf://USER/NAME, a new folder, or NAME.zip")
    to.add_argument("--license", default="unknown", help="of the weights, as hubs name it")
    to.add_argument("--private", action="store_true", help="a new repository is yours alone")
    of = actions.add_parser("pull", help="fetch a published model", allow_abbrev=False)
    of.add_argument("source", metavar="SOURCE", help="hf://USER/NAME[@REVISION], folder or zip")
    of.add_argument("place", metavar="FOLDER", help="a new folder")
    to.add_argument("--checkpoint", default="last", help="last, best or the number of a step")
    for action in (to, of):
        command.add_debug(action)
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.action == "pull":
        detector = load(options.source)
        metadata = {"license": "unknown", **detector.metadata}
        made = push(detector.variables, metadata, options.place)
    else:
        detector = load(options.source, options.checkpoint)
        made = push(
            detector.variables,
            {**detector.metadata, "license": options.license},
            options.place,
            metrics=metrics_of(options.source),
            private=options.private,
        )
    print(made)
