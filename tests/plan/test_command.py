"""`python -m maskrcnn_jax.plan` without a compiler for accelerators: its words and its errors."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from maskrcnn_jax.cli import plan as command
from maskrcnn_jax.config_flags import read
from maskrcnn_jax.plan import analysis, targets
from maskrcnn_jax.plan.analysis import Bound, StepPlan
from maskrcnn_jax.plan.buffers import Buffer
from maskrcnn_jax.plan.program import Memory
from maskrcnn_jax.plan.report import as_text
from maskrcnn_jax.plan.suspects import Suspect

GIB = 2**30
MESH = {"data": 4, "fsdp": 1, "space": 1}
PLAN = StepPlan(
    "training step", 16, 60.0, 3.0, True, 16 * GIB,
    memory=Memory(GIB, 0, 2 * GIB, GIB // 4),
    largest=[Buffer(GIB, "bf16[2,200,336,256]", "jit(f)/jvp(loss)/rpn/conv", "fusion.1")],
    flops=12e12, traffic=int(4e9),
    exchanged={("data", "all-reduce", "bf16"): {"number": 2, "size": 2**20, "sent": 2**20}},
    bound=Bound(0.08, 0.04, 0.001), estimate=0.16, without_estimate=7, kernels=99,
    suspects=[Suspect("sort", f"sort.{i}", "jit(f)/top_k", "f32[9]", 36, 1) for i in range(5)],
)  # fmt: skip


def _text(**changes):
    config = read("coco", [])
    return as_text(dataclasses.replace(PLAN, **changes), config, targets.parse("v5e:2x2"), MESH)


def test_a_plan_is_told_in_words():
    text = _text()
    for words in (
        "training step: 16 images, float32; compiled in 60 s with 3.0 GiB",
        "fits: 3.25 of 16.00 GiB of a chip",
        "1,024 MiB  bf16[2,200,336,256]  jvp(loss)/rpn/conv",
        "along data: 2 all-reduce, 1.0 MiB of bf16 (a chip sends 1.0 MiB)",
        "at least 80 ms: arithmetic 80 ms, memory 40 ms, network 1 ms",
        "160 ms by the compiler's estimates at 1.5 GHz, without 7 instructions",
        "at most 100 images/s; 90,000 steps take at least 4.0 hours",
        "5 x sort",
        "and 2 more",
    ):
        assert words in text
    assert "what would help" not in text


def test_a_step_that_does_not_fit_comes_with_advice():
    tight = _text(memory=Memory(GIB, 0, 16 * GIB, 0), fits=False)
    refused = _text(memory=None, fits=False, refused="it needs 20G of 16G")
    assert "does not fit: 17.00 of 16.00 GiB" in tight
    assert "does not fit: it needs 20G of 16G" in refused
    assert "--config.train.accumulate=2: 2 image(s) at a time" in tight  # 8 GiB of temporaries
    assert "--config.train.accumulate=4: 1 image(s) at a time" in refused
    for text in (tight, refused):
        for flag in ("model.dtype=bfloat16", "train.remat=all", "mesh.fsdp=4"):
            assert f"--config.{flag}" in text


def test_a_plan_is_told_as_json():
    values = json.loads(json.dumps(PLAN.as_json()))
    assert values["memory"]["total"] == PLAN.memory.total
    assert values["exchanged"][0] == {
        "axes": "data", "kind": "all-reduce", "dtype": "bf16",
        "number": 2, "size": 2**20, "sent": 2**20,
    }  # fmt: skip
    assert values["step_s"] == 0.16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target=v5g"], "did you mean"),
        (["--target=v5e", "--image=801x1344"], "multiples of 32"),
        (["--target=v5e", "--classes=0"], "at least 1"),
        (["--target=h100:8", "--config.mesh.fsdp=3"], "config.mesh.fsdp x space is 3 x 1"),
        (["--target=h100:8", "--config.train.batch_size=12"], "multiple of 8"),
        (["--target=h100:8", "--config.mesh.data=4"], "config.mesh has 4 devices"),
        (["--target=h100:8", "--config.train.remt=all"], "did you mean config.train.remat"),
    ],
)
def test_errors_are_one_line(arguments, message, monkeypatch, capsys):
    devices = jax.devices() * 8  # of this machine, in place of those that a compiler gives
    monkeypatch.setattr(targets, "devices", lambda target: devices[: target.count])
    assert command.main(["--config=coco", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


def test_a_program_for_this_machine_is_analysed_likewise():
    """Which needs no other compiler, and has no estimates."""
    array = jax.ShapeDtypeStruct((256, 512), jnp.float32)
    lowered = jax.jit(lambda x: jnp.sort(jnp.tanh(x @ x.T), axis=1)[:, ::2]).lower(array)
    plan, text = analysis.analyse("prediction", lowered, 2, targets.parse("h100"), MESH, "float32")
    assert plan.fits
    assert plan.memory.arguments == 4 * 256 * 512
    assert plan.memory.outputs == 4 * 256 * 128
    assert plan.flops == 2 * 256 * 256 * 512
    assert plan.bound.arithmetic == pytest.approx(plan.flops / (0.5 * 989e12))
    assert plan.estimate is None
    assert plan.exchanged == {}
    assert {suspect.kind for suspect in plan.suspects} == {"sort"}
    assert text.startswith("HloModule")
