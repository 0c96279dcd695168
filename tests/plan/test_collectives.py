"""What devices exchange, read from the text of programs for 8 of them."""

from pathlib import Path

import pytest

from maskrcnn_jax.plan import hlo
from maskrcnn_jax.plan.collectives import axes_of, exchanges, group_of, summed

FOLDER = Path(__file__).parent / "programs"
MESH = {"data": 2, "fsdp": 2, "space": 2}
KERNEL = 3 * 3 * 128 * 256
ROW = 2 * 64 * 128  # of a device's two images


@pytest.mark.parametrize(
    ("attributes", "group"),
    [
        ("replica_groups={{0,2},{1,3}}, to_apply=%add", (0, 2)),
        ("replica_groups={}, to_apply=%add", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("replica_groups=[4,2]<=[8]", (0, 1)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", (0, 2, 4, 6)),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}, dimensions={0}", (0, 4)),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", (0, 2)),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([2,2,2]T(1,0,2)) {'a'}", (0, 2)),
        ("source_target_pairs={{0,0},{0,4},{4,0}}, metadata={}", (0, 4)),
    ],
)
def test_groups_are_read_in_each_of_their_forms(attributes, group):
    assert group_of(attributes, 8) == group


@pytest.mark.parametrize(
    ("group", "axes"),
    [((0, 4), "data"), ((0, 2), "fsdp"), ((6, 7), "space"), ((0, 1, 4, 5), "data+space"),
     ((0, 6), "data+fsdp"), ((3,), "none")],
)  # fmt: skip
def test_a_group_lies_along_the_axes_in_which_it_differs(group, axes):
    assert axes_of(group, MESH) == axes


def test_a_tpu_reduces_along_the_slices_axes_one_by_one():
    found = summed(exchanges(hlo.parse((FOLDER / "v5e_8.hlo").read_text()), MESH))
    assert found == {
        ("data+fsdp", "all-reduce", "f32"): _entry(1, 4 * KERNEL, 2 * 3 / 4),
        ("fsdp", "all-gather", "bf16"): _entry(1, 2 * KERNEL, 1 / 2),
        ("space", "all-reduce", "f32"): _entry(1, 4 * KERNEL, 2 / 2),
        ("space", "collective-permute", "bf16"): _entry(2, 2 * 2 * ROW, 1),
    }


def test_gpus_reduce_along_all_axes_at_once():
    found = summed(exchanges(hlo.parse((FOLDER / "h100_8.hlo").read_text()), MESH))
    assert found == {
        ("data+fsdp+space", "all-reduce", "f32"): _entry(1, 4 * KERNEL, 2 * 7 / 8),
        ("fsdp", "all-gather", "f32"): _entry(1, 4 * KERNEL, 1 / 2),
        ("space", "collective-permute", "f32"): _entry(
            2, 2 * 2 * 4 * ROW, 1
        ),  # each brings two rows
    }


def _entry(number, size, sent):
    return {"number": number, "size": size, "sent": int(sent * size)}


def test_collectives_in_loops_count_for_each_round():
    text = """\
%body (arg: (s32[], f32[8])) -> (s32[], f32[8]) {
  %arg = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%arg), index=1
  %i = s32[] get-tuple-element(%arg), index=0
  %sum = f32[8]{0} all-reduce(%x), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %tuple = (s32[], f32[8]{0}) tuple(%i, %sum)
}

%condition (arg.1: (s32[], f32[8])) -> pred[] {
  ROOT %always = pred[] constant(true)
}

ENTRY %main (x.1: f32[8]) -> f32[8] {
  %start = (s32[], f32[8]{0}) parameter(0)
  %known = (s32[], f32[8]{0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %end = (s32[], f32[8]{0}) while(%known), condition=%condition, body=%body
}
"""  # noqa: E501
    found = exchanges(hlo.parse(text), MESH)
    assert [one.times for one in found] == [5, 1]
    assert summed(found)["data+fsdp+space", "all-reduce", "f32"]["number"] == 6
