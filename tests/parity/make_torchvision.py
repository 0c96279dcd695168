"""Computes what torchvision's Mask R-CNN gives, from the pixels to the pasted masks.

    python -m tests.parity.make_torchvision v1
    python -m tests.parity.make_torchvision v2
    python -m tests.parity.make_torchvision v1 --boxes  # its Faster R-CNN, v2 likewise

Needs torch and torchvision, nothing of this project. README.md says what is stored.

The detectors are torchvision's own classes with fewer channels, smaller anchors and fewer
proposals, so that few small arrays cover every stage and all levels of the pyramid.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    anchor_utils,
    backbone_utils,
    faster_rcnn,
    mask_rcnn,
    rpn,
)
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from tests.parity import scene, store, weights

CLASSES = 7  # with the background
WIDTH, PYRAMID, DENSE = 8, 16, 48  # channels: stem, FPN and the heads' convolutions, dense layers
SIZES = ((128, 184), (152, 128))  # on a canvas of 160 x 192
SETTINGS = {  # by torchvision's names
    "anchor_sizes": (8, 16, 32, 64, 128),
    "rpn_pre_nms_top_n_train": 150,
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_train": 200,
    "rpn_post_nms_top_n_test": 160,
    "box_detections_per_img": 24,
    "canonical_scale": 28,
}
# Every how many channels, rows and columns are stored.
STRIDES = {
    "input": (1, 8, 8),
    **{"c2": (2, 4, 4), "c3": (4, 2, 2), "c4": (8, 1, 1), "c5": (8, 1, 1)},
    **{"p2": (2, 4, 4), "p3": (2, 2, 2), "p4": (2, 1, 1), "p5": (2, 1, 1), "p6": (2, 1, 1)},
    **{"rpn_logits.p2": (1, 2, 2), "rpn_deltas.p2": (1, 4, 4), "rpn_deltas.p3": (1, 2, 2)},
}
MODULES = (  # whose results are kept
    *("transform", "backbone.body", "backbone", "rpn.head", "rpn.anchor_generator"),
    *("roi_heads.box_roi_pool", "roi_heads.box_predictor", "roi_heads.mask_predictor"),
)
METHODS = (
    *(("rpn", "filter_proposals"), ("rpn", "assign_targets_to_anchors")),
    ("roi_heads", "select_training_samples"),
)
# Of Faster R-CNN is stored what comes after the proposals; what is before is Mask R-CNN's.
BOXES_ALONE = ("batch_shape", "image_sizes", "proposals.", "class_logits.", "boxes.", "scores.",
               "labels.")  # fmt: skip
BOX_FEATURES, CHANNEL_STRIDE = 16, 2  # RoIs and every how many of their channels
PASTED = 10  # masks of an image
GRADIENTS = (  # in full, of each part of the detector
    *("backbone.body.layer2.0.conv1.weight", "backbone.body.layer3.1.conv1.weight"),
    *("backbone.fpn.inner_blocks.0.0.weight", "backbone.fpn.layer_blocks.3.0.weight"),
    *("rpn.head.conv.0.0.weight", "rpn.head.cls_logits.bias", "rpn.head.bbox_pred.bias"),
    *("roi_heads.box_predictor.cls_score.bias", "roi_heads.box_predictor.bbox_pred.weight"),
    *("roi_heads.mask_head.0.0.weight", "roi_heads.mask_predictor.conv5_mask.weight"),
    "roi_heads.mask_predictor.mask_fcn_logits.bias",
)
STATISTICS = (
    *("backbone.body.bn1.running_mean", "backbone.body.bn1.running_var"),
    *("backbone.body.layer4.0.bn2.running_var", "backbone.fpn.layer_blocks.0.1.running_var"),
    *("roi_heads.box_head.0.1.running_mean", "roi_heads.mask_head.0.1.running_var"),
)


class NarrowResNet(ResNet):
    """ResNet-50 with a stem of `WIDTH` channels instead of 64."""

    def _make_layer(self, block, planes, *args, **kwargs):
        if planes == 64:
            self.inplanes = WIDTH
            self.conv1 = nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False)
            self.bn1 = self._norm_layer(WIDTH)
        return super()._make_layer(block, planes * WIDTH // 64, *args, **kwargs)


def detector(arch: str, boxes: bool) -> MaskRCNN | FasterRCNN:
    """Returns the model with the layers that `maskrcnn_resnet50_fpn` or `..._v2` has.

    With `boxes`, `fasterrcnn_resnet50_fpn` or `..._v2`.
    """
    is_v1 = arch == "v1"
    norm = None if is_v1 else nn.BatchNorm2d
    # What torchvision sets when it loads the published weights of v1.
    frozen = partial(FrozenBatchNorm2d, eps=0.0)
    body = NarrowResNet(Bottleneck, [3, 4, 6, 3], norm_layer=frozen if is_v1 else norm)
    del body.fc
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.startswith(("layer2", "layer3", "layer4")))
    backbone = backbone_utils.BackboneWithFPN(
        body, {f"layer{i}": str(i - 1) for i in (1, 2, 3, 4)}, [4 * WIDTH * 2**i for i in range(4)],
        PYRAMID, LastLevelMaxPool(), norm,
    )  # fmt: skip
    if is_v1:
        box_head = faster_rcnn.TwoMLPHead(PYRAMID * 49, DENSE)
    else:
        box_head = faster_rcnn.FastRCNNConvFCHead((PYRAMID, 7, 7), [PYRAMID] * 4, [DENSE], norm)
    anchors = anchor_utils.AnchorGenerator(
        tuple((size,) for size in SETTINGS["anchor_sizes"]), ((0.5, 1.0, 2.0),) * 5
    )
    pool = partial(
        MultiScaleRoIAlign, list("0123"), sampling_ratio=2,
        canonical_scale=SETTINGS["canonical_scale"],
    )  # fmt: skip
    named = ("box_detections", "rpn_pre", "rpn_post")
    masks = {} if boxes else dict(
        mask_roi_pool=pool(output_size=14),
        mask_head=mask_rcnn.MaskRCNNHeads(PYRAMID, [PYRAMID] * 4, 1, norm),
        mask_predictor=mask_rcnn.MaskRCNNPredictor(PYRAMID, PYRAMID, CLASSES),
    )  # fmt: skip
    return (FasterRCNN if boxes else MaskRCNN)(
        backbone,
        min_size=min(map(min, SIZES)),
        max_size=max(map(max, SIZES)),
        rpn_anchor_generator=anchors,
        rpn_head=rpn.RPNHead(PYRAMID, 3, conv_depth=1 if is_v1 else 2),
        box_roi_pool=pool(output_size=7),
        box_head=box_head,
        box_predictor=faster_rcnn.FastRCNNPredictor(DENSE, CLASSES),
        **masks,
        # Nothing is sampled away, so that no random number is drawn.
        rpn_batch_size_per_image=10**7,
        box_batch_size_per_image=10**7,
        **{name: value for name, value in SETTINGS.items() if name.startswith(named)},
    )


def loaded(
    arch: str, boxes: bool, seed: int, dtype: torch.dtype, ulp_seed: int = 0
) -> MaskRCNN | FasterRCNN:
    """Returns the detector with the weights of a seed.

    A `ulp_seed` moves each weight to a neighbouring float32 number or leaves it: what rounding in
    another order could do, near the kink of a ReLU above all.
    """
    model = detector(arch, boxes)
    shapes = [(name, array.shape) for name, array in model.state_dict().items()]
    state = weights.torchvision_state(shapes, seed)
    if ulp_seed:
        rng = np.random.default_rng(ulp_seed)
        for name, array in state.items():
            if array.dtype == np.float32:
                aim = rng.choice([-np.inf, np.nan, np.inf], array.shape).astype(np.float32)
                state[name] = np.where(np.isnan(aim), array, np.nextafter(array, aim))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model.to(dtype)


def evaluated(model: MaskRCNN, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the results of every stage of a prediction."""
    model.eval()
    with recorded(model) as got, torch.no_grad():
        detections = model([pixels(model, image) for image in images])
    batch = got["transform"][0]
    out = {"batch_shape": batch.tensors.shape, "image_sizes": batch.image_sizes}
    out["input"] = batch.tensors
    out |= {f"c{i}": level for i, level in enumerate(got["backbone.body"].values(), 2)}
    for i, level in enumerate(got["backbone"].values()):
        out[f"p{i + 2}"] = level
        out[f"rpn_logits.p{i + 2}"], out[f"rpn_deltas.p{i + 2}"] = (x[i] for x in got["rpn.head"])
    for name, (channels, rows, columns) in STRIDES.items():
        out[name] = out[name][:, ::channels, ::rows, ::columns]
    out["anchors"] = got["rpn.anchor_generator"][0]
    out["box_features"] = got["roi_heads.box_roi_pool"][:BOX_FEATURES, ::CHANNEL_STRIDE]
    counts = [len(proposals) for proposals in got["filter_proposals"][0]]
    logits, deltas = (x.split(counts) for x in got["roi_heads.box_predictor"])
    has_masks = "roi_heads.mask_predictor" in got
    if has_masks:
        mask_logits = got["roi_heads.mask_predictor"].split([len(d["labels"]) for d in detections])
    for i, found in enumerate(detections):
        out[f"proposals.{i}"], out[f"proposal_scores.{i}"] = (x[i] for x in got["filter_proposals"])
        out[f"class_logits.{i}"], out[f"box_regression.{i}"] = logits[i], deltas[i][:60]
        out[f"n_candidates.{i}"] = (logits[i].softmax(-1)[:, 1:] > 0.05).sum()
        out |= {f"{key}.{i}": found[key] for key in ("boxes", "scores", "labels")}
        if not has_masks:
            continue
        own = torch.arange(len(found["labels"])), found["labels"]
        out[f"mask_logits.{i}"] = mask_logits[i][own]
        pasted = found["masks"][:, 0].numpy() > 0.5
        out[f"pasted_bits.{i}"] = np.packbits(pasted[:PASTED], axis=-1)
        out[f"pasted_area.{i}"] = pasted.sum((1, 2))
    if has_masks:
        out["mask_logits_all_classes"] = mask_logits[0][:1]
    return {name: np.asarray(value) for name, value in out.items()}


def trained(model, images, targets, frozen_statistics: bool) -> dict[str, np.ndarray]:
    """Returns losses, gradients and targets of one training step."""
    model.train()
    for module in model.modules():
        if frozen_statistics and isinstance(module, nn.BatchNorm2d):
            module.eval()
    model.zero_grad()
    dtype = next(model.parameters()).dtype
    given = []
    for boxes, labels, masks in targets:
        boxes = torch.from_numpy(boxes).to(dtype)
        given.append({"boxes": boxes, "labels": torch.from_numpy(labels)})
        given[-1]["masks"] = torch.from_numpy(masks)
    with recorded(model) as got:
        losses = model([pixels(model, image) for image in images], given)
    losses["loss_total"] = sum(losses.values())
    losses["loss_total"].backward()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    out = {name: value.detach() for name, value in losses.items()}
    out["anchor_counts"] = np.array(
        [
            [(x == 1).sum(), (x == 0).sum(), (x < 0).sum()]
            for x in got["assign_targets_to_anchors"][0]
        ]
    )
    rois, matched, labels, _ = got["select_training_samples"]
    out["roi_counts"] = np.array([[len(x), (x > 0).sum()] for x in labels])
    for i, of_image in enumerate(zip(rois, labels, matched, strict=True)):
        names = (f"rois.{i}", f"roi_labels.{i}", f"roi_matched.{i}")
        out |= dict(zip(names, of_image, strict=True))
    out["gradient_norms"] = np.array(
        [np.linalg.norm(x.astype(np.float64)) for x in gradients.values()]
    )
    out["gradient_peaks"] = np.array([np.abs(x).max() for x in gradients.values()])
    out |= {f"gradient.{name}": gradients[name] for name in GRADIENTS if name in gradients}
    if not frozen_statistics:
        state = model.state_dict()
        out |= {f"after.{name}": state[name] for name in STATISTICS if name in state}
    return {name: np.asarray(value) for name, value in out.items()}


def pixels(model: MaskRCNN, image: np.ndarray) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    return torch.from_numpy(image).permute(2, 0, 1).to(dtype) / 255


@contextmanager
def recorded(model: MaskRCNN) -> Iterator[dict]:
    """Gives a dict that takes the results of modules and of three methods as they are called."""
    got, handles = {}, []
    for name in (name for name in MODULES if name in dict(model.named_modules())):
        hook = partial(lambda name, module, given, result: got.update({name: result}), name)
        handles.append(model.get_submodule(name).register_forward_hook(hook))

    def record(owner, name):
        method = getattr(owner, name)
        setattr(owner, name, lambda *args: got.setdefault(name, method(*args)))

    methods = [(model.get_submodule(owner), name) for owner, name in METHODS]
    for owner, name in methods:
        record(owner, name)
    yield got
    for handle in handles:
        handle.remove()
    for owner, name in methods:
        delattr(owner, name)


def computed(
    arch, boxes, seed, images, targets, dtype, ulp_seed=0
) -> dict[str, dict[str, np.ndarray]]:
    """Returns the parts eval, train and, of v2, train_bn."""
    model = loaded(arch, boxes, seed, dtype, ulp_seed)
    parts = {"eval": evaluated(model, images), "train": trained(model, images, targets, True)}
    if arch == "v2" and not boxes:
        parts["train_bn"] = trained(model, images, targets, False)
    return parts


def is_stable(values: dict[str, dict], error: dict[str, dict]) -> bool:
    """Whether rounding changed no choice, of proposals, RoIs, labels and detections or their order.

    Nor a gradient by more than 1 %: some units lie so near the kink of their ReLU that they do.
    """
    for part, errors in error.items():
        for name, value in errors.items():
            if value is None or (name.startswith(("proposals", "boxes", "rois")) and value > 0.01):
                return False
            if name.startswith("gradient.") and value > 0.01 * np.abs(values[part][name]).max():
                return False
    return True


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arch", choices=("v1", "v2"))
    parser.add_argument("--boxes", action="store_true", help="Faster R-CNN, which has no masks")
    parser.add_argument("--seed", type=int, default=1, help="the first that is tried")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    args = parser.parse_args()
    for seed in range(args.seed, args.seed + 100):
        images = [scene.image(*size, 100 * seed + i) for i, size in enumerate(SIZES)]
        targets = [scene.objects(*size, 100 * seed + i, CLASSES) for i, size in enumerate(SIZES)]
        run = partial(computed, args.arch, args.boxes, seed, images, targets)
        exact = run(torch.float64)
        rounded = [run(torch.float32, ulp_seed) for ulp_seed in range(4)]
        error = {
            part: store.rounding_error(values, *(other[part] for other in rounded))
            for part, values in exact.items()
        }
        if is_stable(exact, error):
            break
        print(f"seed {seed}: rounding changes a decision or a gradient")
    model = loaded(args.arch, args.boxes, seed, torch.float64)
    shapes = [(name, list(array.shape)) for name, array in model.state_dict().items()]
    anchors = exact["eval"].pop("anchors")
    index = np.unique(np.append(np.arange(0, len(anchors), 17), len(anchors) - 1))
    values = {
        "state.names_and_shapes": np.array(json.dumps(shapes)),
        "anchors.level_counts": np.array(
            [3 * int(np.prod(exact["eval"][f"p{i}"].shape[2:])) for i in range(2, 7)]
        ),
        "anchors.index": index,
        "anchors.sample": anchors[index],
    }
    strides = np.array([STRIDES[f"p{i}"] for i in range(2, 7)])
    values["anchors.level_counts"] *= strides[:, 1] * strides[:, 2]
    for i, (image, (boxes, labels, masks)) in enumerate(zip(images, targets, strict=True)):
        values |= {f"image.{i}": image, f"gt_boxes.{i}": boxes, f"gt_labels.{i}": labels}
        if not args.boxes:
            values[f"gt_mask_bits.{i}"] = np.packbits(masks, axis=-1)
    if args.boxes:
        kept = {n: x for n, x in exact["eval"].items() if n.startswith(BOXES_ALONE)}
        exact["eval"] = kept
    for part, arrays in exact.items():
        values |= store.single({f"{part}.{name}": array for name, array in arrays.items()})
        for name in ("gradient_norms", "gradient_peaks"):
            if name in arrays:
                errors = [np.abs(arrays[name] - other[part][name]) for other in rounded]
                values[f"error.{part}.{name}"] = np.max(errors, axis=0)
    checksums = weights.checksums(weights.torchvision_state(shapes, seed))
    meta = {
        "arch": args.arch,
        "seed": seed,
        "sizes": SIZES,
        "num_classes": CLASSES,
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "image_mean": model.transform.image_mean,
        "image_std": model.transform.image_std,
        "settings": {**SETTINGS, "width": WIDTH, "pyramid": PYRAMID, "dense": DENSE},
        "strides": STRIDES,
        "box_feature_channel_stride": CHANNEL_STRIDE,
        "gradient_names": [n for n, p in model.named_parameters() if p.requires_grad],
        "float32_vs_float64_max_abs": error,
    }
    path = args.out / f"{'f' if args.boxes else 'm'}rcnn_{args.arch}.npz"
    store.write(path, meta, values | {"state.checksums": checksums})
    for i in range(len(SIZES)):
        labels = exact["eval"][f"labels.{i}"]
        print(f"image {i}: {len(labels)} detections of {len(set(labels.tolist()))} classes")
    print({n: f"{float(v):.4f}" for n, v in exact["train"].items() if n.startswith("loss")})
    print({n: f"{v:.1e}" for part in error.values() for n, v in part.items() if v})


if __name__ == "__main__":
    main()
