"""What both sides are given, and the table of results. Training itself needs torchvision."""

import numpy as np

from benchmarks import side_by_side, side_by_side_data


def test_every_image_comes_once_before_any_comes_again():
    images, flips = side_by_side_data.order(3, count=10, steps=5, batch=4)
    assert sorted(images.ravel()[:10]) == sorted(images.ravel()[10:]) == list(range(10))
    again = side_by_side_data.order(3, count=10, steps=5, batch=4)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(flips, again[1])
    assert (side_by_side_data.order(4, 10, 5, 4)[0] != images).any()
    assert 0 < flips.sum() < flips.size


def test_flipped_twice_is_the_same_and_once_a_mirror_image():
    rng = np.random.default_rng(0)
    example = {
        "image": rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),
        "image_size": np.float32([6, 5]),
        "gt_boxes": np.float32([[1, 2, 4, 3]]),
        "gt_masks": rng.integers(0, 256, (1, 4, 4), dtype=np.uint8),
    }
    once = side_by_side_data.flipped(example)
    np.testing.assert_array_equal(once["image"][:, :5], example["image"][:, 4::-1])
    np.testing.assert_array_equal(once["image"][:, 5:], example["image"][:, 5:])  # the padding
    np.testing.assert_array_equal(once["gt_boxes"], [[1, 2, 4, 3]])
    np.testing.assert_array_equal(once["gt_masks"], example["gt_masks"][..., ::-1])
    twice = side_by_side_data.flipped(once)
    for name, array in example.items():
        np.testing.assert_array_equal(twice[name], array)


def test_a_batch_has_as_many_slots_for_each_image():
    examples = [{"image": np.full((2, 2, 3), n), "gt_boxes": np.full((n, 4), 7.0)} for n in (1, 3)]
    batch = side_by_side_data.batch_of(examples, slots=4)
    assert batch["image"].shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(batch["gt_boxes"][..., 0], [[7, 0, 0, 0], [7, 7, 7, 0]])


def test_the_table_has_means_and_differences_of_the_same_seeds():
    def line(name, seed, box, mask):
        aps = {"bbox/AP": box, "segm/AP": mask}
        return {"seed": seed, "trained_by": name, "evaluated_by": "maskrcnn_jax"} | aps

    lines = [line("ours", 0, 0.3, 0.2), line("ours", 1, 0.32, 0.2), line("ours", 2, 0.9, 0.9)]
    lines += [line("none", 0, 0.29, 0.2), line("none", 1, 0.29, 0.2)]
    rows = side_by_side.table(lines).splitlines()
    assert rows[2].startswith("| maskrcnn_jax | maskrcnn_jax | 3 | 50.67 | +2.00 ± 1.00 |")
    assert rows[3] == "| torchvision | maskrcnn_jax | 2 | 29.00 |  | 20.00 |  |"
