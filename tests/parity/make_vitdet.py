"""Computes what Detectron2's ViTDet makes of noise: the pyramid, the heads, and gradients.

    python -m tests.parity.make_vitdet

Needs torch, timm and Detectron2, nothing of this project. README.md says what is stored. The model
is that of its configs/common/models/mask_rcnn_vitdet.py with few blocks and channels. The image is
larger than the one whose positions are stored, no square, and no multiple of the windows.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.config import instantiate
from torch import nn

from tests.parity import store, weights
from tests.parity.make_detectron2 import names_and_shapes

CLASSES, PYRAMID, WIDTH, DENSE, ROIS = 3, 16, 8, 24, 2
VIT = {
    "img_size": 64,  # of the relative positions: 4 x 4 patches
    "pretrain_img_size": 48,  # of the positions: 3 x 3
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "drop_path_rate": 0.0,
    "window_size": 3,
    "window_block_indexes": [0, 2],
}
SHAPE = (1, 3, 96, 128)  # of the normalised image: 6 x 8 patches
BOX_SHAPE, MASK_SHAPE = (ROIS, PYRAMID, 7, 7), (ROIS, PYRAMID, 4, 4)
LEVELS = ("p2", "p3", "p4", "p5", "p6")
STRIDES = {"p2": 4, "p3": 2}  # of the rows and columns that are stored
# Whole gradients of these of the backbone, of all others norms.
KEPT = (
    "backbone.net.pos_embed",
    "backbone.net.blocks.0.attn.rel_pos_h",
    "backbone.net.blocks.1.attn.rel_pos_h",
    "backbone.net.blocks.3.attn.rel_pos_w",
    "backbone.net.blocks.0.attn.qkv.bias",
    "backbone.simfp_2.1.weight",
    "backbone.simfp_3.0.bias",
)


def detector(seed: int, dtype: torch.dtype) -> tuple[nn.Module, list[tuple[str, list[int]]]]:
    """Returns the model with our weights, and their names and shapes."""
    config = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
    for name, value in VIT.items():
        setattr(config.backbone.net, name, value)
    config.backbone.out_channels = config.proposal_generator.head.in_channels = PYRAMID
    heads = config.roi_heads
    heads.num_classes = CLASSES
    heads.box_head.input_shape.channels = heads.mask_head.input_shape.channels = PYRAMID
    heads.box_head.conv_dims, heads.box_head.fc_dims = [WIDTH] * 4, [DENSE]
    heads.box_predictor.input_shape.channels = DENSE
    heads.mask_head.conv_dims = [WIDTH] * 5
    net = instantiate(config).eval()
    names = names_and_shapes(net)
    state = weights.detectron2_state(names, seed, CLASSES)
    net.load_state_dict({n: torch.from_numpy(x) for n, x in state.items()}, strict=False)
    return net.to(dtype), names


def computed(seed: int, dtype: torch.dtype) -> tuple[list, dict[str, np.ndarray]]:
    """Returns the names and shapes of the weights, and the results."""
    net, names = detector(seed, dtype)

    def noise(shape, number):
        return torch.from_numpy(weights.noise_image(shape, seed + number)).to(dtype)

    image = noise(SHAPE, 0)
    after: dict[str, torch.Tensor] = {}
    for i in (0, 1):  # with windows, and without
        net.backbone.net.blocks[i].register_forward_hook(
            lambda *args, i=i: after.__setitem__(f"block_{i}", args[-1].permute(0, 3, 1, 2))
        )
    c4 = net.backbone.net(image)["last_feat"]
    pyramid = net.backbone(image)
    out = {name: x[:, ::4] for name, x in after.items()} | {"c4": c4[:, ::2]} | pyramid
    rpn = net.proposal_generator.rpn_head(list(pyramid.values()))
    out["rpn_logits.p4"], out["rpn_deltas.p5"] = rpn[0][2], rpn[1][3]
    heads = net.roi_heads
    boxes = heads.box_predictor(heads.box_head(noise(BOX_SHAPE, 1)))
    out["class_logits"], out["box_deltas"] = boxes
    # Layer by layer: as a whole it pools, or computes its loss.
    out["mask_logits"] = heads.mask_head.layers(noise(MASK_SHAPE, 2))
    # Half the mean square of each level: its gradient is the level itself.
    loss = sum((x**2).mean() / 2 for x in pyramid.values())
    parameters = {n: p for n, p in net.named_parameters() if n.startswith("backbone.")}
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for name, stride in STRIDES.items():
        out[name] = out[name][:, :, ::stride, ::stride]
    values = {name: x.detach().numpy() for name, x in out.items()}
    values |= {f"gradient.{n}": g.numpy() for n, g in zip(parameters, gradients, strict=True)}
    return names, values


def main() -> None:
    """Writes the values."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    arguments = parser.parse_args()
    names, exact = computed(arguments.seed, torch.float64)
    _, rounded = computed(arguments.seed, torch.float32)
    errors = store.rounding_error(exact, rounded)
    gradients = [n for n in exact if n.startswith("gradient.")]
    kept = [n for n in exact if n not in gradients or n.removeprefix("gradient.") in KEPT]
    values = {name: exact[name] for name in kept}
    values["gradient_norms"] = np.array([np.linalg.norm(exact[n]) for n in gradients])
    errors["gradient_norms"] = float(max(np.linalg.norm(exact[n] - rounded[n]) for n in gradients))
    meta = {
        "seed": arguments.seed,
        "image_shape": SHAPE,
        "box_shape": BOX_SHAPE,
        "mask_shape": MASK_SHAPE,
        "classes": CLASSES,
        "strides": STRIDES,
        "names_and_shapes": names,
        "gradient_names": [n.removeprefix("gradient.") for n in gradients],
        "versions": {"torch": torch.__version__},
        "float32_vs_float64_max_abs": {name: errors[name] for name in values},
    }
    store.write(arguments.out / "vitdet_d2.npz", meta, store.single(values))


if __name__ == "__main__":
    main()
