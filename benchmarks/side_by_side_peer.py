"""torchvision's side of `side_by_side.py`: trains and evaluates its Mask R-CNN on the same images.

It runs under an interpreter of its own that has torch and torchvision, and needs nothing else of
this repository:

    python side_by_side_peer.py JOB.json

A job names the folder with `data.npz` and, for each run, the start, the changes and the results.
What is trained is torchvision's own code as its users call it: original images, boxes and masks go
in, its transform resizes and pads them. A change makes one thing as maskrcnn_jax does it, but for
`boxes`, which both take from the original: it shows what the other choice does.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN, roi_heads
from torchvision.ops import roi_align

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Split:
    """Images and objects of one split, at their original size."""

    def __init__(self, arrays, name: str):
        self.count = int(arrays[f"{name}.count"])
        parts = ("image", "boxes", "classes", "masks")
        self.samples = [[arrays[f"{name}.{part}.{i}"] for part in parts] for i in range(self.count)]

    def image(self, i: int, flip: bool = False) -> Tensor:
        """Returns [3, h, w] float32, 0 to 1."""
        image = self.samples[i][0]
        image = np.ascontiguousarray(image[:, ::-1] if flip else image)
        return torch.from_numpy(image).to(DEVICE).permute(2, 0, 1) / 255

    def target(self, i: int, flip: bool) -> dict[str, Tensor]:
        image, boxes, classes, bits = self.samples[i]
        width = image.shape[1]
        masks = np.unpackbits(bits, axis=-1, count=width)
        if flip:
            masks, boxes = masks[:, :, ::-1], boxes.copy()
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        arrays = {"boxes": boxes, "labels": classes.astype(np.int64), "masks": masks}
        return {
            key: torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)
            for key, array in arrays.items()
        }


def detector(builder: str, state: dict[str, np.ndarray]) -> MaskRCNN:
    """Returns the model that the exported lines of Python make, with the weights given."""
    names: dict = {}
    exec(builder, names)  # written by side_by_side.py
    model = names["model"]
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model.to(DEVICE)


def pad_to_the_bucket(model: MaskRCNN, side: int) -> None:
    """Pads to our bucket instead of the batch's largest sides, made multiples of 32."""
    model.transform.size_divisible = side


def round_pixels(model: MaskRCNN, side: int) -> None:
    """Rounds the resized image to whole levels, as 8-bit images are that we resize."""
    transform, resize = model.transform, model.transform.resize
    mean, std = (
        torch.tensor(values, device=DEVICE)[:, None, None]
        for values in (transform.image_mean, transform.image_std)
    )

    def rounded(image, target=None):
        image, target = resize(image, target)
        levels = ((image * std + mean) * 255).round()
        return (levels / 255 - mean) / std, target

    transform.resize = rounded


def boxes_of_resized_masks(model: MaskRCNN, side: int) -> None:
    """Takes the true boxes from the resized masks instead of resizing those of the original."""
    resize = model.transform.resize

    def resized(image, target=None):
        image, target = resize(image, target)
        if target is not None:
            target["boxes"] = torch.stack(
                [_tight(*pair) for pair in zip(target["masks"], target["boxes"], strict=True)]
            )
        return image, target

    model.transform.resize = resized


def _tight(mask: Tensor, box: Tensor) -> Tensor:
    """Returns the box of a mask's pixels, or the one given where it has none left."""
    rows, columns = torch.where(mask)
    if not len(rows):
        return box
    ends = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return ends.to(box)


def exact_mask_targets(model: MaskRCNN, side: int) -> None:
    """Cuts mask targets from the original masks at true positions: coverage, not blocks."""
    resize = model.transform.resize
    given: dict[str, Tensor] = {}

    def kept(image, target=None):
        original = target["masks"] if target is not None else None
        image, target = resize(image, target)
        if target is not None:
            sizes = zip(original.shape[:0:-1], image.shape[:0:-1], strict=True)
            ratio = [old / new for old, new in sizes]  # of x and y
            target["masks"] = original.float()
            given[target["masks"]] = torch.tensor(ratio * 2, device=DEVICE)
        return image, target

    def project(masks, boxes, matched, size):
        rois = torch.cat([matched[:, None].to(boxes), boxes * given.pop(masks)], dim=1)
        return roi_align(masks[:, None], rois, (size, size), 1.0, 2, aligned=True)[:, 0]

    model.transform.resize = kept
    roi_heads.project_masks_on_boxes = project


def no_anchors_in_the_padding(model: MaskRCNN, side: int) -> None:
    """Keeps anchors whose centre lies in the padding out of the sampled negatives."""
    sizes: list = []
    model.transform.register_forward_hook(
        lambda module, given, out: sizes.__setitem__(slice(None), out[0].image_sizes)
    )
    assign = model.rpn.assign_targets_to_anchors

    def assigned(anchors, targets):
        labels, boxes = assign(anchors, targets)
        for label, anchor, (height, width) in zip(labels, anchors, sizes, strict=True):
            x, y = (anchor[:, :2] + anchor[:, 2:]).T / 2
            label[((x >= width) | (y >= height)) & (label == 0)] = -1
        return labels, boxes

    model.rpn.assign_targets_to_anchors = assigned


CHANGES: dict[str, Callable[[MaskRCNN, int], None]] = {
    "padding": pad_to_the_bucket,
    "pixels": round_pixels,
    "boxes": boxes_of_resized_masks,
    "mask_targets": exact_mask_targets,
    "padding_negatives": no_anchors_in_the_padding,
}


def train(model: MaskRCNN, data: Split, run: dict, optimizer: dict) -> list[dict[str, float]]:
    """Trains in the order given; returns the losses of every step."""
    model.train()
    step = torch.optim.AdamW(model.parameters(), **optimizer)
    log = []
    for images, flips in zip(run["order"], run["flips"], strict=True):
        pairs = list(zip(images, flips, strict=True))
        losses = model([data.image(*p) for p in pairs], [data.target(*p) for p in pairs])
        step.zero_grad()
        sum(losses.values()).backward()
        step.step()
        log.append({name: loss.detach() for name, loss in losses.items()})
    return [{name: float(loss) for name, loss in losses.items()} for losses in log]


def evaluate(model: MaskRCNN, data: Split) -> dict[str, np.ndarray]:
    """Returns boxes, scores, labels and packed masks of every image, by `name.i`."""
    model.eval()
    found = {}
    with torch.inference_mode():
        for i in range(data.count):
            result = model([data.image(i)])[0]
            masks = (result.pop("masks")[:, 0] > 0.5).cpu().numpy()
            found[f"masks.{i}"] = np.packbits(masks, axis=-1)
            found |= {f"{name}.{i}": array.cpu().numpy() for name, array in result.items()}
    return found


def work(job: dict, run: dict, train_data: Split, val_data: Split) -> None:
    torch.manual_seed(run["seed"])
    roi_heads.project_masks_on_boxes = PROJECT
    with np.load(run["start"]) as start:
        model = detector(job["builder"], dict(start))
    for change in run["changes"]:
        CHANGES[change](model, job["side"])
    losses = train(model, train_data, run, job["optimizer"]) if run["order"] else []
    if losses:
        state = {name: array.cpu().numpy() for name, array in model.state_dict().items()}
        save(run["weights"], state)
        Path(run["losses"]).write_text(json.dumps(losses))
    save(run["found"], evaluate(model, val_data))


def save(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz that is there whole or not at all."""
    np.savez_compressed(f"{path}.part.npz", **arrays)
    Path(f"{path}.part.npz").rename(path)


PROJECT = roi_heads.project_masks_on_boxes


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.backends.cudnn.allow_tf32 = False
    with np.load(job["data"]) as arrays:
        train_data, val_data = Split(arrays, "train"), Split(arrays, "val")
    for run in job["runs"]:
        work(job, run, train_data, val_data)
        print(run["found"], file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
