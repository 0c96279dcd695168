"""What `config.model.keypoints` says that the keypoints are, and whether that goes together."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maskrcnn_jax.keypoint_set import KeypointSet

if TYPE_CHECKING:
    from maskrcnn_jax.models.keypoints.config import KeypointsConfig


def keypoint_set(config: "KeypointsConfig") -> KeypointSet:
    """Returns what the keypoints are.

    Args:
        config: `config.model.keypoints`, with names.
    """
    mirrored = list(range(len(config.names)))
    for first, second in _places(config.names, config.flip_pairs):
        mirrored[first], mirrored[second] = second, first
    sigmas = config.sigmas * len(config.names) if len(config.sigmas) == 1 else config.sigmas
    skeleton = _places(config.names, config.skeleton)
    return KeypointSet(config.names, tuple(mirrored), skeleton, sigmas, config.half_pixel)


def _places(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    """Returns pairs of names as pairs of their numbers, from 0."""
    return tuple((names.index(first), names.index(second)) for first, second in pairs)


def check(config: "KeypointsConfig", key: str) -> None:
    """Checks what has to go together.

    Args:
        config: `config.model.keypoints`, with names.
        key: of this section.

    Raises:
        ValueError: naming the key, its value and what is expected.
    """
    if twice := [name for name, count in Counter(config.names).items() if count > 1]:
        raise ValueError(f"{key}.names has {twice[0]!r} twice; expected different names")
    for name in ("flip_pairs", "skeleton"):
        used = [point for pair in getattr(config, name) for point in pair]
        if unknown := [point for point in used if point not in config.names]:
            raise ValueError(
                f"{key}.{name} has {unknown[0]!r}, which is not in {key}.names: "
                f"{', '.join(config.names)}"
            )
    swapped = Counter(point for pair in config.flip_pairs for point in pair)
    if swapped and max(swapped.values()) > 1:
        raise ValueError(
            f"{key}.flip_pairs has {swapped.most_common(1)[0][0]!r} twice; each keypoint changes "
            "places with one other"
        )
    if len(config.sigmas) not in (1, len(config.names)):
        raise ValueError(
            f"{key}.sigmas has {len(config.sigmas)} values and {key}.names {len(config.names)}; "
            "give one for each name, or one for all"
        )
