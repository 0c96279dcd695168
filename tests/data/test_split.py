import hashlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_jax.data.split import of_split, position

NAMES = [f"images/{i}.jpg" for i in range(1000)]


def test_every_image_is_in_one_split():
    train, val = (of_split(NAMES, split, 0.2, 0) for split in ("train", "val"))
    assert sorted(train + val) == sorted(NAMES)
    assert 150 < len(val) < 250
    assert of_split(NAMES, "", 0.2, 0) == NAMES
    assert train == [name for name in NAMES if name in set(train)]  # in their order


def test_the_rule_is_sha256_of_seed_and_name():
    for name in NAMES[:50]:
        number = int(hashlib.sha256(f"7/{name}".encode()).hexdigest()[:16], 16)
        chosen = "val" if number / 2**64 < 0.3 else "train"
        assert of_split([name], chosen, 0.3, 7) == [name]


def test_images_stay_where_they_are_when_others_come():
    val = of_split(NAMES[::2], "val", 0.2, 0)
    assert val == [name for name in of_split(NAMES, "val", 0.2, 0) if name in NAMES[::2]]
    assert of_split(NAMES, "val", 0.2, 0) != of_split(NAMES, "val", 0.2, 1)
    assert set(of_split(NAMES, "val", 0.2, 0)) < set(of_split(NAMES, "val", 0.4, 0))


def test_another_process_divides_alike():
    script = (
        "from maskrcnn_jax.data.split import of_split\n"
        "print(of_split([f'images/{i}.jpg' for i in range(1000)], 'val', 0.2, 0))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == str(of_split(NAMES, "val", 0.2, 0))


def test_separators_and_the_form_of_accents_do_not_matter():
    for split in ("train", "val"):
        names = [of_split([f"{c}{i}/b.jpg" for i in range(50)], split, 0.5, 0) for c in "é"]
        apart = of_split([f"e\u0301{i}\\b.jpg" for i in range(50)], split, 0.5, 0)
        assert [name.replace("e\u0301", "é").replace("\\", "/") for name in apart] == names[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("test", 0.2, 0), "split is 'test'; expected 'train' or 'val'"),
        (("val", 0.0, 0), "val_fraction is 0.0"),
        (("train", 1, 0), "val_fraction is 1"),
    ],
)
def test_what_cannot_be_divided_is_explained(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        of_split(NAMES, *arguments)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    names=st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=12),
    fraction=st.floats(1e-9, 1 - 1e-9),
    seed=st.integers(0, 2**31),
)
def test_no_split_of_two_images_or_more_is_empty(names, fraction, seed):
    given_names = sorted(names)
    train, val = (of_split(given_names, split, fraction, seed) for split in ("train", "val"))
    assert train
    assert val
    assert sorted(train + val) == given_names
    places = {name: position(name, seed) for name in names}
    assert max(places[name] for name in val) <= min(places[name] for name in train)


def test_a_single_image_needs_no_division():
    assert position("a", 0) > 0.2
    assert of_split(["a"], "train", 0.2, 0) == ["a"]
    with pytest.raises(ValueError, match="give split='' to use all for both"):
        of_split(["a"], "val", 0.2, 0)
