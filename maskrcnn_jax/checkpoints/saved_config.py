"""The configuration in a checkpoint, held to the rules of the command line before it is used."""

from collections.abc import Callable, Mapping
from typing import Any

from maskrcnn_jax.config_json import section
from maskrcnn_jax.images.config import ImageConfig, image_config
from maskrcnn_jax.models.config import ModelConfig


def detector_config(
    metadata: Mapping[str, Any],
    where: object = "the checkpoint",
    check: Callable[[ModelConfig, ImageConfig, int], None] | None = None,
) -> tuple[ModelConfig, ImageConfig]:
    """Returns `config.model` of a checkpoint, and of its `config.data` how images enter.

    Args:
        metadata: of the checkpoint; `config` and `class_names` are used.
        where: the checkpoint, for the message.
        check: another check, such as `memory.check_detector` before arrays are read; it is given
            the two and K.

    Raises:
        ValueError: naming a key that does not exist, that has a value of another type or beyond
            its interval, or that `check` refuses.
    """
    try:
        model, images = _checked(metadata)
        if check:
            check(model, images, len(metadata["class_names"]))
        return model, images
    except ValueError as error:
        raise ValueError(f"the configuration in {where} cannot be used: {error}") from error


def _checked(metadata: Mapping[str, Any]) -> tuple[ModelConfig, ImageConfig]:
    config = metadata["config"]
    check_sections(config)
    model = section(ModelConfig, config["model"], "config.model")
    images = image_config(config["data"])
    model.validate()
    images.validate()
    if len(model.pixel.mean) != images.channels:
        raise ValueError(
            f"config.model.pixel.mean has {len(model.pixel.mean)} values, config.data.channels is "
            f"{images.channels}"
        )
    return model, images


def check_sections(config: Any) -> None:
    """Checks that a checkpoint's configuration has the sections that every version has written.

    Args:
        config: as JSON has it.

    Raises:
        ValueError: naming the one that is missing.
    """
    for name in ("model", "data", "model.backbone"):
        section: Any = config
        for part in name.split("."):
            section = section.get(part) if isinstance(section, Mapping) else None
        if not isinstance(section, Mapping):
            raise ValueError(f"it has no section config.{name}")


def check_classes(metadata: Mapping[str, Any]) -> None:
    """Checks the classes of a checkpoint.

    Args:
        metadata: as JSON has it; `class_names` and `category_ids` are used.

    Raises:
        ValueError: they are not names and as many whole numbers.
    """
    names, ids = metadata["class_names"], metadata["category_ids"]
    is_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_names or not names:
        raise ValueError(f"class_names is {names!r:.80}; expected names")
    is_list = isinstance(ids, list) and len(ids) == len(names)
    if not (is_list and all(type(number) is int for number in ids)):
        raise ValueError(f"category_ids is {ids!r:.80}; expected {len(names)} whole numbers")
