"""Runs that are killed at any moment end with the same bits as one that is not.

All slow: `test_train.py` kills one run within a save, terminates it, and compares its bits.
"""

import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import StandardCheckpointer

STEPS = 30
COMMAND = (
    "train.py",
    "--config=tests/end_to_end/tiny.py",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=3",
    "--config.eval.pictures=0",
)
# After one of two processes is gone the other has to leave by itself within so many seconds.
SECONDS_TO_LEAVE = 90
SECONDS_TO_END = 900  # compilation for two processes takes minutes on a busy machine


class _Run:
    """The processes of a run, and what each of them has printed.

    Args:
        start: the fixture `start_command`.
        workdir: of the run.
        processes: how many.
    """

    def __init__(self, start, workdir, processes=1):
        flags = [()]
        if processes > 1:
            with socket.socket() as probe:
                probe.bind(("localhost", 0))
                port = probe.getsockname()[1]
            every = (f"--coordinator=localhost:{port}", f"--num_processes={processes}")
            flags = [
                (*every, f"--process_id={index}", "--heartbeat_timeout=10")
                for index in range(processes)
            ]
        self.checkpoints = Path(workdir) / "checkpoints"
        self.processes = [start(*COMMAND, f"--workdir={workdir}", *own) for own in flags]
        self.out, self.err = ([[] for _ in flags] for _ in range(2))
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,), daemon=True)
            for process, out, err in zip(self.processes, self.out, self.err, strict=True)
            for lines, pipe in ((out, process.stdout), (err, process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def steps(self):
        """How many steps process 0 has logged so far."""
        return sum(line.startswith("step ") for line in list(self.out[0]))

    def is_saving(self):
        return any("tmp" in name for name in _names(self.checkpoints))

    def wait(self, seconds):
        """Waits for the end of all; returns their statuses."""
        end = time.monotonic() + seconds
        statuses = [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]
        for reader in self._readers:
            reader.join(10)
        return statuses

    def text(self, stream="out"):
        return "\n".join("".join(lines) for lines in getattr(self, stream))

    def kill_all(self):
        for process in self.processes:
            process.kill()


def _names(folder):
    return os.listdir(folder) if folder.is_dir() else []


def _newest(folder):
    return max((int(name) for name in _names(folder) if name.isdecimal()), default=None)


def _await_moment(run, moment, rng):
    """Returns when the run is to be killed, or has ended."""
    wanted = rng.randint(1, 8)  # steps, of which three make a checkpoint
    seconds = rng.uniform(0.0, 15.0)
    began = time.monotonic()
    while all(process.poll() is None for process in run.processes):
        waited = time.monotonic() - began
        assert waited < SECONDS_TO_END, run.text() + run.text("err")
        if moment == "any time" and waited > seconds:
            return
        if moment == "a step" and run.steps() >= wanted:
            time.sleep(rng.uniform(0.0, 0.2))
            return
        if moment == "a save" and run.steps() >= wanted and run.is_saving():
            time.sleep(rng.uniform(0.0, 0.02))
            return
        time.sleep(0.001)


def _check_start(run, newest):
    """A run resumes from the newest complete checkpoint, if it has come so far."""
    found = re.search(r"resuming from step (\d+)|no checkpoint in", run.text())
    if found:
        assert (found[1] and int(found[1])) == newest, run.text()
    assert "Traceback" not in run.text("err") or len(run.processes) > 1, run.text("err")


def _killed_until_done(start, folder, moments, rng, processes=1):
    """Starts and kills a run as often as there are moments, then lets it end.

    A run that ends before is followed by another one.

    Returns:
        The work directories, each of a run that has ended, and counts of what has happened.
    """
    workdirs, counts, moments = [], Counter(), list(moments)
    while moments:
        workdirs.append(folder / str(len(workdirs)))
        done = False
        while not done:
            newest = _newest(workdirs[-1] / "checkpoints")
            run = _Run(start, workdirs[-1], processes)
            try:
                if moments:
                    _await_moment(run, moments[0], rng)
                if moments and all(process.poll() is None for process in run.processes):
                    moment = moments.pop(0)
                    _kill_one(run, moment, rng, counts)
                else:
                    assert run.wait(SECONDS_TO_END) == [0] * processes, run.text("err")
                    done = True
                _check_start(run, newest)
            finally:
                run.kill_all()
    return workdirs, counts


def _kill_one(run, moment, rng, counts):
    """Kills a process; where there is another one, that has to leave by itself, with a word."""
    is_saving, steps = run.is_saving(), run.steps()
    victim = rng.randrange(len(run.processes))
    run.processes[victim].kill()
    began = time.monotonic()
    statuses = run.wait(SECONDS_TO_LEAVE)
    seconds = time.monotonic() - began
    assert statuses[victim] == -signal.SIGKILL
    counts.update(kills=1, within_a_save=is_saving, before_the_first_step=steps == 0)
    print(f"killed process {victim} at {moment}, {steps} steps after its start", end="")
    print(f", all ended within {seconds:.1f} s, newest checkpoint {_newest(run.checkpoints)}")
    if len(run.processes) > 1:
        survivor = 1 - victim
        assert statuses[survivor] != 0
        if steps:
            assert "complete checkpoint" in "".join(run.err[survivor]), run.text("err")


def _final(workdir):
    """All arrays of the last step's checkpoint, by their paths."""
    checkpointer, arrays = StandardCheckpointer(), {}
    here = SingleDeviceSharding(jax.local_devices()[0])
    for item in ("variables", "optimizer"):
        folder = workdir / "checkpoints" / str(STEPS) / item
        # Here, whichever devices of whichever processes it was saved from.
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            dict(checkpointer.metadata(folder).item_metadata.tree),
        )
        tree = checkpointer.restore(folder, target)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def _assert_same(workdirs, whole):
    expected = _final(whole)
    assert len(expected) > 100
    for workdir in workdirs:
        found = _final(workdir)
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array, err_msg=f"{workdir} {key}")


def _whole(start, workdir, processes=1):
    """A run that nothing has stopped."""
    run = _Run(start, workdir, processes)
    try:
        assert run.wait(SECONDS_TO_END) == [0] * processes, run.text("err")
    finally:
        run.kill_all()
    return workdir


@pytest.mark.slow
def test_kills(start_command, tmp_path):
    kills, rng = 40, random.Random(40)
    whole = _whole(start_command, tmp_path / "whole")
    moments = [("a save", "a step", "any time")[index % 3] for index in range(kills)]
    workdirs, counts = _killed_until_done(start_command, tmp_path, moments, rng)
    print(dict(counts), f"{len(workdirs)} run(s) ended")
    assert counts["kills"] == kills
    assert counts["within_a_save"] >= kills // 6
    _assert_same(workdirs, whole)


@pytest.mark.slow
def test_kills_of_one_of_two_processes(start_command, tmp_path):
    rng = random.Random(2)
    whole = _whole(start_command, tmp_path / "whole", processes=2)
    moments = ["a save", "a step"] * 5
    workdirs, counts = _killed_until_done(start_command, tmp_path, moments, rng, processes=2)
    print(dict(counts), f"{len(workdirs)} run(s) ended")
    assert counts["kills"] == 10
    _assert_same(workdirs, whole)
