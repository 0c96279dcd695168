"""Words in the configuration: an unknown one ends the program before the first step."""

import jax
import pytest
from ml_collections import FrozenConfigDict

from maskrcnn_jax.config import get_config
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.models.options import OPTIONS, check_options


def test_the_default_configuration_passes():
    check_options(get_config().model)


@pytest.mark.parametrize("key", OPTIONS)
def test_an_unknown_word_is_refused(key):
    config = get_config().model
    for word in OPTIONS[key]:
        config.update_from_flattened_dict({key: word})
        check_options(config)
    config.update_from_flattened_dict({key: "other"})
    with pytest.raises(ValueError, match=f"model.{key} is 'other'.*{' or '.join(OPTIONS[key])}"):
        check_options(config)


def test_words_are_checked_where_the_model_is_made():
    config = get_config().model
    config.detections.classes = "any"  # what a training step never reads
    model = MaskRCNN(FrozenConfigDict(config), 3)
    with pytest.raises(ValueError, match=r"'any'.*all or best"):
        initial_variables(model, jax.random.key(0))
