"""Trained side by side with torchvision: the same first weights, images, flips and order.

    python -m benchmarks.side_by_side --data nuclei_dsb2018 --out DIR --peer-python PATH

A ResNet-18 with FPN of 128 channels and batch norm starts from weights that this project draws and
exports (`--to torchvision`). For each seed both projects train it on the same images, flips and
order with AdamW; then each evaluates the weights of both. What differs between them is made equal
one difference at a time on torchvision's side (`--changes`; side_by_side_peer.py says what they
are). Runs that DIR has already are not repeated.

The data are of the 2018 Data Science Bowl's layout, with folders `train` and `val`, fitted into
160 pixels (`--side`). A line of JSON is printed for each trained and evaluated model, then the
table.
"""

import argparse
import json
import subprocess
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import side_by_side_data
from benchmarks.side_by_side_data import arrays_of, batch_of, cut, flipped, save
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.input.sample import make_example
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.evaluation.coco_metrics import coco_metrics
from maskrcnn_jax.evaluation.truth import coco_truth
from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.images.sizes import prepare_image
from maskrcnn_jax.inference.coco_results import coco_results
from maskrcnn_jax.inference.result import Result, to_result
from maskrcnn_jax.models.build import abstract_variables, initial_variables, make_model
from maskrcnn_jax.parallel import mesh as sharding
from maskrcnn_jax.pretrained import export
from maskrcnn_jax.pretrained.tables.torchvision import import_state
from maskrcnn_jax.training.stages import make_stages

OURS, PEER = "maskrcnn_jax", "torchvision"
CHANGES = ("padding", "pixels", "boxes", "mask_targets", "padding_negatives")
METRICS = ("bbox/AP", "segm/AP")
_PEER = Path(__file__).with_name("side_by_side_peer.py")
# The detector, on small anchors; by `config.`.
_SETTINGS = {
    "data.format": "mask_folders",
    "data.max_instances": 400,
    "data.mask_size": 56,
    "data.resize": "square",
    "model.backbone.depth": 18,
    "model.backbone.norm": "bn",
    "model.fpn.channels": 128,
    "model.anchors.sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
    "model.rpn.pre_nms_top_n_train": 500,
    "model.rpn.post_nms_top_n_train": 500,
    "model.rpn.pre_nms_top_n_eval": 500,
    "model.rpn.post_nms_top_n_eval": 500,
    "model.roi.samples_per_image": 128,
    "model.roi.canonical_size": 56.0,
    "model.box_head.dense_channels": 256,
    "model.mask_head.channels": 128,
    "train.layers": "all",
    "train.optimizer": "adamw",
    "train.learning_rate": 5e-4,
    "train.weight_decay": 1e-4,
    "train.warmup_steps": 0,
    "train.decay_steps": (),
    "train.batch_size": 4,
}
# What `--narrow` has instead, for a CPU.
_NARROW = {
    "model.backbone.width": 16,
    "model.fpn.channels": 32,
    "model.rpn.pre_nms_top_n_train": 200,
    "model.rpn.post_nms_top_n_train": 200,
    "model.roi.samples_per_image": 64,
    "model.box_head.dense_channels": 64,
    "model.mask_head.convs": 2,
    "model.mask_head.channels": 32,
    "train.learning_rate": 2e-3,
}


def main(argv: list[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    config = get_config(options)
    options.out.mkdir(parents=True, exist_ok=True)
    trial = Trial(options, config)
    if "prepare" in options.parts:
        trial.prepare()
    if "ours" in options.parts:
        trial.train_ours()
    if "peer" in options.parts:
        trial.train_peer()
    if "evaluate" in options.parts:
        lines = list(trial.results())
        print(table(lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="has the folders train and val")
    parser.add_argument("--out", required=True, type=Path, help="of weights, losses and results")
    parser.add_argument("--peer-python", default="python3", help="has torch and torchvision")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--side", type=int, default=160, help="of the fitted images, pixels")
    parser.add_argument("--narrow", action="store_true", help="few channels, for a CPU")
    parser.add_argument(
        "--changes",
        nargs="*",
        default=["none", *CHANGES],
        help="one each, or several joined by +",
    )
    parser.add_argument("--parts", nargs="+", default=["prepare", "ours", "peer", "evaluate"])
    return parser


def get_config(options: argparse.Namespace) -> Config:
    """Returns the configuration of our side."""
    config = Config()
    for split in ("train", "val"):
        folder = dict(folder=str(options.data / split), class_name="nucleus")
        setattr(config.data, split, ConfigDict(folder))
    chosen = {"train.steps": options.steps, "data.buckets": ((options.side, options.side),)}
    set_values(config, _SETTINGS | (_NARROW if options.narrow else {}) | chosen)
    config.validate()
    return config


class Trial:
    """Both sides of the comparison; what is done lies in the folder `options.out`."""

    def __init__(self, options, config: Config):
        self.options, self.config = options, config
        self.val = datasets.load(config.data, "val")
        self.model = make_model(config.model, len(self.val.class_names))

    @cached_property
    def train(self) -> Dataset:
        return datasets.load(self.config.data, "train")

    def file(self, *name: str | int) -> Path:
        return self.options.out / "-".join(map(str, name))

    def order(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        with np.load(self.file("data.npz")) as data:
            count = int(data["train.count"])
        return side_by_side_data.order(
            seed, count, self.options.steps, self.config.train.batch_size
        )

    def prepare(self) -> None:
        """Writes the data as the peer reads them, and each seed's first weights."""
        if not (path := self.file("data.npz")).exists():
            save(path, arrays_of("train", self.train) | arrays_of("val", self.val))
        for seed in self.options.seeds:
            variables = jax.device_get(initial_variables(self.model, jax.random.key(seed)))
            state = export.torchvision_state(variables, self.config.model)
            save(self.file("start", f"{seed}.npz"), state)

    def variables(self, path: Path) -> dict:
        with np.load(path) as state:
            return import_state(dict(state), self.config.model, self.model.num_classes)

    def train_ours(self) -> None:
        """Trains our detector once for each seed."""
        examples = [
            make_example(record, self.train, self.config.data)[0] for record in self.train.records
        ]
        for example in examples:  # most have few objects
            cut(example, int(example["gt_valid"].sum()))
        mesh = sharding.make_mesh(self.config.mesh)
        params = abstract_variables(self.model)["params"]
        stage = make_stages(self.config, self.model, params, mesh)[0]
        for seed in self.options.seeds:
            if (path := self.file("ours", f"{seed}.npz")).exists():
                continue
            variables = self.variables(self.file("start", f"{seed}.npz"))
            state = sharding.make_state(
                lambda variables: create(variables, stage.optimizer), mesh, variables
            )
            log = []
            for images, flips in zip(*self.order(seed), strict=True):
                batch = batch_of(
                    [flipped(examples[i]) if flip else examples[i]
                     for i, flip in zip(images, flips, strict=True)],
                    self.config.data.max_instances,
                )  # fmt: skip
                state, metrics = stage.train_step(state, sharding.shard_batch(batch, mesh))
                log.append(metrics)
            trained = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
            save(path, export.torchvision_state(trained, self.config.model))
            losses = [{k: float(v) for k, v in metrics.items()} for metrics in log]
            self.file("ours", f"{seed}.json").write_text(json.dumps(losses))

    def train_peer(self) -> None:
        """Trains torchvision's detector for each change and seed, and evaluates all weights."""
        runs = []
        for seed in self.options.seeds:
            images, flips = self.order(seed)
            trained = dict(order=images.tolist(), flips=flips.tolist())
            runs += [
                self._run(seed, change, self.file("start", f"{seed}.npz"), **trained)
                for change in self.options.changes
            ]
            if (ours := self.file("ours", f"{seed}.npz")).exists():
                runs.append(self._run(seed, "ours", ours, order=[], flips=[]))
        runs = [run for run in runs if not Path(run["found"]).exists()]
        job = {
            "data": str(self.file("data.npz")),
            "builder": export.builder(self.config.model, self.config.data, self.model.num_classes),
            "optimizer": {
                "lr": self.config.train.learning_rate,
                "weight_decay": self.config.train.weight_decay,
            },
            "side": self.options.side,
            "runs": runs,
        }
        name = "_".join(map(str, [*self.options.changes, *self.options.seeds]))
        path = self.file("job", f"{name}.json")
        path.write_text(json.dumps(job))
        subprocess.run([self.options.peer_python, str(_PEER), str(path)], check=True)

    def _run(self, seed: int, name: str, start: Path, **order) -> dict:
        changes = [] if name in ("none", "ours") else name.split("+")
        files = {
            key: str(self.file("peer", name, f"{seed}{end}"))
            for key, end in (("weights", ".npz"), ("losses", ".json"), ("found", "-found.npz"))
        }
        return dict(seed=seed, changes=changes, start=str(start), **files, **order)

    def results(self) -> Iterable[dict]:
        """Yields, and prints, the metrics of all weights by both evaluations."""
        predict = jax.jit(partial(self.model.apply, method="predict"))
        truth = coco_truth(self.val)
        for seed in self.options.seeds:
            weights = {"ours": self.file("ours", f"{seed}.npz")}
            for change in self.options.changes:
                weights[change] = self.file("peer", change, f"{seed}.npz")
            for name, path in weights.items():
                found = self.file("peer", name, f"{seed}-found.npz")
                for evaluator, results in (
                    (OURS, partial(self._by_us, predict, path)),
                    (PEER, partial(self._by_peer, found)),
                ):
                    if not (path if evaluator == OURS else found).exists():
                        continue
                    metrics = coco_metrics(truth, results())
                    line = {"seed": seed, "trained_by": name, "evaluated_by": evaluator}
                    line |= {key: round(metrics[key], 4) for key in METRICS}
                    print(json.dumps(line), flush=True)
                    yield line

    def _by_us(self, predict, path: Path) -> list[dict]:
        variables, results = jax.device_put(self.variables(path)), []
        for record in self.val.records:
            image, size = prepare_image(self.val.read_image(record), self.config.data)
            detections = jax.device_get(predict(variables, image[None], size[None])[0])
            original = np.array([record.height, record.width])
            names = self.val.class_names
            result = to_result(detections, 0, size, original, names)
            results += coco_results(result, record.image_id, self.val.category_ids)
        return results

    def _by_peer(self, path: Path) -> list[dict]:
        results = []
        with np.load(path) as found:
            for i, record in enumerate(self.val.records):
                labels = found[f"labels.{i}"]
                masks = np.unpackbits(found[f"masks.{i}"], axis=-1, count=record.width)
                result = Result(
                    boxes=found[f"boxes.{i}"],
                    scores=found[f"scores.{i}"],
                    classes=labels.astype(np.int32),
                    class_names=tuple(self.val.class_names[k - 1] for k in labels),
                    crops=tuple(MaskCrop(mask.astype(bool), 0, 0) for mask in masks),
                    height=record.height,
                    width=record.width,
                )
                results += coco_results(result, record.image_id, self.val.category_ids)
        return results


def table(lines: list[dict]) -> str:
    """Returns means, and differences to torchvision as it is with their standard errors."""
    values = {
        (line["trained_by"], line["evaluated_by"], line["seed"], key): 100 * line[key]
        for line in lines
        for key in METRICS
    }
    names = dict.fromkeys(line["trained_by"] for line in lines)
    rows = [
        "| trained by | evaluated by | seeds | box AP | against torchvision | mask AP | against "
        "torchvision |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        for evaluator in (OURS, PEER):
            seeds = sorted({s for n, e, s, _ in values if (n, e) == (name, evaluator)})
            if not seeds:
                continue
            cells = []
            for key in METRICS:
                ap = np.array([values[name, evaluator, s, key] for s in seeds])
                pairs = [s for s in seeds if ("none", evaluator, s, key) in values]
                less = np.array(
                    [
                        values[name, evaluator, s, key] - values["none", evaluator, s, key]
                        for s in pairs
                    ]
                )
                cells.append(f"{ap.mean():.2f}")
                error = less.std(ddof=1) / np.sqrt(len(less)) if len(less) > 1 else np.nan
                is_other = name != "none" and len(less)
                cells.append(f"{less.mean():+.2f} ± {error:.2f}" if is_other else "")
            who = {"ours": OURS, "none": PEER}.get(name, f"{PEER} with {name}")
            rows.append(f"| {who} | {evaluator} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
