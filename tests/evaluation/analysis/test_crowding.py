"""AP by how crowded an image is."""

import pytest

from maskrcnn_jax.evaluation.analysis.crowding import GROUPS, crowd_index, crowding_table
from maskrcnn_jax.evaluation.coco_metrics import coco_metrics
from tests.evaluation.analysis import made


def test_the_index_by_hand():
    assert crowd_index([made.square(0), made.square(50)]) == 0
    # 10 of 20 columns of each lie in the other.
    assert crowd_index([made.square(0), made.square(10)]) == pytest.approx(0.5)
    # The small one is within the large one: 100 of 1600 pixels, and 100 of 100.
    pair = [made.square(0, side=40), made.square(10, 10, side=10)]
    assert crowd_index(pair) == pytest.approx((100 / 1600 + 1) / 2)


def test_images_are_measured_in_their_group():
    objects = [made.square(0, image=1), made.square(50, image=1)]
    objects += [made.square(0, image=2), made.square(10, image=2)]
    objects += [made.square(0, image=3), made.square(1, image=3), made.square(2, image=3)]
    truth = made.truth(objects, images=4)
    found = [{**entry, "score": 0.5} for entry in objects[:2]]
    found += [made.square(100, image=2, score=0.9), made.square(0, image=2, score=0.8)]
    for kind, table in crowding_table(truth, found, (1, 10, 100)).items():
        assert list(table) == list(GROUPS), kind
        assert [row["images"] for row in table.values()] == [1, 1, 1]  # the fourth has no object
        assert table["apart"]["AP"] == 1
        assert table["some"]["AP50"] == pytest.approx(0.5 * 51 / 101, abs=1e-4)
        assert table["crowded"]["AP"] == 0
    nothing = crowding_table(made.truth([], images=2), [], (1, 10, 100))
    assert nothing["segm"]["apart"] == {"images": 0, "AP": -1, "AP50": -1, "AP75": -1}


def test_one_group_of_all_images_has_the_ap_of_all():
    truth, found = made.random_set(3, images=1, crowds=2)
    table = crowding_table(truth, found, (1, 10, 100))["segm"]
    (filled,) = [row for row in table.values() if row["images"] == len(truth["images"])]
    assert filled["AP"] == pytest.approx(coco_metrics(truth, found)["segm/AP"], abs=1e-4)
