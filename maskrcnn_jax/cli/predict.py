"""Finds objects in images and videos: draws them, and writes them down.

    python predict.py --workdir=runs/shapes photo.jpg folder/with/images --out=predictions
    python predict.py --workdir=runs/shapes 'scans/*.png' https://host/photo.jpg
    python predict.py --workdir=runs/shapes clip.mp4 frames/%04d.png camera:0 --splash

Folders are searched with all that is in them. --outputs says what is written, for every image or
frame: overlays are pictures in the image's own format and size (--scale), videos of videos;
predictions.json is a list of all objects in COCO's results format, with `class_name`, `file_name`
and, of videos, `frame` beside COCO's keys (`image_id` counts from 1). With --stages also what the
network saw on its way: features, anchors, proposals, mask grids. --splash shows the objects in
colour on grey instead. --tile=SIDE cuts large images into tiles, which the network sees one by one,
and joins what it finds. A camera runs until Ctrl-C or --max_frames.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.cli import command
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.console import printable
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.images.value_range import deep_range, is_dark, levels_left
from maskrcnn_jax.inference.load import load
from maskrcnn_jax.inference.predictor import Predictor, shared_pixels
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.inference.test_time import parse_views
from maskrcnn_jax.predict import video
from maskrcnn_jax.predict.outputs import KINDS, USUAL, Outputs, kinds, overlay_path
from maskrcnn_jax.predict.run import Settings, run
from maskrcnn_jax.predict.sources import Source, find
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
    parser.add_argument(
        "images",
        nargs="*",
        metavar="INPUT",
        help="image, video, folder, quoted pattern, http(s) address of an image, numbered frames "
        "such as frames/%%04d.png, or camera:0",
    )
    command.add_checkpoint(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("predictions"),
        help="the folder for what is written (predictions)",
    )
    parser.add_argument(
        "--outputs",
        metavar="KINDS",
        default=",".join(USUAL),
        help=f"what is written, with commas between ({','.join(USUAL)}): "
        + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items()),
    )
    parser.add_argument(
        "--scale",
        metavar="FACTOR",
        default="1",
        help="size of overlays over that of the image (1), or auto: small ones are enlarged, so "
        "that names do not cover them",
    )
    parser.add_argument(
        "--max_frames", metavar="N", type=int, help="of each video and camera; by default all"
    )
    parser.add_argument(
        "--fps", metavar="N", type=float, help="frames per second of numbered frames (25)"
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
        help="images, frames or tiles that the network gets at a time (1)",
    )
    command.add_tta(parser)
    command.add_drawing(parser)
    command.add_cache(parser)
    return parser


def predict(options: argparse.Namespace) -> int:
    """Predicts as the flags say; returns 1 where an input could not be read, else 0."""
    use_compilation_cache(options.compilation_cache)
    make_outputs = partial(
        Outputs, options.out, kinds(options.outputs), command.drawing_style(options)
    )
    scale = _scale(options.scale)
    _check(options)
    sources, passed_over = find(options.images, options.out)
    if str(passed_over):
        print(passed_over, file=sys.stderr)
    _check_sources(sources, options)
    predictor = load(
        options.workdir, options.checkpoint, options.batch_size, max_pixels=options.max_pixels
    )
    classes = list(zip(predictor.category_ids, predictor.class_names, strict=True))
    faults = run(predictor, sources, make_outputs(scale, classes), settings(predictor, options))
    if faults:
        print(f"{len(faults)} of {len(sources)} inputs could not be read", file=sys.stderr)
    return int(bool(faults))


def settings(predictor: Predictor, options: argparse.Namespace) -> Settings:
    """Returns how the flags say that images are predicted on."""
    read: list[Source] = []
    is_told = False

    def seen(source: Source) -> None:
        nonlocal is_told
        read.append(source)
        if source.kind == "image" and not is_told:
            is_told = _tell_of_dark(predictor, source.place)

    def with_stages(images: Iterable[np.ndarray]) -> Iterator[tuple[int, Result]]:
        first = len(read)  # of this group of images
        for index, image in enumerate(images):
            result, stages = predictor.stages(image, options.min_score)
            folder = options.out / "stages" / read[first + index].name
            _draw_stages(stages, predictor, folder)
            yield index, result

    def plain(images: Iterable[np.ndarray]) -> Iterator[tuple[int, Result]]:
        where = options.tile, options.overlap
        return predictor.stream(images, options.min_score, *where, options.tta)

    detect: Callable[..., Iterator[tuple[int, Result]]] = with_stages if options.stages else plain
    return Settings(detect, options.max_frames, options.fps, seen)


def _check(options: argparse.Namespace) -> None:
    """Raises ValueError where flags do not fit, before a model is loaded."""
    if options.tta:
        parse_views(options.tta)
    if options.tile is not None:
        shared_pixels(options.tile, options.overlap)
    if options.stages and (options.tile is not None or options.tta):
        raise ValueError(
            "--stages shows what the network sees in one image; leave out --tile and --tta"
        )
    for name in ("max_frames", "fps"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise ValueError(f"--{name} is {value}; it must be positive")


def _scale(text: str) -> float | None:
    """Returns the factor of overlays, None where small ones are to be enlarged."""
    if text == "auto":
        return None
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.01 <= scale <= 100:
        raise ValueError(f"--scale is {text!r}; expected auto or a factor from 0.01 to 100")
    return scale


def _check_sources(sources: Sequence[Source], options: argparse.Namespace) -> None:
    """Raises ValueError where a source cannot be so, or would be replaced by what is written."""
    videos = [source for source in sources if not source.is_image]
    if videos and options.stages:
        raise ValueError(f"--stages shows images, not the frames of {videos[0]}")
    if any(source.kind == "video" for source in videos) or (
        videos and "overlays" in options.outputs
    ):
        video.library()
    given = {Path(source.place).resolve() for source in sources}
    for source in sources:
        if overlay_path(source, options.out).resolve() in given:
            raise ValueError(
                f"--out={options.out} is a folder of what is given: {source} would be replaced; "
                "give another one"
            )


def _tell_of_dark(predictor: Predictor, path: str) -> bool:
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


def _draw_stages(stages: dict[str, Any], predictor: Predictor, folder: Path) -> None:
    drawn = inference_pictures(stages["input"][0], stages, predictor.model_config)
    for name, picture in drawn.items():
        write_atomically(folder / f"{name}.png", encode_png(picture))
