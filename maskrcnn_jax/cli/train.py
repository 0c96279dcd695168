"""Trains Mask R-CNN.

    python train.py --config=shapes [--workdir=runs/shapes] [--config.train.steps=100]

The same command resumes from the newest checkpoint in the work directory, if there is one. For
several processes, on one host or many, each is given its part:

    python train.py --config=... --coordinator=HOST:PORT --num_processes=N --process_id=I
    srun python train.py --config=... --distributed=auto
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
from absl import logging

from maskrcnn_jax import config_flags
from maskrcnn_jax.cli import command, process_flags, processes
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.config import Config
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.federated import image_counts
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.evaluation.evaluate import check_metrics, evaluate, pictures_in
from maskrcnn_jax.evaluation.report import report_text
from maskrcnn_jax.evaluation.validation_loss import make_loss_step
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.parallel.agreement import check_same
from maskrcnn_jax.parallel.messages import say
from maskrcnn_jax.pretrained import start as initial
from maskrcnn_jax.training import loop
from maskrcnn_jax.training.run import lock as run_lock
from maskrcnn_jax.training.settings import check_run


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command, and ends the process with its exit status."""
    parser = command.parser(__doc__)
    command.add_config(parser)
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="folder for checkpoints and logs; by default runs/<config.name>",
    )
    command.add_cache(parser)
    process_flags.add_arguments(parser)
    options, others = parser.parse_known_args(arguments)

    def work() -> None:
        config = config_flags.read(options.config, config_flags.only_keys(others))
        use_compilation_cache(options.compilation_cache)
        train(config, Path(options.workdir or Path("runs") / config.name))

    # Without --debug libraries are silent: what went wrong is printed in one line of our own.
    cluster = partial(process_flags.cluster, options)
    processes.run(work, options.debug, cluster, quiet=logging.FATAL)


def train(config: Config, workdir: Path) -> None:
    """Loads and checks the data, loads the weights to start from, trains, evaluates."""
    mesh = check_run(config)
    run_lock.check_free(workdir)
    train_set, val_set = (
        check.checked(
            datasets.load_for(config, split),
            config.data,
            workdir / f"faults_{split}.txt" if jax.process_index() == 0 else None,
            partial(_say_of, split),
        )
        for split in ("train", "val")
    )
    check.check_same_classes(train_set, val_set)
    check.check_objects(train_set)
    images = {
        f"the {name} images": [(record.image_id, record.height, record.width) for record in records]
        for name, records in (("training", train_set.records), ("validation", val_set.records))
    }
    check_same(images)
    config, start = initial.begin(config, workdir)
    head, number = config.model.box_head, len(train_set.class_names)
    if head.class_loss == "federated" and not head.class_image_counts:
        head.class_image_counts = image_counts(train_set.records, number)
    check_metrics(config, val_set)
    model = make_model(config.model, number)
    predict_step = make_predict_step(model, mesh)
    loss_step = make_loss_step(model, mesh) if config.eval.loss else None
    data = loop.TrainingData(
        class_names=train_set.class_names,
        category_ids=train_set.category_ids,
        num_images=pipeline.num_samples(train_set, config.data),
        batches=partial(
            pipeline.train_batches,
            train_set,
            config,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ),
        report=lambda metrics: report_text(metrics, val_set, config.eval.max_detections),
        pictures=partial(pictures_in, workdir / "eval"),
        evaluate=lambda variables, before_batch: evaluate(
            predict_step,
            variables,
            val_set,
            config,
            workdir / "eval",
            before_batch,
            loss_step,
            must_write=False,
        ),
    )
    loop.train(
        config,
        workdir,
        data,
        model.clone(remat=config.train.remat, deterministic=config.train.deterministic),
        start,
    )


def _say_of(split: str, text: str) -> None:
    say(f"{split}: {text}")
