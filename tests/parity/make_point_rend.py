"""Computes what Detectron2's PointRend makes of an image's detections, and one step of its heads.

    python -m tests.parity.make_point_rend

Needs what `make_detectron2.py` needs, and the checkout's `projects/PointRend` on `PYTHONPATH`.
README.md says what is stored: only the mask head, since all before is `mrcnn_d2.npz`'s.
"""

import argparse
import json
import logging
from pathlib import Path

import detectron2
import numpy as np
import point_rend
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.modeling.roi_heads.roi_heads import select_foreground_proposals
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from point_rend import mask_head as original
from point_rend import point_features

from tests.parity import scene, store, weights
from tests.parity.make_cascade import EVERY, PROJECTION, TRAINING, features
from tests.parity.make_detectron2 import (
    CLASSES,
    SETTINGS,
    SIZE,
    allow_float64,
    built,
    load,
    made_narrow,
    names_and_shapes,
)

RECIPE = "InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco"
POINT_REND = {  # keys of config.model.point_rend
    "dense_channels": 32,
    "point_channels": 24,
    "train_points": 20,
    "subdivisions": 3,
    "subdivision_points": 196,
}
DETECTIONS = 10
FEATURES = 3  # RoIs whose pooled features are stored
GRADIENTS = (  # in full
    "coarse_head.reduce_spatial_dim_conv.weight",
    "coarse_head.prediction.bias",
    "point_head.fc1.weight",
    "point_head.fc3.weight",
    "point_head.predictor.weight",
)


def detector(seed: int, dtype: torch.dtype) -> torch.nn.Module:
    """Returns the recipe's model with fewer channels, anchors, proposals and points."""
    config = get_cfg()
    point_rend.add_pointrend_config(config)
    configs = Path(point_rend.__file__).parents[1] / "configs"
    config.merge_from_file(str(configs / f"{RECIPE}.yaml"))
    config = made_narrow(config, sampling_ratio=2)
    config.TEST.DETECTIONS_PER_IMAGE = DETECTIONS
    model, settings = config.MODEL, POINT_REND
    model.RPN.PRE_NMS_TOPK_TRAIN = TRAINING["rpn_pre_nms_top_n_train"]
    model.RPN.POST_NMS_TOPK_TRAIN = TRAINING["rpn_post_nms_top_n_train"]
    model.RPN.BATCH_SIZE_PER_IMAGE = model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = EVERY
    model.ROI_MASK_HEAD.FC_DIM = settings["dense_channels"]
    head = model.POINT_HEAD
    head.FC_DIM, head.NUM_CLASSES = settings["point_channels"], CLASSES
    head.TRAIN_NUM_POINTS = settings["train_points"]
    head.SUBDIVISION_STEPS = settings["subdivisions"]
    head.SUBDIVISION_NUM_POINTS = settings["subdivision_points"]
    net = built(config)
    load(net, weights.detectron2_state(names_and_shapes(net), seed, CLASSES))
    return net.to(dtype)


def allow_float64_points() -> None:
    """Gives points the precision of the boxes and of what is sampled, as `allow_float64` does."""
    in_image, sample = point_features.get_point_coords_wrt_image, torch.nn.functional.grid_sample
    for module in (point_features, original):
        module.get_point_coords_wrt_image = lambda boxes, x: in_image(boxes, x.to(boxes.dtype))
    torch.nn.functional.grid_sample = lambda x, at, **settings: sample(
        x, at.to(x.dtype), **settings
    )


class Calls:
    """Replaces a function for a while and keeps what it was given and returned."""

    def __init__(self, owner, name: str, function=None):
        self.owner, self.name, self.original = owner, name, getattr(owner, name)
        self.function, self.results = function or self.original, []

    def __enter__(self):
        def call(*arguments, **settings):
            result = self.function(*arguments, **settings)
            self.results.append((arguments, result))
            return result

        setattr(self.owner, self.name, call)
        return self

    def __exit__(self, *_):
        setattr(self.owner, self.name, self.original)


@torch.no_grad()
def predicted(net: torch.nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the stages of the detections' masks, each detection's own class alone."""
    net.eval()
    batch, pyramid = features(net, image)
    (proposals,), _ = net.proposal_generator(batch, pyramid)
    (found,) = net.roi_heads._forward_box(pyramid, [proposals])
    head, row = net.roi_heads.mask_head, torch.arange(len(found))
    with (
        Calls(head, "_roi_pooler") as pooled,
        Calls(head, "_get_point_logits") as points,
        Calls(original, "get_uncertain_point_coords_on_grid") as chosen,
        Calls(original, "mask_rcnn_inference") as masks,
    ):
        coarse = []
        hook = head.coarse_head.register_forward_hook(lambda *args: coarse.append(args[-1]))
        head(pyramid, [found])
        hook.remove()
    out = {"p2": pyramid["p2"], "boxes": found.pred_boxes.tensor, "classes": found.pred_classes}
    out["features"] = pooled.results[0][1][:FEATURES]
    out["coarse_logits"] = coarse[0]
    first = points.results[0][1][row, found.pred_classes]
    size = head.mask_point_subdivision_init_resolution
    out[f"mask_logits.{size}"] = first.reshape(-1, size, size)
    for _, (cells, _) in chosen.results:
        size *= 2
        out[f"cells.{size}"] = cells.sort(1)[0]
    out[f"mask_logits.{size}"] = masks.results[0][0][0][row, found.pred_classes]
    return {f"eval.{name}": value.numpy() for name, value in out.items()}


class FullMasks:
    """True masks that fill their boxes: then no way of drawing and resizing them matters."""

    def __init__(self, boxes: torch.Tensor):
        self.boxes = boxes

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, index):
        return FullMasks(self.boxes[index])

    def inside(self, points: torch.Tensor) -> torch.Tensor:
        low, high = self.boxes[:, None, :2], self.boxes[:, None, 2:]
        return ((points >= low) & (points <= high)).all(-1).to(points.dtype)

    def crop_and_resize(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        """The mean of 2 x 2 samples of each cell."""
        centre = (torch.arange(2 * size, dtype=boxes.dtype) + 0.5) / (2 * size)
        grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1).reshape(1, -1, 2)
        points = boxes[:, None, :2] + grid * (boxes[:, None, 2:] - boxes[:, None, :2])
        samples = self.inside(points).reshape(-1, size, 2, size, 2)
        return samples.mean((2, 4))


def trained(net: torch.nn.Module, image, boxes, labels, draws) -> dict[str, np.ndarray]:
    """Returns the losses of both heads, and their gradients by P2 and the heads' weights.

    Every RoI is given the same random points, so that no order of the RoIs matters.
    """
    net.train()
    dtype, heads = net.pixel_mean.dtype, net.roi_heads
    truth = Instances(SIZE)
    truth.gt_boxes = Boxes(torch.from_numpy(boxes).to(dtype))
    truth.gt_classes = torch.from_numpy(labels - 1)
    truth.gt_masks = FullMasks(truth.gt_boxes.tensor)

    def drawn(number, count, *_, **__):
        return torch.from_numpy(draws[count]).to(dtype).expand(number, -1, -1).clone()

    def labels_at(instances, points):
        return instances[0].gt_masks.inside(points)

    with EventStorage():
        batch, pyramid = features(net, image)
        pyramid = {name: level.detach() for name, level in pyramid.items()}
        pyramid["p2"].requires_grad_()
        proposals, _ = net.proposal_generator(batch, pyramid, [truth])
        proposals = heads.label_and_sample_proposals(proposals, [truth])
        order = (proposals[0].proposal_boxes.tensor * torch.tensor(PROJECTION)).sum(1).argsort()
        proposals = [proposals[0][order]]  # an order that no score decides
        (positive,), (is_positive,) = select_foreground_proposals(proposals, CLASSES)
        with Calls(heads.box_predictor, "losses") as predictions:
            heads._forward_box(pyramid, proposals)  # which puts its boxes into the proposals
        rois, deltas = positive.proposal_boxes.tensor, predictions.results[0][0][0][1]
        (given,), _ = select_foreground_proposals(proposals, CLASSES)
        with (
            Calls(torch, "rand", drawn),
            Calls(original, "sample_point_labels", labels_at),
            Calls(heads.mask_head, "_sample_train_points") as sampled,
        ):
            losses = heads.mask_head(pyramid, [given])
    net.zero_grad()
    sum(losses.values()).backward()
    gradients = {n: p.grad.numpy() for n, p in heads.mask_head.named_parameters()}
    points, point_labels = sampled.results[0][1]
    order = points[..., 0].argsort(1)
    out = {name: loss.detach() for name, loss in losses.items()}
    out |= {
        "rois": rois,
        "labels": positive.gt_classes,
        "true_boxes": positive.gt_boxes.tensor,
        "deltas": deltas[is_positive].detach(),
        "boxes": given.proposal_boxes.tensor,
        "points": torch.gather(points, 1, order[..., None].expand(-1, -1, 2)),
        "point_labels": torch.gather(point_labels, 1, order),
        "gradient.p2": pyramid["p2"].grad[:, ::4],
        "gradient_norms": np.array([np.linalg.norm(x) for x in gradients.values()]),
    }
    out |= {f"gradient.{name}": gradients[name] for name in GRADIENTS}
    return {f"train.{name}": np.asarray(value) for name, value in out.items()}


def computed(seed, image, objects, draws, dtype) -> dict[str, np.ndarray]:
    found = predicted(detector(seed, dtype), image)
    return found | trained(detector(seed, dtype), image, *objects[:2], draws)


def unstable(values: dict, error: dict) -> list[str]:
    """Returns what rounding decides: a choice, or a gradient by more than 1 %."""
    return [
        name
        for name, value in error.items()
        if value is None
        or (name.endswith(("boxes", "rois", "points")) and value > 0.01)
        or ("logits" in name and value > 0.01)
        or (".gradient." in name and value > 0.01 * np.abs(values[name]).max())
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="the first that is tried")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # state dicts without a version, which are of today's
    allow_float64()
    allow_float64_points()
    number = POINT_REND["train_points"]
    for seed in range(args.seed, args.seed + 100):
        image = scene.image(*SIZE, 100 * seed)
        objects = scene.objects(*SIZE, 100 * seed, CLASSES + 1)
        rng = np.random.default_rng(seed)
        draws = {n: rng.uniform(size=(1, n, 2)).astype(np.float32) for n in (3 * number, 5)}
        exact = computed(seed, image, objects, draws, torch.float64)
        error = store.rounding_error(exact, computed(seed, image, objects, draws, torch.float32))
        names = unstable(exact, error)
        if not names and len(exact["eval.boxes"]) == DETECTIONS:
            break
        print(f"seed {seed}: rounding decides {', '.join(names)}", flush=True)
    net = detector(seed, torch.float64)
    shapes = names_and_shapes(net)
    values = {"state.names_and_shapes": np.array(json.dumps(shapes))}
    values["state.checksums"] = weights.checksums(weights.detectron2_state(shapes, seed, CLASSES))
    values |= {f"draws.{n}": points[0] for n, points in draws.items()}
    values |= store.single(exact)
    meta = {
        "arch": f"detectron2 {RECIPE}",
        "seed": seed,
        "classes": CLASSES,
        "settings": {**SETTINGS, "box_detections_per_img": DETECTIONS},
        "point_rend": POINT_REND,
        "gradient_names": [n for n, _ in net.roi_heads.mask_head.named_parameters()],
        "versions": {m.__name__: m.__version__ for m in (detectron2, torch, torchvision)},
        "float32_vs_float64_max_abs": error,
    }
    store.write(args.out / "point_rend_d2.npz", meta, values)
    print({k: f"{float(v):.4f}" for k, v in exact.items() if "loss" in k})
    print(len(exact["train.rois"]), "positive RoIs")
    print({key: f"{value:.1e}" for key, value in error.items() if value})


if __name__ == "__main__":
    main()
