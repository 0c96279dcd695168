"""Shows data and a model from the inside: pictures, and one HTML page.

    python -m maskrcnn_jax.inspect data --config=shapes --out=inspection
    python -m maskrcnn_jax.inspect targets --workdir=runs/shapes
    python -m maskrcnn_jax.inspect model --workdir=runs/shapes photo.jpg
    python -m maskrcnn_jax.inspect weights --workdir=runs/shapes --checkpoint=best
    python -m maskrcnn_jax.inspect gradients --workdir=runs/shapes --max=8

data shows images with their annotations, as stored, resized and augmented, what mask grids lose,
and statistics. targets shows which anchors are positive, negative and neutral, the sampled ones,
the sampled RoIs and the masks that they should give. model shows a prediction: activations,
objectness, anchors, proposals, refinement, RoIs, what suppression leaves, detections, masks.
weights shows a histogram of each layer and names those that look dead or exploding. gradients
shows how long each layer's gradient is, for one batch.

All look at a trained model (--workdir), or at a recipe's new one (--config).
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_jax import config_flags
from maskrcnn_jax.cli import command
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.inspect.data import data_views, evenly
from maskrcnn_jax.inspect.gradients import gradient_views
from maskrcnn_jax.inspect.model import model_views
from maskrcnn_jax.inspect.page import View, write_page
from maskrcnn_jax.inspect.subject import Subject, subject
from maskrcnn_jax.inspect.targets import target_views
from maskrcnn_jax.inspect.weights import layers, weight_views


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options, others = _parser().parse_known_args(arguments)
    return command.status_of(lambda: run(options, others), options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m maskrcnn_jax.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True, dest="verb")
    _verb(verbs, "data", _data, "images with their annotations", "train")
    _verb(verbs, "targets", _targets, "what training makes of the truth", "train")
    verb = _verb(verbs, "model", _model, "every stage of a prediction", "val")
    verb.add_argument("images", nargs="*", metavar="IMAGE", help="files instead of the split's")
    verb.add_argument(
        "--min_score", type=float, default=0.5, metavar="SCORE", help="of detections drawn (0.5)"
    )
    _verb(verbs, "weights", _weights, "histograms of each layer", None)
    _verb(verbs, "gradients", _gradients, "norms of each layer's gradient, for one batch", "train")
    return parser


def _verb(verbs, name: str, views, help_text: str, split: str | None):
    """Adds a command with the arguments that all have."""
    verb = verbs.add_parser(
        name, help=help_text, description=help_text, epilog="and --config.KEY=VALUE"
    )
    verb.add_argument("--workdir", metavar="DIR", help="the folder of a training run")
    verb.add_argument(
        "--checkpoint", metavar="NAME", default="last", help="last, best or a step (last)"
    )
    command.add_config(verb)
    verb.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("inspection"), help="(inspection)"
    )
    if split:
        verb.add_argument(
            "--split", choices=("train", "val"), default=split, help=f"of the data ({split})"
        )
        verb.add_argument("--max", type=int, default=2, metavar="N", help="images shown (2)")
    command.add_cache(verb)
    command.add_debug(verb)
    verb.set_defaults(views=views)
    return verb


def run(options: argparse.Namespace, others: Sequence[str]) -> None:
    """Writes the page that the flags name, and says where.

    Raises:
        ValueError: a flag, the configuration or the data do not fit.
        OSError: a file cannot be read or written.
    """
    if getattr(options, "max", 1) < 1:
        raise ValueError(f"--max is {options.max}; at least 1 is needed")
    use_compilation_cache(options.compilation_cache)
    keys = config_flags.only_keys(others)
    what = subject(options.workdir, options.checkpoint, options.config, keys)
    views = options.views(what, options)
    page = write_page(options.out, options.verb, f"inspect {options.verb}", what.words, views)
    print(f"written to {page}")


def _data(what: Subject, options: argparse.Namespace) -> Iterator[View]:
    dataset = what.dataset(options.split)
    return data_views(dataset, what.config, options.split == "train", options.max)


def _targets(what: Subject, options: argparse.Namespace) -> Iterator[View]:
    dataset, variables = _to_train(what, options.split)
    return target_views(variables, dataset, what.config, options.max)


def _gradients(what: Subject, options: argparse.Namespace) -> Iterator[View]:
    dataset, variables = _to_train(what, options.split)
    return gradient_views(variables, dataset, what.config, options.max)


def _to_train(what: Subject, split: str) -> tuple[Dataset, Mapping[str, Any]]:
    dataset = what.dataset(split)
    variables, names = what.trained(dataset)
    if names != dataset.class_names:
        raise ValueError(f"the model has the classes {names}, the data {dataset.class_names}")
    return dataset, variables


def _model(what: Subject, options: argparse.Namespace) -> Iterator[View]:
    needs_data = not options.images or what.variables is None
    dataset = what.dataset(options.split) if needs_data else None
    predictor = what.predictor(dataset)
    for path in options.images:
        image = predictor.read(path)
        yield from model_views(predictor, image, Path(path).name, options.min_score)
    if dataset and not options.images:
        yield from _of_split(predictor, dataset, options)


def _of_split(predictor, dataset: Dataset, options: argparse.Namespace) -> Iterator[View]:
    for index in evenly(len(dataset.records), options.max):
        record = dataset.records[index]
        image = dataset.read_image(record)
        yield from model_views(predictor, image, str(record.image_id), options.min_score)


def _weights(what: Subject, options: argparse.Namespace) -> Iterator[View]:
    dataset = what.dataset("train") if what.variables is None else None
    found = layers(what.trained(dataset)[0]["params"])
    for layer in found:
        if layer.fault:
            print(f"{layer.name}: {layer.fault}")
    return weight_views(found)
