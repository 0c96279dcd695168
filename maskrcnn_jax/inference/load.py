"""A predictor from wherever a trained model was put."""

from pathlib import Path

from maskrcnn_jax.compilation import cache_by_default
from maskrcnn_jax.hub.load import load_model
from maskrcnn_jax.inference.predictor import Predictor


def load(
    workdir: str | Path,
    checkpoint: str | int = "last",
    batch_size: int = 1,
    max_pixels: int | None = None,
) -> Predictor:
    """Loads a trained model.

    Compiled programs are kept between runs, as the commands keep them (see
    `maskrcnn_jax.use_compilation_cache`), unless the program has called that itself or has set
    JAX's own cache.

    Args:
        workdir: the folder of its training run, or where it was published: a folder, a zip archive
            or hf://USER/NAME.
        checkpoint: of a training run: `last`, `best` or the number of a step.
        batch_size: images that the network gets at a time.
        max_pixels: files of larger images are refused; None: `config.data.max_pixels` of the run.

    Returns:
        The predictor.

    Raises:
        OSError: there is no such checkpoint, or it cannot be fetched.
        ValueError: it is damaged or none of these, or its configuration cannot be used.
    """
    cache_by_default()
    return Predictor(*load_model(workdir, checkpoint), batch_size, max_pixels)
