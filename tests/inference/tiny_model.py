"""The untrained tiny detector, as a predictor: fixed weights, made once a process."""

from functools import cache

import jax

from maskrcnn_jax.config_json import from_json, to_json
from maskrcnn_jax.inference.predictor import Predictor
from maskrcnn_jax.models.build import initial_variables, make_model
from tests.end_to_end.tiny import get_config

CLASS_NAMES = ("circle", "rectangle", "triangle")


@cache
def tiny_variables() -> dict:
    return initial_variables(make_model(get_config().model, 3), jax.random.key(0))


@cache
def tiny_predictor(batch_size: int = 1) -> Predictor:
    config = get_config()
    config.data.buckets = ((64, 64), (32, 64))
    metadata = {
        "config": from_json(to_json(config)),
        "class_names": CLASS_NAMES,
        "category_ids": (10, 20, 30),
    }
    return Predictor(tiny_variables(), metadata, batch_size=batch_size)
