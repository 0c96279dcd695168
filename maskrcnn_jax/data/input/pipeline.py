"""Batches for training and evaluation: the samplers order, an engine only works in parallel.

Images are prepared one by one on several threads, in a fixed order, and stacked; each process
makes its own part of every global batch. The engine is tf.data or, where TensorFlow is not
installed, a pool of threads: both make the same batches to the bit.
"""

import atexit
import contextlib
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.input import thread_pool
from maskrcnn_jax.data.input.repeat_factor import repeat_factors
from maskrcnn_jax.data.input.sample import empty_example, example_spec, make_example
from maskrcnn_jax.data.input.sampler import PADDING, EvalSampler, TrainSampler
from maskrcnn_jax.data.input.tiles import Sample, objects_shown, training_samples, whole_images
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.sizes import bucket_of_size

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

# Without a limit, training on skipped images alone would continue and replace the checkpoints.
_MOST_LOST = 100

# Threads of tf.data that wait for Python's lock while the interpreter ends would wait for ever.
_running: weakref.WeakSet[Generator] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for batches in list(_running):
        with contextlib.suppress(ValueError):  # one that another thread is waiting for
            batches.close()


Batch = dict[str, np.ndarray]
Batches = Generator[tuple[Batch, dict], None, None]
Slot = tuple[
    int, int, int | None
]  # bucket, sample index or PADDING, epoch or None: no augmentation


def train_batches(
    dataset: Dataset,
    config: "Config",
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Yields the batches of training from a step on, without end.

    Step s is the same to the bit however the iteration came to it. Close the iterator to stop its
    threads before the program's end. A sample is an image, or with `data.augment.tile` a tile.

    Args:
        dataset: records and how to read an image.
        config: the whole configuration; `config.train.batch_size` counts images over all processes.
        start_step: the first step to yield.
        process_index: this process makes the slots from
            `process_index * batch_size / process_count` on.
        process_count: of the run.

    Yields:
        The batch, read-only arrays: image [B, H, W, C] uint8, or uint16 with `data.depth` = 16,
        image_size [B, 2] float32, gt_boxes [B, G, 4] float32, gt_classes [B, G] int32,
        gt_masks [B, G, M, M] uint8, gt_crowd, gt_valid [B, G] bool, image_valid [B] bool, where B
        is this process's share.
        And what concerns the host alone: step, epoch, bucket (height, width), indices [B] int64
        of the samples, image_ids (list), original_size [B, 2] float32, num_cut (objects above
        `data.max_instances`), skipped (a message for each image that could not be read; its slot
        has `image_valid` false).

    Raises:
        ValueError: the configuration does not fit, or `data.engine` is not installed; or, with
            `data.on_error` = "raise", an image could not be read.
    """
    local = _local_slots(config.train.batch_size, process_index, process_count)
    samples, sampler = _training(dataset, config.data, config.train.batch_size, config.seed)

    def slot_at(position: int) -> Slot:
        step, slot = divmod(position, len(local))
        batch = sampler.batch(step)
        slot = local[slot]
        return batch.bucket, int(batch.indices[slot]), int(batch.epochs[slot])

    def steps() -> Iterator[dict]:
        for step in itertools.count(start_step):
            batch = sampler.batch(step)
            indices = batch.indices[local.start : local.stop]
            yield {"step": step, "epoch": batch.epoch, "bucket": batch.bucket, "indices": indices}

    positions = range(start_step * len(local), sys.maxsize)
    return _batches(dataset, samples, config, positions, slot_at, len(local), steps())


def eval_batches(
    dataset: Dataset, config: "Config", process_index: int = 0, process_count: int = 1
) -> Batches:
    """Yields every record once, in order within its bucket, unaugmented.

    The last batch of a bucket is filled up with slots whose `image_valid` is false, `indices` -1
    and `image_ids` None. All processes get the same number of batches.

    Args:
        dataset: records and how to read an image.
        config: the whole configuration; `config.eval.batch_size` counts images over all processes.
        process_index: as for `train_batches`.
        process_count: of the run.

    Yields:
        Batch and info as `train_batches`; epoch is 0, step counts the batches.

    Raises:
        ValueError: as `train_batches`.
    """
    local = _local_slots(config.eval.batch_size, process_index, process_count)
    config.data.validate()
    samples = whole_images(dataset.records)
    sampler = EvalSampler(buckets_of_samples(samples, config.data), config.eval.batch_size)

    def slot_at(position: int) -> Slot:
        step, slot = divmod(position, len(local))
        batch = sampler.batches[step]
        return batch.bucket, int(batch.indices[local[slot]]), None

    def steps() -> Iterator[dict]:
        for step, batch in enumerate(sampler.batches):
            indices = batch.indices[local.start : local.stop]
            yield {"step": step, "epoch": 0, "bucket": batch.bucket, "indices": indices}

    positions = range(len(sampler.batches) * len(local))
    return _batches(dataset, samples, config, positions, slot_at, len(local), steps())


def num_samples(dataset: Dataset, data: DataConfig) -> int:
    """Returns how many samples an epoch of training has: images, or tiles of them.

    Those that `data.repeat_threshold` repeats are counted as often as they come.

    Raises:
        ValueError: the data settings do not fit.
    """
    return _training(dataset, data, batch_size=1, seed=0)[1].epoch_length


def _training(
    dataset: Dataset, data: DataConfig, batch_size: int, seed: int
) -> tuple[list[Sample], TrainSampler]:
    """Returns the samples of training and their order."""
    data.validate()
    samples = training_samples(dataset.records, data.augment)
    factors = _repeat_factors(samples, data) if data.repeat_threshold else None
    buckets = buckets_of_samples(samples, data)
    return samples, TrainSampler(buckets, batch_size, seed, factors)


def _repeat_factors(samples: Sequence[Sample], data: DataConfig) -> np.ndarray:
    """Returns how often each sample is wanted in an epoch, by the objects that it shows."""
    if data.augment.tile:
        shown = [objects_shown(*sample, data.augment.min_visible) for sample in samples]
    else:
        shown = [~sample.record.crowd for sample in samples]
    classes = [sample.record.classes[s] for sample, s in zip(samples, shown, strict=True)]
    return repeat_factors(classes, data.repeat_threshold)


def buckets_of_samples(samples: Sequence[Sample], data: DataConfig) -> np.ndarray:
    """Returns the index in `data.buckets` of every sample, [N] int64."""
    sizes = [sample.size for sample in samples]
    bucket = {size: bucket_of_size(*size, data) for size in set(sizes)}
    return np.array([bucket[size] for size in sizes], np.int64)


def _local_slots(batch_size: int, process_index: int, process_count: int) -> range:
    """Returns the slots of the global batch that this process makes."""
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count} does not exist")
    if batch_size % process_count:
        raise ValueError(
            f"a batch of {batch_size} images cannot be split evenly over {process_count} "
            "processes; choose a multiple"
        )
    share = batch_size // process_count
    return range(process_index * share, (process_index + 1) * share)


def _cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _batches(
    dataset: Dataset,
    samples: Sequence[Sample],
    config: "Config",
    positions: range,
    slot_at: Callable[[int], Slot],
    batch_size: int,
    steps: Iterator[dict],
) -> Batches:
    """Prepares the slots at the positions in parallel and joins each batch with its step's info."""
    data = config.data
    spec = example_spec(
        (None, None), data.max_instances, data.mask_size, pixel_format(data), _keypoints(dataset)
    )
    # Beside the arrays travel the number of objects cut and the reason why an image has failed.
    spec |= {"num_cut": ((), np.int64), "fault": ((), np.object_)}

    def prepare(position: int) -> thread_pool.Row:
        example, num_cut, fault = _prepare_slot(dataset, samples, config, slot_at(position))
        return [*example.values(), np.array(num_cut), np.array(fault.encode(), np.object_)]

    cv2.setNumThreads(1)  # images are the unit of parallel work
    workers, engine = data.workers or _cores(), _engine(data.engine)
    batches = engine(prepare, spec, positions, batch_size, workers, data.prefetch)
    running = _joined(batches, tuple(spec), samples, config, steps)
    _running.add(running)
    return running


def _engine(wanted: str) -> Callable[..., Generator[thread_pool.Row]]:
    """Returns the function that prepares batches; TensorFlow is imported only where it is used."""
    if wanted == "threads":
        return thread_pool.batches
    try:
        from maskrcnn_jax.data.input import tfdata
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        if wanted == "auto":
            return thread_pool.batches
        raise ValueError(
            "config.data.engine is 'tfdata', but TensorFlow is not installed; set it to 'threads', "
            "which makes the same batches, or: pip install -r requirements.txt"
        ) from error
    return tfdata.batches


def _prepare_slot(
    dataset: Dataset, samples: Sequence[Sample], config: "Config", slot: Slot
) -> tuple[Batch, int, str]:
    """Returns the arrays of one slot, the number of objects cut, and what went wrong or ""."""
    bucket, index, epoch = slot
    data = config.data
    fault = ""
    if index != PADDING:
        record, window = samples[index]
        streams = None if epoch is None else Streams(config.seed, epoch, index)
        try:
            return *make_example(record, dataset, data, streams, window, samples), fault
        except (ValueError, OSError, cv2.error) as error:
            named = "" if record.path in str(error) else f" ({record.path})"
            fault = f"image {record.image_id}{named}: {error}"
    shape = data.buckets[bucket], data.max_instances, data.mask_size, pixel_format(data)
    return empty_example(*shape, _keypoints(dataset)), 0, fault


def _keypoints(dataset: Dataset) -> int:
    return 0 if dataset.keypoints is None else len(dataset.keypoints.names)


def _joined(
    batches: Generator[thread_pool.Row],
    names: tuple[str, ...],
    samples: Sequence[Sample],
    config: "Config",
    steps: Iterator[dict],
) -> Batches:
    """Yields (batch, info) pairs; raises at the first fault when so configured, or at many."""
    lost = 0  # images one after the other that could not be read
    with contextlib.closing(batches):  # which stops their threads
        for info in steps:
            batch = dict(zip(names, next(batches), strict=True))
            num_cut, faults = batch.pop("num_cut"), batch.pop("fault")
            skipped = [fault.decode() for fault in faults if fault]
            if skipped and config.data.on_error == "raise":
                raise ValueError(
                    f"{skipped[0]}\nRepair or remove the image, or set config.data.on_error to "
                    "'skip'."
                )
            lost = lost + len(skipped) if len(skipped) == (info["indices"] != PADDING).sum() else 0
            if lost >= _MOST_LOST:
                raise ValueError(
                    f"none of the last {lost} images could be read, the last one because of: "
                    f"{skipped[-1]}\nIs the data set still in its place?"
                )
            info.update(_host_info(samples, config.data, info["bucket"], info["indices"]))
            info.update(num_cut=int(num_cut.sum()), skipped=skipped)
            yield batch, info


def _host_info(
    samples: Sequence[Sample], data: DataConfig, bucket: int, indices: np.ndarray
) -> dict:
    """Returns what the host knows of the images of a batch without reading them."""
    size = tuple(data.buckets[bucket])
    chosen = [samples[i] if i != PADDING else None for i in indices]
    sizes = [sample.size if sample else size for sample in chosen]
    return {
        "bucket": size,
        "image_ids": [sample.record.image_id if sample else None for sample in chosen],
        "original_size": np.array(sizes, np.float32),
    }
