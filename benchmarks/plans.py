"""Plans of COCO's recipe for chips that are not there: `python -m benchmarks.plans --only v5e`.

Runs `maskrcnn_jax.plan` for one case after the other, 2 images of 800x1344 a chip in bfloat16, and
keeps what it says in benchmarks/plans.json, case by case: a whole step takes minutes to compile, a
TPU's more than a GPU's. `--table` prints what is kept as the table of docs/scaling.md; a test holds
that they are the same.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from maskrcnn_jax.plan import targets

IMAGES = 2  # of a chip
SCHEDULE = 90_000 * 16  # images of COCO's 1x
CASES = ("v5e", "v5e:4x4", "v5e:16x16", "h100", "h100:8")
KEPT = Path(__file__).with_suffix(".json")
_MIB, _GIB = 2**20, 2**30


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="TARGET", help=f"one of {', '.join(CASES)}, or another")
    parser.add_argument("--step", choices=("train", "predict", "both"), default="train")
    parser.add_argument("--table", action="store_true", help="print the table alone")
    arguments = parser.parse_args(argv)
    if not arguments.table:
        for target in [arguments.only] if arguments.only else CASES:
            keep(plan(target, arguments.step))
    print(table(json.loads(KEPT.read_text())))


def plan(target: str, step: str) -> list[dict]:
    """Runs the command for a target; returns the rows of its steps."""
    images = IMAGES * targets.parse(target).count
    command = [sys.executable, "-m", "maskrcnn_jax.plan", "--config=coco", f"--target={target}"]
    command += [f"--step={step}", "--json", "--config.model.dtype=bfloat16"]
    command += [f"--config.{part}.batch_size={images}" for part in ("train", "eval")]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode not in (0, 1):  # 1: it does not fit
        raise SystemExit(f"{' '.join(command)} has ended with status {process.returncode}")
    found = json.loads(process.stdout)
    return [_row(found, step) for step in found["steps"]]


def _row(found: dict, step: dict) -> dict:
    """Returns what is kept of a step."""
    kinds = [suspect["kind"] for suspect in step["suspects"]]
    names = ("name", "images", "compile_s", "compile_gib", "fits", "available", "refused")
    names += ("memory", "flops", "traffic", "exchanged", "bound", "estimate")
    names += ("without_estimate", "kernels", "step_s")
    return {
        **{key: found[key] for key in ("target", "chips", "mesh", "image", "dtype", "versions")},
        **{name: step[name] for name in names},
        "suspects": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
    }


def keep(rows: list[dict]) -> None:
    """Puts rows into the file, in place of those of the same target and step."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else []
    new = {(row["target"], row["name"]) for row in rows}
    kept = [row for row in kept if (row["target"], row["name"]) not in new] + rows
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


def table(rows: list[dict]) -> str:
    """Returns rows as Markdown."""
    places = {target: place for place, target in enumerate(CASES)}
    lines = [_cells(row) for row in sorted(rows, key=lambda row: places.get(row["target"], 99))]
    cells = [list(lines[0]), ["---"] * len(lines[0]), *(line.values() for line in lines)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in cells)


def _cells(row: dict) -> dict:
    memory, bound = row["memory"], row["bound"]
    sent = sum(one["sent"] for one in row["exchanged"])
    estimate, rate = row["estimate"], row["images"] / row["step_s"]
    is_training = row["name"] == "training step"
    return {
        "chips": row["target"],
        "step": row["name"],
        "images": row["images"],
        "GiB of a chip": f"{memory['total'] / _GIB:.2f} of {row['available'] / _GIB:.2f}",
        "temporaries, MiB": f"{memory['temporaries'] / _MIB:,.0f}",
        "TFLOP": f"{row['flops'] / 1e12:.2f}",
        "GB": f"{row['traffic'] / 1e9:.0f}",
        "sent, MiB": f"{sent / _MIB:,.0f}",
        "arithmetic / memory / network, ms": " / ".join(
            f"{1e3 * bound[kind]:.3g}" for kind in ("arithmetic", "memory", "network")
        ),
        "kernels": f"{row['kernels']:,}" if row["kernels"] else "",
        "estimate, ms": f"{1e3 * estimate:.0f} + {row['without_estimate']:,}" if estimate else "",
        "images/s, at most": f"{rate:,.0f}",
        "1x schedule, at least": f"{SCHEDULE / rate / 3600:.1f} h" if is_training else "",
        "compiled in, s": f"{row['compile_s']:.0f}",
    }


if __name__ == "__main__":
    main()
