"""Every part of a step compiled for chips that are not there: slow forms must not come back.

They take minutes and the compilers of the extra `plan`: `python -m pytest tests/plan -m slow`.
"""

import jax
import pytest

from benchmarks import detector, parts
from benchmarks.step_parts import Parts
from maskrcnn_jax.plan import targets

KINDS = ("sort", "scatter", "loop of unknown length", "large gather")
# How many instructions of each of these kinds a part may have, one image of 512x512. Whoever makes
# a form better lowers its numbers; a part that is missing has not been compiled for that chip yet.
MOST: dict[str, dict[str, tuple[int, int, int, int]]] = {
    "h100": {
        "features": (0, 0, 0, 0),
        "features_gradient": (0, 0, 0, 0),
        "rpn_head": (0, 0, 0, 0),
        "rpn_head_gradient": (0, 0, 0, 0),
        "proposals": (6, 0, 1, 0),
        "anchor_targets": (0, 0, 0, 0),
        "rpn_losses_gradient": (0, 0, 0, 0),
        "roi_sampling": (2, 0, 0, 0),
        "box_pooling": (0, 0, 0, 0),
        "box_pooling_gradient": (0, 1, 0, 0),
        "box_head_gradient": (0, 0, 0, 0),
        "mask_pooling": (0, 0, 0, 0),
        "mask_pooling_gradient": (0, 1, 0, 0),
        "mask_targets": (0, 0, 0, 0),
        "mask_head_gradient": (0, 0, 0, 0),
        "proposals_predict": (6, 0, 1, 0),
        "box_pooling_predict": (0, 0, 0, 0),
        "detections_predict": (1, 2, 2, 0),
        "mask_head_predict": (0, 0, 0, 0),
    },
    "v5e": {
        "rpn_head": (0, 0, 0, 0),
        "rpn_head_gradient": (0, 0, 0, 0),
        "proposals": (6, 0, 1, 0),
        "anchor_targets": (0, 0, 1, 0),
        "rpn_losses_gradient": (0, 0, 0, 0),
        "roi_sampling": (2, 0, 0, 0),
        "box_pooling": (0, 0, 0, 0),
        "box_pooling_gradient": (0, 0, 0, 0),
        "box_head_gradient": (0, 0, 0, 0),
        "mask_pooling": (0, 0, 0, 0),
        "mask_pooling_gradient": (0, 0, 0, 0),
        "mask_targets": (0, 0, 0, 0),
        "mask_head_gradient": (0, 0, 0, 0),
        "proposals_predict": (6, 0, 1, 0),
        "box_pooling_predict": (0, 0, 0, 0),
        "detections_predict": (2, 2, 2, 0),
        "mask_head_predict": (0, 0, 0, 0),
    },
}


@pytest.fixture(scope="module", params=MOST)
def chip(request):
    """A target, its device, and the parts to compile for it."""
    target = targets.parse(request.param)
    try:
        targets.check_installed(target.chip.platform)
    except ValueError as error:
        pytest.skip(str(error))
    config = detector.get_config(tiny=False)
    config.model.dtype = "bfloat16"
    # A program for a chip that is not there cannot be read back from the cache: none is kept.
    before = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    yield target, targets.devices(target)[0], Parts(config, 1, 512, 512)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


@pytest.mark.slow
@pytest.mark.parametrize("name", Parts.names)
def test_no_slow_form_has_come_back(chip, name):
    target, device, all_parts = chip
    if name not in MOST[target.name]:
        pytest.skip(f"nobody has counted yet what {name} has on {target.name}")
    found = parts.facts(all_parts.named(name), target, device, None)
    most = dict(zip(KINDS, MOST[target.name][name], strict=True))
    more = {kind: found[kind] for kind in KINDS if found[kind] > most[kind]}
    assert more == {}, f"at most {most} were there before"
