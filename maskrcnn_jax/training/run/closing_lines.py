"""The last lines of a run."""

from pathlib import Path

from maskrcnn_jax.checkpoints.layout import BEST, LAST
from maskrcnn_jax.console import program


def closing_lines(workdir: Path, report: str) -> str:
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
        f"  {program('eval')} --workdir={workdir} --checkpoint=best",
        f"  {program('predict')} --workdir={workdir} IMAGE...",
        f"  tensorboard --logdir={workdir / 'tensorboard'}",
    ]
    return "\n".join(lines)
