"""How often something is done in a run."""

from ml_collections import ConfigDict


def check_cadence(config: ConfigDict) -> None:
    """Checks `config.train.steps`, the keys of what is done every so many of them, and the time
    for the last checkpoint.

    Raises:
        ValueError: naming the key.
    """
    for key, lowest in (
        ("steps", 1),
        ("log_every", 1),
        ("checkpoint_every", 1),
        ("eval_every", 0),
        ("emergency_seconds", 1),
    ):
        if config.train[key] < lowest:
            raise ValueError(f"config.train.{key} is {config.train[key]}; at least {lowest}")


def due(step: int, every: int, after: int = 0) -> bool:
    """Returns whether a step is one in `every`, and beyond `after`; 0 means never."""
    return every > 0 and step > after and step % every == 0
