"""Finds objects in images: draws them, and writes them down in COCO's results format.

    python predict.py --workdir=runs/shapes photo.jpg folder/with/images --out=predictions

For every image a PNG with masks, boxes, names and scores (small images are enlarged), and one
predictions.json for all: a list of detections with `file_name` beside COCO's keys (`image_id`
counts the images from 1). With --stages also what the network saw on its way: features, anchors,
proposals, mask grids. --splash shows the objects in colour on grey instead. --tile=SIDE cuts large
images into tiles, which the network sees one by one, and joins what it finds.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from maskrcnn_jax.cli import command
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.console import amount, printable
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.images.value_range import deep_range, is_dark, levels_left
from maskrcnn_jax.inference.image_files import find_images, picture_names
from maskrcnn_jax.inference.load import load
from maskrcnn_jax.inference.predictor import Predictor, shared_pixels
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.visualization.overlay import draw_result
from maskrcnn_jax.visualization.stages import inference_pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_intermixed_args(arguments)
    return command.status_of(
        lambda: predict(options),
        options.debug,
        interrupted=f"interrupted; what was finished is in {options.out}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="a file, or a folder of images")
    command.add_checkpoint(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("predictions"),
        help="the folder for pictures and predictions.json (predictions)",
    )
    parser.add_argument(
        "--min_score",
        metavar="SCORE",
        type=float,
        default=0.5,
        help="objects with a lower score are left out (0.5)",
    )
    parser.add_argument(
        "--max_pixels",
        metavar="N",
        type=int,
        help="larger images are refused; by default config.data.max_pixels of the run",
    )
    parser.add_argument("--stages", action="store_true", help="draw every stage of the network too")
    parser.add_argument(
        "--tile",
        metavar="SIDE",
        type=int,
        help="cut images into square tiles of so many pixels; the best is the size of the "
        "training images",
    )
    parser.add_argument(
        "--overlap",
        metavar="FRACTION",
        type=float,
        default=0.25,
        help="of the side, which neighbouring tiles share (0.25)",
    )
    parser.add_argument(
        "--batch_size",
        metavar="N",
        type=int,
        default=1,
        help="tiles that the network gets at a time (1)",
    )
    command.add_drawing(parser)
    command.add_cache(parser)
    return parser


def predict(options: argparse.Namespace) -> int:
    """Predicts as the flags say; returns 1 where an image could not be read, else 0."""
    use_compilation_cache(options.compilation_cache)
    options.style = command.drawing_style(options)
    if options.tile is not None:
        shared_pixels(options.tile, options.overlap)
        if options.stages:
            raise ValueError("--stages shows what the network sees in one image; leave out --tile")
    images = list(find_images(options.images))
    _check_out(images, options.out)
    predictor = load(
        options.workdir, options.checkpoint, options.batch_size, max_pixels=options.max_pixels
    )
    unreadable = run(predictor, images, options)
    if unreadable:
        print(f"{len(unreadable)} of {len(images)} images could not be read", file=sys.stderr)
    return int(bool(unreadable))


def run(predictor: Predictor, paths: list[Path], options: argparse.Namespace) -> list[str]:
    """Predicts on every image and writes the results; returns a message for each unreadable one.

    Raises:
        OSError: a result cannot be written; it says which, and what is finished.
    """
    out = options.out
    entries: list[dict[str, Any]] = []
    unreadable: list[str] = []
    drawn, is_told = 0, False
    try:
        for image_id, (path, name) in enumerate(zip(paths, picture_names(paths), strict=True), 1):
            try:
                image = predictor.read(path)
            except (ValueError, OSError) as error:
                unreadable.append(str(error))
                print(f"skipped: {printable(error)}", file=sys.stderr)
                continue
            is_told = is_told or _tell_of_dark(predictor, path)
            result = _draw(predictor, image, name, options)
            found = result.to_coco(image_id)
            entries += [{**entry, "file_name": str(path)} for entry in found]
            drawn += 1
            print(f"{printable(path)}: {amount(len(result), 'object')} -> {printable(out / name)}")
    except OSError as error:  # the disk is full, say
        raise OSError(f"{error}; {drawn} of {len(paths)} images are finished, in {out}") from error
    finally:  # also of those before a Ctrl-C
        _write_entries(entries, out, drawn)
    return unreadable


def _tell_of_dark(predictor: Predictor, path: Path) -> bool:
    """Warns of a file whose 16 bits the model reads as 8, nearly black; returns whether it is."""
    data = predictor.image_config
    found = deep_range(path, data.max_pixels, pixel_format(data))
    if found is None or not is_dark(found[1]):
        return False
    print(
        f"warning: {printable(path)} has 16 bits, of which the model reads the high byte: "
        f"{levels_left(*found)}. Scale it as the training images were, or train with "
        "config.data.depth=16 or config.data.normalize=percentile; said of the first image alone",
        file=sys.stderr,
    )
    return True


def _write_entries(entries: list[dict[str, Any]], out: Path, drawn: int) -> None:
    try:
        write_atomically(out / "predictions.json", json.dumps(entries))
    except OSError as error:
        raise OSError(
            f"{error}; the pictures of {drawn} images are in {out}, but what was found in them is "
            "not written down: make room and run the command again"
        ) from error


def _draw(
    predictor: Predictor, image: np.ndarray, name: str, options: argparse.Namespace
) -> Result:
    """Predicts on one image and draws what was found, and the stages if wanted."""
    if options.stages:
        result, stages = predictor.stages(image, options.min_score)
        _draw_stages(stages, predictor, options.out / "stages" / Path(name).stem)
    else:
        where = options.tile, options.overlap
        (result,) = cast(list[Result], predictor([image], options.min_score, *where))
    write_atomically(
        options.out / name, encode_png(draw_result(image, result, style=options.style))
    )
    return result


def _draw_stages(stages: dict[str, Any], predictor: Predictor, folder: Path) -> None:
    drawn = inference_pictures(stages["input"][0], stages, predictor.model_config)
    for name, picture in drawn.items():
        write_atomically(folder / f"{name}.png", encode_png(picture))


def _check_out(paths: Iterable[Path], out: Path) -> None:
    """Refuses to write among the images that are read, where a picture could replace one."""
    if any(path.parent.resolve() == out.resolve() for path in paths):
        raise ValueError(f"--out={out} is a folder of the images given; give another one")
