"""The flags of predict.py: what is refused before a model is loaded, what is warned of."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.cli import predict
from maskrcnn_jax.predict.sources import Source
from tests.inference.tiny_model import tiny_predictor


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--outputs=xml"], "--outputs has 'xml'"),
        (["--scale=big"], "--scale is 'big'; expected auto or a factor"),
        (["--scale=nan"], "--scale is 'nan'"),
        (["--tta=flop"], "tta is 'flop'"),
        (["--tile=1"], "tile is 1"),
        (["--stages", "--tta=flip"], "leave out --tile and --tta"),
        (["--max_frames=0"], "--max_frames is 0"),
        (["--stages", "camera:0"], "not the frames of camera:0"),
        (["nowhere.png"], "nowhere.png does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(image, flags, said, capsys):
    assert predict.main([f"--workdir={image}", image, *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_dark_image_of_12_bits_is_told_once(tmp_path, capsys):
    sources = [Source("image", str(tmp_path / f"{name}.png"), name) for name in "abc"]
    Image.new("RGB", (64, 64)).save(sources[0].place)
    for source in sources[1:]:
        Image.fromarray(np.full((64, 64), 3500, np.uint16)).save(source.place)
    options = predict._parser().parse_intermixed_args(["--workdir=x"])
    settings = predict.settings(tiny_predictor(), options)
    for source in sources:
        settings.seen(source)
    (said,) = capsys.readouterr().err.splitlines()
    assert "b.png has 16 bits" in said
    assert "values from 3500 to 3500 of 65535, so 1 of 256 levels are left" in said
    assert "config.data.normalize=percentile" in said
