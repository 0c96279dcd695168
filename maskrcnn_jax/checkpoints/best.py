"""Which of two evaluations is the better one."""

import math


def is_better(metric: str, new: float | None, old: float | None) -> bool:
    """Compares two values of a metric: of a loss the lower one is better, else the higher.

    Args:
        metric: its name; that of a loss begins with `loss_`.
        new: the value. None is never better, nor is one that is not a number, nor COCO's -1, where
            there is no object of the kind.
        old: the best one so far, of the same kinds.
    """
    is_loss = metric.startswith("loss_")
    if new is None or not math.isfinite(new) or (new < 0 and not is_loss):
        return False
    if old is None or not math.isfinite(old) or (old < 0 and not is_loss):
        return True
    return new < old if is_loss else new > old
