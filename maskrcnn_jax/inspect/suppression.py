"""Views of non-maximum suppression: of the RPN's boxes, of each class, and of all together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.inference.predictor import Predictor
from maskrcnn_jax.inspect.page import View
from maskrcnn_jax.models.box_head import class_scores
from maskrcnn_jax.models.cascade.heads import mean_logits
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.detections import detect
from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.ops.boxes import clip, decode
from maskrcnn_jax.visualization.drawing import draw_boxes, enlarged, side_by_side
from maskrcnn_jax.visualization.stages import anchor_boxes
from maskrcnn_jax.visualization.tiles import heat, table

_BOXES = 50  # of the RPN
_CLASSES = 4
_MOST = 2048  # boxes of all classes after suppression
_SIDE = 480  # pixels of a picture
Stages = Mapping[str, Any]


def suppression_views(predictor: Predictor, stages: Stages, name: str) -> Iterator[View]:
    """Yields what suppression leaves of the RPN's boxes and of each class's.

    Args:
        predictor: the model.
        stages: of a prediction, as `Predictor.stages` gives them.
        name: of the image.
    """
    yield _of_rpn(predictor.model_config, stages, name)
    yield _of_classes(predictor.model_config, predictor.class_names, stages, name)


def _of_rpn(config: ModelConfig, stages: Stages, name: str) -> View:
    picture, scale = enlarged(stages["input"][0])
    logits = stages["rpn_logits"][0]
    best = np.argsort(-logits, kind="stable")[:_BOXES]
    anchors = jnp.asarray(anchor_boxes(stages, config)[best])
    refined = decode(stages["rpn_deltas"][0][best], anchors, config.rpn.coder_weights)
    refined = clip(refined, *stages["input_size"][0])
    valid = np.flatnonzero(stages["proposal_valid"][0])[:_BOXES]
    pairs = (
        (np.asarray(refined), 1 / (1 + np.exp(-logits[best].astype(np.float64)))),
        (stages["proposals"][0][valid], stages["proposal_scores"][0][valid]),
    )
    pictures = [_by_score(picture, boxes * scale, scores) for boxes, scores in pairs]
    titles = [f"before: the best {len(best)} of {len(logits):,}", f"after: the best {len(valid)}"]
    return View(
        f"nms of the rpn on {name}",
        f"The RPN's refined boxes before and after suppression (IoU {config.rpn.nms_threshold:g}), "
        "bright where the RPN is sure of an object, dark where not.",
        side_by_side(pictures, titles),
    )


def _of_classes(config: ModelConfig, class_names: Sequence[str], stages: Stages, name: str) -> View:
    picture, scale = enlarged(stages["input"][0])
    settings = config.detections
    candidates, scores = _candidates(config, stages)
    boxes, kept_scores, labels, valid = _uncut(config, stages, int(np.count_nonzero(scores)))
    rows, words = [], []
    order = np.argsort(-scores.max(axis=0), kind="stable")
    for k in order[:_CLASSES]:
        above = scores[:, k] > 0
        kept = valid & (labels == k + 1)
        if not above.any():
            continue
        before = _by_score(picture, candidates[above, k] * scale, scores[above, k])
        after = _by_score(picture, boxes[kept] * scale, kept_scores[kept])
        rows.append([before, after])
        words.append(f"{class_names[k]}: {above.sum()} boxes, {kept.sum()} after suppression")
    kept = stages["detections"].valid[0]
    before = _by_score(picture, candidates[scores > 0] * scale, scores[scores > 0])
    final, final_scores = (getattr(stages["detections"], n)[0][kept] for n in ("boxes", "scores"))
    rows.append([before, _by_score(picture, final * scale, final_scores)])
    words.append(f"all classes: {(scores > 0).sum()} boxes, {valid.sum()} after, {kept.sum()} kept")
    return View(
        f"nms of classes on {name}",
        f"Boxes of the surest classes with a score above {settings.score_threshold:g}, before and "
        f"after suppression within the class (IoU {settings.nms_threshold:g}); last, those of all "
        f"classes, of which the best {settings.max_per_image} are the detections. Bright: sure.",
        table(rows, ["before", "after"], words, _SIDE),
    )


def _candidates(config: ModelConfig, stages: Stages) -> tuple[np.ndarray, np.ndarray]:
    """Returns each RoI's box in each class `[N, K, 4]`, and scores `[N, K]`, 0 of none."""
    logits, deltas, proposals, weights = _answers(config, stages)
    shares = np.asarray(class_scores(logits, config.box_head))[:, 1:]
    above = shares > config.detections.score_threshold
    above &= stages["proposal_valid"][0][:, None]
    if config.detections.classes == "best":
        above &= np.arange(1, logits.shape[1]) == np.asarray(logits).argmax(-1)[:, None]
    boxes = decode(
        deltas if config.box_head.class_agnostic else deltas[:, 1:], proposals[:, None], weights
    )
    return np.broadcast_to(boxes, (*shares.shape, 4)), np.where(above, shares, 0)


def _answers(config: ModelConfig, stages: Stages) -> tuple[jax.Array, jax.Array, jax.Array, tuple]:
    """Returns logits, deltas, the boxes that these start from and their weights, for `detect`.

    Those of a cascade are of its last head, but for the mean probability of all heads.
    """
    heads = ["", *(f"_{k}" for k in range(2, len(config.cascade.ious) + 2))]
    of_heads = [jnp.asarray(stages[f"class_logits{head}"][0]) for head in heads]
    logits = of_heads[0]
    if config.cascade.ious:
        logits = mean_logits(of_heads, config.box_head)
    deltas, boxes = (jnp.asarray(stages[k + heads[-1]][0]) for k in ("box_deltas", "proposals"))
    weights = (config.box_head.coder_weights, *config.cascade.coder_weights)
    return logits, deltas, boxes, weights[len(heads) - 1]


def _uncut(config: ModelConfig, stages: Stages, candidates: int) -> list[np.ndarray]:
    """Returns boxes, scores, labels and valid of `detect`, as many as there are."""
    slots = min(1 << max(candidates, 1).bit_length(), _MOST)
    config = replace(config, detections=replace(config.detections, max_per_image=slots))
    logits, deltas, boxes, _ = _answers(config, stages)
    scores, valid = (jnp.asarray(stages[f"proposal_{key}"][0]) for key in ("scores", "valid"))
    proposals = Proposals(boxes, scores, valid)
    limits = jnp.asarray(stages["input_size"][0])
    return [np.asarray(value) for value in detect(logits, deltas, proposals, limits, config)]


def _by_score(picture: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Draws boxes in colours of their scores, the surest on top, over the darkened picture."""
    drawn = picture // 2
    paints = heat(np.asarray(scores)[None], -0.2, 1.0)[0].tolist()
    for i in np.argsort(scores, kind="stable"):
        drawn = draw_boxes(drawn, boxes[i : i + 1], tuple(paints[i]))
    return drawn
