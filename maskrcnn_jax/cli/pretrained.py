"""Converts other projects' weights into a work directory, and a work directory for torchvision.

    python -m maskrcnn_jax.pretrained maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth --out runs/coco_v1
    python -m maskrcnn_jax.pretrained coco_torchvision_v2 --out runs/coco_v2
    python -m maskrcnn_jax.pretrained runs/mine --to torchvision --out mine.pth

SOURCE is a file of weights of torchvision, Detectron2 or matterport/Mask_RCNN, or the name of a
published one, which is downloaded once; with --to, a work directory.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import jax
import numpy as np

from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.saved_config import detector_config
from maskrcnn_jax.cli import command
from maskrcnn_jax.console import program
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained import convert, export, out_folder, overrides
from maskrcnn_jax.pretrained.files import downloads, published
from maskrcnn_jax.pretrained.report import summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    # Nothing is computed: an accelerator may be in use by another process.
    jax.config.update("jax_platforms", "cpu")
    return command.status_of(
        lambda: print(_export(options) if options.to else _import(options)),
        options.debug,
        interrupted="interrupted; nothing was written",
    )


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(
        __doc__,
        "python -m maskrcnn_jax.pretrained",
        f"published names: {', '.join(published.NAMES)}",
    )
    parser.add_argument("source", metavar="SOURCE", help="a file, a name, or (--to) a folder")
    parser.add_argument(
        "--out", required=True, help="the work directory to make, or (--to) the file"
    )
    parser.add_argument("--classes", metavar="A,B", help="names of the classes, in their order")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the model that the weights need otherwise: model.backbone.norm_eps=1e-5",
    )
    parser.add_argument("--to", choices=("torchvision",), help="export instead")
    parser.add_argument(
        "--checkpoint", default="last", help="with --to: last, best or the number of a step"
    )
    parser.add_argument("--verbose", action="store_true", help="list every array")
    return parser


def _import(options: argparse.Namespace) -> str:
    """Makes a work directory; returns what to tell about it."""
    # Before anything is downloaded.
    out_folder.check_new(options.out)
    settings = overrides.parsed(options.set)
    overrides.check(settings)
    weights = convert.load(_file(options.source), settings)
    if options.classes:
        weights = convert.with_classes(weights, options.classes.split(","))
    convert.write_checkpoint(weights, options.out)
    return "\n".join([summary(weights, options.verbose), "", *_next_steps(weights, options.out)])


def _file(source: str) -> Path:
    """Returns the file that SOURCE names, downloading it where it is a published one."""
    path = Path(source).expanduser()
    if (path / LAST).is_dir():
        raise ValueError(
            f"{source} is a work directory, which needs no conversion; add --to torchvision to "
            f"export it"
        )
    if path.exists():
        return path
    if source not in published.NAMES:
        raise ValueError(downloads.nowhere(source))
    if source.startswith("imagenet_"):
        raise ValueError(
            f"{source} is the backbone of a classifier, from which no detector can be made "
            f"without training. Start a training from it: --config.init={source}"
        )
    return downloads.fetch(source)


def _next_steps(weights: convert.Weights, out: str) -> list[str]:
    data = "--config.data.val.root=COCO"
    if "person" not in weights.class_names:  # somebody's own data
        data = "--config.data.val.root=DIR --config.data.val.images=FOLDER"
        data += " --config.data.val.annotations=FILE"
    return [
        f"written to {out}; what to do with it:",
        f"  {program('predict')} --workdir={out} photo.jpg",
        f"  {program('eval')} --workdir={out} {data}",
        f"  {program('train')} --config=RECIPE --config.init={out}",
    ]


def _export(options: argparse.Namespace) -> str:
    """Writes a state dict; returns how torchvision loads it."""
    if options.classes or options.set:
        raise ValueError("--classes and --set are for imports; leave them out with --to")
    source, out = Path(options.source).expanduser(), Path(options.out).expanduser()
    if source.is_file():
        raise ValueError(
            f"{source} is a file; with --to, SOURCE is the work directory of a training run or a "
            f"conversion. Leave --to out to convert the file"
        )
    encode = _encoder(out)
    variables, metadata = load_for_inference(source, options.checkpoint)
    model, images = detector_config(metadata)
    state = export.torchvision_state(jax.device_get(variables), model)
    write_atomically(out, encode(state))
    names = metadata["class_names"]
    return "\n".join(
        [
            f"{len(state)} arrays of step {metadata['step']} written to {out}. In torchvision:",
            "",
            export.builder(model, images, len(names)),
            *_loading(out),
            "",
            f"Its labels 1 to {len(names)} are: {', '.join(names)}",
            *_paste_note(model),
        ]
    )


def _paste_note(model: ModelConfig) -> list[str]:
    if model.detections.mask_paste == "torchvision":
        return []
    return ["torchvision pastes masks on whole pixels; this model's recipe pastes them exactly"]


def _encoder(out: Path) -> Callable[[dict[str, np.ndarray]], bytes]:
    """Returns what makes the bytes of a file, by the end of its name."""
    encoders = {".pth": _torch_bytes, ".pt": _torch_bytes, ".safetensors": _safetensors_bytes}
    if out.suffix not in encoders:
        raise ValueError(f"--out={out}: with --to it ends in {', '.join(encoders)}")
    if out.exists():
        raise ValueError(f"--out={out} exists already; give the name of a new file")
    out_folder.check_place(out)
    package = "safetensors" if out.suffix == ".safetensors" else "torch"
    try:
        import_module(package)
    except ImportError as error:
        other = ".safetensors" if package == "torch" else ".pth"
        raise ValueError(
            f"--out={out} needs the package {package} ({error}): pip install {package}, or give a "
            f"file that ends in {other}"
        ) from error
    return encoders[out.suffix]


def _torch_bytes(state: dict[str, np.ndarray]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in state.items()}, buffer)
    return buffer.getvalue()


def _safetensors_bytes(state: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save(state)


def _loading(out: Path) -> list[str]:
    if out.suffix == ".safetensors":
        lines = ["from safetensors.torch import load_file", f'state = load_file("{out}")']
    else:
        lines = [f'state = torch.load("{out}", weights_only=True)']
    return [*lines, "model.load_state_dict(state)", "model.eval()"]
