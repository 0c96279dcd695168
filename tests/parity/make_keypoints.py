"""Computes what torchvision's and Detectron2's Keypoint R-CNN give: a prediction, and the loss.

    python -m tests.parity.make_keypoints torchvision
    python -m tests.parity.make_keypoints detectron2

The first needs what `make_torchvision.py` needs, the second what `make_detectron2.py` needs.
README.md says what is stored: of a prediction only what comes after the proposals, and the keypoint
head by itself on given features.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torchvision
from torch import nn

from tests.parity import make_torchvision, scene, store, weights

POINTS, CLASSES = 5, 6  # keypoints of an object; classes without the background
HEATMAP_STRIDE = 4  # every how many rows and columns of heatmaps are stored
SIZE = (160, 192)
TORCHVISION_SIZE = make_torchvision.SIZES[0]
# RoIs of the head by itself: smaller and larger than a heatmap, narrow, and without a keypoint.
ROIS = np.float32(
    [
        [3, 4, 43.5, 38.2],
        [10.4, 0, 140.8, 159],
        [20, 30, 90, 41],
        [60, 20, 64.5, 90.3],
        [2, 90, 9, 99],
    ]
)
MATCHED = np.array([0, 1, 1, 2, 0])


def objects(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns boxes and labels of a scene, and keypoints [n, P, 3] around and in the boxes."""
    boxes, labels, _ = scene.objects(height, width, seed, CLASSES + 1)
    return boxes, labels, keypoints_of(boxes, seed)


def keypoints_of(boxes: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 2])
    share = rng.uniform(-0.1, 1.1, (len(boxes), POINTS, 2))
    places = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    known = rng.integers(0, 3, (len(boxes), POINTS, 1))
    return np.where(known > 0, np.concatenate([places, known], -1), 0).astype(np.float32)


def nudged(state: dict[str, np.ndarray], ulp_seed: int) -> dict[str, np.ndarray]:
    """Moves each weight to a neighbouring float32 number or leaves it; 0: leaves all."""
    if not ulp_seed:
        return state
    rng, moved = np.random.default_rng(ulp_seed), {}
    for name, array in state.items():
        if array.dtype != np.float32:
            moved[name] = array
            continue
        aim = rng.choice([-np.inf, np.nan, np.inf], array.shape).astype(np.float32)
        moved[name] = np.where(np.isnan(aim), array, np.nextafter(array, aim))
    return moved


class Torchvision:
    """`keypointrcnn_resnet50_fpn` with fewer channels, anchors and proposals."""

    name, size = "torchvision keypointrcnn_resnet50_fpn", TORCHVISION_SIZE

    def __init__(self, seed: int, dtype: torch.dtype, ulp_seed: int = 0):
        from torchvision.models.detection import keypoint_rcnn

        pyramid = make_torchvision.PYRAMID
        self.settings = {n: v for n, v in make_torchvision.SETTINGS.items() if "train" not in n}
        self.settings |= {"width": make_torchvision.WIDTH, "pyramid": pyramid}
        self.settings |= {"dense": make_torchvision.DENSE}
        self.net = make_torchvision.detector("v1", boxes=True)
        heads = self.net.roi_heads
        heads.keypoint_roi_pool = torchvision.ops.MultiScaleRoIAlign(
            list("0123"), 14, 2, canonical_scale=make_torchvision.SETTINGS["canonical_scale"]
        )
        heads.keypoint_head = keypoint_rcnn.KeypointRCNNHeads(pyramid, [pyramid] * 8)
        heads.keypoint_predictor = keypoint_rcnn.KeypointRCNNPredictor(pyramid, POINTS)
        self.shapes = [(n, list(x.shape)) for n, x in self.net.state_dict().items()]
        self.state = weights.torchvision_state(self.shapes, seed)
        given = nudged(self.state, ulp_seed)
        self.net.load_state_dict({n: torch.from_numpy(x) for n, x in given.items()})
        self.net.to(dtype).eval()
        self.head = nn.Sequential(heads.keypoint_head, heads.keypoint_predictor)

    @torch.no_grad()
    def predicted(self, image: np.ndarray) -> dict[str, torch.Tensor]:
        logits = []
        hook = self.net.roi_heads.keypoint_predictor.register_forward_hook(
            lambda *args: logits.append(args[-1])
        )
        (found,) = self.net([make_torchvision.pixels(self.net, image)])
        hook.remove()
        return {
            "boxes": found["boxes"],
            "scores": found["scores"],
            "classes": found["labels"],
            "keypoints": found["keypoints"][..., :2],
            "logits": logits[0],
        }

    def keypoints(self, logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Returns x, y and the softmax at the largest value, which is not torchvision's score."""
        found, largest = torchvision.models.detection.roi_heads.heatmaps_to_keypoints(logits, boxes)
        score = 1 / torch.exp(logits - largest[..., None, None]).sum((2, 3))
        return torch.cat([found[..., :2].to(score.dtype), score[..., None]], -1)

    def loss(self, logits, boxes, points, matched) -> tuple[torch.Tensor, ...]:
        module = torchvision.models.detection.roi_heads
        loss = module.keypointrcnn_loss(logits, [boxes], [points], [matched])
        return loss, *module.keypoints_to_heatmap(points[matched], boxes, logits.shape[-1])


class Detectron2:
    """`keypoint_rcnn_R_50_FPN_1x`, likewise."""

    name, size = "detectron2 COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", SIZE

    def __init__(self, seed: int, dtype: torch.dtype, ulp_seed: int = 0):
        from tests.parity import make_detectron2 as original

        self.settings = original.SETTINGS
        config = original.narrow("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", sampling_ratio=2)
        head = config.MODEL.ROI_KEYPOINT_HEAD
        head.CONV_DIMS = [original.SETTINGS["pyramid"]] * 8
        head.NUM_KEYPOINTS, head.POOLER_SAMPLING_RATIO = POINTS, 2
        self.net = original.built(config).eval()
        self.shapes = original.names_and_shapes(self.net)
        self.state = weights.detectron2_state(self.shapes, seed, CLASSES)
        original.load(self.net, nudged(self.state, ulp_seed))
        self.net.to(dtype)
        self.head = self.net.roi_heads.keypoint_head.layers

    @torch.no_grad()
    def predicted(self, image: np.ndarray) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
        batch = self.net.preprocess_image([{"image": pixels}])
        pyramid = self.net.backbone(batch.tensor)
        proposals, _ = self.net.proposal_generator(batch, pyramid)
        (found,), _ = self.net.roi_heads(batch, pyramid, proposals)
        return {
            "boxes": found.pred_boxes.tensor,
            "scores": found.scores,
            "classes": found.pred_classes + 1,
            "keypoints": found.pred_keypoints,
            "logits": found.pred_keypoint_heatmaps,
        }

    def keypoints(self, logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        from detectron2.structures import heatmaps_to_keypoints

        return heatmaps_to_keypoints(logits, boxes)[..., [0, 1, 3]]

    def loss(self, logits, boxes, points, matched) -> tuple[torch.Tensor, ...]:
        from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_loss
        from detectron2.structures import Boxes, Instances, Keypoints

        given = Instances(SIZE)
        given.proposal_boxes = Boxes(boxes)
        known = Keypoints(points[matched])
        known.tensor = known.tensor.to(points.dtype)
        given.gt_keypoints = known
        loss = keypoint_rcnn_loss(logits, [given], None)
        return loss, *known.to_heatmap(boxes, logits.shape[-1])


def of_head(model, seed: int, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Returns what the keypoint head makes of given features, and its loss and gradients."""
    rng = np.random.default_rng([seed, 3])
    features = rng.standard_normal((len(ROIS), model.settings["pyramid"], 14, 14))
    features = features.astype(np.float16)  # half as many bytes to store
    points = keypoints_of(ROIS[[0, 1, 3]], seed)
    x = torch.from_numpy(features).to(dtype).requires_grad_()
    boxes, known = torch.from_numpy(ROIS).to(dtype), torch.from_numpy(points).to(dtype)
    logits = model.head(x)
    found = model.keypoints(logits.detach(), boxes)
    loss, cells, valid = model.loss(logits, boxes, known, torch.from_numpy(MATCHED))
    loss.backward()
    # A bias of the predictor is the same at all positions, which leaves their softmax as it is.
    named = [(n, p) for n, p in model.net.named_parameters() if ".keypoint_" in n][:-1]
    out = {
        "logits": logits.detach()[..., ::HEATMAP_STRIDE, ::HEATMAP_STRIDE],
        "keypoints": found,
        "loss": loss.detach(),
        "cells": cells.reshape(len(ROIS), POINTS),
        "valid": valid.reshape(len(ROIS), POINTS).to(torch.int64),
        "gradient_norms": torch.stack([p.grad.double().norm() for _, p in named]),
        "gradient.features": x.grad[:2],
        **{f"gradient.{n}": p.grad for n, p in (*named[:2], named[-1])},
    }
    given = {"features": features, "boxes": ROIS, "matched": MATCHED, "points": points}
    return {f"head.{n}": np.asarray(v) for n, v in {**out, **given}.items()}


def computed(kind, seed: int, image: np.ndarray, dtype: torch.dtype, ulp_seed: int = 0) -> dict:
    model = kind(seed, dtype, ulp_seed)
    found = model.predicted(image)
    found["logits"] = found["logits"][..., :: 2 * HEATMAP_STRIDE, :: 2 * HEATMAP_STRIDE]
    out = {f"eval.{name}": np.asarray(value) for name, value in found.items()}
    return out | of_head(model, seed, dtype)


def unstable(values: dict, error: dict) -> list[str]:
    """Returns what rounding decides: a choice, or a gradient by more than 1 %."""
    return [
        name
        for name, value in error.items()
        if value is None
        or (name in ("eval.boxes", "eval.keypoints", "head.keypoints") and value > 0.01)
        or ("gradient." in name and value > 0.01 * np.abs(values[name]).max())
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("original", choices=("torchvision", "detectron2"))
    parser.add_argument("--seed", type=int, default=1, help="the first that is tried")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    args = parser.parse_args()
    kind = Torchvision if args.original == "torchvision" else Detectron2
    versions = SimpleNamespace(torch=torch.__version__, torchvision=torchvision.__version__)
    if kind is Detectron2:
        from tests.parity import make_detectron2

        make_detectron2.allow_float64()
        versions.detectron2 = make_detectron2.detectron2.__version__
    for seed in range(args.seed, args.seed + 100):
        image = scene.image(*kind.size, 100 * seed)
        run = partial(computed, kind, seed, image)
        exact = run(torch.float64)
        error = store.rounding_error(exact, *(run(torch.float32, n) for n in range(3)))
        names = unstable(exact, error)
        if not names and len(exact["eval.scores"]) > 5:
            break
        print(f"seed {seed}: rounding decides {', '.join(names)}", flush=True)
    model = kind(seed, torch.float64)
    values = store.single(exact)
    values["state.names_and_shapes"] = np.array(json.dumps(model.shapes))
    values["state.checksums"] = weights.checksums(model.state)
    meta = {
        "arch": kind.name,
        "seed": seed,
        "size": kind.size,  # of the image, scene.image(*size, 100 * seed)
        "classes": CLASSES,
        "keypoints": POINTS,
        "heatmap_stride": HEATMAP_STRIDE,
        "settings": model.settings,
        "gradient_names": [n for n, _ in model.net.named_parameters() if ".keypoint_" in n][:-1],
        "versions": {name: text.split("+")[0] for name, text in vars(versions).items()},
        "float32_vs_float64_max_abs": error,
    }
    store.write(args.out / f"keypoints_{args.original}.npz", meta, values)
    print(len(exact["eval.scores"]), "detections; loss", exact["head.loss"])
    print({key: f"{value:.1e}" for key, value in error.items() if value})


if __name__ == "__main__":
    main()
