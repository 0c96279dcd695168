"""A model on a data set of other classes: those that both have by name are compared."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.class_names import matching
from maskrcnn_jax.evaluation.validation_loss import LossStep
from maskrcnn_jax.inference.predict_step import PredictStep


def class_table(model_names: Sequence[str], dataset_names: Sequence[str]) -> np.ndarray:
    """Returns which class of the data set each class of the model is.

    Args:
        model_names: of the model's K classes.
        dataset_names: of the data set's; names may differ in upper and lower case.

    Returns:
        `[K + 1] int32`: at a class of the model that of the data set, 0 where it has none.

    Raises:
        ValueError: naming the classes of the data set that the model cannot find.
    """
    places = matching(dataset_names, model_names)
    missing = [
        name
        for name, place in zip(dataset_names, places, strict=True)
        # One class of the model cannot be two of the data set: then only that of its exact name.
        if place is None or (places.count(place) > 1 and model_names[place] != name)
    ]
    if missing:
        raise ValueError(
            f"the model does not know the classes {', '.join(missing)} of the data set; it was "
            f"trained for {', '.join(model_names)}. Give a data set it was meant for, or train it "
            f"further with --config.init"
        )
    table = np.zeros(len(model_names) + 1, np.int32)
    table[np.array(places) + 1] = np.arange(1, len(places) + 1)
    return table


def in_classes_of_data(predict_step: PredictStep, table: np.ndarray) -> PredictStep:
    """Returns the step with its detections in the data set's classes; all others are left out.

    They are left out of what the detector has found: where it keeps the best 100 of an image,
    those of other classes have been among them.

    Args:
        predict_step: as `make_predict_step` returns it.
        table: as `class_table` returns it.
    """

    def step(variables, image, image_size):
        detections = predict_step(variables, image, image_size)
        classes = jnp.take(table, detections.classes)
        return detections._replace(classes=classes, valid=detections.valid & (classes > 0))

    return step


def in_classes_of_model(loss_step: LossStep, table: np.ndarray) -> LossStep:
    """Returns the step with the true objects, which come in the data set's classes, in the model's.

    Args:
        loss_step: as `make_loss_step` returns it.
        table: as `class_table` returns it.
    """
    of_model = np.zeros(table.max() + 1, np.int32)
    of_model[table] = np.arange(len(table))
    of_model[0] = 0

    def step(variables, batch, indices):
        return loss_step(variables, {**batch, "gt_classes": of_model[batch["gt_classes"]]}, indices)

    return step


def left_out(model_names: Sequence[str], table: np.ndarray) -> list[str]:
    """Returns the names of the model's classes that the data set lacks."""
    return [name for name, k in zip(model_names, table[1:], strict=True) if k == 0]
