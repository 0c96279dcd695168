"""The two forms of matching anchors against each other, to the bit, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops.anchor_matching import Rules, _all_pairs, _one_by_one, match_anchors

RULES = Rules(high=0.7, low=0.3, max_share=0.5)
FORMS = [_all_pairs, _one_by_one]

ANCHORS = np.float32(
    [
        [0, 0, 10, 10],
        [0, 0, 10, 8],
        [0, 4, 10, 14],
        [40, 40, 50, 50],
        [60, 60, 70, 70],
        [61, 60, 71, 70],
        [0, 0, 0, 0],
    ]
)


def _run(form, anchors, boxes, is_object, is_crowd, rules=RULES):
    run = jax.jit(form, static_argnames="rules")
    label, matched = run(anchors, boxes, is_object, is_crowd, rules=rules)
    assert label.dtype == jnp.int32
    return np.asarray(label), np.asarray(matched)


@pytest.mark.parametrize("form", FORMS)
def test_by_hand(form):
    boxes = np.float32([[0, 0, 10, 10], [66, 60, 76, 70], [38, 38, 52, 52], [0, 0, 0, 0]])
    is_object, is_crowd = (
        np.array([True, True, False, False]),
        np.array([False, False, True, False]),
    )
    label, matched = _run(form, ANCHORS, boxes, is_object, is_crowd)
    # Overlaps with the first object 1, 0.8 and 0.43; the anchor inside the crowd is left out; the
    # second object's best, 1 / 3, makes an anchor positive though it is low.
    np.testing.assert_array_equal(label, [1, 1, -1, -1, 0, 1, 0])
    first, second, nobody = boxes[0], boxes[1], np.zeros(4)
    np.testing.assert_array_equal(matched, [first, first, *[nobody] * 3, second, nobody])


@pytest.mark.parametrize("form", FORMS)
def test_ties_are_all_the_best_and_the_first_object_wins(form):
    anchors = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [8, 0, 22, 10]])
    boxes = np.float32([[10, 0, 20, 10], [8, 0, 22, 10], [8, 0, 22, 10]])
    label, matched = _run(form, anchors[[2, 2, 0]], boxes, np.ones(3, bool), np.zeros(3, bool))
    np.testing.assert_array_equal(label, [1, 1, 0])
    np.testing.assert_array_equal(matched[:2], boxes[[1, 1]])


def _scene(seed, objects=9, slots=12, number=700):
    rng = np.random.default_rng(seed)

    def boxes(count, smallest):
        centre = rng.random((count, 2)) * 200
        half = np.exp(rng.uniform(smallest, 4.5, (count, 2))) / 2
        return np.concatenate([centre - half, centre + half], axis=-1).round(1).astype(np.float32)

    used = rng.permutation(slots) < objects
    is_crowd = used & (rng.random(slots) < 0.3)
    return boxes(number, 2.0), boxes(slots, 1.0), used & ~is_crowd, is_crowd


@pytest.mark.parametrize("seed", range(8))
def test_forms_are_the_same_to_the_bit(seed):
    scene = _scene(seed, objects=(0, 1, 9, 12)[seed % 4], number=(700, 1024)[seed % 2])
    found = [_run(form, *scene) for form in FORMS]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    if seed % 4 > 1:
        assert set(found[0][0]) == {-1, 0, 1}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -1e30])
def test_what_empty_slots_hold_does_not_matter(form, poison):
    anchors, boxes, is_object, is_crowd = _scene(3)
    expected = _run(form, anchors, boxes, is_object, is_crowd)
    boxes = np.where((is_object | is_crowd)[:, None], boxes, np.float32(poison))
    for ours, reference in zip(
        _run(form, anchors, boxes, is_object, is_crowd), expected, strict=True
    ):
        np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize("form", FORMS)
def test_objects_that_are_not_finite_match_nothing(form):
    anchors, boxes, is_object, is_crowd = _scene(4)
    boxes[np.flatnonzero(is_object)[:3]] = [[np.nan] * 4, [0, 0, np.inf, np.inf], [-np.inf] * 4]
    label, matched = _run(form, anchors, boxes, is_object, is_crowd)
    assert np.isfinite(matched).all()
    is_object[np.flatnonzero(is_object)[:3]] = False
    np.testing.assert_array_equal(label, _run(form, anchors, boxes, is_object, is_crowd)[0])


def test_each_kind_of_device_has_its_form():
    traced = jax.jit(match_anchors, static_argnames="rules").trace(*_scene(0), rules=RULES)
    has_pairs = {
        platform: "tensor<12x700xf32>" in traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    assert has_pairs == {"cpu": False, "tpu": False, "cuda": True}


def test_arrays_of_numpy_need_no_jit():
    scene = _scene(9)
    for ours, reference in zip(match_anchors(*scene, RULES), _run(_all_pairs, *scene), strict=True):
        np.testing.assert_array_equal(ours, reference)


def test_images_of_a_batch_have_numbers_of_their_own():
    scenes = [_scene(seed, objects) for seed, objects in ((5, 2), (6, 12), (7, 0))]
    anchors = scenes[0][0]
    batch = [np.stack(arrays) for arrays in zip(*(scene[1:] for scene in scenes), strict=True)]
    found = jax.vmap(lambda *image: match_anchors(anchors, *image, RULES))(*batch)
    for image, scene in enumerate(scenes):
        expected = _run(_all_pairs, anchors, *scene[1:])
        for ours, reference in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[image], reference)
