"""Which evaluation is the best one, and when the run ends because none was better for long."""

from collections.abc import Mapping, Sequence

from maskrcnn_jax.checkpoints.best import is_better
from maskrcnn_jax.training.config import TrainConfig


def reason_to_stop(rows: Sequence[Mapping], settings: TrainConfig) -> str:
    """Returns why the run ends after its newest evaluation; empty where it continues.

    It depends on nothing but the logged evaluations, so a resumed run decides as one in one go.

    Args:
        rows: of `metrics.jsonl`, of the evaluations, oldest first. Those without the metric, from
            before it was asked for, do not count.
        settings: `config.train`; `best_metric` and `early_stop` are used.
    """
    metric, patience = settings.best_metric, settings.early_stop
    best_step, best, waited = 0, None, 0
    for row in rows:
        if metric not in row:
            continue
        if is_better(metric, row[metric], best):
            best_step, best, waited = row["step"], row[metric], 0
        else:
            waited += 1
    if not patience or waited < patience:
        return ""
    found = "not a number" if best is None else f"no better than {best:.4f} at step {best_step}"
    return (
        f"stopped early: {metric} was {found} in {waited} evaluations, the last of step "
        f"{rows[-1]['step']} (config.train.early_stop is {patience}; the same command with a "
        f"larger one, or 0 for never, resumes)"
    )
