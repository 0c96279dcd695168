import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models import initializers
from maskrcnn_jax.models.build import abstract_variables, initial_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.layers import Dense


@pytest.mark.parametrize(
    ("initializer", "shape", "deviation"),
    [
        (initializers.he_normal, (3, 3, 40, 80), (2 / (9 * 80)) ** 0.5),
        (initializers.he_normal_fan_in, (60, 2, 2, 100), (2 / (4 * 60)) ** 0.5),
        (initializers.small_normal, (300, 200), 0.01),
        (initializers.he_uniform, (3, 3, 40, 80), (1 / (9 * 40)) ** 0.5),
    ],
)
def test_distributions_are_around_zero_and_as_wide_as_stated(initializer, shape, deviation):
    numbers = np.asarray(initializer(jax.random.key(0), shape, jnp.float32))
    assert numbers.shape == shape
    assert numbers.dtype == np.float32
    # Four standard errors of 24,000 numbers or more.
    assert abs(numbers.mean()) < 0.026 * deviation
    assert numbers.std() == pytest.approx(deviation, rel=0.02)


def test_a_uniform_distribution_fills_its_limits():
    numbers = np.asarray(initializers.uniform(0.5)(jax.random.key(1), (70000,)))
    assert -0.5 <= numbers.min() < -0.499
    assert 0.499 < numbers.max() < 0.5


def test_blocks_are_not_repeated():
    numbers = np.asarray(initializers.normal(1.0)(jax.random.key(2), (2 * 2**16 + 3,)))
    assert len(np.unique(numbers)) > 0.98 * numbers.size


def test_numbers_are_the_same_inside_a_compiled_function():
    key, shape = jax.random.key(3), (2**16 + 5, 2)
    outside = initializers.he_normal(key, shape)
    inside = jax.jit(lambda key: initializers.he_normal(key, shape))(key)
    np.testing.assert_allclose(inside, outside, rtol=1e-6)


def test_every_kernel_has_numbers_of_its_own(tiny):
    variables = initial_variables(tiny.model, jax.random.key(0))
    kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1]
    assert len({float(kernel.reshape(-1)[0]) for kernel in kernels}) == len(kernels)


def test_shapes_without_numbers_follow_the_configuration(tiny, tiny_config):
    def shapes(variables):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)

    found = abstract_variables(tiny.model)
    assert shapes(found) == shapes(tiny.variables)
    found["params"].clear()  # the caller's own
    assert shapes(abstract_variables(tiny.model)) == shapes(tiny.variables)
    tiny_config.mask_head.channels = 9
    wider = abstract_variables(make_model(tiny_config, 3))["params"]["mask_head"]
    assert wider["mask_logits"]["kernel"].shape[-2] == 9


def test_two_programs_draw_the_kernels_of_all_shapes(tiny):
    initializers._block.clear_cache()
    initial_variables(tiny.model, jax.random.key(0))
    assert initializers._block._cache_size() == 2  # normal and uniform


def test_what_is_recomputed_in_the_backward_pass_changes_no_parameter(tiny):
    plain = initial_variables(tiny.model, jax.random.key(0))
    recomputed = initial_variables(tiny.model.clone(remat="all"), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, plain, recomputed)


class _OwnHead(nn.Module):
    """A head of Flax's own layers, as somebody may write it."""

    config: ModelConfig

    @nn.compact
    def __call__(self, image):
        x = nn.Dense(7)(image.astype(jnp.float32).mean((1, 2)))
        scale = self.param("scale", nn.initializers.normal(2.0), (500,))
        return Dense(3)(x), scale


def test_layers_of_flax_and_other_random_parameters_are_drawn_too(tiny_config):
    model = _OwnHead(tiny_config)
    params = initial_variables(model, jax.random.key(0))["params"]
    expected = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))["params"]
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    np.testing.assert_allclose(params["scale"], expected["scale"], rtol=1e-6)
    assert params["Dense_0"]["kernel"].std() > 0.1
    assert params["Dense_1"]["kernel"].std() > 0.1
