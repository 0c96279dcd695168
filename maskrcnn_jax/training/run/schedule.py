"""How often something is done in a run."""


def due(step: int, every: int, after: int = 0) -> bool:
    """Returns whether a step is one in `every`, and beyond `after`; 0 means never."""
    return every > 0 and step > after and step % every == 0
