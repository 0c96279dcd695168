"""Operations, and arrays in memory, read from the text of programs."""

from pathlib import Path

import pytest

from maskrcnn_jax.plan import arithmetic, buffers, hlo

FOLDER = Path(__file__).parent / "programs"
MIB = 2**20


@pytest.mark.parametrize("chip", ["v5e", "h100"])
def test_products_count_for_each_round_of_their_loop(chip):
    # Seven rounds, and one of the loop of unknown length.
    parsed = hlo.parse((FOLDER / f"{chip}.hlo").read_text())
    assert arithmetic.flops(parsed) == (7 + 1) * 2 * 512 * 256 * 256


def test_convolutions_of_a_gpu_count_forward_and_backward():
    parsed = hlo.parse((FOLDER / "h100_8.hlo").read_text())
    # Two images of a device, half of their rows; of 3 x 64 columns that are read, two are padding.
    once = 2 * 2 * (3 * 32) * (3 * 64 - 2) * 128 * 256
    assert arithmetic.flops(parsed) == 2 * once


def test_convolutions_of_a_tpu_also_compute_the_rows_they_share():
    parsed = hlo.parse((FOLDER / "v5e_8.hlo").read_text())
    once = 2 * (2 * 32 * 64) * (3 * 3 * 128 * 256)
    assert 2 * once < arithmetic.flops(parsed) < 2.3 * once


def _flops(line):
    return arithmetic.flops(hlo.parse(f"ENTRY %main (a: f32[1]) -> f32[1] {{\n{line}\n}}\n"))


@pytest.mark.parametrize(
    ("line", "flops"),
    [
        (
            "  %x = f32[2,8,8,16]{3,2,1,0} parameter(0)\n"
            "  %k = f32[3,3,16,32]{3,2,1,0} parameter(1)\n"
            "  ROOT %y = f32[2,4,4,32]{3,2,1,0} convolution(%x, %k), window={size=3x3 stride=2x2 "
            "pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
            2 * 2 * 16 * 32 * 11**2,  # of 3 x 4 rows that windows read, one is padding
        ),
        (  # the gradient by that input: as many, since products with zeros do not count
            "  %x = f32[2,4,4,32]{3,2,1,0} parameter(0)\n"
            "  %k = f32[3,3,16,32]{3,2,1,0} parameter(1)\n"
            "  ROOT %y = f32[2,8,8,16]{3,2,1,0} convolution(%x, %k), window={size=3x3 "
            "pad=1_2x1_2 lhs_dilate=2x2 rhs_reversal=1x1}, dim_labels=b01f_01oi->b01f",
            2 * 2 * 16 * 32 * 11**2,
        ),
        (
            "  %x = f32[2,8,8,16]{3,2,1,0} parameter(0)\n"
            "  %dy = f32[2,8,8,32]{3,2,1,0} parameter(1)\n"
            "  ROOT %dk = (f32[32,3,3,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %dy), "
            "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, "
            'custom_call_target="__cudnn$convBackwardFilter"',
            2 * 2 * 16 * 32 * 22**2,
        ),
        (  # a product, written as a convolution of which nearly all is padding
            "  %x = bf16[7,1,1,3]{3,2,1,0} parameter(0)\n"
            "  %k = bf16[2,5,3,4]{3,2,1,0} parameter(1)\n"
            "  ROOT %y = bf16[7,2,5,4]{3,2,1,0} convolution(%x, %k), window={size=2x5 "
            "pad=1_1x4_4 rhs_reversal=1x1}, dim_labels=b01f_01io->b01f",
            2 * 7 * 3 * 4 * 2 * 5,
        ),
        (
            "  %a = f32[5,7,3]{2,1,0} parameter(0)\n  %b = f32[5,3,11]{2,1,0} parameter(1)\n"
            "  ROOT %c = f32[5,7,11]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, "
            "lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}",
            2 * 5 * 7 * 11 * 3,
        ),
        (
            "  %a = bf16[7,3]{1,0} parameter(0)\n  %b = bf16[3,11]{1,0} parameter(1)\n"
            "  ROOT %c = (bf16[7,11]{1,0}, s8[64]{0}) custom-call(%a, %b), "
            'custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":'
            '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}',
            2 * 7 * 11 * 3,
        ),
        ("  ROOT %a = f32[9]{0} parameter(0)", 0),
    ],
    ids=["strided", "dilated", "cudnn", "padded", "dot", "cublas", "none"],
)  # fmt: skip
def test_operations_are_those_of_the_sums(line, flops):
    assert _flops(line) == flops


def test_arrays_are_in_memory_from_where_they_are_made_to_their_last_reader():
    text = """\
%body (arg: (s32[], f32[1024])) -> (s32[], f32[1024]) {
  %arg = (s32[], f32[1024]{0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x.1 = f32[1024]{0} get-tuple-element(%arg), index=1
  %within = f32[4096]{0} broadcast(%x.1), dimensions={0}
  %y = f32[1024]{0} slice(%within), slice={[0:1024]}
  ROOT %tuple.1 = (s32[], f32[1024]{0}) tuple(%i, %y)
}

ENTRY %main (x: f32[1024]) -> f32[1024] {
  %x = f32[1024]{0} parameter(0)
  %a = f32[1024]{0} negate(%x), metadata={op_name="jit(f)/first"}
  %kept = f32[512]{0} slice(%a), slice={[0:512]}, metadata={op_name="jit(f)/kept"}
  %b = f32[2048]{0} broadcast(%a), dimensions={0}, metadata={op_name="jit(f)/second"}
  %zero = s32[] constant(0)
  %c = f32[1024]{0} slice(%b), slice={[0:1024]}
  %tuple = (s32[], f32[1024]{0}) tuple(%zero, %c)
  %loop = (s32[], f32[1024]{0}) while(%tuple), condition=%cond, body=%body
  %d = f32[1024]{0} get-tuple-element(%loop), index=1
  %e = f32[512]{0} slice(%d), slice={[0:512]}
  ROOT %sum = f32[512]{0} add(%e, %kept)
}

%cond (arg.2: (s32[], f32[1024])) -> pred[] {
  ROOT %always = pred[] constant(true)
}
"""
    found = [(b.instruction, b.size) for b in buffers.at_peak(hlo.parse(text))]
    # In the loop: its own, the loop's variable and what is kept across it; not %b, read before.
    assert found == [("within", 4 * 4096), ("c", 4 * 1024), ("y", 4 * 1024), ("kept", 4 * 512)]


def test_the_largest_array_is_that_of_the_gather():
    largest = buffers.at_peak(hlo.parse((FOLDER / "h100.hlo").read_text()))[0]
    assert largest.size >= 8 * MIB
    assert largest.op_name == "jit(example)/gather"
