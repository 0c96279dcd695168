"""Computes what torchvision's single operations give: boxes, NMS, RoIAlign, anchors, masks.

    python -m tests.parity.make_ops

Needs torch and torchvision, nothing of this project. README.md says what is stored.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import (
    MultiScaleRoIAlign,
    batched_nms,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
    nms,
    remove_small_boxes,
    roi_align,
)
from torchvision.ops.poolers import initLevelMapper

from tests.parity import scene, store

COTANGENTS = ((7, 7), (3, 5))  # sizes that RoIAlign pools to
WEIGHTS = {"rpn": (1.0, 1.0, 1.0, 1.0), "roi": (10.0, 10.0, 5.0, 5.0)}
BOX_LOSSES = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}
CANVASES = ((800, 1344), (256, 320))  # that anchors are made for
SIDES = [(480, 640), (640, 480), (427, 640), (375, 500), (800, 1333), (500, 333), (1080, 1920),
         (333, 1000), (1200, 50), (2000, 3000), (612, 612), (799, 1334), (426, 640)]  # fmt: skip
EDGES = [  # RoIs of an image of 80 x 96
    [-20, -12, 30, 25],  # partly outside
    [70, 60, 130, 110],
    [200, 200, 240, 230],  # outside
    [10, 10, 10, 10],  # without area
    [40, 30, 20, 50],  # x2 < x1
    [0, 0, 96, 80],
    [8, 8, 9, 9],  # smaller than a cell
    [12, 20, 44, 52],  # on whole cells
    [-3.9, -3.9, -0.1, -0.1],  # in the border of one cell where samples still count
    [3.3, 4.4, 91.7, 7.9],
]
HALVES = [  # pairs that overlap by exactly 1/2, and duplicates
    *([300, 300, 310, 310], [300, 300, 310, 305], [400, 300, 410, 310], [400, 300, 405, 310]),
    *([500, 300, 520, 320], [500, 300, 520, 320], [600, 300, 620, 320], [600, 300, 620, 320]),
]


def random_boxes(rng, count, width, height, low=2.0, high=0.6) -> np.ndarray:
    """Returns [count, 4] float32 boxes in an image; sides from `low` pixels to a part of it."""
    limits = np.array([width, height])
    size = rng.uniform(low, high * limits, (count, 2))
    corner = rng.uniform(0, limits - size)
    return np.concatenate([corner, corner + size], 1).astype(np.float32)


def crowded_boxes(rng, count, places, side) -> np.ndarray:
    """Returns [count, 4] float32 boxes around a few places."""
    middle = rng.uniform(20, 200, (places, 2))[rng.integers(0, places, count)]
    middle, half = (
        middle + rng.normal(0, 3, (count, 2)),
        np.abs(rng.normal(side, 3, (count, 2))) + 2,
    )
    return np.concatenate([middle - half, middle + half], 1).astype(np.float32)


def noise(rng, *shape) -> np.ndarray:
    """Returns float32 noise of few bits, which compresses well."""
    return (np.round(rng.standard_normal(shape) * 32) / 32).astype(np.float32)


def inputs(seed: int) -> dict[str, np.ndarray]:
    """Returns what the operations are given."""
    rng = np.random.default_rng(seed)
    z = {"roi_align.input": noise(rng, 2, 4, 20, 24), "roi_align.scale": np.float32(0.25)}
    rois = np.concatenate([random_boxes(rng, 10, 96, 80), np.array(EDGES, np.float32)])
    rois = np.column_stack([rng.integers(0, 2, len(rois)), rois]).astype(np.float32)
    z["roi_align.rois.aligned0"] = rois
    z["roi_align.rois.aligned1"] = rois.copy()  # where torchvision refuses x2 < x1
    z["roi_align.rois.aligned1"][:, 3:] = np.maximum(rois[:, 3:], rois[:, 1:3])
    for height, width in COTANGENTS:
        z[f"roi_align.cotangent.{height}x{width}"] = noise(rng, len(rois), 4, height, width)

    for level in range(4):
        z[f"pyramid.level{level}"] = noise(rng, 1, 2, 128 >> level, 160 >> level)
    boxes = random_boxes(rng, 24, 640, 512, 6, 0.98)
    boxes[:3] = [[0, 0, 640, 512], [60.5, 20.25, 600, 500], [5, 5, 453, 453]]
    z["pyramid.boxes"] = boxes
    side = [*rng.uniform(4, 900, 100), 111.9, 112, 112.1, 223.9, 224, 224.1, 447.9, 448, 448.1]
    side = np.array([*side, 0, 1, 2000])
    stretch = np.exp(rng.uniform(-0.5, 0.5, len(side)))
    stretch[100:] = 1
    corner = rng.uniform(0, 300, (len(side), 2)) * (np.arange(len(side)) < 100)[:, None]
    size = np.stack([side * stretch, side / stretch], 1)
    z["level_mapper.boxes"] = np.concatenate([corner, corner + size], 1).astype(np.float32)

    boxes, scores = crowded_boxes(rng, 300, 30, 14), rng.integers(0, 101, 300) / 100
    boxes[:8] = HALVES
    scores[:8] = [0.9, 0.8, 0.7, 0.75, 0.5, 0.5, 0.25, 0.5]
    z["nms.boxes"], z["nms.scores"] = boxes, scores.astype(np.float32)  # with many ties
    z["batched_nms.classes"] = rng.integers(0, 6, 300)
    # So many that torchvision goes class by class.
    z["batched_nms_large.boxes"] = crowded_boxes(rng, 1200, 300, 30)
    z["batched_nms_large.scores"] = (rng.permutation(1200) / 1200).astype(np.float32)
    z["batched_nms_large.classes"] = rng.integers(0, 4, 1200)
    small = [[0, 0, 1e-3, 5], [0, 0, 9e-4, 5], [3, 3, 3, 9], [4, 4, 5, 5], [6, 6, 2, 9]]
    z["remove_small.boxes"] = np.array(small, np.float32)

    z["iou.a"], z["iou.b"] = random_boxes(rng, 12, 100, 80), random_boxes(rng, 30, 100, 80)
    z["iou.a"][:2] = [5, 5, 5, 9], z["iou.b"][1]
    objects, anchors = random_boxes(rng, 5, 100, 80, 10), random_boxes(rng, 400, 100, 80, 5)
    anchors[7] = objects[3]
    z["matcher.quality"] = box_iou(*map(torch.from_numpy, (objects, anchors))).numpy()

    z["coder.reference"] = random_boxes(rng, 50, 200, 150)
    z["coder.proposals"] = random_boxes(rng, 50, 200, 150)
    for kind, weights in WEIGHTS.items():
        codes = rng.normal(0, 0.6, (50, 12)) * np.tile(weights, 3)
        # About the limit of log(1000 / 16) = 4.135, and far beyond it.
        codes[:6, 2] = weights[2] * np.array([4, 4.2, 5, 9, math.log(1000 / 16), -6])
        codes[4:8, 3] = weights[3] * np.array([4.13, 4.14, 50, -50])
        codes[8:12, :2] = weights[0] * np.array([[30, -30], [2, 2], [-8, 8], [0, 0]])
        z[f"coder.codes.{kind}"] = codes.astype(np.float32)

    grid = np.linspace(-1, 1, 28)
    x, y = grid[None], grid[:, None]
    slopes = rng.normal(0, 1.5, (10, 4, 1, 1))
    logits = [
        2 + a * x + b * y - 4 * (x**2 + y**2) + c * np.sin(9 * x + d) for a, b, c, d in slopes
    ]
    z["paste.masks"] = (1 / (1 + np.exp(-np.array(logits)))).astype(np.float32)[:, None]
    boxes = random_boxes(rng, 10, 80, 60, 3, 0.8)
    boxes[:7] = [
        *(
            [-9.5, -7.2, 20.3, 30.9],
            [60.2, 40.7, 99.9, 75.5],
            [0, 0, 80, 60],
            [30.2, 20.1, 30.7, 20.6],
        ),
        *([10, 12, 38, 40], [5.5, 5.5, 70.5, 9.5], [33.25, 2, 34.75, 58]),
    ]
    z["paste.boxes"], z["paste.image_size"] = boxes, np.array([60, 80])
    gt_boxes, _, z["mask_target.gt_masks"] = scene.objects(120, 160, seed, 2, 3)
    z["mask_target.matched"] = rng.integers(0, 3, 12)
    boxes = gt_boxes[z["mask_target.matched"]] + rng.normal(0, 3, (12, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    z["mask_target.boxes"] = boxes.astype(np.float32)

    z["resize.in_hw"] = np.array(SIDES)
    for i, (height, width) in enumerate(((41, 53), (100, 90))):
        z[f"transform.image.{i}"] = scene.image(height, width, seed + i)
        z[f"transform.boxes.{i}"] = random_boxes(rng, 4 - i, width, height)
        z[f"transform.masks.{i}"] = scene.objects(height, width, seed + i, 2, 4 - i)[2]

    z["box_loss.target"] = random_boxes(rng, 40, 200, 150, 8)
    near = z["box_loss.target"] + rng.normal(0, 4, (40, 4))
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 2)
    near[30:] = random_boxes(rng, 10, 200, 150)  # most of them overlap nothing
    z["box_loss.pred"] = near.astype(np.float32)
    return z


def results(z: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Returns what the operations make of the inputs, in arithmetic of the given type."""
    t = {key: torch.as_tensor(array) for key, array in z.items()}
    t = {key: x.to(dtype) if x.dtype == torch.float32 else x for key, x in t.items()}
    out = {}
    for height, width in COTANGENTS:
        for aligned in (0, 1):
            feature = t["roi_align.input"].clone().requires_grad_()
            rois = t[f"roi_align.rois.aligned{aligned}"]
            y = roi_align(feature, rois, (height, width), 0.25, 2, bool(aligned))
            (y * t[f"roi_align.cotangent.{height}x{width}"]).sum().backward()
            key = f"aligned{aligned}.ratio2.{height}x{width}"
            out[f"roi_align.out.{key}"] = y.detach()
            out[f"roi_align.grad.{key}"] = feature.grad
    pyramid = {str(level): t[f"pyramid.level{level}"] for level in range(4)}
    pool = MultiScaleRoIAlign(list(pyramid), 7, 2)
    out["pyramid.out"] = pool(pyramid, [t["pyramid.boxes"]], [(512, 640)])
    mapper = initLevelMapper(2, 5, canonical_scale=224, canonical_level=4, eps=1e-6)
    out["level_mapper.level"] = mapper([t["level_mapper.boxes"]])

    for threshold in (0.3, 0.5, 0.7):
        out[f"nms.keep.{threshold}"] = nms(t["nms.boxes"], t["nms.scores"], threshold)
    for name, data in (("batched_nms", "nms"), ("batched_nms_large",) * 2):
        given = t[f"{data}.boxes"], t[f"{data}.scores"], t[f"{name}.classes"]
        out[f"{name}.keep.0.5"] = batched_nms(*given, 0.5).sort().values
    # In float32 a side of 1e-3 is less than the number 1e-3, and is kept none the less.
    out["remove_small.keep"] = remove_small_boxes(t["remove_small.boxes"].float(), 1e-3)
    out["iou.out"] = box_iou(t["iou.a"], t["iou.b"])
    out["matcher.rpn"] = Matcher(0.7, 0.3, True)(t["matcher.quality"].clone())
    out["matcher.roi"] = Matcher(0.5, 0.5, False)(t["matcher.quality"].clone())
    for kind, weights in WEIGHTS.items():
        coder, proposals = BoxCoder(weights), t["coder.proposals"]
        out[f"coder.encoded.{kind}"] = coder.encode_single(t["coder.reference"], proposals)
        decoded = coder.decode(t[f"coder.codes.{kind}"], [proposals])
        out[f"coder.decoded.{kind}"] = decoded
        out[f"coder.clipped.{kind}"] = clip_boxes_to_image(decoded, (150, 200))

    for kind, loss in BOX_LOSSES.items():
        pred = t["box_loss.pred"].clone().requires_grad_()
        each = loss(pred, t["box_loss.target"])
        each.sum().backward()
        out[f"box_loss.{kind}"], out[f"box_loss.grad.{kind}"] = each.detach(), pred.grad

    out["paste.out"] = paste_masks_in_image(t["paste.masks"], t["paste.boxes"], (60, 80))
    names = ("gt_masks", "boxes", "matched")
    out["mask_target.out"] = project_masks_on_boxes(*(t[f"mask_target.{n}"] for n in names), 28)

    out["resize.out_hw"] = []
    for side in SIDES:
        transform = GeneralizedRCNNTransform(800, 1333, [0.0], [1.0]).eval()
        out["resize.out_hw"].append(transform.resize(torch.zeros(1, *side))[0].shape[1:])
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    transform = GeneralizedRCNNTransform(64, 96, mean, std).eval()
    batch, targets = transform(
        [t[f"transform.image.{i}"].permute(2, 0, 1).to(dtype) / 255 for i in range(2)],
        [{n: t[f"transform.{n}.{i}"] for n in ("boxes", "masks")} for i in range(2)],
    )
    out["transform.image_sizes"], out["transform.batch"] = batch.image_sizes, batch.tensors
    for i, target in enumerate(targets):
        out |= {f"transform.out_{n}.{i}": target[n] for n in ("boxes", "masks")}
        out[f"transform.boxes_back.{i}"] = resize_boxes(
            target["boxes"], batch.image_sizes[i], z[f"transform.image.{i}"].shape[:2]
        )
    return {key: np.asarray(value) for key, value in out.items()}


def anchors() -> dict[str, np.ndarray]:
    """Returns some of the anchors of two canvases, and sums over all of them."""
    sizes, ratios = ((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5
    out, generator = {}, AnchorGenerator(sizes, ratios)
    for canvas in CANVASES:
        grid = np.array(
            [[math.ceil(side / stride) for side in canvas] for stride in (4, 8, 16, 32, 64)]
        )
        maps = [torch.zeros(1, 1, *shape) for shape in grid.tolist()]
        flat = generator(ImageList(torch.zeros(1, 3, *canvas), [canvas]), maps)[0].numpy()
        counts = 3 * grid.prod(1)
        ends = np.concatenate([[0], counts.cumsum()])
        index = np.concatenate(
            [ends[:-1], ends[:-1] + 1, ends[1:] - 1, np.arange(0, ends[-1], 4999)]
        )
        key = "anchors.{}x{}".format(*canvas)
        out |= {f"{key}.grid": grid, f"{key}.counts": counts, f"{key}.index": np.unique(index)}
        out[f"{key}.sample"] = flat[np.unique(index)]
        out[f"{key}.column_sums"] = flat.sum(0, dtype=np.float64)
    return out | {"anchors.cell": np.stack(generator.cell_anchors)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="the first that is tried")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    args = parser.parse_args()
    for seed in range(args.seed, args.seed + 100):
        given = inputs(seed)
        exact = results(given, torch.float64)
        error = store.rounding_error(exact, results(given, torch.float32))
        if None not in error.values():
            break
        print(
            f"seed {seed}: rounding decides", [key for key, value in error.items() if value is None]
        )
    exact = store.single(exact) | anchors()
    meta = {
        "seed": seed,
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "float32_vs_float64_max_abs": error,
    }
    store.write(args.out / "ops.npz", meta, given | exact)
    print({key: f"{value:.1e}" for key, value in error.items() if value})


if __name__ == "__main__":
    main()
