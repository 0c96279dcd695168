"""What more devices change, according to compiled programs: `python -m benchmarks.scaling`.

The training step of the default recipe (ResNet-50-FPN, float32, from C3 on), 2 images of 800x1344
for each device, on virtual devices of this machine's CPU. Nothing is run: the compiler says what
one device needs, does and exchanges. Two tables:

- memory: MiB of one device. The predictions are those of `predicted_memory.py`. "arguments" are
  state and batch (the new state takes the place of the old one), "temporary" all that comes and
  goes within the step.
- communication: GFLOP of one device, and the arrays that it exchanges with others in a step, by
  kind: number / MiB of the results. "predicted" is what cannot be done without: all-reduced, the
  gradient; all-gathered, once, the parameters that `fsdp` has split and the feature pyramid whose
  rows `space` has. "in loops" are those in the body of a loop, which count once.

A mesh is data x fsdp x space. Where devices share images (space), 2 images for each device are 8
for four of them; with a batch of 4, two images are shared by four devices.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from benchmarks import detector, measure, predicted_memory
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel import partition
from maskrcnn_jax.parallel.mesh import batch_shards, make_mesh
from maskrcnn_jax.plan import collectives, hlo, steps
from maskrcnn_jax.plan import program as compiled_program
from maskrcnn_jax.training.stages import make_stages

DEVICES = 8
_MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A program: the mesh's axes, the images of a step on all devices, and `train.remat`."""

    mesh: tuple[int, int, int]
    images: int
    remat: str = "none"

    @property
    def name(self) -> str:
        return f"{' x '.join(map(str, self.mesh))}, {self.images} images, remat {self.remat}"


CASES = (
    Case((1, 1, 1), 2),
    Case((2, 1, 1), 4),
    Case((4, 1, 1), 8),
    Case((8, 1, 1), 16),
    Case((8, 1, 1), 16, "backbone"),
    Case((8, 1, 1), 16, "all"),
    Case((1, 8, 1), 16),
    Case((1, 8, 1), 16, "all"),
    Case((2, 1, 4), 16),
    Case((2, 1, 4), 4),
)
TINY_CASES = (Case((4, 2, 1), 8, "all"),)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__.splitlines()[0], rounds=1)
    arguments = measure.parse(parser, argv)
    # Virtual devices are a thing of CPUs.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    cases = TINY_CASES if arguments.tiny else CASES
    height, width = (128, 128) if arguments.tiny else (800, 1344)
    lines = []
    for case in cases:
        for table, figures in figures_of(case, height, width, arguments.tiny).items():
            line = {"benchmark": "scaling", "case": case.name, "side": measure.OURS, "table": table}
            line |= {"sizes": {"image": [height, width]}, "figures": figures}
            line |= {"machine": measure.machine(), "versions": measure.versions()}
            print(json.dumps(line), flush=True)
            lines.append(line)
    return lines


def figures_of(case: Case, height: int, width: int, tiny: bool) -> dict[str, dict]:
    """Compiles the step of a case; returns the row of each table."""
    config = detector.get_config(tiny)
    config.train.remat = case.remat
    config.train.batch_size = case.images
    config.mesh.data, config.mesh.fsdp, config.mesh.space = case.mesh
    mesh = make_mesh(config.mesh)
    model = make_model(config.model, detector.NUM_CLASSES, config.train.remat)
    variables = abstract_variables(model)
    stage = make_stages(config, model, variables["params"], mesh)[0]
    begin = steps.first_state(stage, variables, mesh)
    batch = steps.on_mesh(steps.batch_shapes(case.images, height, width, config.data), mesh)

    images = case.images // batch_shards(mesh)
    part = steps.batch_shapes(images, height, width, config.data)
    params, trainable = variables["params"], stage.trainable
    predicted = {
        "arguments": predicted_memory.argument_bytes(begin, batch),
        "temporary": predicted_memory.temporary_bytes(model, variables, trainable, part, mesh),
        "all-reduce": predicted_memory.trained_bytes(params, trainable) if mesh.size > 1 else 0,
        "all-gather": sum(predicted_memory.split_bytes(params, mesh))
        + predicted_memory.pyramid_bytes(model, part, mesh),
    }
    program, facts = measure.compiled(stage.train_step, begin, batch)
    return {
        "memory": _memory_row(case, predicted, compiled_program.memory(program))
        | {"compile, s": facts["compile_s"]},
        "communication": _communication_row(case, program, predicted),
    }


def _memory_row(case: Case, predicted: dict[str, int], needed: compiled_program.Memory) -> dict:
    row = _named(case)
    for kind, size in (("arguments", needed.arguments), ("temporary", needed.temporaries)):
        row[f"{kind}, predicted"] = round(predicted[kind] / _MIB)
        row[kind] = round(size / _MIB)
    total = needed.arguments + needed.outputs + needed.temporaries
    row["total"] = round(total / _MIB)
    row["total / predicted"] = round(total / (predicted["arguments"] + predicted["temporary"]), 2)
    return row


def _communication_row(case: Case, program: jax.stages.Compiled, predicted: dict[str, int]) -> dict:
    costs = program.cost_analysis()
    row = _named(case) | {"GFLOP": f"{costs['flops'] / 1e9:.4g}"}
    axes = dict(zip(partition.AXES, case.mesh, strict=True))
    found = collectives.exchanges(hlo.parse(program.as_text()), axes)
    for kind in collectives.KINDS:
        if kind in predicted:
            row[f"{kind}, predicted"] = f"{predicted[kind] / _MIB:.1f}"
        sizes = [one.size for one in found if one.kind == kind]
        row[kind] = f"{len(sizes)} / {sum(sizes) / _MIB:.1f}" if sizes else "0"
    row["in loops"] = sum(one.times > 1 for one in found)
    return row


def _named(case: Case) -> dict:
    return {
        "data x fsdp x space": " x ".join(map(str, case.mesh)),
        "images": case.images,
        "remat": case.remat,
    }


def tables(lines: Sequence[dict]) -> str:
    """Returns lines, as `main` prints them, as Markdown."""
    parts = []
    for name, title in _TITLES.items():
        rows = [line["figures"] for line in lines if line["table"] == name]
        cells = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
        parts.append(f"{title}:\n")
        parts += [f"| {' | '.join(map(str, row))} |" for row in cells]
        parts.append("")
    return "\n".join(parts[:-1])


_TITLES = {
    "memory": "Memory of one device, MiB",
    "communication": "Arithmetic and communication of one device in a step, number / MiB",
}


if __name__ == "__main__":
    main()
