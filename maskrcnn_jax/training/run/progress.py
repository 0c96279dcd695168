"""What has happened since the last log line, and that line."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from maskrcnn_jax.training.run.activity import Activity

USUAL = "loss_usual"  # the median of the total loss over the steps before, in a checkpoint
_RECENT = 100  # steps of that median
_FEWEST = 20  # steps from which on there is one
_FAR = 10.0  # times the usual loss
COUNTS = ("instances_cut", "images_skipped")  # of this process's images, summed over the steps


class NonFiniteLoss(FloatingPointError):
    """A loss or the gradient became infinite or not a number."""


class Progress:
    """Gathers the metrics of the steps and how long they took.

    The metrics of a step are fetched from the device when the next step is under way, so that
    the device never waits for the host to look at them.

    Args:
        start_step: steps done before.
        steps: at which the run ends.
        batch_size: images per step over all processes.
        clock: gives the time in seconds.

    Attributes:
        activity: what is being done, for a thread that watches.
    """

    def __init__(
        self,
        start_step: int,
        steps: int,
        batch_size: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.start_step, self._steps, self._batch_size = start_step, steps, batch_size
        self._clock = clock
        self.activity = Activity(start_step, clock)
        self._pending: tuple[int, dict[str, jax.Array], dict[str, Any]] | None = None
        self._total_seconds = 0.0
        self.latest: dict[str, float] = {}  # metrics of the newest step that was fetched
        self._losses: deque[float] = deque(maxlen=_RECENT)
        self._restart()

    def _restart(self) -> None:
        self._sums: dict[str, float] = {}
        self._fetched = 0
        self._waited = 0.0
        self._paused = 0.0
        self._began = self._clock()

    def add(self, step: int, metrics: dict[str, jax.Array], info: dict[str, Any]) -> None:
        """Takes a step that has just been dispatched, and looks at the one before it.

        Args:
            step: steps done with this one.
            metrics: on the device.
            info: of the batch: `image_ids`, `epoch`, `num_cut`, `skipped`.

        Raises:
            NonFiniteLoss: for the step before.
        """
        self.fetch()
        self._pending = (step, metrics, info)
        self.activity.step_done(step)

    def fetch(self) -> None:
        """Waits for the newest step and takes in its metrics.

        Raises:
            NonFiniteLoss: naming the step, each loss and the images.
        """
        if self._pending is None:
            return
        step, metrics, info = self._pending
        self._pending = None
        with self.activity.doing("a step on the devices"):
            metrics = jax.device_get(metrics)
        self.latest = {key: float(value) for key, value in metrics.items()}
        check_finite(step, self.latest, info["image_ids"])
        self._losses.append(self.latest["loss_total"])
        self._fetched += 1
        counts = dict(zip(COUNTS, (info["num_cut"], len(info["skipped"])), strict=True))
        for key, value in {**self.latest, **counts}.items():
            self._sums[key] = self._sums.get(key, 0.0) + value

    def to_save(self) -> dict[str, float]:
        """Returns the metrics of the newest step, with the usual loss where there is one."""
        if len(self._losses) < _FEWEST:
            return self.latest
        return {**self.latest, USUAL: statistics.median(self._losses)}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done within it is waiting for data."""
        began = self._clock()
        with self.activity.doing("waiting for data"):
            yield
        self._waited += self._clock() - began

    @contextmanager
    def pause(self, what: str = "a pause") -> Iterator[None]:
        """What is done within it is no training: compilation, evaluation."""
        began = self._clock()
        with self.activity.doing(what, is_pause=True):
            yield
        self._paused += self._clock() - began

    def row(self, step: int, epoch: int) -> dict[str, float]:
        """Returns the numbers since the last row, as `so_far`, and begins the next."""
        row = self.so_far(step, epoch)
        self._total_seconds += self._seconds()
        self._restart()
        return row

    def so_far(self, step: int, epoch: int) -> dict[str, float]:
        """Returns the numbers since the last row.

        Losses and the model's counts are means over the steps; `instances_cut` and
        `images_skipped` are sums; the learning rate is the newest.
        """
        steps = max(self._fetched, 1)
        row = {"epoch": float(epoch), **{key: total / steps for key, total in self._sums.items()}}
        row["learning_rate"] = self.latest.get("learning_rate", math.nan)
        for key in COUNTS:
            row[key] = self._sums.get(key, 0.0)
        seconds = self._seconds()
        row["images_per_second"] = self._fetched * self._batch_size / seconds
        row["data_wait_seconds"] = self._waited
        row["data_wait_share"] = self._waited / seconds
        per_step = (self._total_seconds + seconds) / max(step - self.start_step, 1)
        row["eta_seconds"] = per_step * (self._steps - step)
        return row

    def _seconds(self) -> float:
        """Returns the seconds since the last row without pauses."""
        return max(self._clock() - self._began - self._paused, 1e-9)

    def line(self, step: int, row: dict[str, float]) -> str:
        """Returns a row in words."""
        losses = [key for key in row if key.startswith("loss_") and key != "loss_total"]
        parts = [
            f"step {step}/{self._steps}",
            f"epoch {row['epoch']:.0f}",
            f"loss {row['loss_total']:.4f}",
            "(" + " ".join(f"{key.removeprefix('loss_')} {row[key]:.4f}" for key in losses) + ")",
            f"lr {row['learning_rate']:.2e}",
            f"{row['images_per_second']:.2f} images/s",
            f"data wait {100 * row['data_wait_share']:.0f} %",
            f"eta {duration(row['eta_seconds'])}",
        ]
        for key in COUNTS:
            if row[key]:
                parts.append(f"{key.replace('_', ' ')} {row[key]:.0f}")
        return "  ".join(parts)


def is_sound(metrics: Mapping[str, Any]) -> bool:
    """Returns whether the loss of a state is within the range of its run, as far as that is known.

    Args:
        metrics: as `Progress.to_save` gives them, also out of a checkpoint.
    """
    loss, usual = metrics.get("loss_total"), metrics.get(USUAL)
    return loss is None or usual is None or loss <= _FAR * usual


def check_finite(step: int, metrics: dict[str, float], image_ids: list) -> None:
    """Checks the losses and the gradient's norm of one step.

    Raises:
        NonFiniteLoss: naming the step, each loss and the images of this process.
    """
    watched = {k: v for k, v in metrics.items() if k.startswith("loss_") or k == "grad_norm"}
    if all(math.isfinite(value) for value in watched.values()):
        return
    terms = ", ".join(f"{key} {value:g}" for key, value in watched.items())
    raise NonFiniteLoss(
        f"step {step} gave a loss or gradient that is not finite: {terms}; its images: "
        f"{', '.join(map(str, image_ids))}. Look at these images, lower "
        f"config.train.learning_rate, lengthen config.train.warmup_steps, or set "
        f"config.train.clip_norm"
    )


def duration(seconds: float) -> str:
    """Returns hours, minutes and seconds as `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
