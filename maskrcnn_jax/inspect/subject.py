"""What is looked at: a trained model or a recipe's new one, and the data that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from maskrcnn_jax import config_flags
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import from_json, section, to_json
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.hub.load import load_model
from maskrcnn_jax.inference.predictor import Predictor
from maskrcnn_jax.models.build import initial_variables, make_model


@dataclass(frozen=True)
class Subject:
    """A model with its configuration.

    Attributes:
        config: of the run or the recipe, keys changed.
        variables: the model's, or None for a recipe's, whose parameters are not drawn yet.
        metadata: of the checkpoint; empty for a recipe.
        words: what it is, a line for people.
    """

    config: Config
    variables: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    words: str

    def dataset(self, split: str) -> Dataset:
        """Returns the images of a split that can be used.

        Raises:
            ValueError: no data are named, or they cannot be used.
        """
        if not self.config.data.format:
            raise ValueError("no data are named: give a recipe with config.data.format")
        loaded = datasets.load_for(self.config, split)
        return check.checked(loaded, self.config.data)

    def trained(self, dataset: Dataset | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Returns variables and class names, those of a recipe new and for a dataset's classes."""
        if self.variables is not None:
            return self.variables, tuple(self.metadata["class_names"])
        if dataset is None:
            raise ValueError("a recipe has no classes of its own; give --workdir=DIR")
        model = make_model(self.config.model, len(dataset.class_names))
        return initial_variables(model, jax.random.key(self.config.seed)), dataset.class_names

    def predictor(self, dataset: Dataset | None) -> Predictor:
        """Returns the model for use, with the keys changed."""
        variables, names = self.trained(dataset)
        ids = tuple(range(1, len(names) + 1))  # of no meaning here
        config = from_json(to_json(self.config))
        return Predictor(variables, {"config": config, "class_names": names, "category_ids": ids})


def subject(
    workdir: str | Path | None, checkpoint: str, recipe: str | None, keys: Sequence[str]
) -> Subject:
    """Returns what the command line names.

    Args:
        workdir: of a training run, or where a model was published.
        checkpoint: last, best or the number of a step.
        recipe: the value of `--config`.
        keys: such as `--config.data.resize=square`.

    Raises:
        ValueError: neither or both are given, or a key or value does not fit.
        OSError: there is no such run.
    """
    if (workdir is None) == (recipe is None):
        raise ValueError("give --workdir=DIR, a trained model, or --config=RECIPE, a new one")
    if workdir is None:
        config = config_flags.read(recipe, keys)
        config.validate()
        words = f"recipe {recipe}: parameters as they are before training (config.init is not read)"
        return Subject(config, None, {}, words)
    variables, metadata = load_model(workdir, checkpoint)
    config = config_flags.read(None, keys, default=section(Config, metadata["config"]))
    config.validate()
    step = f", step {metadata['step']}" if "step" in metadata else ""
    return Subject(config, variables, metadata, f"{workdir}{step}")
