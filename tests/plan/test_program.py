"""What is read from the text of compiled programs, on small ones that lie beside this file."""

from pathlib import Path

import pytest

from maskrcnn_jax.plan import hlo, program
from maskrcnn_jax.plan.suspects import number_of_each, suspects

FOLDER = Path(__file__).parent / "programs"
MIB = 2**20
# Of the loop of 7 rounds, with its condition, and of the one of unknown length.
RUNS = {"v5e": 5, "h100": 5}


@pytest.fixture(params=RUNS)
def example(request):
    """A compiled program of `programs/write.py`, and the name of its chip."""
    return request.param, hlo.parse((FOLDER / f"{request.param}.hlo").read_text())


def test_shapes_have_the_bytes_that_their_tiles_take():
    plain, scalar, tiled, turned = hlo.arrays(
        "(f32[64,3]{1,0}, s32[], bf16[5,7,130]{2,1,0:T(8,128)(2,1)S(1)}, f32[2,3]{0,1:T(2,128)})"
    )
    assert (plain.size, plain.on_chip, str(plain)) == (64 * 3 * 4, False, "f32[64,3]")
    assert scalar.size == 4
    assert (tiled.size, tiled.on_chip) == (5 * 8 * 256 * 2, True)
    assert turned.size == 4 * 128 * 4  # columns of 2 in tiles of 2 x 128
    assert hlo.arrays("pred[9]{0}, f8e4m3fn[9]{0}, token[]")[0].size == 9


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("module @jit_f {\n}")


def test_loops_run_as_often_as_they_say(example):
    chip, parsed = example
    runs = hlo.runs(parsed)
    assert len(runs) == RUNS[chip]
    assert [run.times for run in runs] == [1, 7, 7, 1, 1]
    assert [run.unknown for run in runs] == [None, None, None, "while.12", "while.12"]


def test_every_suspect_is_found_and_named(example):
    chip, parsed = example
    found = suspects(parsed)
    relayouts = {"v5e": 1, "h100": 0}[chip]  # a GPU writes the transpose from the gather
    assert number_of_each(found) == {
        "sort": 1, "scatter": 1, "loop of unknown length": 1, "large gather": 1,
        "relayout": relayouts,
    }  # fmt: skip
    by_kind = {suspect.kind: suspect for suspect in found}
    assert by_kind["sort"].op_name == "jit(example)/jit(sort)/sort"
    assert by_kind["large gather"].size >= 8192 * 256 * 4
    assert by_kind["scatter"].shape == "f32[512,256]"
    assert by_kind["loop of unknown length"].instruction == "while.12"


def test_estimates_of_a_loop_count_for_each_round():
    parsed = hlo.parse((FOLDER / "v5e.hlo").read_text())
    once = sum(i.cycles or 0 for run in hlo.runs(parsed) for i in run.computation)
    body = next(
        run for run in hlo.runs(parsed) if run.times == 7 and len(list(run.computation)) > 4
    )
    inside = sum(i.cycles or 0 for i in body.computation)
    assert inside > 0
    assert program.estimated_cycles(parsed) == once + 6 * inside
    # Sort, gather and scatter.
    assert program.without_estimate(parsed) == 3


def test_a_gpu_starts_a_kernel_for_each_instruction_of_each_round():
    parsed = hlo.parse((FOLDER / "h100.hlo").read_text())
    assert program.estimated_cycles(parsed) == 0
    # 6 of the entry, 4 in each of 7 rounds and 5 in one.
    assert program.launches(parsed) == 6 + 4 * 7 + 5


@pytest.mark.parametrize(("numbers", "kernels"), [(512, 1), (201_600, 28), (268_569, 36)])
def test_a_long_sort_is_many_kernels(numbers, kernels):
    sort = hlo.Instruction(
        "sort", hlo.arrays(f"f32[2,{numbers}]{{1,0}}"), "sort", (), ", dimensions={1}", ""
    )
    entry = hlo.Computation("main", {"sort": sort}, "sort")
    assert program.launches(hlo.Program({"main": entry}, "main")) == kernels


def test_traffic_is_what_instructions_take_and_give(example):
    chip, parsed = example
    # A TPU keeps the gathered rows in the chip, and writes them and their transpose once.
    least = {"v5e": 16, "h100": 16}[chip] * MIB
    loop = 7 * {"v5e": 1, "h100": 5.25}[chip] * MIB
    assert least + loop < program.traffic(parsed) < least + loop + 12 * MIB
