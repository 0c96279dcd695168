"""Mask R-CNN for object detection and instance segmentation, in JAX and Flax.

    predictor = maskrcnn_jax.load("runs/shapes")
    result = predictor("photo.jpg", min_score=0.5)  # boxes, scores, class_names, masks

The names below are the public interface. Each is imported when it is first used, so that reading a
data set does not start JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskrcnn_jax.checkpoints.load import load_for_inference
    from maskrcnn_jax.compilation import use_compilation_cache
    from maskrcnn_jax.inference.load import load
    from maskrcnn_jax.inference.predict_step import make_predict_step
    from maskrcnn_jax.inference.predictor import Predictor
    from maskrcnn_jax.inference.result import Result
    from maskrcnn_jax.models.build import initial_variables
    from maskrcnn_jax.models.detections import Detections
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN
    from maskrcnn_jax.visualization.drawing import draw_detections

__all__ = [
    "Detections",
    "MaskRCNN",
    "Predictor",
    "Result",
    "draw_detections",
    "initial_variables",
    "load",
    "load_for_inference",
    "make_predict_step",
    "use_compilation_cache",
]

_HOME = {
    "Detections": "models.detections",
    "MaskRCNN": "models.mask_rcnn",
    "Predictor": "inference.predictor",
    "Result": "inference.result",
    "draw_detections": "visualization.drawing",
    "initial_variables": "models.build",
    "load": "inference.load",
    "load_for_inference": "checkpoints.load",
    "make_predict_step": "inference.predict_step",
    "use_compilation_cache": "compilation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
