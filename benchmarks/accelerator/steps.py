"""Speed: ceilings, the training step, prediction, their parts, and torchvision beside them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import detector, measure, train_step
from benchmarks.accelerator.kernels import profiled as profile
from benchmarks.accelerator.work import Work
from benchmarks.peer import Peer
from benchmarks.step_parts import Parts
from maskrcnn_jax.models.build import make_model

Emit = Callable[..., None]


def ceilings(work: Work, emit: Emit) -> None:
    """What the chip does at best, by its own clock: nothing can be faster."""
    side = 256 if work.tiny else 8192
    facts: dict[str, Any] = {"devices": [d.device_kind for d in jax.devices()]}
    for dtype in ("bfloat16", "float32"):
        a = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(dtype))
        square = jax.jit(lambda a: a @ a)
        milliseconds = work.times(lambda square=square, a=a: square(a))["pipelined_ms"]
        facts[f"{dtype}_tflops"] = float(f"{2 * side**3 / milliseconds / 1e9:.4g}")
    numbers = jnp.zeros((2**18 if work.tiny else 2**30,), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    milliseconds = work.times(lambda: add(numbers))["pipelined_ms"]
    emit(**facts, copy_tb_per_s=float(f"{2 * numbers.nbytes / milliseconds / 1e9:.3g}"))


def train(work: Work, dtype: str, batch: int, emit: Emit, profiled: bool = False) -> None:
    """The training step, on a batch that is on the device."""
    step, facts = _training(work, dtype, batch)
    times = work.times(step)
    metrics = {name: round(float(value), 5) for name, value in step().items()}
    emit(**_sizes(work, dtype, batch), **_with_rate(times, batch), **facts, **measure.peak_memory())
    if profiled:
        emit(profile=profile(step, 3), metrics=metrics)


def predict(work: Work, dtype: str, batch: int, emit: Emit) -> None:
    """Images on the device to boxes, classes and 28x28 masks."""
    step, facts = _prediction(work, dtype, batch)
    times = work.times(step)
    found = np.asarray(step().valid.sum(1)).tolist()
    emit(**_sizes(work, dtype, batch), **_with_rate(times, batch), **facts, detections=found)
    emit(profile=profile(step, 3))


def peer(work: Work, python: str, emit: Emit) -> None:
    """The same work by torchvision, in turns with ours; mixed precision, channels_last."""
    batch = 2 if work.tiny else 8
    ours = {"train_step": _training, "predict": _prediction}
    for case, prepare in ours.items():
        step, _ = prepare(work, "bfloat16", batch)
        sides = {measure.OURS: lambda step=step: (measure.timed(step)[0], {})}
        arrays = _peer_arrays(work, batch)
        options = dict(
            num_classes=detector.NUM_CLASSES, paste=False, layout="channels_last",
            threads=measure.use_threads(0), device="cpu" if work.tiny else "cuda", amp=True,
        )  # fmt: skip
        other = Peer(python, case, arrays, **options)
        try:
            sides["torchvision"] = other
            seconds = measure.take_turns(sides, work.rounds)
        finally:
            other.close()
        medians = {side: float(np.median(times)) for side, (times, _) in seconds.items()}
        emit(
            case=case, **_sizes(work, "bfloat16", batch), versions=other.versions,
            median_ms={side: round(1e3 * median, 2) for side, median in medians.items()},
            images_per_s={side: round(batch / median, 1) for side, median in medians.items()},
            speedup=round(medians["torchvision"] / medians[measure.OURS], 2),
        )  # fmt: skip


def parts(work: Work, emit: Emit) -> None:
    """Each part of the step by itself, on what the parts before it gave."""
    batch = 2 if work.tiny else 8
    config = work.config("bfloat16", batch)
    made = Parts(config, batch, work.height, work.width)
    variables = detector.random_variables(config.model, detector.NUM_CLASSES)
    made.put(jax.device_put(variables), jax.device_put(work.batch(config)))
    for name in Parts.names:
        function, arguments = made.named(name)
        arguments = _filled(arguments)
        try:
            program, facts = measure.compiled(jax.jit(function), *arguments)
            times = work.times(lambda program=program, a=arguments: program(*a))
            emit(part=name, **times, **facts)
        except Exception as error:  # one part must not cost the others
            emit(part=name, error=f"{type(error).__name__}: {error}"[:300])


def _training(work: Work, dtype: str, batch: int) -> tuple[Callable[[], Any], dict]:
    """Returns the next step's metrics by each call, and facts of the program."""
    config = work.config(dtype, batch)
    variables = detector.random_variables(config.model, detector.NUM_CLASSES)
    return train_step.prepared(config, variables, work.batch(config))


def _prediction(work: Work, dtype: str, batch: int) -> tuple[Callable[[], Any], dict]:
    config = work.config(dtype, batch).model
    model = make_model(config, detector.NUM_CLASSES)
    variables = jax.device_put(detector.random_variables(config, detector.NUM_CLASSES))
    images = jax.device_put(detector.images(batch, work.height, work.width)).values()
    step = jax.jit(lambda v, i, s: model.apply(v, i, s, method="predict")[0])
    program, facts = measure.compiled(step, variables, *images)
    return lambda: program(variables, *images), facts


def _peer_arrays(work: Work, batch: int) -> dict[str, np.ndarray]:
    config = work.config("float32", batch)
    variables = detector.random_variables(config.model, detector.NUM_CLASSES)
    return train_step.peer_arrays(config, variables, work.batch(config))


def _filled(arguments: Any) -> Any:
    """Puts small random numbers where there are only shapes."""

    def fill(x):
        if not isinstance(x, jax.ShapeDtypeStruct):
            return x
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.zeros(x.shape, x.dtype)
        return 0.01 * jax.random.normal(jax.random.key(1), x.shape, x.dtype)

    return jax.tree.map(fill, arguments)


def _sizes(work: Work, dtype: str, batch: int) -> dict:
    return {"dtype": dtype, "batch": batch, "image": [work.height, work.width]}


def _with_rate(times: dict[str, float], batch: int) -> dict[str, float]:
    return times | {"images_per_s": round(1e3 * batch / times["pipelined_ms"], 1)}
