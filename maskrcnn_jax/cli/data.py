"""Looks at data before they are trained on.

    python -m maskrcnn_jax.data check --config=configs/coco.py --config.data.train.root=DIR
    python -m maskrcnn_jax.data check --format=labelme --folder=photos --out=faults.json
    python -m maskrcnn_jax.data stats --config=configs/coco.py --out=stats
    python -m maskrcnn_jax.data browse --config=configs/coco.py --out=pictures --epochs=3 --raw
    python -m maskrcnn_jax.data convert --format=labelme --folder=photos --out=photos.json
    python -m maskrcnn_jax.data prepare --config=configs/coco.py --out=prepared

Data are named by a recipe, as for train.py, any of whose keys can be changed; or by their format
and the arguments of its reader (docs/formats), at the sizes of --config or else the defaults.

check lists every fault; it exits with 0 where there is no error, 1 where there are some and 2 where
the data cannot be read at all. stats counts and measures, also how anchors and buckets suit. browse
draws images as the network gets them, augmented where they are of training. convert writes COCO's
format. prepare writes a few large files for tensorflow-datasets, read with config.data.format=tfds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_jax.cli import command
from maskrcnn_jax.config import get_config
from maskrcnn_jax.console import program
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.faults import counts_by_kind
from maskrcnn_jax.data.tools.audit import as_json, audit
from maskrcnn_jax.data.tools.browse import browse
from maskrcnn_jax.data.tools.command_line import Target, add_arguments, target
from maskrcnn_jax.data.tools.convert import convert
from maskrcnn_jax.data.tools.statistics import statistics
from maskrcnn_jax.data.tools.statistics_report import as_picture, as_text
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.png import encode_png


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options, others = _parser().parse_known_args(arguments)
    return command.status_of(
        lambda: options.run(target(options, others, options.default_split, get_config()), options),
        options.debug,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program("data"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    verb = _verb(verbs, "check", _check, "both", "list every fault")
    verb.add_argument("--out", help="a JSON file for the faults")
    verb.add_argument(
        "--decode",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode every image, which alone finds truncated files",
    )
    verb = _verb(verbs, "stats", _stats, "both", "count and measure")
    verb.add_argument("--out", help="a folder for stats_SPLIT.json and stats_SPLIT.png")
    verb.add_argument(
        "--max",
        type=int,
        default=200,
        metavar="N",
        help="images whose pixels are read (200); 0: all",
    )
    verb = _verb(verbs, "browse", _browse, "train", "draw images with their annotations")
    verb.add_argument("--out", required=True, help="the folder of the pictures")
    verb.add_argument(
        "--max", type=int, default=20, metavar="N", help="images, evenly spread (20); 0: all"
    )
    verb.add_argument(
        "--epochs", type=int, default=1, metavar="N", help="of training, beside each other (1)"
    )
    verb.add_argument("--raw", action="store_true", help="and the image as it is stored")
    verb = _verb(verbs, "convert", _convert, "train", "write a split in COCO's format")
    verb.add_argument("--out", required=True, help="the JSON file")
    verb.add_argument(
        "--images-root",
        metavar="FOLDER",
        help="to which file names are relative; by default the deepest that holds all images",
    )
    verb = _verb(verbs, "prepare", _prepare, "both", "write a few large files")
    verb.add_argument("--out", required=True, help="the folder to write into")
    verb.add_argument("--num_shards", type=int, metavar="N", help="files of each split")
    return parser


def _verb(verbs, name: str, run, default_split: str, help_text: str):
    """Adds a command with the arguments that all have."""
    verb = verbs.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog="and --config.KEY=VALUE, and with --format the arguments of its reader",
        allow_abbrev=False,
    )
    add_arguments(
        verb, f"of a recipe: {default_split} unless given; with --format: all unless given"
    )
    command.add_debug(verb)
    verb.set_defaults(run=run, default_split=default_split)
    return verb


def _check(target: Target, options: argparse.Namespace) -> int:
    """Lists the faults; returns 1 where one of them is an error."""
    data = target.config.data
    data.on_error = "skip"  # all are wanted, not the first
    loaded = {split: datasets.load_for(target.config, split) for split in target.splits}
    faults = audit(loaded, data.max_pixels, options.decode, pixel_format(data))
    for split, dataset in loaded.items():
        label = f"{split}: " if len(loaded) > 1 else ""
        print(label + check.report(dataset, faults[split], len(faults[split])))
    found = [fault for split in faults.values() for fault in split]
    if found:
        counts = counts_by_kind(found)
        print("by kind: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    if options.out:
        content = {split: as_json(loaded[split], faults[split]) for split in loaded}
        write_atomically(options.out, json.dumps({"splits": content}, indent=1) + "\n")
        print(f"written to {Path(options.out)}")
    return int(any(fault.severity == "error" for fault in found))


def _stats(target: Target, options: argparse.Namespace) -> int:
    """Prints the statistics of each split."""
    if options.max < 0:
        raise ValueError(f"--max is {options.max}; at least 0 is needed")
    data = target.config.data
    data.validate()
    for split in target.splits:
        dataset = check.checked(datasets.load_for(target.config, split), data)
        found = statistics(dataset, target.config, split == "train", options.max)
        print(as_text(found) + "\n")
        if options.out:
            out = Path(options.out, f"stats_{split}")
            write_atomically(out.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
            write_atomically(out.with_suffix(".png"), encode_png(as_picture(found)))
            print(f"written to {out}.json and {out}.png")
    return 0


def _browse(target: Target, options: argparse.Namespace) -> int:
    """Draws images of each split."""
    data = target.config.data
    for split in target.splits:
        out = Path(options.out, split) if len(target.splits) > 1 else Path(options.out)
        dataset = check.checked(datasets.load_for(target.config, split), data)
        skipped = browse(
            dataset,
            target.config,
            out,
            is_training=split == "train",
            most=options.max,
            epochs=options.epochs,
            raw=options.raw,
        )
        for line in skipped:
            print(f"left out: {line}")
        print(f"written to {out}")
    return 0


def _convert(target: Target, options: argparse.Namespace) -> int:
    """Writes a split in COCO's format."""
    if len(target.splits) > 1:
        raise ValueError("--split=both: convert writes one split a file; give train or val")
    (split,) = target.splits
    data = target.config.data
    dataset = check.checked(datasets.load_for(target.config, split), data)
    out = Path(options.out).expanduser().absolute()
    root = convert(dataset, out, options.images_root)
    print(
        f"written to {out}; a recipe of format coco reads it with\n"
        f"  --config.data.{split}.images={root} --config.data.{split}.annotations={out}"
    )
    return 0


def _prepare(target: Target, options: argparse.Namespace) -> int:
    """Writes the splits for tensorflow-datasets."""
    from maskrcnn_jax.data.tools.prepare import prepare  # takes seconds, and others need it not

    splits = {name: datasets.load_for(target.config, name) for name in target.splits}
    for fault in (fault for dataset in splits.values() for fault in dataset.faults):
        print(fault, file=sys.stderr)
    print(prepare(splits, options.out, options.num_shards))
    return 0
