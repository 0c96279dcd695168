"""The generated grains: what the reader of label images finds is what was drawn."""

import json

import cv2
import numpy as np
import pytest

from examples import grains
from maskrcnn_jax.data.formats import label_images


@pytest.fixture(scope="module", params=sorted(grains.DRAW))
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grains") / request.param
    grains.main([request.param, str(folder), "--train=2", "--val=1"])
    return request.param, folder


def test_every_grain_is_an_object(written):
    kind, folder = written
    classes = {"class_map": "classes.json"} if kind == "mineral" else {}
    for split, count in (("train", 2), ("val", 1)):
        found = label_images.read(folder / split, **classes)
        assert len(found.records) == count
        for record in found.records:
            labels = cv2.imread(str(folder / split / "masks" / f"{record.image_id}.png"), -1)
            assert len(record.boxes) == labels.max() > 20
            _, pieces = np.unique(labels[labels > 0], return_counts=True)
            assert len(pieces) == labels.max()
            assert pieces.min() >= 12
    assert set(found.class_names) == (set(grains.MINERALS) if classes else {"object"})


def test_grains_touch_and_images_are_as_they_say(written):
    kind, folder = written
    image, labels = (
        cv2.imread(str(folder / "train" / name / "0000.png"), -1) for name in ("images", "masks")
    )
    if kind == "ct":
        assert (image.dtype, image.shape) == (np.uint16, (256, 256))
        assert image[labels > 0].mean() > 1.5 * image[labels == 0].mean()
        assert len(np.unique(image)) > 10_000  # no 8 bits in 16
    else:
        assert (image.dtype, image.shape) == (np.uint8, (256, 256, 3))
        assert (labels == 0).mean() < 0.01
        names = json.loads((folder / "train" / "classes.json").read_text())
        assert set(names["0000"]) == {str(number) for number in range(1, labels.max() + 1)}
    # Within three pixels of a grain lies another one.
    near = [cv2.dilate((labels == n).astype("u1"), np.ones((7, 7))) > 0 for n in (5, 10, 15, 20)]
    assert sum(len(np.unique(labels[area])) > 2 for area in near) >= 2


def test_images_are_functions_of_seed_and_number():
    drawn = [grains.DRAW["ct"](np.random.default_rng([seed, 3]))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        grains.main(["ct", str(tmp_path)])
    assert "exists already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
