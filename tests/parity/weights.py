"""Weights that follow from their names, shapes and a seed (numpy only).

A file of reference values stores no weights: this module makes them again, for whoever computes the
values and for whoever is compared with them. Both use torchvision's layout.

The numbers are random and scaled so that the detector behaves like a trained one where a test
looks: activations stay bounded, scores and labels are spread, boxes move by some pixels, and the
mask logits change their sign inside a box.
"""

import math
import re
from collections.abc import Iterable, Mapping
from zlib import crc32

import numpy as np

NamesAndShapes = Iterable[tuple[str, Iterable[int]]]

# A weight has a standard deviation of gain / sqrt(fan_in); the first pattern that is found counts.
# Coarse pyramid levels are louder, so that proposals come from all of them.
_GAINS = (
    (r"fpn\.layer_blocks\.0\.", 0.5),
    (r"fpn\.layer_blocks\.1\.", 0.9),
    (r"fpn\.layer_blocks\.2\.", 1.7),
    (r"fpn\.layer_blocks\.3\.", 3.4),
    (r"fpn\.", 1.0),
    (r"rpn\.head\.cls_logits\.", 2.0),
    (r"rpn\.head\.bbox_pred\.", 0.3),
    (r"box_predictor\.(\d\.)?cls_score\.", 14.0),
    (r"box_predictor\.bbox_pred\.", 2.5),
    (r"box_predictor\.\d\.bbox_pred\.", 0.8),  # of a cascade, whose boxes move three times
    (r"mask_predictor\.mask_fcn_logits\.", 8.0),
    (r"coarse_head\.prediction\.", 4.0),
    (r"point_head\.predictor\.", 8.0),
    (r"keypoint_predictor\.", 2.0),
    (r"", math.sqrt(2)),  # layers before a ReLU
)


def torchvision_state(names_and_shapes: NamesAndShapes, seed: int) -> dict[str, np.ndarray]:
    """Returns torchvision's state dict: name -> float32 array (counters are int64)."""
    return {name: _tensor(name, tuple(shape), seed) for name, shape in names_and_shapes}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    noise = np.random.default_rng(crc32(name.encode()) ^ seed).standard_normal(shape)
    if kind in ("gamma", "layer_scale"):
        value = 0.3 + 0.1 * noise
    elif kind in ("pos_embed", "rel_pos_h", "rel_pos_w"):
        value = 0.5 * noise
    elif kind == "weight" and len(shape) > 1:
        value = _filters(name, noise)
    elif kind in ("weight", "running_var"):
        value = 1 + 0.1 * np.clip(noise, -3, 3)
        if re.search(r"layer\d\.\d+\.bn3\.weight", name):
            value *= 0.2  # the last norm of a residual block: the sum must not grow with depth
    else:  # bias or running_mean
        value = 0.05 * noise
        if name.endswith("cls_score.bias"):
            value[0] += 6  # most proposals are background
    return value.astype(np.float32)


def _filters(name: str, noise: np.ndarray) -> np.ndarray:
    """Noise as the weights of a layer, each filter without a mean.

    What all positions have in common after a ReLU then does not drown their differences.
    """
    is_transposed = "conv5_mask" in name or "kps_score_lowres" in name
    inputs = (0,) if is_transposed else tuple(range(1, noise.ndim))
    fan_in = math.prod(noise.shape[axis] for axis in inputs)
    gain = next(gain for pattern, gain in _GAINS if re.search(pattern, name))
    if fan_in > 1:
        noise = noise - noise.mean(inputs, keepdims=True)
    return noise * (gain / math.sqrt(fan_in))


# Detectron2's names in torchvision's words, applied one after the other.
_TORCHVISION_NAMES = (
    (r"^backbone\.bottom_up\.stem\.conv1\.norm\.", r"backbone.body.bn1."),
    (r"^backbone\.bottom_up\.stem\.", r"backbone.body."),
    (r"^backbone\.bottom_up\.res(\d)\.", lambda m: f"backbone.body.layer{int(m[1]) - 1}."),
    (r"\.shortcut\.norm\.", r".downsample.1."),
    (r"\.shortcut\.", r".downsample.0."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"^backbone\.fpn_lateral(\d)", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 2}.0"),
    (r"^backbone\.fpn_output(\d)", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 2}.0"),
    (r"^proposal_generator\.rpn_head\.conv\.", r"rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits", r"rpn.head.cls_logits"),
    (r"^proposal_generator\.rpn_head\.anchor_deltas", r"rpn.head.bbox_pred"),
    (r"\.box_head\.(\d\.)?fc1\.", r".box_head.\1fc6."),
    (r"\.box_head\.(\d\.)?fc2\.", r".box_head.\1fc7."),
    (r"\.mask_head\.mask_fcn(\d)\.", lambda m: f".mask_head.{int(m[1]) - 1}.0."),
    (r"\.mask_head\.deconv\.", r".mask_predictor.conv5_mask."),
    (r"\.mask_head\.predictor\.", r".mask_predictor.mask_fcn_logits."),
    (r"\.keypoint_head\.conv_fcn(\d)\.", lambda m: f".keypoint_head.{2 * int(m[1]) - 2}."),
    (r"\.keypoint_head\.score_lowres\.", r".keypoint_predictor.kps_score_lowres."),
)


def detectron2_state(
    names_and_shapes: NamesAndShapes, seed: int, classes: int
) -> dict[str, np.ndarray]:
    """Returns Detectron2's state dict: the same weights under its names, in its order of classes.

    Args:
        names_and_shapes: of Detectron2.
        seed: of the weights.
        classes: foreground classes; the background is the last one, and has neither box nor mask.
    """
    state = {}
    for name, shape in names_and_shapes:
        known = name
        for pattern, replacement in _TORCHVISION_NAMES:
            known = re.sub(pattern, replacement, known)
        rows = {"cls_score": 1, "bbox_pred": 4, "mask_fcn_logits": 1}.get(known.split(".")[-2])
        is_agnostic = ".bbox_pred." in known and shape[0] == 4
        if rows and known.startswith("roi_heads") and not is_agnostic:
            whole = _tensor(known, ((classes + 1) * rows, *shape[1:]), seed)
            state[name] = np.roll(whole, -rows, axis=0)[: shape[0]]
        else:
            state[name] = _tensor(known, tuple(shape), seed)
        if known == "backbone.body.conv1.weight":
            state[name] /= np.float32(58)  # pixels are not divided by their deviation there
    return state


def backbone_state(names_and_shapes: NamesAndShapes, seed: int) -> dict[str, np.ndarray]:
    """Returns the state dict of a backbone alone, of torchvision, Detectron2 or timm."""
    state = {}
    for name, shape in names_and_shapes:
        known = f"backbone.bottom_up.{name}"
        for pattern, replacement in _TORCHVISION_NAMES:
            known = re.sub(pattern, replacement, known)
        state[name] = _tensor(known, tuple(shape), seed)
    return state


def noise_image(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns what a backbone is given instead of a normalised picture, float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def checksums(state: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns [arrays, 3] float64: sum, sum of squares and first element of each."""
    flat = [np.asarray(array, np.float64).ravel() for array in state.values()]
    return np.array([(x.sum(), (x**2).sum(), x[0]) for x in flat])
