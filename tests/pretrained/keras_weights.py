"""Names and shapes of Keras weights as their projects publish them, and random weights for them.

Written from fchollet/deep-learning-models (resnet50.py), keras/applications/resnet.py and
matterport/Mask_RCNN (mrcnn/model.py); names are "layer/weight".
"""

import numpy as np

Shapes = dict[str, tuple[int, ...]]

# Letters of the blocks in stage 4; the other stages have as many blocks at any depth.
STAGE_4 = {50: "abcdef", 101: "abcdefghijklmnopqrstuvw"}
# Number of blocks in each stage.
STACKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def conv(name: str, size: int, channels: int, filters: int) -> Shapes:
    return {f"{name}/kernel": (size, size, channels, filters), f"{name}/bias": (filters,)}


def dense(name: str, channels: int, units: int) -> Shapes:
    return {f"{name}/kernel": (channels, units), f"{name}/bias": (units,)}


def norm(name: str, channels: int) -> Shapes:
    weights = ("gamma", "beta", "moving_mean", "moving_variance")
    return {f"{name}/{weight}": (channels,) for weight in weights}


def older_resnet(depth: int, width: int = 64) -> Shapes:
    """ResNet-50 of deep-learning-models, and its backbone in matterport's."""
    shapes = conv("conv1", 7, 3, width) | norm("bn_conv1", width)
    channels = width
    for stage, blocks in ((2, "abc"), (3, "abcd"), (4, STAGE_4[depth]), (5, "abc")):
        filters = width * 2 ** (stage - 2)
        for block in blocks:
            layers = [("2a", 1, channels, filters), ("2b", 3, filters, filters)]
            layers += [("2c", 1, filters, 4 * filters)]
            layers += [("1", 1, channels, 4 * filters)] if block == "a" else []
            for branch, size, inputs, outputs in layers:
                shapes |= conv(f"res{stage}{block}_branch{branch}", size, inputs, outputs)
                shapes |= norm(f"bn{stage}{block}_branch{branch}", outputs)
            channels = 4 * filters
    return shapes


def newer_resnet(depth: int, width: int = 64) -> Shapes:
    """ResNet50, ResNet101 and ResNet152 of keras.applications."""
    shapes = conv("conv1_conv", 7, 3, width) | norm("conv1_bn", width)
    channels = width
    for number, blocks in enumerate(STACKS[depth]):
        filters = width * 2**number
        for block in range(1, blocks + 1):
            layers = {1: (1, channels, filters), 2: (3, filters, filters)}
            layers[3] = (1, filters, 4 * filters)
            if block == 1:
                layers[0] = (1, channels, 4 * filters)
            for layer, (size, inputs, outputs) in layers.items():
                name = f"conv{number + 2}_block{block}_{layer}"
                shapes |= conv(f"{name}_conv", size, inputs, outputs)
                shapes |= norm(f"{name}_bn", outputs)
            channels = 4 * filters
    return shapes


def matterport(
    depth: int,
    num_classes: int,
    width: int = 64,
    pyramid: int = 256,
    rpn: int = 512,
    fc: int = 1024,
    mask: int = 256,
) -> Shapes:
    """Mask R-CNN of `num_classes`, the background among them, with 3 anchors a cell."""
    shapes = older_resnet(depth, width)
    for level in (2, 3, 4, 5):
        shapes |= conv(f"fpn_c{level}p{level}", 1, width * 2**level, pyramid)
        shapes |= conv(f"fpn_p{level}", 3, pyramid, pyramid)
    shapes |= conv("rpn_conv_shared", 3, pyramid, rpn)
    shapes |= conv("rpn_class_raw", 1, rpn, 2 * 3) | conv("rpn_bbox_pred", 1, rpn, 4 * 3)
    shapes |= conv("mrcnn_class_conv1", 7, pyramid, fc) | norm("mrcnn_class_bn1", fc)
    shapes |= conv("mrcnn_class_conv2", 1, fc, fc) | norm("mrcnn_class_bn2", fc)
    shapes |= dense("mrcnn_class_logits", fc, num_classes)
    shapes |= dense("mrcnn_bbox_fc", fc, 4 * num_classes)
    for i in (1, 2, 3, 4):
        shapes |= conv(f"mrcnn_mask_conv{i}", 3, pyramid if i == 1 else mask, mask)
        shapes |= norm(f"mrcnn_mask_bn{i}", mask)
    shapes |= {"mrcnn_mask_deconv/kernel": (2, 2, mask, mask), "mrcnn_mask_deconv/bias": (mask,)}
    return shapes | conv("mrcnn_mask", 1, mask, num_classes)


# Factors of kernels: what has no norm behind it would grow from layer to layer, or take classes and
# boxes to where nothing is left to compare.
GAIN = {
    "conv1": 1 / 70,  # pixels are of that size
    "conv1_conv": 1 / 70,
    "rpn_class_raw": 0.4,
    "rpn_bbox_pred": 0.4,
    "mrcnn_class_logits": 1.5,
    "mrcnn_bbox_fc": 0.5,
} | {f"fpn_{name}": 0.5 for name in ("c2p2", "c3p3", "c4p4", "c5p5", "p2", "p3", "p4", "p5")}


def random_weights(shapes: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights with which activations stay about 1 and every array is felt, an epsilon too."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        layer, weight = name.split("/")
        if weight == "kernel":
            fan_in = shape[-1] if layer == "mrcnn_mask_deconv" else np.prod(shape[:-1])
            array = rng.standard_normal(shape) * np.sqrt(2 / fan_in) * GAIN.get(layer, 1)
        elif weight == "gamma":
            array = rng.uniform(0.05, 0.15, shape)
            array *= 0.4 if layer.endswith(("branch2c", "_3_bn")) else 1  # what blocks add up
        elif weight == "moving_variance":
            array = rng.uniform(0.005, 0.02, shape)
        else:
            array = 0.3 * rng.standard_normal(shape)
        weights[name] = array.astype(np.float32)
    return weights
