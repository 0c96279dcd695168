"""Computes what Detectron2's Mask R-CNN gives for one image, from the pixels to the mask logits.

    python -m tests.parity.make_detectron2

Needs torch, torchvision and Detectron2 (its Python files and their dependencies are enough: nothing
of what it compiles is used), nothing of this project. README.md says what is stored.
"""

import argparse
import json
from pathlib import Path

import detectron2
import numpy as np
import torch
import torchvision
from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.modeling.roi_heads import fast_rcnn
from detectron2.structures import Boxes

from tests.parity import scene, store, weights

RECIPE = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"
CLASSES, SIZE = 6, (160, 192)
SETTINGS = {  # by torchvision's names, see make_torchvision.py
    "anchor_sizes": [8, 16, 32, 64, 128],
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_test": 160,
    "box_detections_per_img": 24,
    "canonical_scale": 28,
    "width": 8,
    "pyramid": 16,
    "dense": 48,
}
STRIDES = {  # channels, rows and columns
    "input": (1, 8, 8),
    **{"res2": (2, 4, 4), "res3": (4, 2, 2), "res4": (8, 1, 1), "res5": (8, 1, 1)},
    **{"p2": (2, 4, 4), "p3": (2, 2, 2), "p4": (2, 1, 1), "p5": (2, 1, 1), "p6": (2, 1, 1)},
}
BOX_FEATURES, CHANNEL_STRIDE = 16, 4  # RoIs and every how many of their channels
DELTAS = 60  # RoIs


def detector(seed: int, sampling_ratio: int, dtype: torch.dtype) -> torch.nn.Module:
    """Returns the recipe's model with fewer channels, anchors and proposals, and our weights."""
    net = built(narrow(RECIPE, sampling_ratio)).eval()
    load(net, weights.detectron2_state(names_and_shapes(net), seed, CLASSES))
    return net.to(dtype)


def narrow(recipe: str, sampling_ratio: int) -> CfgNode:
    """Returns the configuration of one of the zoo's recipes, made narrow."""
    return made_narrow(model_zoo.get_config(f"{recipe}.yaml"), sampling_ratio)


def made_narrow(config: CfgNode, sampling_ratio: int) -> CfgNode:
    """Returns a configuration with the channels, anchors and proposals of `SETTINGS`."""
    model, s = config.MODEL, SETTINGS
    model.DEVICE, model.WEIGHTS = "cpu", ""
    model.RESNETS.STEM_OUT_CHANNELS = model.RESNETS.WIDTH_PER_GROUP = s["width"]
    model.RESNETS.RES2_OUT_CHANNELS = 4 * s["width"]
    model.FPN.OUT_CHANNELS = model.ROI_MASK_HEAD.CONV_DIM = s["pyramid"]
    model.ROI_BOX_HEAD.FC_DIM = s["dense"]
    model.ROI_HEADS.NUM_CLASSES = CLASSES
    model.ANCHOR_GENERATOR.SIZES = [[size] for size in s["anchor_sizes"]]
    model.RPN.PRE_NMS_TOPK_TEST = s["rpn_pre_nms_top_n_test"]
    model.RPN.POST_NMS_TOPK_TEST = s["rpn_post_nms_top_n_test"]
    config.TEST.DETECTIONS_PER_IMAGE = s["box_detections_per_img"]
    for head in (model.ROI_BOX_HEAD, model.ROI_MASK_HEAD):
        head.POOLER_SAMPLING_RATIO = sampling_ratio
    return config


def built(config: CfgNode) -> torch.nn.Module:
    """Returns the model of a configuration, its RoIs of the levels for small pictures."""
    net = build_model(config)
    for name in ("box_pooler", "mask_pooler", "keypoint_pooler"):
        if pooler := getattr(net.roi_heads, name, None):
            pooler.canonical_box_size = SETTINGS["canonical_scale"]
    return net


def load(net: torch.nn.Module, state: dict[str, np.ndarray]) -> None:
    """Gives a model our weights; what the configuration makes is not among them."""
    net.load_state_dict({n: torch.from_numpy(x) for n, x in state.items()}, strict=False)


def names_and_shapes(net: torch.nn.Module) -> list[tuple[str, list[int]]]:
    made = ("pixel_", "proposal_generator.anchor_generator")  # by the configuration
    state = net.state_dict()
    return [(n, list(x.shape)) for n, x in state.items() if not n.startswith(made)]


def allow_float64() -> None:
    """Removes Detectron2's casts of boxes and their deltas to float32."""

    def init(self, tensor):
        self.tensor = tensor.reshape(-1, 4)

    Boxes.__init__ = init
    torch.Tensor.float = lambda x: x if x.dtype == torch.float64 else x.to(torch.float32)
    proposal_utils.batched_nms = fast_rcnn.batched_nms = torchvision.ops.batched_nms


@torch.no_grad()
def predicted(net: torch.nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the results of every stage."""
    rpn, heads, dtype = net.proposal_generator, net.roi_heads, net.pixel_mean.dtype
    batch = net.preprocess_image(
        [{"image": torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)}]
    )
    bottom, pyramid = net.backbone.bottom_up(batch.tensor), net.backbone(batch.tensor)
    out = {"input": batch.tensor} | bottom | pyramid
    for name, (channels, rows, columns) in STRIDES.items():
        out[name] = out[name][:, ::channels, ::rows, ::columns]
    out = {name: out[name] for name in STRIDES}
    for level, logits, deltas in zip(
        rpn.in_features, *rpn.rpn_head(list(pyramid.values())), strict=True
    ):
        out[f"rpn_logits.{level}"], out[f"rpn_deltas.{level}"] = logits, deltas
    (proposals,), _ = rpn(batch, pyramid)
    out["proposals"] = proposals.proposal_boxes.tensor
    out["proposal_logits"] = proposals.objectness_logits
    assert out["proposals"].dtype == dtype
    pooled = heads.box_pooler(
        [pyramid[n] for n in heads.box_in_features], [proposals.proposal_boxes]
    )
    predictions = heads.box_predictor(heads.box_head(pooled))
    out["box_features"] = pooled[:BOX_FEATURES, ::CHANNEL_STRIDE]
    out["class_logits"], out["box_deltas"] = predictions[0], predictions[1][:DELTAS]
    (found,), _ = heads.box_predictor.inference(predictions, [proposals])
    out["boxes"], out["scores"] = found.pred_boxes.tensor, found.scores
    out["classes"] = found.pred_classes
    masks = []
    hook = heads.mask_head.predictor.register_forward_hook(lambda *args: masks.append(args[-1]))
    heads.forward_with_given_boxes(pyramid, [found])
    hook.remove()
    out["mask_logits"] = masks[0][torch.arange(len(found)), found.pred_classes]
    return {f"eval.{name}": value.numpy() for name, value in out.items()}


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
        # Adaptive sampling (0), which the recipe has, comes last: it has no static shape.
        exact = predicted(detector(seed, 2, torch.float64), image)
        net = detector(seed, 2, torch.float32)
        error = store.rounding_error(exact, predicted(net, image))
        if all(e is not None and (e < 0.01 or "_" in key) for key, e in error.items()):
            break
        print(f"seed {seed}: rounding changes a decision")
    adaptive = predicted(detector(seed, 0, torch.float64), image)
    shapes = names_and_shapes(net)
    values = {"image": image, "state.names_and_shapes": np.array(json.dumps(shapes))}
    values["state.checksums"] = weights.checksums(weights.detectron2_state(shapes, seed, CLASSES))
    cells = net.proposal_generator.anchor_generator.cell_anchors
    values["anchors.cell"] = torch.stack(list(cells)).numpy()
    values |= store.single(exact)
    for name in ("boxes", "scores", "classes"):
        values[f"adaptive.{name}"] = store.single(adaptive)[f"eval.{name}"]
    meta = {
        "arch": f"detectron2 {RECIPE}",
        "seed": seed,
        "classes": CLASSES,
        "pixel_order": "BGR",
        "pixel_mean": net.pixel_mean.ravel().double().numpy().round(3).tolist(),
        "pixel_std": net.pixel_std.ravel().tolist(),
        "stride_in_1x1": True,
        "sampling_ratio": 2,
        "settings": SETTINGS,
        "strides": STRIDES,
        "versions": {m.__name__: m.__version__ for m in (detectron2, torch, torchvision)},
        "float32_vs_float64_max_abs": error,
    }
    store.write(args.out / "mrcnn_d2.npz", meta, values)
    print(len(exact["eval.scores"]), "detections,", len(adaptive["eval.scores"]), "adaptive")
    print({key: f"{value:.1e}" for key, value in error.items() if value})


if __name__ == "__main__":
    main()
