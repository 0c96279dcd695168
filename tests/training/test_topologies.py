"""A checkpoint moves between any two sets of processes and devices, to the bit."""

import socket

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.parallel.mesh import abstract
from tests.forked import Forked
from tests.training.topologies import METADATA, digest, example_state


def _run(task, folder, processes, devices, data, fsdp):
    """Runs the program as several processes; returns what each has printed after `digest`."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    program = ("-m", "tests.training.topologies", task, str(folder), str(port), str(processes))
    started = [
        Forked(*program, str(index), str(data), str(fsdp), JAX_NUM_CPU_DEVICES=str(devices))
        for index in range(processes)
    ]
    try:
        printed = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, printed
    lines = [line for out, _ in printed for line in out.splitlines() if line.startswith("digest")]
    return [line.split()[1:] for line in lines]


def test_saved_by_four_processes_and_restored_by_one(tmp_path, one_device_mesh):
    saved = _run("save", tmp_path, processes=4, devices=1, data=1, fsdp=4)
    assert saved == [saved[0]] * 4
    assert saved[0][1:] == ["7", "0", "0.25"]
    checkpoints = Checkpoints(tmp_path, 3, METADATA)
    target = abstract(example_state(one_device_mesh, seed=2), one_device_mesh)
    restored = checkpoints.restore(target)
    assert digest(restored) == saved[0][0]
    assert int(restored.step) == 7
    assert checkpoints.metadata()["processes"] == checkpoints.metadata()["devices"] == 4
    checkpoints.close()


def test_saved_by_one_process_and_restored_by_two_with_four_devices_each(tmp_path, one_device_mesh):
    checkpoints = Checkpoints(tmp_path, 3, METADATA)
    state = example_state(one_device_mesh, seed=1)
    checkpoints.save(state, 7, {})
    checkpoints.close()
    restored = _run("restore", tmp_path, processes=2, devices=4, data=2, fsdp=4)
    assert restored == [[digest(state), "7", "0", "0.25"]] * 2
