"""A trace of some steps: what the host and the devices did, and when."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax

from maskrcnn_jax.parallel.messages import say, warn

Pause = Callable[[str], AbstractContextManager]


class Profile:
    """Traces the steps of `train.profile_steps`; used as a context manager.

    Args:
        steps: the first and the last step that are traced, or none.
        folder: gets `plugins/profile/TIME/`, which TensorBoard opens, with `perfetto_trace.json.gz`
            for https://ui.perfetto.dev.
        pause: as `Progress.pause`; writing the trace is no part of a step.
    """

    def __init__(self, steps: Sequence[int], folder: Path, pause: Pause):
        self._steps, self._folder, self._pause = tuple(steps), folder, pause
        self._is_on = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_on:  # the run has ended before
            self._end()

    def before_step(self, step: int, state: Any) -> None:
        """Begins the trace where the next step, which is given, is the first of them."""
        if self._steps and step == self._steps[0]:
            jax.block_until_ready(state)  # what was dispatched before is none of them
            try:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0  # what the loop is at is annotated, see `Activity`
                jax.profiler.start_trace(
                    self._folder, create_perfetto_trace=True, profiler_options=options
                )
                self._is_on = True
            except (OSError, RuntimeError) as error:
                warn(f"the steps {self._steps} cannot be traced: {error}")

    def after_step(self, step: int, state: Any) -> None:
        """Ends the trace after its last step; waits for the devices."""
        if self._is_on and step == self._steps[1]:
            jax.block_until_ready(state)
            self._end()

    def _end(self) -> None:
        self._is_on = False
        try:
            with self._pause("a trace"):
                jax.profiler.stop_trace()
        except (OSError, RuntimeError) as error:
            warn(f"the trace of the steps {self._steps} cannot be written: {error}")
            return
        first, last = self._steps
        say(f"steps {first} to {last} are traced in {self._folder / 'plugins' / 'profile'}")
