"""Writes the programs beside it: `python -m tests.plan.programs.write`, with the extra `plan`.

One function, compiled for a TPU and for a GPU, with everything in it that a plan looks for; only
what the tests read is kept of the text.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from maskrcnn_jax.parallel import mesh as sharding
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.plan import targets

FOLDER = Path(__file__).parent


def example(x: Array, y: Array, index: Array) -> tuple[Array, ...]:
    """Has a loop of 7 rounds, one of an unknown number, a sort, a gather, a scatter, a transpose.

    Args:
        x: [512, 256] float32.
        y: [256, 256] float32.
        index: [8192] int32.
    """
    x = jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ y), x)
    x = jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: jnp.cos(x @ y), x)
    rows = x[index]
    added = jnp.zeros_like(x).at[index].add(rows * rows)
    return jnp.sort(x, axis=0), rows, rows.T, added


def main() -> None:
    for name in ("v5e", "h100"):
        target = targets.parse(name)
        here = NamedSharding(sharding.make_mesh(MeshConfig(), targets.devices(target)), P())
        shapes = [
            jax.ShapeDtypeStruct(shape, dtype, sharding=here)
            for shape, dtype in (((512, 256), "f4"), ((256, 256), "f4"), ((8192,), "i4"))
        ]
        traced = jax.jit(example, out_shardings=here).trace(*shapes)
        program = traced.lower(lowering_platforms=(target.chip.platform,)).compile()
        (FOLDER / f"{name}.hlo").write_text(shortened(program.as_text()))


def shortened(text: str) -> str:
    """Returns a program without what no test reads."""
    text = re.sub(r"\n(FileNames|FunctionNames|FileLocations|StackFrames)\n(.+\n)*", "\n", text)
    text = re.sub(r' (stack_frame_id=\d+|(scheduling|deduplicated)_name="[^"]*")', "", text)
    attributes = r", (sharding|frontend_attributes)=\{.*?\}(?=, metadata|$)"
    text = re.sub(attributes, "", text, flags=re.MULTILINE)
    text = re.sub(r", backend_config=(\{.*\})$", _kept, text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text)


def _kept(backend_config: re.Match) -> str:
    kept = re.findall(
        r'"estimated_cycles":"\d+"|"known_trip_count":\{"n":"\d+"\}', backend_config[1]
    )
    return f", backend_config={{{','.join(kept)}}}" if kept else ""


if __name__ == "__main__":
    main()
