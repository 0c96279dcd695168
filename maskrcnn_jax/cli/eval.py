"""Evaluates a trained model: COCO's metrics for boxes and masks, and pictures.

    python eval.py --workdir=runs/shapes
    python eval.py --workdir=runs/coco --checkpoint=best --config.eval.batch_size=4
    python eval.py --workdir=runs/coco --config=coco --config.data.val.root=DIR
    python eval.py --workdir=runs/coco --report
    python eval.py --workdir=runs/coco --tta=flip,0.8,1.25

The configuration is the one in the checkpoint, of which single keys can be changed, or else the
one given, which must have the keys of the model that belong to the weights as these need them. The
model may know more classes than the data set has: they are matched by name, and what it takes for
any other class is left out. Several processes share the images, as they do in train.py. Writes
WORKDIR/eval/ (or --out): report.txt, metrics.json, detections.json, pictures/, and with --report a
page on what goes wrong, report.html, with its numbers as report.json.
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from maskrcnn_jax import config_flags, config_json
from maskrcnn_jax.checkpoints.format import check_structure
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.cli import command, process_flags, processes
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.config import Config
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.evaluation.classes import (
    class_table,
    in_classes_of_data,
    in_classes_of_model,
    left_out,
)
from maskrcnn_jax.evaluation.evaluate import batch_size, check_metrics, evaluate
from maskrcnn_jax.evaluation.validation_loss import make_loss_step
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.inference.test_time import parse_views, scaled_bucket
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.parallel.agreement import check_same
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import batch_shards, check_buckets, make_mesh, replicated
from maskrcnn_jax.parallel.messages import say
from maskrcnn_jax.pretrained.weight_keys import weight_keys


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command, and ends the process with its exit status."""
    parser = command.parser(__doc__)
    command.add_checkpoint(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the results; WORKDIR/eval unless given"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write report.html: curves, classes, confusions, kinds of errors, worst images",
    )
    command.add_tta(parser)
    command.add_config(parser)
    command.add_cache(parser)
    process_flags.add_arguments(parser)
    options, others = parser.parse_known_args(arguments)

    def work() -> None:
        use_compilation_cache(options.compilation_cache)
        say(run(options, config_flags.only_keys(others)))

    processes.run(work, options.debug, partial(process_flags.cluster, options))


def run(options: argparse.Namespace, keys: list[str]) -> str:
    """Evaluates as the flags say; returns the report, of several processes in the first."""
    views = parse_views(options.tta) if options.tta else None
    variables, metadata = load_for_inference(options.workdir, options.checkpoint)
    config = configuration(metadata["config"], options.config, keys)
    config.validate()
    if options.report and not config.model.masks:
        raise ValueError("--report analyses masks, and the model has none; leave it out")
    loaded = datasets.load_for(config, "val")
    dataset = check.checked(loaded, config.data, log=lambda t: say(f"val: {t}"))
    table = class_table(metadata["class_names"], dataset.class_names)
    model = make_model(config.model, len(metadata["class_names"]))
    check_structure(variables, abstract_variables(model), f"{options.workdir} (variables)")
    check_metrics(config, dataset)
    check_same({"the validation images": [record.image_id for record in dataset.records]})
    mesh = mesh_for(config)
    for scale in views.scales if views else ():
        check_buckets([scaled_bucket(bucket, scale) for bucket in config.data.buckets], mesh)
    parts = batch_shards(mesh)
    config.eval.batch_size = batch_size(config.eval, len(dataset.records), parts)
    # By way of the host: what one device has cannot be copied to another process's.
    variables = jax.device_put(jax.device_get(variables), replicated(mesh))
    out_dir = Path(options.out or Path(options.workdir) / "eval")
    predict_step = in_classes_of_data(make_predict_step(model, mesh, views), table)
    loss_step = None
    if config.eval.loss:
        loss_step = in_classes_of_model(make_loss_step(model, mesh), table)
    evaluate(
        predict_step,
        variables,
        dataset,
        config,
        out_dir,
        loss_step=loss_step,
        report=options.report,
        views=views,
    )
    if jax.process_index() > 0:
        return ""
    lines = [(out_dir / "report.txt").read_text()]
    if others := left_out(metadata["class_names"], table):
        lines.append(f"left out, as the data set has no such class: {', '.join(others)}")
    return "\n".join([*lines, f"step {metadata['step']}; written to {out_dir}"])


def mesh_for(config: Config) -> Mesh:
    """Returns the devices that share the images; the rows too, as far as they did in training.

    One process uses as many as can have equal shares of a batch. Several use all, and make the
    batch larger where it must be: `config.eval.batch_size` is changed.
    """
    space = math.gcd(config.mesh.space, jax.local_device_count())
    parts = jax.device_count() // space
    if jax.process_count() == 1:
        parts = math.gcd(config.eval.batch_size, parts)
    else:
        config.eval.batch_size = math.ceil(config.eval.batch_size / parts) * parts
    mesh = make_mesh(MeshConfig(data=parts, space=space))
    check_buckets(config.data.buckets, mesh)
    return mesh


def configuration(saved: dict[str, Any], recipe: str | None, keys: list[str]) -> Config:
    """Returns the recipe of `--config`, or else the checkpoint's configuration, with keys changed.

    Args:
        saved: the configuration in the checkpoint.
        recipe: the value of `--config`, if given.
        keys: such as `--config.eval.batch_size=4`.

    Raises:
        ValueError: there is no such recipe or key, a value is not of its type, or the recipe is of
            another model.
    """
    config = config_flags.read(recipe, keys, default=config_json.section(Config, saved))
    if recipe:
        _check_dialect(config, saved, keys)
    return config


def _check_dialect(config: Config, saved: dict[str, Any], keys: list[str]) -> None:
    """Refuses a recipe in which the weights would mean something else than when they were trained.

    Keys that have a flag of their own are meant so. A frozen batch norm gives what one that is not
    frozen gives.
    """
    flagged = {key.lstrip("-").split("=")[0] for key in keys}
    model = config_json.section(ModelConfig, saved["model"], "config.model")
    of_weights = weight_keys(model, "detector")
    checked = [key for key in of_weights if f"config.model.{key}" not in flagged]
    faults = [
        f"model.{key}: {old!r} -> {new!r}"
        for key, old, new in config_json.differences(model, config.model)
        if key in checked and {old, new} != {"bn", "frozen_bn"}
    ]
    if faults:
        raise ValueError(
            f"the weights were trained with another model than that of --config (checkpoint -> "
            f"file): {'; '.join(faults)}. Leave --config out, since the checkpoint has its own, "
            f"and change single keys: --config.data.val.root=DIR"
        )
