"""The last lines of a run."""

from pathlib import Path

from maskrcnn_jax.checkpoints.manager import BEST, LAST


def farewell(workdir: Path, metrics: dict[str, float]) -> str:
    """Returns the metrics, where the checkpoints are, and what to type next."""
    shown = {k: v for k, v in metrics.items() if k.startswith(("bbox/", "segm/", "loss_"))}
    lines = [f"{key:<24} {value:.4f}" for key, value in shown.items()]
    lines += [
        f"last checkpoint: {workdir / LAST}",
        f"best checkpoint: {workdir / BEST}",
        "next:",
        f"  python eval.py --workdir={workdir} --checkpoint=best",
        f"  python predict.py --workdir={workdir} IMAGE...",
        f"  tensorboard --logdir={workdir / 'tensorboard'}",
    ]
    return "\n".join(lines)
