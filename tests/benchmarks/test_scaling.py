"""What compiled programs say is read right, and docs/scaling.md shows what its arithmetic gives."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from benchmarks import compiled_program, predicted_memory, run_all, scaling, scaling_model

PROGRAM = """\
HloModule jit_step

%body.3 (arg: (s32[], f32[8])) -> (s32[], f32[8]) {
  %gathered = f32[16,4]{1,0} all-gather(%part), channel_id=1, dimensions={0}
  ROOT %tuple = (s32[], f32[8]) tuple(%i, %x)
}

ENTRY %main.9 (x: f32[64,3]) -> f32[64,3] {
  %sums = (f32[64,3]{1,0}, bf16[5]{0}, s32[]) all-reduce(%a, %b, %c), channel_id=2, to_apply=%add
  %loop = (s32[], f32[8]) while(%init), condition=%cond.2, body=%body.3
  %halo = u8[2,7]{1,0} collective-permute(%rows), channel_id=3, source_target_pairs={{0,1}}
  ROOT %one = f32[10]{0} all-reduce-start(%d), channel_id=4, to_apply=%add
  %same = f32[10]{0} all-reduce-done(%one)
}
"""


def test_collectives_are_counted_with_their_bytes():
    assert compiled_program.collectives(PROGRAM) == {
        "all-gather": {"number": 1, "bytes": 16 * 4 * 4, "in_loops": 1},
        "all-reduce": {"number": 2, "bytes": 64 * 3 * 4 + 5 * 2 + 4 + 10 * 4, "in_loops": 0},
        "collective-permute": {"number": 1, "bytes": 14, "in_loops": 0},
    }


class Layer(nn.Module):
    """A detector that is the sum of the sines of a product, after a ReLU."""

    @nn.compact
    def losses(self, batch, rng):
        kernel = self.param("kernel", nn.initializers.ones, (3, 5))
        frozen = self.param("frozen", nn.initializers.ones, (7,))
        x = jnp.sin(nn.relu(batch["x"]) @ kernel).sum() + jnp.square(frozen).sum()
        return {"loss_total": x}, {}


def test_kept_is_what_the_way_back_needs_and_cannot_make_itself():
    batch = {"x": jax.ShapeDtypeStruct((2, 3), jnp.float32)}
    shapes = {
        "kernel": jax.ShapeDtypeStruct((3, 5), jnp.float32),
        "frozen": jax.ShapeDtypeStruct((7,), jnp.float32),
    }
    variables = {"params": shapes, "batch_stats": {}}
    trainable = {"kernel": True, "frozen": False}
    kept = predicted_memory.kept_bytes(Layer(), variables, trainable, batch)
    # The cosine [2, 5], and the kernel's cofactor [2, 3]: the ReLU's result.
    assert kept == (2 * 5 + 2 * 3) * 4
    # Nothing but a factor of the frozen array: 2 x, kept where it is trained.
    trainable["frozen"] = True
    assert predicted_memory.kept_bytes(Layer(), variables, trainable, batch) == kept + 7 * 4


def test_a_step_is_compiled_for_a_mesh_and_told_in_tables():
    lines = run_all.run("scaling", ["--tiny"])
    memory, communication = (line["figures"] for line in lines)
    assert memory["data x fsdp x space"] == "4 x 2 x 1"
    assert memory["arguments"] == memory["arguments, predicted"] > 0
    assert memory["temporary"] > 0
    assert float(communication["GFLOP"]) > 0
    # Every gradient and little beside it; parameters as often as they are used.
    for kind, most in (("all-reduce", 1.5), ("all-gather", 3)):
        number, size = communication[kind].split(" / ")
        assert int(number) > 0
        predicted = float(communication[f"{kind}, predicted"])
        assert predicted <= float(size) < most * predicted
    section = run_all.section("scaling", lines, "command")
    assert section.count("| 4 x 2 x 1 | 8 | all |") == 2
    assert all(f"\n{title}:\n" in section for title in scaling._TITLES.values())


def test_the_ring_sends_twice_the_gradient_across_hosts_alone():
    machine = scaling_model.Machine("x", 0.1, 0.01, link_gb=10.0, latency_us=0.0, disk_gb=1.0,
                                    source="")  # fmt: skip
    assert scaling_model.all_reduce_s(machine, 8) == 0
    whole = scaling_model.GRADIENT_MB.value / 1e3 / 10.0
    assert scaling_model.all_reduce_s(machine, 16) == pytest.approx(2 * 15 / 16 * whole)


def test_the_page_has_the_tables_of_the_arithmetic():
    page = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()
    assert scaling_model.tables() in page


def test_what_the_arithmetic_calls_measured_is_in_the_results():
    sections = run_all.sections_of(run_all.RESULTS.read_text())
    gradient = scaling_model.GRADIENT_MB.value * 1e6 / 2**20
    step = f"| 8 x 1 x 1 | 16 | none | {1e3 * scaling_model.STEP_TFLOP.value:.0f} |"
    assert any(
        row.startswith(step) and f" / {gradient:.1f} |" in row
        for row in sections["scaling"].splitlines()
    )
    assert f"| {scaling_model.INPUT_RATE.value} |" in sections["input_pipeline"]
    for number in (scaling_model.MASKS_S, scaling_model.METRICS_S):
        seconds = number.value / 1e3 * 500 * 36 / 100  # of 500 images with 36 detections
        assert f"| {seconds:.3g} s (" in sections["evaluation"]
