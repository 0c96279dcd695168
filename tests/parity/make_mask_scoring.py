"""Computes what the authors' MaskIoU head gives, and is trained for, on given RoIs.

    python -m tests.parity.make_mask_scoring CHECKOUT

CHECKOUT is zjhuang22/maskscoring_rcnn at commit 8f1c8cf. Of it the files of the head, of its loss
and of its targets are run as they are, without what it compiles. README.md says what is stored.
"""

import argparse
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch

from tests.models.mask_scoring.given import CLASSES, ROIS, inputs, weights
from tests.parity import store

LABELS = (2, 1, 3, 3, 1)
RATIOS = (1.0, 0.5, 0.8, 0.25, 1.0)  # fractions of the objects inside the RoIs
EVERY, MOST = 97, 200  # of a gradient every 97th value is stored, the first 200 of these


def original(checkout: Path) -> types.SimpleNamespace:
    """Returns the authors' modules, with PyTorch's layers in the place of their own."""
    root = checkout / "maskrcnn_benchmark"
    nothing = types.SimpleNamespace()
    layers = dict(Conv2d=torch.nn.Conv2d, ConvTranspose2d=torch.nn.ConvTranspose2d)
    layers |= dict(smooth_l1_loss=nothing, l2_loss=_loaded(root / "layers/l2_loss.py").l2_loss)
    _stand_in("maskrcnn_benchmark.layers", **layers)
    _stand_in("maskrcnn_benchmark.modeling.matcher", Matcher=nothing)
    _stand_in("maskrcnn_benchmark.structures.boxlist_ops", boxlist_iou=nothing)
    _stand_in("maskrcnn_benchmark.modeling.utils", cat=torch.cat)
    _stand_in("pycocotools.mask")
    heads = root / "modeling/roi_heads"
    return types.SimpleNamespace(
        features=_loaded(heads / "maskiou_head/roi_maskiou_feature_extractors.py"),
        predictors=_loaded(heads / "maskiou_head/roi_maskiou_predictors.py"),
        loss=_loaded(heads / "maskiou_head/loss.py"),
        targets=_loaded(heads / "mask_head/loss.py"),
    )


def _stand_in(name: str, **contents) -> None:
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(parts[i - 1]))
    sys.modules[name].__dict__.update(contents)


def _loaded(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def computed(code, given, state, dtype: torch.dtype) -> dict[str, np.ndarray]:
    box_head = types.SimpleNamespace(NUM_CLASSES=CLASSES + 1)
    config = types.SimpleNamespace(MODEL=types.SimpleNamespace(ROI_BOX_HEAD=box_head))
    extractor = code.features.MaskIoUFeatureExtractor(config)
    predictor = code.predictors.MaskIoUPredictor(config)
    for module in (extractor, predictor):
        module.load_state_dict({n: torch.from_numpy(state[n]) for n in module.state_dict()})
        module.to(dtype)
    features, logits, masks = (
        torch.from_numpy(given[name]).to(dtype) for name in ("features", "logits", "masks")
    )
    features.requires_grad_()
    logits.requires_grad_()
    labels = torch.tensor(LABELS)
    evaluator = code.targets.MaskRCNNLossComputation(None, 28, maskiou_on=True)
    ratios = torch.tensor(RATIOS, dtype=dtype)
    evaluator.prepare_targets = lambda *_: ([labels], [masks], [ratios])
    of_classes = logits[:, None].expand(-1, CLASSES + 1, -1, -1)
    _, selected, _, targets = evaluator(None, of_classes, None)
    ious = predictor(extractor(features, selected))
    loss = code.loss.MaskIoULossComputation(1.0)(labels, ious, targets)
    loss.backward()
    out = {"ious": ious[range(ROIS), labels], "targets": targets, "loss": loss}
    out |= {"gradient.features": features.grad, "gradient.logits": logits.grad}
    for module in (extractor, predictor):
        out |= {f"gradient.{name}": p.grad for name, p in module.named_parameters()}
    out = {name: value.detach().numpy() for name, value in out.items()}
    return {n: x.ravel()[::EVERY] if n.startswith("gradient") else x for n, x in out.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    args = parser.parse_args()
    code, given, state = original(args.checkout), inputs(args.seed), weights(args.seed)
    exact, rounded = (computed(code, given, state, t) for t in (torch.float64, torch.float32))
    few = {name: x[:MOST] if x.ndim else x for name, x in exact.items()}
    meta = {
        "seed": args.seed,
        "classes": CLASSES,
        "labels": LABELS,
        "ratios": RATIOS,
        "every": EVERY,
        "versions": {"maskscoring_rcnn": "8f1c8cf", "torch": torch.__version__},
        "float32_vs_float64_max_abs": store.rounding_error(exact, rounded),
    }
    store.write(args.out / "mask_scoring.npz", meta, store.single(few))
    print({name: exact[name].tolist() for name in ("ious", "targets", "loss")})


if __name__ == "__main__":
    main()
