"""Trains Mask R-CNN.

    python train.py --config=configs/shapes.py [--workdir=runs/shapes] [--config.train.steps=100]

The same command goes on from the newest checkpoint in the work directory, if there is one. For
several processes, on one host or many, each is given its part:

    python train.py --config=... --coordinator=HOST:PORT --num_processes=N --process_id=I
    srun python train.py --config=... --distributed=auto
"""

import sys
from functools import partial
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from maskrcnn_jax.cli import command
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.config_flags import faulty_flag, unknown_key
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.evaluation.evaluate import check_settings, evaluate
from maskrcnn_jax.evaluation.validation_loss import make_loss_step
from maskrcnn_jax.images.pixels import check_channels
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.parallel.agreement import check_same
from maskrcnn_jax.parallel.messages import say
from maskrcnn_jax.pretrained import start as initial
from maskrcnn_jax.training import loop
from maskrcnn_jax.training.run import lock as run_lock
from maskrcnn_jax.training.settings import check_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, a file of configs/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for checkpoints and logs; by default runs/<config.name>."
)
_CACHE = flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs, or off.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error, and libraries' logs.")
flags.mark_flag_as_required("config")


def train(config: ConfigDict, workdir: Path) -> None:
    """Loads and checks the data, loads the weights to start from, trains, evaluates."""
    mesh = check_run(config)
    check_channels(config)
    run_lock.check_free(workdir)
    train_set, val_set = (
        check.checked(
            datasets.load(config.data, split),
            config.data,
            workdir / f"faults_{split}.txt" if jax.process_index() == 0 else None,
            say,
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
    check_settings(config, val_set)
    model = make_model(config.model, len(train_set.class_names))
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
    loop.train(config, workdir, data, start)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if not _DEBUG.value:
        logging.set_verbosity(logging.FATAL)  # what has gone wrong is said in a line of our own
    use_compilation_cache(_CACHE.value)
    config = _CONFIG.value
    workdir = Path(_WORKDIR.value or Path("runs") / config.name)
    command.run(lambda: train(config, workdir), _DEBUG.value)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; a key that the configuration lacks is a mistake of the user's."""
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        print(f"error: {faulty_flag(error)}\n--help shows the flags", file=sys.stderr)
        sys.exit(2)
    except AttributeError as error:
        print(f"error: {unknown_key(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
