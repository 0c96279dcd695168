"""Views of a prediction, stage by stage."""

from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.images.paste import full_mask
from maskrcnn_jax.inference.predictor import Predictor
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.inspect.page import View
from maskrcnn_jax.inspect.suppression import suppression_views
from maskrcnn_jax.ops.boxes import decode
from maskrcnn_jax.visualization.drawing import as_rgb, draw_detections, enlarged
from maskrcnn_jax.visualization.overlay import draw_result
from maskrcnn_jax.visualization.stages import inference_pictures, refinement_picture
from maskrcnn_jax.visualization.style import Style
from maskrcnn_jax.visualization.tiles import crop, heat, table

_BOXES = 20  # RoIs whose refinement is shown
_TABLE = 10  # RoIs and detections, a row each
_LEGENDS = {
    "1_features": "Mean absolute activation of each pyramid level, P2 (fine) to P6 (coarse).",
    "2_objectness": "The RPN's probability of an object, of the best anchor of each cell.",
    "3_anchors": "The 50 anchors that the RPN takes most for objects, before refinement and NMS.",
    "4_proposals": "The 50 best proposals: refined, and thinned out by NMS.",
    "5_masks": "The mask head's grids, best detection first: probability as grey.",
    "5_points": "The same grids, with the points in red that PointRend predicted again last.",
    "6_keypoints": "The keypoint head's heatmaps of the best detection, in the order of "
    "config.model.keypoints.names: probability as grey, each one's largest white.",
}
_OF_CASCADE = "The same proposals, moved by the heads of the cascade before this one."
_MASK_ALONE = Style(boxes=False)
Stages = Mapping[str, np.ndarray]


def model_views(
    predictor: Predictor, image: np.ndarray, name: str, min_score: float
) -> Iterator[View]:
    """Yields views of every stage of a prediction.

    Args:
        predictor: the model.
        image: `[h, w, C]`, as `Predictor.read` gives it.
        name: of the image.
        min_score: detections with a lower score are not drawn.
    """
    result, stages = predictor.stages(image, min_score)
    given = stages["input"][0]
    for key, picture in inference_pictures(given, stages, predictor.model_config).items():
        yield View(f"{key[2:]} of {name}", _LEGENDS.get(key, _OF_CASCADE), picture)
    yield _refined(predictor, stages, name)
    yield _classified(predictor, stages, name)
    yield from suppression_views(predictor, stages, name)
    yield View(
        f"detections of {name}",
        f"Those with a score of {min_score:g} or more, after NMS within each class: {len(result)}",
        draw_result(image, result),
    )
    if result.has_masks:
        yield _masks(image, result, stages, name)


def _best_rois(stages: Stages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns indices of the RoIs that are objects most, their classes 1..K and probabilities."""
    logits = stages["class_logits"][0].astype(np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    objects = shares[:, 1:].max(-1) * stages["proposal_valid"][0]
    order = np.argsort(-objects, kind="stable")[:_BOXES]
    order = order[stages["proposal_valid"][0][order]]
    return order, 1 + shares[order, 1:].argmax(-1), objects[order]


def _refined(predictor: Predictor, stages: Stages, name: str) -> View:
    """Shows where the box head moves the best RoIs."""
    picture, scale = enlarged(stages["input"][0])
    order, classes, _ = _best_rois(stages)
    before = stages["proposals"][0][order]
    weights = predictor.model_config.box_head.coder_weights
    columns = 0 if predictor.model_config.box_head.class_agnostic else classes
    deltas = jnp.asarray(stages["box_deltas"][0][order, columns])
    after = np.asarray(decode(deltas, jnp.asarray(before), weights))
    return View(
        f"refinement of {name}",
        f"The {len(order)} RoIs that are most surely objects: proposals dashed, and solid where "
        "the box head moves them, before NMS.",
        refinement_picture(picture, before * scale, after * scale),
    )


def _classified(predictor: Predictor, stages: Stages, name: str) -> View:
    """Shows the best RoIs' pixels with the classes that the box head gives them."""
    image = as_rgb(stages["input"][0])
    order, classes, scores = _best_rois(stages)
    rows, words = [], []
    chosen = list(zip(order, classes, scores, strict=True))[:_TABLE]
    for i, number, score in chosen:
        features = np.abs(stages["box_features"][0, i].astype(np.float64)).mean(-1)
        rows.append([crop(image, stages["proposals"][0, i]), heat(features, 0, features.max())])
        words.append(f"{predictor.class_names[number - 1]} {score:.3f}")
    return View(
        f"rois of {name}",
        "What the box head sees of the best RoIs: pixels, and mean absolute RoIAlign features; "
        "below, its best class with the probability.",
        table(rows, ["pixels", "features"], words),
    )


def _masks(image: np.ndarray, result: Result, stages: Stages, name: str) -> View:
    """Shows each detection's mask: logits, probability, and pasted into the image."""
    shown = as_rgb(image)
    slots = np.flatnonzero(stages["detection_valid"][0])
    rows, words = [], []
    for i in range(min(_TABLE, len(result))):
        logits = stages["mask_logits"][0, slots[i]].astype(np.float64)
        mask = full_mask(result.crops[i], result.height, result.width)
        box = result.boxes[i]
        pasted = draw_detections(shown, box[None], [mask], style=_MASK_ALONE)
        grids = [heat(logits, -6, 6), heat(1 / (1 + np.exp(-logits)), 0, 1)]
        rows.append([crop(shown, box), *grids, crop(pasted, box)])
        words.append(f"{result.class_names[i]} {result.scores[i]:.2f}")
    return View(
        f"masks of {name}",
        "Each detection's pixels, the mask head's logits (-6 black to 6 bright), their "
        "probabilities, and the mask pasted into the image where they exceed 0.5.",
        table(rows, ["pixels", "logits", "probability", "pasted"], words),
    )
