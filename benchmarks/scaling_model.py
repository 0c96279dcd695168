"""Arithmetic of a run on up to 1,024 devices: `python -m benchmarks.scaling_model`.

Nothing is timed here: a few inputs, of which some were measured (benchmarks/RESULTS.md) and the
others are assumed, and sums of them. It prints the tables of docs/scaling.md; a test holds that
they are the same. Change an input to one that you have measured.

The step is the default recipe's, 2 images of 800x1344 a device, data-parallel:

    step = computing + all-reduce, one after the other (a compiler can overlap them)
    all-reduce = 2 (n - 1) / n x bytes / bandwidth + 2 (n - 1) x latency, a ring of n devices

Within one host the all-reduce counts as computing: the source has timed both as one. The input has
to deliver the images of a step in that time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

DEVICES = (1, 8, 64, 256, 1024)
IMAGES = 2  # of a step, for each device
EPOCHS = 12
TRAIN_IMAGES = 118_287  # COCO train2017
VAL_IMAGES = 5_000


@dataclass(frozen=True)
class Input:
    """A number of the model, in the unit of its name, and where it comes from."""

    name: str
    value: float
    measured: bool
    source: str


# Of the program: the same on every machine.
STEP_TFLOP = Input(
    "arithmetic of a step, TFLOP a device",
    3.061,
    True,
    "`benchmarks.scaling`, any number of devices",
)
GRADIENT_MB = Input(
    "all-reduced in a step, MB", 186.2, True, "`benchmarks.scaling`: 177.6 MiB, float32"
)
STATE_MB = Input(
    "a checkpoint, MB", 354.5, True, "parameters and momentum, 338.1 MiB; `benchmarks.scaling`"
)
INPUT_RATE = Input(
    "images of training, 1/s a core", 176.7, True, "`benchmarks.input_pipeline`, COCO polygons"
)
MASKS_S = Input(
    "masks to run lengths, ms an image", 7.11, True,
    "`benchmarks.evaluation`, 2.56 ms for 36 detections, times 100 / 36; a core of each host",
)  # fmt: skip
METRICS_S = Input(
    "COCO metrics, ms an image", 6.56, True,
    "`benchmarks.evaluation`, 2.36 ms for 36 detections, times 100 / 36; the same in every process",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What is assumed of a kind of machine: hosts of 8 devices.

    Attributes:
        name: of the kind.
        step_s: computing of a step; from the source.
        image_s: of a prediction, one image.
        link_gb: GB/s of each device's ring across hosts.
        latency_us: of a hop of the ring.
        disk_gb: GB/s of the folder of checkpoints.
        source: of these.
    """

    name: str
    step_s: float
    image_s: float
    link_gb: float
    latency_us: float
    disk_gb: float
    source: str


HOST_DEVICES = 8
MACHINES = (
    Machine(
        "A", 0.261, 0.043, 12.5, 5.0, 1.0,
        "[Detectron2's model zoo](https://github.com/facebookresearch/detectron2/blob/main/"
        "MODEL_ZOO.md), `mask_rcnn_R_50_FPN_1x` on 8 V100: 0.261 s for 16 images, 0.043 s to "
        "predict one; a network of 100 Gbit/s a host",
    ),
    Machine(
        "B", 0.0522, 0.0086, 50.0, 5.0, 1.0,
        "five times as fast; a network of 400 Gbit/s a device, as [MLPerf's H100 hosts]"
        "(https://github.com/mlcommons/inference_results_v3.1/blob/main/closed/Dell/systems/"
        "XE9680_H100_SXM_80GBx8_TRT.json) have",
    ),
)  # fmt: skip


def row(machine: Machine, devices: int) -> dict[str, str]:
    """Returns the row of so many devices of a kind."""
    hosts = -(-devices // HOST_DEVICES)
    reduce = all_reduce_s(machine, devices)
    step = machine.step_s + reduce
    batch = IMAGES * devices
    steps = EPOCHS * TRAIN_IMAGES / batch
    per_host = IMAGES * min(devices, HOST_DEVICES) / step
    return {
        "devices": f"{devices:,}",
        "hosts": f"{hosts}",
        "batch": f"{batch:,}",
        "all-reduce, ms": f"{1e3 * reduce:.0f}",
        "step, ms": f"{1e3 * step:.0f}",
        "images/s": f"{batch / step:,.0f}",
        "of linear": f"{machine.step_s / step:.0%}",
        "input a host, images/s": f"{per_host:.0f}",
        "cores for it": f"{per_host / INPUT_RATE.value:.1f}",
        "steps of 12 epochs": f"{steps:,.0f}",
        "take": _duration(steps * step),
        "an evaluation takes": _duration(evaluation_s(machine, devices, hosts)),
        "a checkpoint is written in, steps": f"{STATE_MB.value / 1e3 / machine.disk_gb / step:.1f}",
    }


def all_reduce_s(machine: Machine, devices: int) -> float:
    """Returns seconds of a ring all-reduce of the gradient; none within one host."""
    if devices <= HOST_DEVICES:
        return 0.0
    sent = 2 * (devices - 1) / devices * GRADIENT_MB.value / 1e3
    return sent / machine.link_gb + 2 * (devices - 1) * machine.latency_us / 1e6


def evaluation_s(machine: Machine, devices: int, hosts: int) -> float:
    """Returns seconds: predictions by all devices, masks by a core of each host, then metrics."""
    predicting = machine.image_s * VAL_IMAGES / devices
    masks = MASKS_S.value / 1e3 * VAL_IMAGES / hosts
    return max(predicting, masks) + METRICS_S.value / 1e3 * VAL_IMAGES


def inputs() -> str:
    """Returns the table of inputs."""
    program = (STEP_TFLOP, GRADIENT_MB, STATE_MB, INPUT_RATE, MASKS_S, METRICS_S)
    rows = [
        ["input", "value", "", "source"],
        *(
            [i.name, f"{i.value:g}", "measured" if i.measured else "assumed", i.source]
            for i in program
        ),
    ]
    for machine in MACHINES:
        shown = (
            f"computing {1e3 * machine.step_s:g} ms a step ({STEP_TFLOP.value / machine.step_s:.0f}"
            f" TFLOP/s), {1e3 * machine.image_s:g} ms a prediction; {machine.link_gb:g} GB/s and "
            f"{machine.latency_us:g} us a hop; disk {machine.disk_gb:g} GB/s"
        )
        rows.append([f"machine {machine.name}", shown, "assumed", machine.source])
    return _markdown(rows)


def results(machine: Machine) -> str:
    """Returns the table of a kind of machine."""
    lines = [row(machine, devices) for devices in DEVICES]
    return _markdown([list(lines[0]), *(list(line.values()) for line in lines)])


def tables() -> str:
    """Returns all tables, as docs/scaling.md has them."""
    parts = [inputs()]
    for machine in MACHINES:
        parts += [f"Machine {machine.name}:", results(machine)]
    return "\n\n".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(tables())
