"""The work that everything on a chip is measured with, and how it is timed."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import detector
from maskrcnn_jax.config import Config


class Work:
    """Sizes, configurations and batches.

    Args:
        tiny: whether they are the smallest.
    """

    def __init__(self, tiny: bool):
        self.tiny = tiny
        self.height, self.width = (128, 192) if tiny else (800, 1344)
        self.rounds = 2 if tiny else 20

    def config(self, dtype: str, batch: int) -> Config:
        config = detector.get_config(self.tiny)
        config.model.dtype = dtype
        config.train.batch_size = batch
        return config

    def batch(self, config: Config) -> dict[str, np.ndarray]:
        """Returns a training batch with 100 small objects in each image."""
        number, side = config.train.batch_size, min(self.height, self.width)
        made = detector.training_batch(number, side, config.data)
        return made | detector.images(number, self.height, self.width)

    def times(self, call: Callable[[], Any]) -> dict[str, float]:
        """Returns the median of calls that are waited for, and the mean of those that are not."""
        jax.block_until_ready(call())
        jax.block_until_ready(call())
        single = []
        for _ in range(self.rounds):
            begin = time.perf_counter()
            jax.block_until_ready(call())
            single.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        for _ in range(self.rounds):
            result = call()
        jax.block_until_ready(result)
        mean = (time.perf_counter() - begin) / self.rounds
        return {
            "median_ms": round(1e3 * float(np.median(single)), 3),
            "pipelined_ms": round(1e3 * mean, 3),
        }
