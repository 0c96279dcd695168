"""Weights among new parameters, on trees small enough to work out by hand."""

import numpy as np
import pytest

from maskrcnn_jax.class_names import matching
from maskrcnn_jax.models.config import PARTS
from maskrcnn_jax.pretrained.merge import check_fit, classes_line, merged


def _variables(num_classes, first, inputs=2, width=3):
    """Variables with every kind of array; the numbers count up from `first`."""
    rows = num_classes + 1

    def array(*shape):
        nonlocal first
        first += 1000
        return np.arange(first, first + np.prod(shape), dtype=np.float32).reshape(shape)

    return {
        "params": {
            "backbone": {"stem": {"kernel": array(width)}},
            "box_head": {
                "dense_0": {"kernel": array(4, inputs)},
                "class_logits": {"kernel": array(inputs, rows), "bias": array(rows)},
                "box_deltas": {"kernel": array(inputs, 4 * rows), "bias": array(4 * rows)},
            },
            "mask_head": {"mask_logits": {"kernel": array(inputs, rows), "bias": array(rows)}},
        },
        "batch_stats": {"backbone": {"stem": {"mean": array(width)}}},
    }


def test_names_match_exactly_and_then_without_case():
    assert matching(("Cat", "dog", "cow"), ("cat", "Dog", "dog", "Cat")) == [3, 2, None]
    assert matching(("CAT",), ("dog", "Cat", "cat")) == [1]
    assert matching((), ("a",)) == []


def test_rows_of_shared_classes_and_of_the_background_are_kept():
    new, given = _variables(3, 0), _variables(2, 50_000)
    result = merged(new, given, PARTS, ("bird", "Dog", "fish"), ("cat", "dog"))
    head, ours, theirs = (tree["params"]["box_head"] for tree in (result, new, given))
    for name in ("kernel", "bias"):
        found, fresh, source = (tree["class_logits"][name] for tree in (head, ours, theirs))
        np.testing.assert_array_equal(found[..., 0], source[..., 0])  # background
        np.testing.assert_array_equal(found[..., 2], source[..., 2])  # dog is their second
        np.testing.assert_array_equal(found[..., [1, 3]], fresh[..., [1, 3]])
        found, fresh, source = (tree["box_deltas"][name] for tree in (head, ours, theirs))
        np.testing.assert_array_equal(found[..., 8:12], source[..., 8:12])
        np.testing.assert_array_equal(found[..., :4], source[..., :4])
        np.testing.assert_array_equal(found[..., 4:8], fresh[..., 4:8])
        np.testing.assert_array_equal(found[..., 12:], fresh[..., 12:])
        found, fresh, source = (
            tree["params"]["mask_head"]["mask_logits"][name] for tree in (result, new, given)
        )
        np.testing.assert_array_equal(found[..., [0, 2]], source[..., [0, 2]])
        np.testing.assert_array_equal(found[..., [1, 3]], fresh[..., [1, 3]])
    np.testing.assert_array_equal(head["dense_0"]["kernel"], theirs["dense_0"]["kernel"])
    assert new["params"]["box_head"]["class_logits"]["bias"][0] < 50_000  # untouched


def test_the_same_classes_keep_everything():
    new, given = _variables(2, 0), _variables(2, 50_000)
    result = merged(new, given, PARTS, ("a", "b"), ("a", "b"))
    np.testing.assert_equal(result, given)


def test_other_classes_start_the_predictors_anew():
    new, given = _variables(1, 0), _variables(2, 50_000)
    result = merged(new, given, PARTS, ("c",), ("a", "b"))
    for part, layers in (("box_head", ("class_logits", "box_deltas")), ("mask_head", None)):
        for layer in layers or ("mask_logits",):
            np.testing.assert_equal(result["params"][part][layer], new["params"][part][layer])
    np.testing.assert_equal(
        result["params"]["box_head"]["dense_0"], given["params"]["box_head"]["dense_0"]
    )


def test_only_the_parts_asked_for_are_taken():
    new, given = _variables(2, 0), _variables(2, 50_000)
    result = merged(new, given, ("backbone",), ("a", "b"), ())
    assert result["params"]["backbone"] is not new["params"]["backbone"]
    np.testing.assert_equal(result["params"]["backbone"], given["params"]["backbone"])
    np.testing.assert_equal(result["batch_stats"], given["batch_stats"])
    for part in ("box_head", "mask_head"):
        np.testing.assert_equal(result["params"][part], new["params"][part])


def test_what_does_not_fit_is_listed_with_both_shapes():
    expected, given = _variables(3, 0), _variables(2, 0, inputs=5, width=7)
    stem = given["params"]["backbone"]["stem"]
    stem["weight"] = stem.pop("kernel")
    with pytest.raises(ValueError, match="the weights do not fit") as error:
        check_fit(expected, given, PARTS, "the weights")
    message = str(error.value)
    for part in (
        "params.backbone.stem.kernel is missing",
        "params.backbone.stem.weight is unknown",
        "batch_stats.backbone.stem.mean is (7,), not (3,)",
        "params.box_head.dense_0.kernel is (4, 5), not (4, 2)",
        "params.box_head.class_logits.kernel is (5, 3), not (2, 4)",
        "(7 arrays)",
        "config.init_parts",
    ):
        assert part in message
    assert "class_logits.bias" not in message  # another number of classes is no fault
    check_fit(expected, _variables(2, 0), PARTS, "")
    check_fit(expected, given, (), "")


def test_words_about_classes():
    line = classes_line(("a", "b", "c"), ("C", "x", "a"))
    assert line == "classes kept: 2 of 3: a, c; new: b"
    assert classes_line(("a", "b"), ("a", "b")) == "classes kept: 2 of 2: a, b"
    line = classes_line(("a",), [f"x{i}" for i in range(20)])
    assert line.startswith("predictors new: none of the classes a is among x0, x1")
    assert line.endswith("and 12 more")


def test_what_is_of_all_classes_is_kept_whole_whatever_the_classes_are():
    new, given = _variables(3, 0), _variables(2, 50_000)
    for tree in (new, given):
        deltas = tree["params"]["box_head"]["box_deltas"]
        tree["params"]["box_head"]["box_deltas"] = {k: x[..., :4] for k, x in deltas.items()}
    check_fit(new, given, PARTS, "the weights")
    result = merged(new, given, PARTS, ("bird", "dog", "fish"), ("cat", "cow"))
    kept = result["params"]["box_head"]["box_deltas"]
    np.testing.assert_equal(kept, given["params"]["box_head"]["box_deltas"])


def test_boxes_of_all_classes_do_not_fit_a_model_with_boxes_of_each():
    new, given = _variables(3, 0), _variables(3, 0)
    deltas = given["params"]["box_head"]["box_deltas"]
    given["params"]["box_head"]["box_deltas"] = {k: x[..., :4] for k, x in deltas.items()}
    with pytest.raises(ValueError, match=r"box_deltas.kernel is \(2, 4\), not \(2, 16\)"):
        check_fit(new, given, PARTS, "the weights")
