"""Which keys of `config.model` come with trained weights, as their fields say (`setting`)."""

from typing import Any

from maskrcnn_jax.config_fields import fields
from maskrcnn_jax.models.config import ALL_PARTS, ModelConfig


def weight_keys(model: ModelConfig, part: str) -> dict[str, Any]:
    """Returns those keys of `config.model`, by dotted names, that weights of a part need.

    The others (sizes of anchors, numbers of proposals, thresholds) are the user's choice when a
    model is trained further.

    Args:
        model: `config.model`.
        part: "detector" or "backbone".
    """
    parts = set(ALL_PARTS) if part == "detector" else {part}
    return {
        key.removeprefix("model."): value
        for key, field, value in fields(model, "model")
        if field.metadata["weights"] and set(field.metadata["weights"]) <= parts
    }


def parts_that_need(key: str) -> tuple[str, ...]:
    """Returns the parts of the detector whose weights need a key of `config.model`."""
    needs = {name: field.metadata["weights"] for name, field, _ in fields(ModelConfig(), "model")}
    return tuple(needs[f"model.{key}"])
