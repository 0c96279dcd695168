"""What is exported: a trained detector, from wherever its weights are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from maskrcnn_jax.checkpoints.saved_config import detector_config
from maskrcnn_jax.config_json import from_json
from maskrcnn_jax.export.comparison import Run
from maskrcnn_jax.export.stablehlo import found
from maskrcnn_jax.hub import address
from maskrcnn_jax.hub.load import load_model
from maskrcnn_jax.images.config import ImageConfig
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.pretrained import convert
from maskrcnn_jax.pretrained.files import downloads, published

Shape = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Detector:
    """A model with its weights and what belongs to it.

    Attributes:
        variables: `{"params", "batch_stats"}`.
        metadata: as `load_for_inference` returns it.
    """

    variables: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def model_config(self) -> ModelConfig:
        """`config.model` of its run."""
        return detector_config(self.metadata)[0]

    @property
    def image_config(self) -> ImageConfig:
        """The keys of its run's `config.data` that say how images enter the network."""
        return detector_config(self.metadata)[1]

    @property
    def model(self) -> MaskRCNN:
        """The detector's layers."""
        return make_model(self.model_config, len(self.metadata["class_names"]))

    @property
    def buckets(self) -> tuple[Shape, ...]:
        """The shapes of input that its configuration has."""
        return self.image_config.buckets

    def in_float32(self) -> "Detector":
        """Returns the detector with all layers computing in float32; its weights always are."""
        config = self.metadata["config"]
        model = {**config["model"], "dtype": "float32"}
        return replace(self, metadata={**self.metadata, "config": {**config, "model": model}})

    def data_of(self, bucket: Shape) -> ImageConfig:
        """Returns its `image_config` with one bucket, which its own need not have."""
        return replace(self.image_config, buckets=(bucket,))

    def run(self) -> Run:
        """Returns a function of image and image_size that detects: the original."""
        step = make_predict_step(self.model)
        variables = jax.device_put(self.variables)
        return lambda *arguments: found(step(variables, *arguments)._asdict())


def load(
    source: str | Path, checkpoint: str = "last", class_names: Sequence[str] | None = None
) -> Detector:
    """Loads a detector.

    Args:
        source: what `load_model` takes, a file of another project's weights, or the name of
            published ones, which are downloaded once.
        checkpoint: of a work directory: last, best or the number of a step.
        class_names: of a file of weights; None: COCO's, or class_1, class_2 and so on.

    Raises:
        OSError: a file cannot be read or downloaded.
        ValueError: it is nothing of these, or damaged.
    """
    path = Path(source).expanduser()
    is_archive = path.suffix == ".zip"
    if (path.is_file() and not is_archive) or (
        not path.exists() and str(source) in published.NAMES
    ):
        weights = convert.load(path if path.is_file() else downloads.fetch(str(source)))
        if class_names:
            weights = convert.with_classes(weights, class_names)
        return _of_weights(weights)
    if class_names:
        raise ValueError(f"--classes names those of a file of weights; {source} has names already")
    if not path.exists() and not address.is_address(source):
        raise ValueError(downloads.nowhere(str(source)))
    return Detector(*load_model(source, checkpoint))


def _of_weights(weights: convert.Weights) -> Detector:
    if weights.part != "detector":
        raise ValueError(
            f"{weights.file} is the backbone of a classifier, from which no detector can be made "
            "without training; give the weights of a Mask R-CNN"
        )
    config = from_json(convert.checkpoint_config(weights))
    metadata = {
        "config": config,
        "class_names": weights.class_names,
        "category_ids": weights.category_ids,
        "source": {"file": weights.file, "sha256": weights.sha256, "kind": weights.kind},
    }
    return Detector(weights.variables, metadata)
