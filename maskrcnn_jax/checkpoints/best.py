"""Which of two evaluations is the better one."""

import math


def is_better(metric: str, new: float | None, old: float | None) -> bool:
    """Compares two values of a metric: of a loss the lower one is better, else the higher.

    Args:
        metric: its name; that of a loss begins with `loss_`.
        new, old: the values; one that is not a number (no object of its kind) is worse than all
            others, and so is None.
    """
    if new is None or not math.isfinite(new):
        return False
    if old is None or not math.isfinite(old):
        return True
    return new < old if metric.startswith("loss_") else new > old
