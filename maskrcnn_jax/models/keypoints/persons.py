"""COCO's keypoints of persons: names and skeleton of its annotations, sigmas of its evaluation."""

from typing import Any

NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

# By the numbers that the annotations have, which count from 1.
_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip

# Lin et al., cocodataset.org/#keypoints-eval; pycocotools' `Params.setKpParams`.
SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
    0.087, 0.087, 0.089, 0.089,
)  # fmt: skip

# Keys of `config.model.keypoints`.
PERSONS: dict[str, Any] = {
    "names": NAMES,
    "flip_pairs": tuple(
        (name, name.replace("left", "right")) for name in NAMES if name.startswith("left")
    ),
    "skeleton": tuple((NAMES[a - 1], NAMES[b - 1]) for a, b in _SKELETON),
    "sigmas": SIGMAS,
}
