"""One pass of the network over a data set, and what it found."""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.evaluation.validation_loss import LossStep, Rows
from maskrcnn_jax.inference.coco_results import coco_results
from maskrcnn_jax.inference.predict_step import PredictStep
from maskrcnn_jax.inference.result import Result, to_result
from maskrcnn_jax.inference.test_time import Views, scaled_inputs
from maskrcnn_jax.parallel.gather import gather

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

_SECONDS_BETWEEN_LINES = 10.0


@dataclass
class Found:
    """What a pass over a data set has brought.

    Attributes:
        results: entries of a COCO results file.
        image_ids: of the images that were evaluated.
        skipped: a message for each image that could not be read.
        samples: `(index of the record, Result)` of this process's first images, to be drawn.
        seconds: from the first image read to the last mask encoded.
        compiling: seconds of these that went into compiling.
        losses: what the loss step gave, for each batch; of all processes.
    """

    results: list[dict] = field(default_factory=list)
    image_ids: list[int | str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    samples: list[tuple[int, Result]] = field(default_factory=list)
    seconds: float = 0.0
    compiling: float = 0.0
    losses: list[Rows] = field(default_factory=list)

    @property
    def images_per_second(self) -> float:
        """The speed, compilation left out."""
        return len(self.image_ids) / max(self.seconds - self.compiling, 1e-9)


def collect(
    predict_step: PredictStep,
    variables: Any,
    dataset: Dataset,
    config: "Config",
    before_batch: Callable[[], None] = lambda: None,
    loss_step: LossStep | None = None,
    views: Views | None = None,
) -> Found:
    """Detects the objects of all images of a data set, with progress on stderr.

    Args:
        predict_step: as `make_predict_step` returns it.
        variables: of the model.
        dataset: the images.
        config: the whole configuration.
        before_batch: called before each batch.
        loss_step: as `make_loss_step` returns it, where the losses are wanted, too.
        views: of test-time augmentation, those of the predict step.

    Returns:
        What was found; with several processes, by all of them, in each of them.
    """
    found = Found()
    process = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    start = last_line = time.perf_counter()
    with closing(pipeline.eval_batches(dataset, config, **process)) as batches:
        announced = _announced(batches, before_batch)
        if views is not None:
            announced = _with_views(announced, dataset, views)
        steps = predict_step, loss_step
        for detections, batch, info in _one_ahead(steps, variables, announced, found):
            _add(found, detections, batch, info, dataset, config)
            found.seconds = time.perf_counter() - start
            if start + found.seconds - last_line > _SECONDS_BETWEEN_LINES:
                last_line = start + found.seconds
                _say_progress(found, len(dataset.records))
    found.results = gather(found.results)
    found.image_ids = gather(found.image_ids)
    found.skipped = gather(found.skipped)
    found.losses = jax.device_get(found.losses)
    return found


def _announced(batches: Iterator[Any], before_batch: Callable[[], None]) -> Iterator[Any]:
    for batch in batches:
        before_batch()
        yield batch


def _with_views(batches: Iterator[Any], dataset: Dataset, views: Views) -> Iterator[Any]:
    """Adds what the predict step is given of each image at every scale, the usual one first.

    The originals are read again for the other scales; slots without an image get an empty one.
    """

    def others(slot: tuple[int, np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        index, padded, size = slot
        image = padded if index < 0 else dataset.read_image(dataset.records[index])
        return scaled_inputs(image, size, padded.shape[:2], views.scales)

    with ThreadPoolExecutor() as pool:
        for batch, info in batches:
            given = [(batch["image"], batch["image_size"])]
            if views.scales:
                valid = np.where(batch["image_valid"], info["indices"], -1)
                made = pool.map(others, zip(valid, *given[0], strict=True))
                scales = zip(*made, strict=True)
                for scale in scales:
                    inputs, sizes = zip(*scale, strict=True)
                    given.append((np.stack(inputs), np.stack(sizes)))
            yield batch, info | {"given": tuple(zip(*given, strict=True))}


def _one_ahead(steps, variables, batches, found) -> Iterator[tuple[Any, dict, dict]]:
    """Yields each batch's detections while the device already works on the next batch."""
    (predict_step, loss_step), waiting, shapes = steps, None, set()
    for batch, info in batches:
        start = time.perf_counter()
        given = info.get("given", (batch["image"], batch["image_size"]))
        detections = predict_step(variables, *given)
        if loss_step is not None:
            found.losses.append(loss_step(variables, batch, info["indices"]))
        if batch["image"].shape not in shapes:  # such a call returns when it has compiled
            shapes.add(batch["image"].shape)
            found.compiling += time.perf_counter() - start
        if waiting is not None:
            yield jax.device_get(waiting[0]), *waiting[1:]
        waiting = detections, batch, info
    if waiting is not None:
        yield jax.device_get(waiting[0]), *waiting[1:]


def _add(found: Found, detections, batch, info, dataset: Dataset, config: "Config") -> None:
    """Adds the images of one batch; empty slots and unreadable images are passed over."""
    found.skipped += info["skipped"]
    for i in np.flatnonzero(batch["image_valid"]):
        result = to_result(
            detections,
            int(i),
            batch["image_size"][i],
            info["original_size"][i],
            dataset.class_names,
            mask_paste=config.model.detections.mask_paste,
            keypoints=config.model.keypoints.keypoint_set(),
        )
        image_id = info["image_ids"][i]
        found.image_ids.append(image_id)
        found.results += coco_results(result, image_id, dataset.category_ids)
        if len(found.samples) < config.eval.pictures:
            found.samples.append((int(info["indices"][i]), result))


def _say_progress(found: Found, total: int) -> None:
    if jax.process_index() == 0:
        done = len(found.image_ids) * jax.process_count()
        speed = found.images_per_second * jax.process_count()
        line = f"evaluated {done} of {total} images, {speed:.1f} images/s"
        print(line, file=sys.stderr, flush=True)
