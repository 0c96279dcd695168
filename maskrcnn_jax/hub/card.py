"""The card of a published model: what it finds, how well, its data, how to load it."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from maskrcnn_jax.checkpoints.saved_config import detector_config
from maskrcnn_jax.config_json import to_json

_METRICS = {
    "segm/AP": "mask AP",
    "segm/AP50": "mask AP50",
    "bbox/AP": "box AP",
    "bbox/AP50": "box AP50",
}
_MOST_CLASSES = 100  # of which the card gives the names

# By whether there are masks: what the model is, what a result has, and its task on hubs.
_KINDS = {
    True: (
        "A [Mask R-CNN](https://arxiv.org/abs/1703.06870) for instance segmentation",
        "boxes, scores, class_names, masks",
        "image-segmentation",
    ),
    False: (
        "A [Faster R-CNN](https://arxiv.org/abs/1506.01497) for object detection",
        "boxes, scores, class_names",
        "object-detection",
    ),
}

_TEXT = """\
# {name}

{kind}, made with maskrcnn_jax.

| | |
|---|---|
| classes | {classes} |
| trained on | {data} |
| steps | {steps} |
| input | {inputs} |
| licence of the weights | {license} |

{metrics}
## Use

```sh
pip install -e ".[hub]"  # in a clone of maskrcnn_jax
python -m maskrcnn_jax.export {where} --format=onnx --out=detector
```

```python
import maskrcnn_jax

predictor = maskrcnn_jax.load("{where}")
result = predictor("photo.jpg", min_score=0.5)  # {found}
```

## Train it again

```sh
python train.py --config={name}  # with the keys of config.json
```

`model.safetensors` has the weights and `config.json` the configuration, the classes and the sums by
which damage is noticed. Neither can execute anything.
"""


def model_card(metadata: Mapping[str, Any], where: str, metrics: Mapping[str, float]) -> str:
    """Returns the card in Markdown, with the front matter that hubs read.

    Args:
        metadata: as `load_for_inference` returns it, with `license`.
        where: what `maskrcnn_jax.load` takes.
        metrics: of an evaluation, by name; empty where there was none.
    """
    config, (model, images) = to_json(metadata["config"]), detector_config(metadata)
    kind, found, task = _KINDS[model.masks]
    if model.keypoints.names:
        kind, found = f"{kind} and keypoints", f"{found}, keypoints"
    return _front_matter(metadata["license"], task) + _TEXT.format(
        kind=kind,
        found=found,
        name=config.get("name") or "model",
        where=where,
        classes=_class_names(metadata["class_names"]),
        data=_data(config["data"]),
        steps=metadata.get("step", "unknown"),
        inputs=", ".join(f"{height} x {width}" for height, width in images.buckets),
        license=metadata["license"],
        metrics=_table(metrics),
    )


def _front_matter(license_name: str, task: str) -> str:
    values = {
        "library_name": "maskrcnn_jax",
        "pipeline_tag": task,
        "tags": ["instance-segmentation", "object-detection", "mask-rcnn", "jax"],
        "license": license_name.lower(),
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n\n"


def _class_names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MOST_CLASSES]).replace("|", "\\|").replace("\n", " ")
    return f"{len(names)}: {shown}" + (", ..." if len(names) > _MOST_CLASSES else "")


def _data(data: Mapping[str, Any]) -> str:
    """Returns the format and the parameters of the training images."""
    given = json.dumps(data.get("train", {}), ensure_ascii=False).replace("|", "\\|")
    return f"{data.get('format', 'unknown')}: `{given}`"


def _table(metrics: Mapping[str, float]) -> str:
    rows = [
        f"| {name} | {100 * metrics[key]:.1f} |"
        for key, name in _METRICS.items()
        if metrics.get(key, -1) >= 0
    ]
    return "\n".join(["| on the validation images | |", "|---|---|", *rows, ""]) if rows else ""
