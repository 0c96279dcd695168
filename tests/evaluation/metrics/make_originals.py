"""Computes metrics on random detections by their original implementations, for the tests.

    python -m tests.evaluation.metrics.make_originals --boundary=DIR --detectron2=DIR \
        --matterport=DIR

The folders are clones of bowenc0221/boundary-iou-api (37d2558), facebookresearch/detectron2
(02b5c4e) and matterport/Mask_RCNN (00c9fce); `lvis` 0.5.3 is a package. They are asked for:

- VOC AP of boxes: `voc_eval` of `detectron2/evaluation/pascal_voc_evaluation.py`, which is the
  devkit's rule in Python (py-faster-rcnn's `voc_eval.py`);
- matterport's AP: `compute_ap` of `mrcnn/utils.py`;
- LVIS AP: `LVISEval` of the package;
- boundary AP: `COCOeval` with iouType "boundary" of `boundary_iou/coco_instance_api`.

Detectron2 and matterport's files are not imported, since they need torch and TensorFlow 1: the
functions alone are taken out of them. Writes `originals.json`, detections and values.
"""

import argparse
import ast
import contextlib
import copy
import functools
import importlib
import io
import json
import sys
import tempfile
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

OUT = Path(__file__).parent / "originals.json"
HEIGHT, WIDTH = 120, 160
CLASSES = {1: "r", 2: "c", 3: "c", 5: "f", 8: "f"}  # ids, and how frequent LVIS calls them


def main() -> None:
    """Makes the detections, asks the originals, writes both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("boundary", "detectron2", "matterport"):
        parser.add_argument(f"--{name}", required=True, metavar="DIR")
    options = parser.parse_args()
    np.float = float  # a name of numpy's that the originals use, and numpy no longer has
    truth, results = scene(seed=0)
    values = {
        "voc": voc(truth, results, Path(options.detectron2)),
        "matterport": matterport(truth, results, Path(options.matterport)),
        "lvis": lvis(truth, results),
        "boundary": boundary(truth, results, options.boundary),
    }
    content = {"truth": truth, "results": results, "values": values}
    OUT.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(json.dumps(values, indent=1))


def scene(seed: int, images: int = 14) -> tuple[dict, list[dict]]:
    """Returns a COCO dictionary with LVIS's keys, and detections that are partly right.

    Scores are all different, so that no order among equal ones matters.
    """
    rng = np.random.default_rng(seed)
    truth = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": f"class {k}", "frequency": f} for k, f in CLASSES.items()],
    }
    found: list[dict] = []
    for image in range(1, images + 1):
        absent = rng.choice(list(CLASSES), 2, replace=False).tolist()
        partly = rng.choice(list(CLASSES), 1).tolist()
        truth["images"].append(
            {
                "id": image,
                "height": HEIGHT,
                "width": WIDTH,
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": partly,
            }
        )
        for number in range(rng.integers(2, 9) if image > 1 else 0):
            place = (*rng.uniform((0, 0), (WIDTH, HEIGHT)), *rng.uniform(5, 45, 2))
            label = int(rng.choice(list(CLASSES)))
            entry = _blob(place, image, label)
            crowd = int(number == 0 and image % 4 == 0)
            annotation = {**entry, "iscrowd": crowd, "area": _area(entry)}
            truth["annotations"].append({**annotation, "id": len(truth["annotations"]) + 1})
            for _ in range(rng.integers(0, 3)):
                moved = np.array(place) + rng.normal(0, [3, 3, 2, 2])
                other = int(rng.choice(list(CLASSES))) if rng.random() < 0.2 else label
                found.append(_blob((*moved[:2], *np.maximum(moved[2:], 3)), image, other))
        for _ in range(3):
            place = (*rng.uniform((0, 0), (WIDTH, HEIGHT)), *rng.uniform(5, 45, 2))
            found.append(_blob(place, image, int(rng.choice(list(CLASSES)))))
    scores = rng.permutation(len(found)) + 1
    return truth, [
        {**entry, "score": int(score) / 1000} for entry, score in zip(found, scores, strict=True)
    ]


def _blob(place, image: int, category: int) -> dict:
    """Returns an ellipse with a bite, cut off at the image's border."""
    x, y, half_width, half_height = (round(value) for value in place)
    x, y = min(max(x, 2), WIDTH - 3), min(max(y, 2), HEIGHT - 3)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(mask, (x, y), (half_width, half_height), 0, 0, 300, 1, -1)
    runs = coco_mask.encode(np.asfortranarray(mask))
    return {
        "image_id": image,
        "category_id": category,
        "bbox": coco_mask.toBbox(runs).tolist(),
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
    }


def _area(entry: dict) -> int:
    return int(coco_mask.area(entry["segmentation"]))


def voc(truth: dict, results: list[dict], detectron2: Path) -> dict[str, list[float]]:
    """Returns each class's AP at IoU 0.5, by both rules; crowds are VOC's difficult objects."""
    manager = types.SimpleNamespace(open=open)
    names = {"np": np, "ET": ElementTree, "PathManager": manager, "lru_cache": functools.lru_cache}
    source = detectron2 / "detectron2" / "evaluation" / "pascal_voc_evaluation.py"
    functions = _functions(source, ("parse_rec", "voc_ap", "voc_eval"), names)
    with tempfile.TemporaryDirectory() as folder:
        for image in truth["images"]:
            objects = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            text = "".join(_voc_object(entry) for entry in objects)
            Path(folder, f"{image['id']}.xml").write_text(f"<annotation>{text}</annotation>")
        image_set = Path(folder, "images.txt")
        image_set.write_text("\n".join(str(image["id"]) for image in truth["images"]))
        for category in CLASSES:
            own = [entry for entry in results if entry["category_id"] == category]
            Path(folder, f"{category}.dets").write_text("\n".join(map(_voc_line, own)))
        paths = f"{folder}/{{}}.dets", f"{folder}/{{}}.xml", str(image_set)
        return {
            name: [
                float(functions["voc_eval"](*paths, str(k), 0.5, use_07_metric=is_07)[2])
                for k in CLASSES
            ]
            for name, is_07 in (("voc07", True), ("voc12", False))
        }


def _voc_object(entry: dict) -> str:
    x, y, width, height = (int(value) for value in entry["bbox"])
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    box = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
    return (
        f"<object><name>{entry['category_id']}</name><pose/><truncated>0</truncated>"
        f"<difficult>{entry['iscrowd']}</difficult><bndbox>{box}</bndbox></object>"
    )


def _voc_line(entry: dict) -> str:
    x, y, width, height = entry["bbox"]
    return f"{entry['image_id']} {entry['score']} {x + 1} {y + 1} {x + width} {y + height}"


def matterport(truth: dict, results: list[dict], folder: Path) -> dict[str, float]:
    """Returns the AP of each image that has objects; crowds are left out."""
    names = ("trim_zeros", "compute_overlaps_masks", "compute_matches", "compute_ap")
    functions = _functions(folder / "mrcnn" / "utils.py", names, {"np": np})
    values = {}
    for image in truth["images"]:
        objects = [
            a for a in truth["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]
        ]
        own = [entry for entry in results if entry["image_id"] == image["id"]]
        if objects:
            scores = np.array([entry["score"] for entry in own])
            given = *_arrays(objects), *_arrays(own)[:2], scores, _arrays(own)[2]
            values[str(image["id"])] = float(functions["compute_ap"](*given)[0])
    return values


def _arrays(entries: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = np.array([entry["bbox"] for entry in entries]).reshape(-1, 4)
    classes = np.array([entry["category_id"] for entry in entries], int)
    return boxes, classes, coco_mask.decode([entry["segmentation"] for entry in entries])


def lvis(truth: dict, results: list[dict]) -> dict[str, dict[str, float]]:
    """Returns LVIS's numbers of boxes and masks, at most 300 and at most 5 detections an image."""
    package = importlib.import_module("lvis")
    # LVIS has no crowd regions. Its area of a detected mask is that of the box where it is given
    # one: it is given none.
    known = {**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}
    masks = [{key: e[key] for key in e if key != "bbox"} for e in results]
    values = {}
    for iou_type, found in (("bbox", results), ("segm", masks)):
        for limit in (300, 5):
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(known, file)
                file.flush()
                index = package.LVIS(file.name)
            detected = package.LVISResults(index, copy.deepcopy(found), max_dets=limit)
            evaluation = package.LVISEval(index, detected, iou_type)
            evaluation.params.max_dets = limit
            evaluation.run()
            numbers = {k: float(v) for k, v in evaluation.get_results().items()}
            values[f"{iou_type}, {limit}"] = numbers
    return values


def boundary(truth: dict, results: list[dict], folder: str) -> dict[str, float]:
    """Returns the twelve numbers of COCO for boundaries."""
    sys.path.insert(0, folder)
    coco = importlib.import_module("boundary_iou.coco_instance_api.coco").COCO
    evaluator = importlib.import_module("boundary_iou.coco_instance_api.cocoeval").COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco(get_boundary=True)
        known.dataset = copy.deepcopy(truth)
        known.createIndex()
        masks = [{key: e[key] for key in e if key != "bbox"} for e in copy.deepcopy(results)]
        evaluation = evaluator(known, known.loadRes(masks), "boundary")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
    ]
    return dict(zip(names, map(float, evaluation.stats), strict=True))


def _functions(path: Path, names: tuple[str, ...], known: dict) -> dict:
    """Returns functions of a source file, which is not run otherwise."""
    tree = ast.parse(path.read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    space = dict(known)
    exec(compile(tree, str(path), "exec"), space)
    return space


if __name__ == "__main__":
    main()
