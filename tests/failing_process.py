"""A program for test_command.py: one of two processes, of which one fails.

python failing_process.py FAILING error|kill --coordinator=... --num_processes=2 --process_id=I
"""

import argparse
import os
import signal
from functools import partial

import jax

from maskrcnn_jax.cli import process_flags
from maskrcnn_jax.cli import processes as command
from maskrcnn_jax.parallel import agreement, processes


def work() -> None:
    processes.name_checkpoint_in("nowhere")
    agreement.total({"all are here": 1.0})
    if jax.process_index() == options.failing and options.way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if jax.process_index() == options.failing:
        raise ValueError("no such image")
    agreement.total({"waiting for the other": 1.0})


jax.config.update("jax_num_cpu_devices", 1)
parser = argparse.ArgumentParser()
parser.add_argument("failing", type=int)
parser.add_argument("way", choices=["error", "kill"])
process_flags.add_arguments(parser)
options = parser.parse_args()
command.run(work, False, partial(process_flags.cluster, options))
