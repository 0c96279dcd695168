"""The last lines of a run."""

from pathlib import Path

from maskrcnn_jax.checkpoints.manager import BEST, LAST


def farewell(workdir: Path, report: str) -> str:
    """Returns the last evaluation, where the checkpoints are, and what to type next.

    Args:
        workdir: the run's folder.
        report: the metrics in words, as `TrainingData.report` gives them.
    """
    lines = [
        report.rstrip("\n"),
        "",
        f"last checkpoint: {workdir / LAST}",
        f"best checkpoint: {workdir / BEST}",
        "next:",
        f"  python eval.py --workdir={workdir} --checkpoint=best",
        f"  python predict.py --workdir={workdir} IMAGE...",
        f"  tensorboard --logdir={workdir / 'tensorboard'}",
    ]
    return "\n".join(lines)
