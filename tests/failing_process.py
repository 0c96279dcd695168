"""A program for test_command.py: one of two processes, of which one meets an error of its own.

python failing_process.py FAILING --coordinator=... --num_processes=2 --process_id=I
"""

import sys

import jax
from absl import flags

from maskrcnn_jax.cli import command
from maskrcnn_jax.parallel import agreement
from maskrcnn_jax.parallel import processes as distributed


def work() -> None:
    distributed.name_checkpoint_in("nowhere")
    agreement.total({"all are here": 1.0})
    if jax.process_index() == int(sys.argv[1]):
        raise ValueError("no such image")
    agreement.total({"waiting for the other": 1.0})


jax.config.update("jax_num_cpu_devices", 1)
flags.FLAGS([sys.argv[0], *sys.argv[2:]])
command.run(work, debug=False)
