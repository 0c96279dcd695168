"""What `--target` takes."""

import pytest

from maskrcnn_jax.plan import targets


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("v5e", "v5e", 1),
        ("v5e:1", "v5e", 1),
        ("V5e:4x4", "v5e:4x4", 16),
        ("v5p:2x2x4", "v5p:2x2x4", 16),
        ("v4", "v4", 1),
        ("h100", "h100", 1),
        ("h100:8", "h100:8", 8),
        ("a100:16", "a100:16", 16),
    ],
)
def test_names_chips(text, name, count):
    target = targets.parse(text)
    assert (target.name, target.count) == (name, count)
    assert targets.parse(target.name) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5:4x4", "did you mean v5p or v5e"),
        ("abacus", "known: v4, v5e, v5p, v6e, a100, h100"),
        ("v5e:4", "slice of 2 axes, such as v5e:4x4"),
        ("v5p:4x4", "slice of 3 axes, such as v5p:2x2x2"),
        ("v5e:4x", "'4x' is no size"),
        ("v5e:3x3", "must be even"),
        ("v5e:0x4", "'0x4' is no size"),
        ("h100:12", "whole hosts"),
        ("h100:2x4", "number of GPUs"),
    ],
)
def test_says_what_there_is(text, message):
    with pytest.raises(ValueError, match=message):
        targets.parse(text)


def test_a_missing_compiler_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(targets, "find_spec", lambda module: None)
    with pytest.raises(ValueError, match=r"TPUs \(libtpu\) is not installed.*requirements-plan"):
        targets.devices(targets.parse("v5e"))
    with pytest.raises(ValueError, match=r"GPUs \(jax-cuda13-plugin\)"):
        targets.devices(targets.parse("h100"))
