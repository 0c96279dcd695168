"""A program for test_processes.py: agrees on things as one of two processes.

python two_processes.py ADDRESS INDEX FOLDER
"""

import json
import math
import sys
from pathlib import Path

import jax

from maskrcnn_jax.parallel import agreement, processes

address, index, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
processes.join(processes.Cluster(address, 2, index))


def message_of(check) -> str:
    try:
        check()
    except ValueError as error:
        return str(error)
    return ""


agree = agreement.Agreement()
found = {
    "agreed": [agree(number) for number in ([0, 2, 0, 0], [0, 15, 0, 0])[index]],
    "total": agreement.total({"a": 1.0 + index, "b": 10.0 + 10.0 * index}),
    "of_first": agreement.of_first({"a": 0.1 + index, "b": math.nan if index == 0 else 1.0}),
    "same": message_of(lambda: agreement.check_same({"the classes": ["a", "b"]})),
    "not_same": message_of(
        lambda: agreement.check_same({"the seed": index, "the classes": ["a", "b"]})
    ),
    "shared": message_of(lambda: agreement.check_shared(folder / "shared")),
    "not_shared": message_of(lambda: agreement.check_shared(folder / str(index))),
}
assert not found["same"]
assert not found["shared"]
if math.isnan(found["of_first"]["b"]):
    found["of_first"]["b"] = None
processes.leave()
print(json.dumps(found))
