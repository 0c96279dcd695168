"""Computes Detectron2's losses and scores of a box head with sigmoids, on given logits.

    python -m tests.parity.make_class_losses

Needs what `make_detectron2.py` needs. README.md says what is stored.
"""

import argparse
from pathlib import Path

import detectron2
import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.parity import store
from tests.parity.make_detectron2 import allow_float64

CLASSES, ROIS, DRAWS = 7, 14, 100_000
SIZE = (90, 120)
COUNTS = (400, 1, 25, 0, 9, 100, 4)  # images of each class
LABELS = (7, 2, 2, 7, 4, 7, 2, 7, 7, 4, 7, 7, 7, 7)  # 7 is the background
THRESHOLD = 0.3
# None: no federated loss; 3: the RoIs' own classes alone; 7: all that can be drawn besides.
NUMBERS = (None, 3, 7)
DRAWN = 5  # two of the four that can be, after which the frequencies are counted


def layers(number: int | None, score_threshold: float = 0.0) -> FastRCNNOutputLayers:
    """Returns Detectron2's predictor, of `number` federated classes."""
    return FastRCNNOutputLayers(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=CLASSES,
        test_score_thresh=score_threshold,
        use_sigmoid_ce=True,
        use_fed_loss=number is not None,
        get_fed_loss_cls_weights=lambda: torch.tensor(COUNTS).float() ** 0.5,
        fed_loss_num_classes=number or 0,
    )


def proposals(boxes: np.ndarray) -> Instances:
    found = Instances(SIZE)
    found.proposal_boxes = found.gt_boxes = Boxes(torch.from_numpy(boxes))
    found.gt_classes = torch.tensor(LABELS)
    return found


def computed(logits, deltas, boxes, dtype: torch.dtype) -> dict[str, np.ndarray]:
    given = torch.from_numpy(deltas).to(dtype)
    out = {}
    for number in NUMBERS:
        x = torch.from_numpy(logits).to(dtype).requires_grad_()
        with EventStorage():
            loss = layers(number).losses((x, given), [proposals(boxes)])["loss_cls"]
        loss.backward()
        out |= {f"loss.{number or 'all'}": loss.detach(), f"gradient.{number or 'all'}": x.grad}
    x = torch.from_numpy(logits).to(dtype)
    (found,), _ = layers(None, THRESHOLD).inference((x, given), [proposals(boxes)])
    out |= {"boxes": found.pred_boxes.tensor, "scores": found.scores, "classes": found.pred_classes}
    return {name: value.numpy() for name, value in out.items()}


def frequencies() -> np.ndarray:
    """Returns how often each class is in the loss."""
    head, counts = layers(DRAWN), np.zeros(CLASSES + 1)
    for _ in range(DRAWS):
        found = head.get_fed_loss_classes(
            torch.tensor(LABELS), DRAWN, CLASSES, head.fed_loss_cls_weights
        )
        counts[found.numpy()] += 1
    return counts[:CLASSES] / DRAWS


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    out = parser.parse_args().out
    allow_float64()
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    logits = rng.normal(-1, 2, (ROIS, CLASSES + 1)).astype(np.float32)
    deltas = rng.normal(0, 0.5, (ROIS, 4 * CLASSES)).astype(np.float32)
    low = rng.uniform(0, 60, (ROIS, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 50, (ROIS, 2))], 1).astype(np.float32)
    exact, rounded = (computed(logits, deltas, boxes, t) for t in (torch.float64, torch.float32))
    values = {"logits": logits, "deltas": deltas, "proposals": boxes, **store.single(exact)}
    meta = {
        "labels": LABELS,
        "image_counts": COUNTS,
        "size": SIZE,
        "score_threshold": THRESHOLD,
        "drawn": DRAWN,
        "draws": DRAWS,
        "versions": {m.__name__: m.__version__ for m in (detectron2, torch)},
        "float32_vs_float64_max_abs": store.rounding_error(exact, rounded),
    }
    store.write(out / "class_losses_d2.npz", meta, values | {"frequencies": frequencies()})
    print({name: float(x) for name, x in exact.items() if "loss" in name}, len(exact["scores"]))


if __name__ == "__main__":
    main()
