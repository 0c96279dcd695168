"""What the tests against other projects' outputs share."""

import numpy as np

# The keys of our configuration that torchvision's settings, and the sizes of a fixture, are.
KEYS = {
    "anchor_sizes": ["anchors.sizes"],
    "rpn_pre_nms_top_n_train": ["rpn.pre_nms_top_n_train"],
    "rpn_pre_nms_top_n_test": ["rpn.pre_nms_top_n_eval"],
    "rpn_post_nms_top_n_train": ["rpn.post_nms_top_n_train"],
    "rpn_post_nms_top_n_test": ["rpn.post_nms_top_n_eval"],
    "box_detections_per_img": ["detections.max_per_image"],
    "canonical_scale": ["roi.canonical_size"],
    "width": ["backbone.width"],
    "pyramid": ["fpn.channels", "box_head.conv_channels", "mask_head.channels"],
    "dense": ["box_head.dense_channels"],
}


def matching_order(reference: np.ndarray, ours: np.ndarray, tolerance: float) -> np.ndarray:
    """For each reference box the index of the only box of ours that is equal to it."""
    assert len(ours) == len(reference)
    distance = np.abs(reference[:, None] - ours[None]).max(-1)
    order = distance.argmin(1)
    assert distance.min(1).max(initial=0) <= tolerance
    assert len(set(order)) == len(order)
    return order
