"""Views of a training step: which anchors, RoIs and masks the truth becomes."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from maskrcnn_jax.class_names import names_of
from maskrcnn_jax.config import Config
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.inspect.data import first_examples
from maskrcnn_jax.inspect.page import View
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.visualization.drawing import as_rgb
from maskrcnn_jax.visualization.stages import training_pictures
from maskrcnn_jax.visualization.tiles import crop, heat, table

_ROIS = 10  # whose mask targets are shown
_LEGENDS = {
    "anchor_labels": "Cells of each level. Green: an anchor there is positive, it should find an "
    "object; yellow: neutral, it trains nothing; blue: all are negative. White: true boxes.",
    "matched_anchors": "All positive anchors, green; true boxes white. An object without one is "
    "hardly learned: see config.model.anchors.sizes.",
    "sampled_anchors": "Those drawn for the RPN's losses: positive green, negative red.",
    "sampled_rois": "Those drawn for the heads' losses: of an object green, background red.",
}


def target_views(
    variables: Mapping[str, Any], dataset: Dataset, config: Config, count: int
) -> Iterator[View]:
    """Yields views of what the first epoch of training makes of some images.

    Args:
        variables: of the model.
        dataset: of training.
        config: the whole configuration.
        count: images, evenly spread.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    model = make_model(config.model, len(dataset.class_names))
    rng = jax.random.key(config.seed)

    @jax.jit
    def losses(variables, batch):
        return model.apply(variables, batch, rng, method="losses", mutable=["batch_stats"])[0]

    for record, example in first_examples(dataset, config, count):
        batch = {name: value[None] for name, value in example.items()}
        found, stages = jax.device_get(losses(variables, batch))
        numbers = ", ".join(f"{name} {float(value):.3f}" for name, value in sorted(found.items()))
        for name, picture in training_pictures(batch, stages, config.model, rng).items():
            legend = f"{_LEGENDS[name]}\n{numbers}"
            yield View(f"{name.replace('_', ' ')} of {record.image_id}", legend, picture)
        if config.model.masks:
            yield _mask_targets(record.image_id, example, stages, dataset)


def _mask_targets(image_id, example, stages, dataset: Dataset) -> View:
    """Shows the masks that positive RoIs should give, and what they give."""
    image = as_rgb(example["image"])
    rows, words = [], []
    for i in np.flatnonzero(stages["mask_valid"][0])[:_ROIS]:
        wanted = stages["mask_targets"][0, i]
        given = 1 / (1 + np.exp(-stages["mask_logits"][0, i].astype(np.float64)))
        roi = crop(image, stages.get("mask_boxes", stages["rois"])[0, i])  # PointRend moves them
        rows.append([roi, heat(wanted, 0, 1), heat(given, 0, 1)])
        words.append(names_of(stages["roi_labels"][0, [i]], dataset.class_names)[0])
    return View(
        f"mask targets of {image_id}",
        "Positive RoIs: the image under them, the mask that the head should give there, and the "
        "probability that it gives.",
        table(rows, ["RoI", "target", "given"], words),
    )
