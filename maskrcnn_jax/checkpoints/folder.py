"""One folder of checkpoints: writing that may fail, and what is damaged set aside.

A write that fails (a full disk, a lost permission) ends nothing: it is reported on stderr, what
stood before still stands, and the next one is tried. Orbax writes in the background and raises what
went wrong at the next call; until then it takes a step that is being written for complete, and
afterwards leaves its half-written files. They are cleared away, and a new manager looks at what is
there.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.checkpoints.damage import causes, first_line
from maskrcnn_jax.files import check_regular
from maskrcnn_jax.parallel.agreement import any_process, wait_for_all
from maskrcnn_jax.parallel.messages import warn

_REASONS = ("No space left on device", "Permission denied", "Read-only file system", "Quota")


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be read, or is not what was saved.

    Attributes:
        step: of the checkpoint.
    """

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class CheckpointFolder:
    """The checkpoints in one folder, which is made where it does not exist.

    Where several processes train together all of them call each method, equally often.

    Args:
        directory: an absolute path.
        keep: how many of the newest are kept.

    Attributes:
        manager: Orbax's.
    """

    def __init__(self, directory: Path, keep: int):
        check_regular(directory)
        self.directory, self._keep = directory, keep
        self.manager = checkpoint_format.make_manager(directory, keep)
        self._writing: int | None = None
        self._error: Exception | None = None
        self._failures = 0

    def steps(self) -> list[int]:
        """Returns the steps of complete checkpoints, oldest first."""
        return sorted(step for step in self.manager.all_steps() if step != self._writing)

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def has(self, step: int) -> bool:
        """Returns whether a step is there, or being written."""
        return step == self._writing or step in self.steps()

    def save(self, step: int, items: dict[str, ocp.args.CheckpointArgs]) -> None:
        """Starts to write a checkpoint, when the one before it is complete or has failed.

        Args:
            step: greater than those that are there.
            items: as Orbax takes them, by name.
        """
        self.settle()
        self._writing = step
        try:
            if not self.manager.save(step, args=ocp.args.Composite(**items)):
                raise RuntimeError(f"Orbax did not save step {step} to {self.directory}")
        except Exception as error:
            self._error = error
            if jax.process_count() == 1:  # several find out together, at the next call
                self.settle()

    def settle(self) -> bool:
        """Waits for what is being written; where it has failed, says so and clears it away.

        Returns:
            Whether there was nothing to write, or all is complete.
        """
        if self._writing is None:
            return True
        error, self._error = self._error, None
        if error is None:
            try:
                self.manager.wait_until_finished()
            except Exception as failure:
                error = failure
        step, self._writing = self._writing, None
        if not any_process(error is not None):
            return True
        self._failures += 1
        self._renew()
        warn(
            f"the checkpoint of step {step} could not be written to {self.directory}: "
            f"{_reason(error, self.directory)}. {self._what_stands()}; training continues, and the "
            f"next checkpoint is tried when it is due"
        )
        return False

    def failures(self) -> int:
        """Returns how many writes have failed since the start, of those that have ended."""
        if jax.process_count() == 1 and not self.manager.is_saving_in_progress():
            self.settle()
        return self._failures

    def set_aside(self, step: int, place: Path) -> Path:
        """Moves a checkpoint out of the folder.

        Args:
            step: of the checkpoint.
            place: a folder; made where it does not exist.

        Returns:
            Where the checkpoint is now.
        """
        self.settle()
        numbers = range(1, 10_000)
        taken = (place / (f"{step}" if n == 1 else f"{step}-{n}") for n in numbers)
        target = next(path for path in taken if not path.exists())
        wait_for_all("checkpoint to set aside")
        if jax.process_index() == 0:
            place.mkdir(parents=True, exist_ok=True)
            os.rename(self.directory / str(step), target)
        wait_for_all("checkpoint set aside")
        self.manager.reload()
        return target

    def close(self) -> None:
        """Waits and frees the threads that write.

        Each process for itself, as this may be on the way out of an error of its own: what is to
        be known of the last write, `settle` has reported before.
        """
        try:
            self.manager.close()
        except Exception as error:
            warn(
                f"the last checkpoint in {self.directory} failed: {_reason(error, self.directory)}"
            )

    def _renew(self) -> None:
        if jax.process_index() == 0:  # Orbax itself waits with this until the next save
            for half_written in self.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(half_written, ignore_errors=True)
        old = self.manager
        with suppress(OSError):  # else the old one stays in use; what is half written stays
            self.manager = checkpoint_format.make_manager(self.directory, self._keep)
            with suppress(Exception):  # it raises again what has failed
                old.close()

    def _what_stands(self) -> str:
        latest = self.latest_step()
        return "There is none before it" if latest is None else f"The one of step {latest} stands"


def _reason(error: Exception | None, directory: Path) -> str:
    if error is None:
        return "another process failed to write its part, and says why"
    texts = " ".join(str(link) for link in causes(error))
    known = next((reason for reason in _REASONS if reason in texts), None)
    if known == _REASONS[0]:
        free = shutil.disk_usage(directory).free
        return f"{known.lower()} ({free / 2**20:,.0f} MiB free; make room)"
    return known.lower() if known else first_line(error)
