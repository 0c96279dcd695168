"""Takes a trained detector out of this package.

    python -m maskrcnn_jax.export runs/mine --format=onnx
    python -m maskrcnn_jax.export runs/mine --format=stablehlo --out=exported --images=photos
    python -m maskrcnn_jax.export mask_rcnn_coco.h5 --format=onnx --out=coco.onnx
    python -m maskrcnn_jax.export runs/mine --format=web --out=site

SOURCE is a work directory, what python -m maskrcnn_jax.hub has published (hf://USER/NAME, a folder
or a zip archive), a file of weights of torchvision, Detectron2 or matterport/Mask_RCNN, or the name
of published weights. web is a page that runs the model in a browser. The result is run
beside the original, and a file that does not find the same is not left. docs/export.md.
"""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import jax

from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.cli import command
from maskrcnn_jax.export import examples
from maskrcnn_jax.export.detector import Detector, Shape, load
from maskrcnn_jax.export.formats import SUFFIXES, Options, check, convert, description, write
from maskrcnn_jax.hub.publish import metrics_of, push
from maskrcnn_jax.pretrained.out_folder import check_place

_NEEDED = {
    "onnx": ("onnx", "onnxruntime"),
    "safetensors": ("safetensors",),
    "stablehlo": ("flatbuffers",),
    "web": ("onnx", "onnxruntime"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return command.status_of(lambda: _export(options), options.debug)


def _export(options: argparse.Namespace) -> None:
    _check_options(options)
    if options.format != "stablehlo":
        # What is compared runs on a CPU, where float32 is float32.
        jax.config.update("jax_platforms", "cpu")
    detector = load(options.source, options.checkpoint, options.classes)
    if options.format in ("onnx", "web") and detector.model_config.dtype != "float32":
        print("ONNX has no bfloat16 convolutions: written, and compared, in float32")
        detector = detector.in_float32()
    if not detector.model_config.masks and (options.format == "web" or options.masks == "paste"):
        raise ValueError(
            f"{options.source} is a model of boxes alone (config.model.masks = False); "
            "--format=web and --masks=paste show masks"
        )
    _EXPORTS[options.format](detector, options)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__, "python -m maskrcnn_jax.export")
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a work directory, a file of weights or a name")
    add("--format", required=True, choices=sorted(_NEEDED))
    add("--out", type=Path, help="the file or folder to make; default: SOURCE/export")
    add(
        "--bucket",
        default="all",
        help="HxW of the input in multiples of 32, or all of the configuration: one file each",
    )
    add("--batch", help="images at a time: a number, or symbolic (stablehlo's default)")
    add("--masks", choices=("grid", "paste"), default="grid", help="onnx: paste masks in the file")
    add(
        "--weights",
        choices=("float32", "float16"),
        default="float32",
        help="onnx, web: how they are kept; float16 halves the file, the arithmetic stays float32",
    )
    add("--runtime", type=Path, metavar="PATH", help="web: the npm package onnxruntime-web")
    add("--images", nargs="+", default=[], metavar="PATH", help="images or folders to compare on")
    add("--number", type=int, default=3, help="of images to compare on (default: 3)")
    add("--checkpoint", default="last", help="last, best or the number of a step")
    add(
        "--classes", metavar="A,B", type=lambda x: x.split(","), help="names, for a file of weights"
    )
    add("--license", default="unknown", help="of the weights, for the file's metadata")
    return parser


def _check_options(options: argparse.Namespace) -> None:
    """Refuses what cannot be done, before anything is loaded."""
    is_onnx = options.format in ("onnx", "web")
    options.batch = _batch(options.batch or ("1" if is_onnx else "symbolic"))
    if is_onnx and options.batch != 1:
        raise ValueError(
            "--batch: an ONNX file takes one image, since each image has as many detections as it "
            "has; leave --batch out, or take --format=stablehlo"
        )
    if options.masks == "paste" and options.format != "onnx":
        raise ValueError("--masks=paste is for --format=onnx; leave it out")
    if options.weights != "float32" and not is_onnx:
        raise ValueError("--weights is for --format=onnx and web; leave it out")
    if options.runtime is not None and options.format != "web":
        raise ValueError("--runtime is for --format=web; leave it out")
    if options.number < 1:
        raise ValueError(f"--number={options.number}; at least 1 image is compared")
    for package in _NEEDED[options.format]:
        try:
            import_module(package)
        except ImportError as error:
            raise ValueError(
                f"--format={options.format} needs the package {package} ({error}): "
                "pip install -e '.[export]'"
            ) from error
    if options.out is None:
        if not (Path(options.source) / LAST).is_dir():
            raise ValueError(f"--out=PATH is missing: {options.source} is no work directory")
        options.out = Path(options.source) / "export"
    check_place(options.out.absolute().parent)


def _batch(text: str) -> int | None:
    if text == "symbolic":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"--batch={text}; give a number of images, or symbolic")
    return int(text)


def _export_weights(detector: Detector, options: argparse.Namespace) -> None:
    metadata = {**detector.metadata, "license": options.license}
    folder = Path(
        push(detector.variables, metadata, str(options.out), metrics=metrics_of(options.source))
    )
    size = (folder / weights_folder.WEIGHTS).stat().st_size
    print(f"{folder}: {weights_folder.WEIGHTS} ({_megabytes(size)}) and {weights_folder.CONFIG}")
    print("read back equal to the bit")


def _export_files(detector: Detector, options: argparse.Namespace) -> None:
    for shape, path in _paths(detector, options).items():
        kind = Options(
            options.format,
            shape,
            options.batch,
            options.masks == "paste",
            options.license,
            options.weights,
        )
        content = _checked(detector, kind, options, path)
        write(content, detector, kind, path)


def _export_site(detector: Detector, options: argparse.Namespace) -> None:
    from maskrcnn_jax.export.web import site

    if options.out.exists() and (options.out.is_file() or any(options.out.iterdir())):
        raise ValueError(f"--out={options.out} exists already; give the name of a new folder")
    models = []
    for shape in _shapes(detector, options.bucket):
        kind = Options("onnx", shape, license=options.license, weights=options.weights)
        described = description(detector, kind)
        site.check_usable(described)
        models.append((described, _checked(detector, kind, options, options.out)))
    size = site.write(options.out, models, options.runtime)
    print(f"{options.out}: a browser downloads {_megabytes(size)} with the first model")
    print(f"try it: python -m http.server --directory {options.out}")


def _checked(detector: Detector, kind: Options, options: argparse.Namespace, path: Path) -> bytes:
    """Returns the content of a file that does what the original does, and says how well."""
    data = detector.data_of(kind.shape)
    images = examples.find(options.images, options.number) if options.images else []
    given = (
        examples.read(images, data)
        if images
        else examples.generated(options.number, data, kind.shape)
    )
    content = convert(detector, kind)
    try:
        agreement, speed = check(content, detector, given, kind)
    except ValueError as error:
        raise ValueError(
            f"{path} was not written, because it does not do what the original does: {error}"
        ) from error
    height, width = kind.shape
    print(f"{path} ({_megabytes(len(content))}): input {height}x{width}")
    print(f"  compared on {'given' if images else 'generated'} images: {agreement}")
    print(f"  {speed}, {jax.devices()[0].platform}")
    return content


def _paths(detector: Detector, options: argparse.Namespace) -> dict[Shape, Path]:
    """Returns the file of each bucket."""
    shapes, suffix = _shapes(detector, options.bucket), SUFFIXES[options.format]
    if options.out.suffix == suffix:
        if len(shapes) > 1:
            raise ValueError(
                f"--out={options.out} is one file, and the model has {len(shapes)} buckets: give "
                f"one of them, --bucket={shapes[0][0]}x{shapes[0][1]}, or a folder as --out"
            )
        paths = {shapes[0]: options.out}
    else:
        paths = {shape: options.out / f"detector_{shape[0]}x{shape[1]}{suffix}" for shape in shapes}
    for path in paths.values():
        if path.exists():
            raise ValueError(f"{path} exists already; remove it, or give another --out")
    return paths


def _shapes(detector: Detector, bucket: str) -> tuple[Shape, ...]:
    if bucket == "all":
        return detector.buckets
    sides = bucket.lower().split("x")
    if len(sides) != 2 or not all(
        side.isdigit() and int(side) % 32 == 0 != int(side) for side in sides
    ):
        raise ValueError(f"--bucket={bucket}; give HxW in multiples of 32, 800x1088 say, or all")
    return ((int(sides[0]), int(sides[1])),)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


_EXPORTS = {
    "onnx": _export_files,
    "safetensors": _export_weights,
    "stablehlo": _export_files,
    "web": _export_site,
}
