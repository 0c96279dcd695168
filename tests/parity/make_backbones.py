"""Computes the feature maps and gradients of other projects' backbones.

    python -m tests.parity.make_backbones timm_convnext
    python -m tests.parity.make_backbones torchvision_resnext
    python -m tests.parity.make_backbones detectron2_resnext

Needs torch, and timm, torchvision or Detectron2, nothing of this project. README.md says what is
stored. The networks are their own classes with few blocks and channels.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.parity import store, weights

SHAPE = (1, 3, 64, 96)  # of the normalised image, which is noise
FEATURES = ("c2", "c3", "c4", "c5")
GROUPS, PER_GROUP, WIDTH = 4, 16, 16  # of the ResNeXts; 4 channels in each group of the first stage
BLOCKS, CHANNELS = (1, 1, 4, 1), (8, 16, 24, 32)  # of the ConvNeXt

Names = list[tuple[str, list[int]]]
Maps = Callable[[torch.Tensor], list[torch.Tensor]]


def timm_convnext() -> tuple[nn.Module, Maps]:
    """A ConvNeXt as `timm.create_model("convnext_tiny")` makes it, and what computes its maps."""
    from timm.models.convnext import ConvNeXt

    net = ConvNeXt(depths=BLOCKS, dims=CHANNELS, num_classes=1)

    def maps(x):
        x, found = net.stem(x), []
        for stage in net.stages:
            x = stage(x)
            found.append(x)
        return found

    return net, maps


def torchvision_resnext() -> tuple[nn.Module, Maps]:
    """A ResNeXt-50 as `torchvision.models.resnext50_32x4d` makes it, and its maps."""
    from torchvision.models.resnet import Bottleneck, ResNet

    class Narrow(ResNet):
        def _make_layer(self, block, planes, *args, **kwargs):
            if planes == 64:
                self.inplanes = WIDTH
                self.conv1 = nn.Conv2d(3, WIDTH, 7, stride=2, padding=3, bias=False)
                self.bn1 = self._norm_layer(WIDTH)
            return super()._make_layer(block, planes * WIDTH // 64, *args, **kwargs)

    net = Narrow(Bottleneck, [3, 4, 6, 3], groups=GROUPS, width_per_group=PER_GROUP)

    def maps(x):
        x, found = net.maxpool(net.relu(net.bn1(net.conv1(x)))), []
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = layer(x)
            found.append(x)
        return found

    return net, maps


def detectron2_resnext() -> tuple[nn.Module, Maps]:
    """The backbone of `mask_rcnn_X_101_32x8d_FPN_3x`, of 50 layers, and its maps."""
    from detectron2 import model_zoo
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone.resnet import build_resnet_backbone

    config = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml")
    resnets = config.MODEL.RESNETS
    resnets.DEPTH, resnets.STEM_OUT_CHANNELS, resnets.RES2_OUT_CHANNELS = 50, WIDTH, 4 * WIDTH
    # Its channels of a group are those of the narrow network, torchvision's those of a wide one.
    resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP = GROUPS, PER_GROUP * WIDTH // 64
    config.MODEL.BACKBONE.FREEZE_AT = 0
    net = build_resnet_backbone(config, ShapeSpec(channels=3))
    return net, lambda x: list(net(x).values())


def computed(
    make: Callable[[], tuple[nn.Module, Maps]], seed: int, dtype: torch.dtype
) -> tuple[Names, dict[str, np.ndarray]]:
    """Returns the names and shapes of the weights, and the maps and gradients of a scalar loss."""
    net, maps = make()
    names = [(name, list(x.shape)) for name, x in net.state_dict().items()]
    state = weights.backbone_state(names, seed)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    net.eval().to(dtype)
    image = torch.from_numpy(weights.noise_image(SHAPE, seed)).to(dtype)
    found = maps(image)
    # Half the mean square of each map: its gradient is the map itself.
    loss = sum((x**2).mean() / 2 for x in found)
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    values = {name: x.detach().numpy() for name, x in zip(FEATURES, found, strict=True)}
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            values[f"gradient.{name}"] = gradient.numpy()
    return names, values


def main() -> None:
    """Writes the values of the backbone given."""
    kinds = {f.__name__: f for f in (timm_convnext, torchvision_resnext, detectron2_resnext)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "values")
    arguments = parser.parse_args()
    names, exact = computed(kinds[arguments.kind], arguments.seed, torch.float64)
    _, rounded = computed(kinds[arguments.kind], arguments.seed, torch.float32)
    errors = store.rounding_error(exact, rounded)
    # Whole gradients of the grouped convolutions of the first and the last stage, of others norms.
    kept = [n for n in exact if n in FEATURES or _is_kept(n)]
    gradients = [n for n in exact if n.startswith("gradient.")]
    values = {name: exact[name] for name in kept}
    values["gradient_norms"] = np.array([np.linalg.norm(exact[n]) for n in gradients])
    errors["gradient_norms"] = float(max(np.linalg.norm(exact[n] - rounded[n]) for n in gradients))
    meta = {
        "seed": arguments.seed,
        "image_shape": SHAPE,
        "names_and_shapes": names,
        "gradient_names": [n.removeprefix("gradient.") for n in gradients],
        "versions": {"torch": torch.__version__},
        "float32_vs_float64_max_abs": {name: errors[name] for name in values},
    }
    store.write(arguments.out / f"backbone_{arguments.kind}.npz", meta, store.single(values))


def _is_kept(name: str) -> bool:
    kept = ("stages.0.blocks.0.conv_dw.weight", "stages.3.blocks.0.gamma", "stem.0.weight",
            "stages.2.downsample.1.weight", "layer1.0.conv2.weight", "res2.0.conv2.weight",
            "layer2.0.conv2.weight", "res3.0.conv2.weight")  # fmt: skip
    return name.removeprefix("gradient.") in kept


if __name__ == "__main__":
    main()
