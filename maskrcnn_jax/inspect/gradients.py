"""How long the gradient of each layer is, for one batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from maskrcnn_jax.config import Config
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.inspect.data import first_examples
from maskrcnn_jax.inspect.page import View
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.visualization.charts import bar_chart, page


class Gradient(NamedTuple):
    """The gradient of one array of a model's parameters.

    Attributes:
        name: its path, with slashes.
        norm: Euclidean, of the loss's gradient.
        share: that over the norm of the weights: what a step at learning rate 1 would change.
    """

    name: str
    norm: float
    share: float


def gradient_views(
    variables: Mapping[str, Any], dataset: Dataset, config: Config, count: int
) -> Iterator[View]:
    """Yields a chart for each part of the detector, of one batch of the first epoch.

    Args:
        variables: of the model.
        dataset: of training.
        config: the whole configuration.
        count: images, evenly spread; the batch are those that have the first one's bucket.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    model = make_model(config.model, len(dataset.class_names))
    rng = jax.random.key(config.seed)

    @jax.jit
    def gradient(params, others, batch):
        def loss(params):
            given = {**others, "params": params}
            found = model.apply(given, batch, rng, method="losses", mutable=["batch_stats"])[0]
            return found[0]["loss_total"]

        return jax.value_and_grad(loss)(params)

    others = {key: value for key, value in variables.items() if key != "params"}
    batch = _batch(dataset, config, count)
    loss, found = jax.device_get(gradient(variables["params"], others, batch))
    number = len(batch["image"])
    yield from charts(gradients(found, variables["params"]), f"loss {loss:.3f} of {number} images")


def gradients(found: Mapping[str, Any], params: Mapping[str, Any]) -> list[Gradient]:
    """Returns the norms of a tree of gradients beside those of its parameters."""
    flat, weights = flatten_dict(found, sep="/"), flatten_dict(params, sep="/")
    norms = {name: float(np.linalg.norm(np.asarray(flat[name], np.float64))) for name in flat}
    sizes = {name: float(np.linalg.norm(np.asarray(weights[name], np.float64))) for name in flat}
    return [Gradient(name, norms[name], norms[name] / max(sizes[name], 1e-12)) for name in flat]


def charts(found: Sequence[Gradient], words: str) -> Iterator[View]:
    """Yields a view for each part, its layers in rows; those without a finite gradient are named.

    Args:
        found: of all arrays.
        words: stand above the legend: what the gradient is of.
    """
    total = float(np.linalg.norm([gradient.norm for gradient in found]))
    for part in dict.fromkeys(gradient.name.split("/")[0] for gradient in found):
        own = [gradient for gradient in found if gradient.name.split("/")[0] == part]
        norm = float(np.linalg.norm([gradient.norm for gradient in own]))
        legend = f"{words}; norm {norm:.3g} of {total:.3g} in all. Left: norm of each array's "
        legend += "gradient. Right: that over the norm of its weights."
        odd = [g for g in own if not np.isfinite(g.norm) or g.norm == 0]
        named = [f"{g.name}: {'zero' if g.norm == 0 else 'not finite'}" for g in odd]
        yield View(part, "\n".join([legend, *named]), _chart(own))


def _chart(found: Sequence[Gradient]) -> np.ndarray:
    labels = [gradient.name.partition("/")[2] or gradient.name for gradient in found]
    columns = {
        "norm of the gradient": [gradient.norm for gradient in found],
        "over the norm of the weights": [gradient.share for gradient in found],
    }
    drawn = [
        bar_chart(title, labels, {title: np.nan_to_num(values).tolist()}, "{:.2e}")
        for title, values in columns.items()
    ]
    return page(drawn)


def _batch(dataset: Dataset, config: Config, count: int) -> dict[str, np.ndarray]:
    examples = [example for _, example in first_examples(dataset, config, count)]
    shape = examples[0]["image"].shape
    alike = [example for example in examples if example["image"].shape == shape]
    return {name: np.stack([example[name] for example in alike]) for name in alike[0]}
