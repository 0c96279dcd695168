"""The torchvision side of the benchmarks: a process that prepares a case, then times it on demand.

It runs under an interpreter of its own that has torch and torchvision (`--peer-python`), needs
nothing else of this repository, and speaks JSON lines over its standard streams:

    {"prepare": CASE, "arrays": FILE.npz, "threads": N, ...options}  ->  {"versions": {...}}
    {"run": true}                              ->  {"seconds": ..., "counts": {...}}

What is timed is torchvision's own code, eager, as its users call it. Only what our side does not do
in the same measurement is taken out: resizing in every case, pasting unless it is asked for.
"""

import json
import sys
import time

import numpy as np
import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.resnet import resnet50
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, box_iou, nms


def mask_rcnn(arrays: dict[str, np.ndarray], options: dict) -> MaskRCNN:
    """The network of `maskrcnn_resnet50_fpn(weights="DEFAULT")`, with the weights given.

    Without weights torchvision would build it with trainable batch norm and train all layers; this
    is what its users fine-tune: frozen batch norm, gradients in three of the five stages.
    """
    sides = arrays["image"].shape[1:3]
    backbone = _resnet_fpn_extractor(resnet50(norm_layer=FrozenBatchNorm2d), 3)
    model = MaskRCNN(backbone, options["num_classes"] + 1, min_size=min(sides), max_size=max(sides))
    names = model.state_dict().keys()
    model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in names})
    model.transform.resize = lambda image, target=None: (image, target)
    return model.to(device(options), memory_format=getattr(torch, options["layout"]))


def device(options: dict) -> str:
    """The case's device: cpu unless the request names another."""
    return options.get("device", "cpu")


def precision(options: dict) -> torch.autocast:
    """What the network computes in: float32, or with `amp` bfloat16 where torch finds it safe."""
    return torch.autocast(device(options), torch.bfloat16, enabled=options.get("amp", False))


def float_images(images: np.ndarray, options: dict) -> list[torch.Tensor]:
    """[B, H, W, 3] uint8 to what torchvision takes: [3, H, W] float in 0..1 each."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    layout = getattr(torch, options["layout"])
    return list(batch.to(device(options)).contiguous(memory_format=layout))


class Predict:
    """Inference. Image in memory to boxes, classes, scores and 28x28 (or pasted) masks."""

    def __init__(self, arrays: dict, options: dict):
        self.images = float_images(arrays["image"], options)
        self.model, self.options = mask_rcnn(arrays, options).eval(), options
        if not options["paste"]:
            self.model.transform.postprocess = lambda result, *sizes: result
        self.num_proposals = []
        self.model.rpn.register_forward_hook(
            lambda module, given, out: self.num_proposals.extend(len(boxes) for boxes in out[0])
        )

    def __call__(self) -> dict:
        self.num_proposals.clear()
        with torch.inference_mode(), precision(self.options):
            result = self.model(self.images)
        return {
            "proposals": list(self.num_proposals),
            "detections": [len(detections["boxes"]) for detections in result],
        }


class TrainStep:
    """Losses, gradients and the update of SGD with momentum and weight decay."""

    def __init__(self, arrays: dict, options: dict):
        self.images = float_images(arrays["image"], options)
        self.model, self.options = mask_rcnn(arrays, options).train(), options
        on = device(options)
        self.targets = [
            {
                "boxes": torch.from_numpy(boxes).to(on),
                "labels": torch.from_numpy(classes).long().to(on),
                "masks": full_masks(boxes, *arrays["image"].shape[1:3]).to(on),
            }
            for boxes, classes in zip(arrays["gt_boxes"], arrays["gt_classes"], strict=True)
        ]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, 1e-5, momentum=0.9, weight_decay=1e-4)
        self.counts = {}
        select = self.model.roi_heads.select_training_samples

        def counted(*args):
            proposals, matched, labels, targets = select(*args)
            self.counts["rois_sampled"] = sum(len(one) for one in labels) / len(labels)
            positive = sum(int((one > 0).sum()) for one in labels)
            self.counts["rois_positive"] = positive / len(labels)
            return proposals, matched, labels, targets

        if on == "cpu":  # to count, the host would wait for another device
            self.model.roi_heads.select_training_samples = counted

    def __call__(self) -> dict:
        with precision(self.options):
            loss = sum(self.model(self.images, self.targets).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return dict(self.counts)


def full_masks(boxes: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Each object fills its box: [G, H, W] uint8."""
    masks = torch.zeros((len(boxes), height, width), dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().astype(int), strict=True):
        mask[y1:y2, x1:x2] = 1
    return masks


class Nms:
    """Greedy suppression of one list of boxes."""

    def __init__(self, arrays: dict, options: dict):
        self.boxes, self.scores = (torch.from_numpy(arrays[k]) for k in ("boxes", "scores"))
        self.threshold = options["threshold"]

    def __call__(self) -> dict:
        return {"kept": len(nms(self.boxes, self.scores, self.threshold))}


class RoiAlign:
    """Pooling from four levels, alone or with the gradient by the features."""

    def __init__(self, arrays: dict, options: dict):
        layout = getattr(torch, options["layout"])
        self.boxes = [torch.from_numpy(one) for one in arrays["boxes"]]
        self.image_sizes = [tuple(options["image_shape"])] * len(self.boxes)
        self.features = {
            str(i): torch.from_numpy(arrays[f"p{i}"])
            .permute(0, 3, 1, 2)
            .contiguous(memory_format=layout)
            .requires_grad_(options["gradient"])
            for i in range(2, 6)
        }
        self.pool = MultiScaleRoIAlign(list(self.features), options["size"], 2)
        self.gradient = options["gradient"]

    def __call__(self) -> dict:
        pooled = self.pool(self.features, self.boxes, self.image_sizes)
        if self.gradient:
            torch.autograd.grad(pooled, list(self.features.values()), pooled.detach())
        return {"rois": len(pooled)}


class Targets:
    """Anchors of one image matched with its objects, and encoded."""

    def __init__(self, arrays: dict, options: dict):
        self.anchors, self.boxes = (torch.from_numpy(arrays[k]) for k in ("anchors", "gt_boxes"))
        self.matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def __call__(self) -> dict:
        matched = self.matcher(box_iou(self.boxes, self.anchors))
        self.coder.encode_single(self.boxes[matched.clamp(min=0)], self.anchors)
        return {"positive": int((matched >= 0).sum())}


class Paste:
    """Masks of 28x28 to masks of the image."""

    def __init__(self, arrays: dict, options: dict):
        self.masks = torch.from_numpy(arrays["masks"])[:, None]
        self.boxes = torch.from_numpy(arrays["boxes"])
        self.image_shape = tuple(options["image_shape"])

    def __call__(self) -> dict:
        return {"masks": len(paste_masks_in_image(self.masks, self.boxes, self.image_shape) > 0.5)}


CASES = {
    "predict": Predict,
    "train_step": TrainStep,
    "nms": Nms,
    "roi_align": RoiAlign,
    "targets": Targets,
    "paste": Paste,
}


def answer(request: dict, case):
    """Does what one line asks for; returns the case in force and the answer."""
    if "prepare" in request:
        torch.set_num_threads(request["threads"])
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        with np.load(request["arrays"]) as arrays:
            case = CASES[request["prepare"]](dict(arrays), request)
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        return case, {"versions": versions}
    start = time.perf_counter()
    counts = case()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return case, {"seconds": time.perf_counter() - start, "counts": counts}


def main() -> None:
    case, answers = None, sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        case, reply = answer(json.loads(line), case)
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
