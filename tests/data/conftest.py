"""Small datasets written where a test wants them."""

import json

import numpy as np
import pytest
from PIL import Image

SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]  # a polygon, of the box [10, 5, 20, 20]


@pytest.fixture
def write_coco(tmp_path):
    """Returns a function that writes a dataset in COCO's format and gives the reader's arguments.

    It has one grey image of 40 x 60 pixels (height x width) with the id 7, and the categories 3
    (cat) and 90 (dog), unless told otherwise. An annotation is what differs from a square cat.
    """

    def write(annotations=(), images=None, categories=None):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        if images is None:
            images = [dict(id=7, file_name="a.png", height=40, width=60)]
            Image.new("L", (60, 40), 128).save(folder / "a.png")
        base = dict(image_id=7, category_id=3, bbox=[10, 5, 20, 20], segmentation=SQUARE)
        content = dict(
            images=images,
            annotations=[base | dict(id=100 + i) | a for i, a in enumerate(annotations)],
            categories=categories or [dict(id=90, name="dog"), dict(id=3, name="cat")],
        )
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return dict(images=folder, annotations=path)

    return write


@pytest.fixture
def write_mask_folder(tmp_path):
    """Returns a function that writes one image folder with the given masks; gives the dataset's."""

    def write(name, masks, size=(20, 30)):
        root = tmp_path / "folders"
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        image = np.full((*size, 4), 255, np.uint8)
        Image.fromarray(image).save(root / name / "images" / f"{name}.png")
        for number, mask in enumerate(masks):
            Image.fromarray(mask).save(root / name / "masks" / f"{number}.png")
        return root

    return write


@pytest.fixture
def write_picture(tmp_path):
    """Returns a function that writes a picture into the test's folder and gives its path.

    It is grey, of 40 x 60 pixels (height x width), unless other pixels are given.
    """

    def write(name, pixels=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((40, 60), 128, np.uint8) if pixels is None else pixels
        Image.fromarray(pixels).save(path)
        return path

    return write
