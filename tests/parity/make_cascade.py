"""Computes what Detectron2's Cascade Mask R-CNN gives: a prediction, and one step of its box heads.

    python -m tests.parity.make_cascade

Needs what `make_detectron2.py` needs. README.md says what is stored: only what comes after the
proposals, since all before is `mrcnn_d2.npz`'s.
"""

import argparse
import json
from pathlib import Path

import detectron2
import numpy as np
import torch
import torchvision
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from tests.parity import scene, store, weights
from tests.parity.make_detectron2 import (
    CLASSES,
    SETTINGS,
    SIZE,
    allow_float64,
    built,
    load,
    names_and_shapes,
    narrow,
)

RECIPE = "Misc/cascade_mask_rcnn_R_50_FPN_1x"
EVERY = 10**7  # so many are never there: nothing is sampled away, and no random number matters
TRAINING = {"rpn_pre_nms_top_n_train": 150, "rpn_post_nms_top_n_train": 200}
PROJECTION = (1.0, 1.7, 2.3, 3.1)  # by which boxes are put in order
GRADIENTS = (  # in full
    "backbone.fpn_output2.weight",
    *(f"roi_heads.box_predictor.{k}.cls_score.bias" for k in range(3)),
    *(f"roi_heads.box_predictor.{k}.bbox_pred.weight" for k in range(3)),
    "roi_heads.box_head.2.fc2.bias",
)


def detector(seed: int, dtype: torch.dtype, ulp_seed: int = 0) -> torch.nn.Module:
    """Returns the recipe's model with fewer channels, anchors and proposals, and our weights.

    A `ulp_seed` moves each weight to a neighbouring float32 number or leaves it.
    """
    config = narrow(RECIPE, sampling_ratio=2)
    rpn = config.MODEL.RPN
    rpn.PRE_NMS_TOPK_TRAIN = TRAINING["rpn_pre_nms_top_n_train"]
    rpn.POST_NMS_TOPK_TRAIN = TRAINING["rpn_post_nms_top_n_train"]
    rpn.BATCH_SIZE_PER_IMAGE = config.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = EVERY
    net = built(config)
    state = weights.detectron2_state(names_and_shapes(net), seed, CLASSES)
    if ulp_seed:
        rng = np.random.default_rng(ulp_seed)
        for name, array in state.items():
            aim = rng.choice([-np.inf, np.nan, np.inf], array.shape).astype(np.float32)
            state[name] = np.where(np.isnan(aim), array, np.nextafter(array, aim))
    load(net, state)
    return net.to(dtype)


class Stages:
    """Records what each box head is given and answers."""

    def __init__(self, heads: torch.nn.Module):
        self.found, self._run = {}, heads._run_stage
        heads._run_stage = self

    def __call__(self, features, proposals, k):
        predictions = self._run(features, proposals, k)
        self.found[f"stage_boxes.{k}"] = proposals[0].proposal_boxes.tensor.detach()
        self.found[f"stage_logits.{k}"] = predictions[0].detach()
        self.found[f"stage_deltas.{k}"] = predictions[1].detach()
        if proposals[0].has("gt_classes"):
            self.found[f"stage_labels.{k}"] = proposals[0].gt_classes
        return predictions


@torch.no_grad()
def predicted(net: torch.nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    net.eval()
    batch, pyramid = features(net, image)
    (proposals,), _ = net.proposal_generator(batch, pyramid)
    stages, masks = Stages(net.roi_heads), []
    (found,) = net.roi_heads._forward_box(pyramid, [proposals])
    hook = net.roi_heads.mask_head.predictor.register_forward_hook(
        lambda *args: masks.append(args[-1])
    )
    net.roi_heads.forward_with_given_boxes(pyramid, [found])
    hook.remove()
    out = dict(stages.found)
    out["boxes"], out["scores"] = found.pred_boxes.tensor, found.scores
    out["classes"] = found.pred_classes
    out["mask_logits"] = masks[0][torch.arange(len(found)), found.pred_classes]
    return {f"eval.{name}": value.numpy() for name, value in out.items()}


def trained(net: torch.nn.Module, image, boxes, labels) -> dict[str, np.ndarray]:
    """Returns the losses of the box heads and the gradients of their sum."""
    net.train()
    dtype = net.pixel_mean.dtype
    truth = Instances(SIZE)
    truth.gt_boxes = Boxes(torch.from_numpy(boxes).to(dtype))
    truth.gt_classes = torch.from_numpy(labels - 1)
    with EventStorage():
        batch, pyramid = features(net, image)
        proposals, _ = net.proposal_generator(batch, pyramid, [truth])
        proposals = net.roi_heads.label_and_sample_proposals(proposals, [truth])
        stages = Stages(net.roi_heads)
        losses = net.roi_heads._forward_box(pyramid, proposals, [truth])
    sum(losses.values()).backward()
    gradients = {n: p.grad.numpy() for n, p in net.named_parameters() if p.grad is not None}
    out = {name: loss.detach() for name, loss in losses.items()}
    for k in range(3):  # in an order that no score decides
        boxes = stages.found[f"stage_boxes.{k}"]
        order = (boxes * torch.tensor(PROJECTION, dtype=dtype)).sum(1).argsort()
        out[f"stage_boxes.{k}"] = boxes[order]
        out[f"stage_labels.{k}"] = stages.found[f"stage_labels.{k}"][order]
    out["gradient_norms"] = np.array(
        [np.linalg.norm(x.astype(np.float64)) for x in gradients.values()]
    )
    out |= {f"gradient.{name}": gradients[name] for name in GRADIENTS}
    return {f"train.{name}": np.asarray(value) for name, value in out.items()}


def features(net: torch.nn.Module, image: np.ndarray) -> tuple[ImageList, dict]:
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    batch = net.preprocess_image([{"image": pixels}])
    return batch, net.backbone(batch.tensor)


def computed(seed, image, objects, dtype, ulp_seed=0) -> dict[str, np.ndarray]:
    found = predicted(detector(seed, dtype, ulp_seed), image)
    return found | trained(detector(seed, dtype, ulp_seed), image, *objects[:2])


def unstable(values: dict, error: dict) -> list[str]:
    """Returns what rounding decides: a choice, or a gradient by more than 1 %."""
    return [
        name
        for name, value in error.items()
        if value is None
        or ("boxes" in name and value > 0.01)
        or (".gradient." in name and value > 0.01 * np.abs(values[name]).max())
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="the first that is tried")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    args = parser.parse_args()
    allow_float64()
    for seed in range(args.seed, args.seed + 100):
        image = scene.image(*SIZE, 100 * seed)
        objects = scene.objects(*SIZE, 100 * seed, CLASSES + 1)
        exact = computed(seed, image, objects, torch.float64)
        rounded = [computed(seed, image, objects, torch.float32, n) for n in range(3)]
        error = store.rounding_error(exact, *rounded)
        positive = [int((exact[f"train.stage_labels.{k}"] < CLASSES).sum()) for k in range(3)]
        names = unstable(exact, error)
        if not names and min(positive) > 3:
            break
        print(f"seed {seed}: {positive} positive; rounding decides {', '.join(names)}", flush=True)
    net = detector(seed, torch.float64)
    shapes = names_and_shapes(net)
    trained_names = [n for n, p in net.named_parameters() if p.requires_grad]
    values = {"image": image, "gt_boxes": objects[0], "gt_classes": objects[1]}
    values["state.names_and_shapes"] = np.array(json.dumps(shapes))
    values["state.checksums"] = weights.checksums(weights.detectron2_state(shapes, seed, CLASSES))
    values |= store.single(exact)
    errors = [np.abs(exact["train.gradient_norms"] - x["train.gradient_norms"]) for x in rounded]
    values["error.train.gradient_norms"] = np.max(errors, axis=0)
    meta = {
        "arch": f"detectron2 {RECIPE}",
        "seed": seed,
        "classes": CLASSES,
        "settings": {**SETTINGS, **TRAINING},
        "gradient_names": [
            n for n in trained_names if not n.startswith(("proposal_gen", "roi_heads.mask"))
        ],
        "versions": {m.__name__: m.__version__ for m in (detectron2, torch, torchvision)},
        "float32_vs_float64_max_abs": error,
    }
    assert len(meta["gradient_names"]) == len(values["train.gradient_norms"])
    store.write(args.out / "cascade_d2.npz", meta, values)
    print({k: f"{float(v):.4f}" for k, v in exact.items() if "loss" in k})
    print(positive, "positive RoIs of each head")
    print(len(exact["eval.scores"]), "detections")
    print({key: f"{value:.1e}" for key, value in error.items() if value})


if __name__ == "__main__":
    main()
