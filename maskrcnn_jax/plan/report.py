"""A plan as text for people."""

from typing import TYPE_CHECKING

from maskrcnn_jax.plan.analysis import StepPlan
from maskrcnn_jax.plan.suspects import KINDS, Suspect
from maskrcnn_jax.plan.targets import Target

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

_MIB, _GIB = 2**20, 2**30
# Fraction of a chip's memory from which on there is advice.
_TIGHT = 0.9
_SHOWN = 3  # suspects of a kind


def as_text(plan: StepPlan, config: "Config", target: Target, mesh: dict[str, int]) -> str:
    """Returns a step's plan as lines.

    Args:
        plan: of the step.
        config: the whole configuration, for advice and the length of the run.
        target: the chips.
        mesh: sizes of the mesh's axes, in their order.
    """
    head = (
        f"{plan.name}: {plan.images} images, {config.model.dtype}; compiled in "
        f"{plan.compile_s:.0f} s with {plan.compile_gib:.1f} GiB"
    )
    rows = [("memory", _memory(plan, config, mesh))]
    if plan.memory:
        rows += [
            ("work", [_work(plan)]),
            ("exchange", _exchange(plan)),
            ("time", _time(plan, target)),
            ("speed", [_speed(plan, config)]),
            ("suspicious", _suspects(plan)),
        ]
    lines = [head]
    for name, cells in rows:
        for place, cell in enumerate(cells):
            lines.append(f"  {name if place == 0 else '':<11}{cell}")
    return "\n".join(lines)


def _memory(plan: StepPlan, config: "Config", mesh: dict[str, int]) -> list[str]:
    if plan.memory is None:
        return [f"does not fit: {plan.refused}", *advice(config, plan, mesh)]
    memory = plan.memory
    verdict = "fits" if plan.fits else "does not fit"
    lines = [
        f"{verdict}: {memory.total / _GIB:.2f} of {plan.available / _GIB:.2f} GiB of a chip",
        f"arguments {_mib(memory.arguments)}, results {_mib(memory.outputs)}, "
        f"temporaries {_mib(memory.temporaries)}, program {_mib(memory.code)}",
        "largest arrays when most is in use:",
        *(f"  {_mib(b.size):>10}  {b.shape}  {_origin(b.op_name)}" for b in plan.largest),
    ]
    if memory.total > _TIGHT * plan.available:
        lines += advice(config, plan, mesh)
    return lines


def advice(config: "Config", plan: StepPlan, mesh: dict[str, int]) -> list[str]:
    """Returns what would make a step need less memory, what costs least first.

    Args:
        config: the whole configuration.
        plan: of the step.
        mesh: sizes of the mesh's axes, in their order.
    """
    shards = mesh["data"] * mesh["fsdp"]
    a_chip = plan.images // shards
    is_training = plan.name.startswith("training")
    key = "train" if is_training else "eval"
    found = []
    if config.model.dtype == "float32":
        found.append("--config.model.dtype=bfloat16: half of every feature map")
    if is_training and (parts := _parts(plan, a_chip)) > config.train.accumulate:
        found.append(f"--config.train.accumulate={parts}: {a_chip // parts} image(s) at a time")
    if not is_training and a_chip > 1:
        found.append(f"--config.{key}.batch_size={shards}: one image at a time on each chip")
    if is_training and config.train.remat != "all":
        found.append("--config.train.remat=all: a quarter more arithmetic")
    if is_training and mesh["data"] > 1:
        found.append(
            f"--config.mesh.fsdp={mesh['data']}: a part of parameters and momentum on each"
        )
    found.append(f"more chips for the {plan.images} images, or --config.mesh.space=2")
    return ["what would help, what costs least first:", *(f"  {line}" for line in found)]


def _parts(plan: StepPlan, images: int) -> int:
    """Returns in how many parts a chip's images should come, one each where nothing is known."""
    if plan.memory is None:
        return images
    free = _TIGHT * plan.available - (plan.memory.total - plan.memory.temporaries)
    enough = (n for n in range(1, images + 1) if images % n == 0)
    return next((n for n in enough if plan.memory.temporaries / n <= free), images)


def _work(plan: StepPlan) -> str:
    return (
        f"{plan.flops / 1e12:.3f} TFLOP of convolutions and products, "
        f"{plan.traffic / 1e9:.1f} GB read and written"
        + (f", {plan.kernels:,} kernels; of a chip" if plan.kernels else "; of a chip")
    )


def _exchange(plan: StepPlan) -> list[str]:
    if not plan.exchanged:
        return ["nothing"]
    return [
        f"along {axes}: {numbers['number']} {kind}, {_mib(numbers['size'])} of {dtype} "
        f"(a chip sends {_mib(numbers['sent'])})"
        for (axes, kind, dtype), numbers in plan.exchanged.items()
    ]


def _time(plan: StepPlan, target: Target) -> list[str]:
    bound = plan.bound
    lines = [
        f"at least {_ms(bound.largest)}: arithmetic {_ms(bound.arithmetic)}, "
        f"memory {_ms(bound.memory)}, network {_ms(bound.network)}, by published figures"
        + (f"; kernels {_ms(bound.launches)}, assumed" if bound.launches else "")
    ]
    if plan.estimate is not None:
        lines.append(
            f"{_ms(plan.estimate)} by the compiler's estimates at {target.chip.clock / 1e9:g} GHz, "
            f"without {plan.without_estimate} instructions that have none"
        )
    return lines


def _speed(plan: StepPlan, config: "Config") -> str:
    words = f"at most {plan.images / plan.step_s:,.0f} images/s"
    if plan.name.startswith("training"):
        hours = config.train.steps * plan.step_s / 3600
        words += f"; {config.train.steps:,} steps take at least {hours:.1f} hours"
    return words


def _suspects(plan: StepPlan) -> list[str]:
    lines = []
    for kind in KINDS:
        found = [suspect for suspect in plan.suspects if suspect.kind == kind]
        if found:
            lines.append(f"{len(found)} x {kind}")
            lines += [f"  {_suspect(suspect)}" for suspect in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} more")
    return lines or ["nothing"]


def _suspect(suspect: Suspect) -> str:
    times = f"{suspect.times} x " if suspect.times > 1 else ""
    return f"{times}{suspect.shape}  {_origin(suspect.op_name) or suspect.instruction}"


def _origin(op_name: str) -> str:
    """Returns the end of a name such as `jit(train_step)/jvp(MaskRCNN.losses)/rpn/conv/add`."""
    parts = [part for part in op_name.split("/") if not part.startswith("jit(")]
    return "/".join(parts[-5:])


def _mib(size: float) -> str:
    return f"{size / _MIB:,.1f} MiB" if size < 100 * _MIB else f"{size / _MIB:,.0f} MiB"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"
