"""Finds objects in images: draws them, and writes them down in COCO's results format.

    python predict.py --workdir=runs/shapes photo.jpg folder/with/images --out=predictions

For every image a PNG with masks, boxes, names and scores (small images are enlarged), and one
predictions.json for all: a list of detections with `file_name` beside COCO's keys (`image_id`
counts the images from 1). With --stages also what the network saw on its way: features, anchors,
proposals, mask grids.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging

from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.console import printable, safe_streams
from maskrcnn_jax.evaluation.results import coco_results
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.inference.image_files import find_images, picture_names
from maskrcnn_jax.inference.predictor import Predictor, load
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.visualization.overlay import draw_result
from maskrcnn_jax.visualization.stages import inference_pictures

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training run.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "last, best or the number of a step.")
_OUT = flags.DEFINE_string("out", "predictions", "Folder for the pictures and predictions.json.")
_MIN_SCORE = flags.DEFINE_float("min_score", 0.5, "Objects with a lower score are left out.")
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", None, "Larger images are refused; by default data.max_pixels of the run."
)
_STAGES = flags.DEFINE_bool("stages", False, "Also draw every stage of the network.")
_CACHE = flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs, or off.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error, and libraries' logs.")


def run(predictor: Predictor, paths: list[Path], out: Path) -> list[str]:
    """Predicts on every image and writes the results; returns a message for each unreadable one.

    Raises:
        OSError: a result cannot be written; it says which, and what is finished.
    """
    entries, unreadable, drawn = [], [], 0
    try:
        for image_id, (path, name) in enumerate(zip(paths, picture_names(paths), strict=True), 1):
            try:
                image = predictor.read(path)
            except (ValueError, OSError) as error:
                unreadable.append(str(error))
                print(f"skipped: {printable(error)}", file=sys.stderr)
                continue
            result = _draw(predictor, image, out, name)
            found = coco_results(result, image_id, predictor.category_ids)
            entries += [{**entry, "file_name": str(path)} for entry in found]
            drawn += 1
            print(f"{printable(path)}: {len(result)} objects -> {printable(out / name)}")
    except OSError as error:  # the disk is full, say
        raise OSError(f"{error}; {drawn} of {len(paths)} images are finished, in {out}") from error
    finally:  # also of those before a Ctrl-C
        _write_entries(entries, out, drawn)
    return unreadable


def _write_entries(entries: list[dict[str, Any]], out: Path, drawn: int) -> None:
    try:
        write_atomically(out / "predictions.json", json.dumps(entries))
    except OSError as error:
        raise OSError(
            f"{error}; the pictures of {drawn} images are in {out}, but what was found in them is "
            "not written down: make room and run the command again"
        ) from error


def _draw(predictor: Predictor, image: np.ndarray, out: Path, name: str) -> Result:
    """Predicts on one image and draws what was found, and the stages if wanted."""
    if _STAGES.value:
        result, stages = predictor.stages(image, _MIN_SCORE.value)
        _draw_stages(stages, predictor, out / "stages" / Path(name).stem)
    else:
        result = predictor(image, _MIN_SCORE.value)
    write_atomically(out / name, encode_png(draw_result(image, result)))
    return result


def _draw_stages(stages: dict[str, Any], predictor: Predictor, folder: Path) -> None:
    drawn = inference_pictures(stages["input"][0], stages, predictor.config.model)
    for name, picture in drawn.items():
        write_atomically(folder / f"{name}.png", encode_png(picture))


def _check_out(paths: Iterable[Path], out: Path) -> None:
    """Refuses to write among the images that are read, where a picture could replace one."""
    if any(path.parent.resolve() == out.resolve() for path in paths):
        raise ValueError(f"--out={out} is a folder of the images given; give another one")


def main(arguments: list[str]) -> None:
    with safe_streams():  # names of files are anybody's
        _main(arguments)


def _main(arguments: list[str]) -> None:
    if not _DEBUG.value:
        logging.set_verbosity(logging.ERROR)
    use_compilation_cache(_CACHE.value)
    out = Path(_OUT.value)
    try:
        images = list(find_images(arguments[1:]))
        _check_out(images, out)
        predictor = load(_WORKDIR.value, _CHECKPOINT.value, max_pixels=_MAX_PIXELS.value)
        unreadable = run(predictor, images, out)
    except KeyboardInterrupt:
        print(f"interrupted; what was finished is in {out}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if _DEBUG.value:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if unreadable:
        print(f"{len(unreadable)} of {len(images)} images could not be read", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
