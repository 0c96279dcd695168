"""The step, part by part, for chips that are not there: `python -m benchmarks.parts --target=v5e`.

Each part of the training step and of the prediction is compiled by itself, 2 images of 800x1344 in
bfloat16 unless asked otherwise, and what the compiler says is one JSON line. Nothing is run. At the
end there is a table, and with `--against` a second number in each cell, that of a file which
`--save` has written before:

    python -m benchmarks.parts --target=h100 --only box_pooling,box_pooling_gradient
    python -m benchmarks.parts --target=v5e --save=before.json
    python -m benchmarks.parts --target=v5e --against=before.json

- est. ms: the TPU compiler's estimate. It has none for gathers, scatters, sorts and top-k; how many
  of these run is under "without".
- kernels: what a GPU is asked to start. Loops count as often as they run, those of unknown length
  once.
- GB: read from and written to the chip's memory, by the shapes of what the instructions take and
  give.
- temporaries, program: MiB of the chip's memory.
- sort, scatter, ...: how many instructions are suspicious (maskrcnn_jax/plan/suspects.py).

The compilers come with the extra `plan`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks import detector
from benchmarks.step_parts import Part, Parts
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh
from maskrcnn_jax.plan import hlo, program, targets
from maskrcnn_jax.plan.suspects import KINDS, number_of_each, suspects

_MIB = 2**20


def main(argv: list[str] | None = None) -> list[dict]:
    arguments = _parser().parse_args(argv)
    names = arguments.only.split(",") if arguments.only else list(Parts.names)
    if unknown := [name for name in names if name not in Parts.names]:
        raise SystemExit(f"--only: unknown {', '.join(unknown)}; known: {', '.join(Parts.names)}")
    try:
        target = targets.parse(arguments.target)
        device = targets.devices(target)[0]
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    config = detector.get_config(arguments.tiny)
    config.model.dtype = arguments.dtype
    height, width = map(int, arguments.image.lower().split("x"))
    parts = Parts(config, arguments.images, height, width)
    before = json.loads(arguments.against.read_text()) if arguments.against else []
    lines = []
    for name in names:
        sizes = {"images": arguments.images, "image": [height, width], "dtype": arguments.dtype}
        line = {"part": name, "target": target.name} | sizes
        line |= facts(parts.named(name), target, device, arguments.hlo and arguments.hlo / name)
        print(json.dumps(line), flush=True)
        lines.append(line)
        if arguments.save:
            arguments.save.write_text(json.dumps(lines, indent=1))
    print("\n" + table(lines, before))
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--target", required=True, help="v4, v5e, v5p, v6e, h100 or a100")
    add("--only", metavar="A,B", help=f"some of {', '.join(Parts.names)}")
    add("--images", type=int, default=2)
    add("--image", metavar="HxW", default="800x1344", help="multiples of 32")
    add("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    add("--save", type=Path, metavar="FILE", help="write the lines, as JSON")
    add("--against", type=Path, metavar="FILE", help="lines to compare with")
    add("--hlo", type=Path, metavar="DIR", help="write each optimised program into a file")
    add("--tiny", action="store_true", help="few channels and boxes: shows that it works")
    return parser


def facts(part: Part, target: targets.Target, device: jax.Device, hlo_path: Path | None) -> dict:
    """Compiles a part for one chip; returns what the compiler says.

    Args:
        part: as `Parts.named` returns it.
        target: the chip.
        device: as `targets.devices` returns it.
        hlo_path: file for the optimised program, without its suffix; None: none.
    """
    function, shapes = part
    here = NamedSharding(make_mesh(MeshConfig(), [device]), P())
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
    start = time.perf_counter()
    lowered = (
        jax.jit(function, out_shardings=here)
        .trace(*shapes)
        .lower(lowering_platforms=(target.chip.platform,))
    )
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    if hlo_path:
        hlo_path.parent.mkdir(parents=True, exist_ok=True)
        hlo_path.with_suffix(".hlo").write_text(text)
    parsed, memory = hlo.parse(text), program.memory(compiled)
    clock = target.chip.clock
    return {
        "est. ms": round(1e3 * program.estimated_cycles(parsed) / clock, 3) if clock else None,
        "without": program.without_estimate(parsed) if clock else None,
        "kernels": program.launches(parsed) if not clock else None,
        "GB": round(program.traffic(parsed) / 1e9, 3),
        "temporaries": round(memory.temporaries / _MIB, 1),
        "program": round(memory.code / _MIB, 1),
        **number_of_each(suspects(parsed)),
        "compile s": round(seconds, 1),
    }


_COLUMNS = ("est. ms", "without", "kernels", "GB", "temporaries", "program", *KINDS, "compile s")


def table(lines: Sequence[dict], before: Sequence[dict] = ()) -> str:
    """Returns lines as Markdown; cells with another value before have both, before first."""
    columns = [name for name in _COLUMNS if any(line[name] is not None for line in lines)]
    earlier = {line["part"]: line for line in before}
    rows = [["part", *columns], ["---"] * (len(columns) + 1)]
    for line in lines:
        old = earlier.get(line["part"], line)
        cells = [
            str(line[name]) if old[name] == line[name] else f"{old[name]} → {line[name]}"
            for name in columns
        ]
        rows.append([line["part"], *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
