"""Memory worked out before compiling, and the tables of compiled programs."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import predicted_memory, run_all, scaling


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
