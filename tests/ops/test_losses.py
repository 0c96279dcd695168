import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import losses


def test_smooth_l1_by_hand():
    pred, target = jnp.array([0.0, 0.25, 0.5, -3.0]), jnp.zeros(4)
    np.testing.assert_allclose(losses.smooth_l1(pred, target, 0.5), [0, 0.0625, 0.25, 2.75])
    np.testing.assert_allclose(losses.smooth_l1(pred, target, 0.0), [0, 0.25, 0.5, 3])


def test_smooth_l1_has_no_jump_at_beta():
    beta = 1 / 9
    value, slope = jax.vmap(jax.value_and_grad(lambda x: losses.smooth_l1(x, jnp.zeros(()), beta)))(
        jnp.array([beta - 1e-5, beta + 1e-5])
    )
    np.testing.assert_allclose(value[0], value[1], atol=3e-5)
    np.testing.assert_allclose(slope, [1, 1], atol=2e-4)


def test_sigmoid_cross_entropy_against_float64():
    logits = np.linspace(-8, 8, 33, dtype=np.float32)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for target in (0.0, 0.3, 1.0):
        expected = -target * np.log(probability) - (1 - target) * np.log(1 - probability)
        ours = losses.sigmoid_cross_entropy(jnp.asarray(logits), jnp.full(33, target))
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-6)


def test_sigmoid_cross_entropy_of_huge_logits():
    loss = losses.sigmoid_cross_entropy(jnp.array([1e4, 1e4, -1e4]), jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(loss, [1e4, 0, 0])


def test_softmax_cross_entropy_by_hand_and_of_huge_logits():
    logits = jnp.array([[0.0, 0, 0, 0], [1e4, 0, 0, 0], [1e4, 0, 0, 0]])
    loss = losses.softmax_cross_entropy(logits, jnp.array([2, 0, 3]))
    np.testing.assert_allclose(loss, [np.log(4), 0, 1e4], rtol=1e-6)


def test_losses_are_float32_whatever_comes_in():
    x = jnp.ones((3, 4), jnp.bfloat16)
    assert losses.smooth_l1(x, x, 1.0).dtype == jnp.float32
    assert losses.sigmoid_cross_entropy(x, x).dtype == jnp.float32
    assert losses.softmax_cross_entropy(x, jnp.zeros(3, jnp.int32)).dtype == jnp.float32


def test_masked_reductions_by_hand():
    values, mask = jnp.arange(6.0).reshape(3, 2), jnp.array([True, False, True])
    assert losses.masked_sum(values, mask) == 0 + 1 + 4 + 5
    assert losses.masked_mean(values, mask) == 10 / 4
    assert losses.masked_mean(values, jnp.zeros(3, bool)) == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_neither_loss_nor_gradient_depends_on_invalid_slots(poison):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 4)).astype(np.float32)
    labels, mask = np.array([1, 3, 0, 2, 2]), np.array([True, False, True, True, False])

    @jax.jit
    @jax.value_and_grad
    def total(logits, labels):
        logits = losses.masked(logits, mask)
        return (
            losses.masked_mean(losses.softmax_cross_entropy(logits, labels), mask)
            + losses.masked_mean(losses.sigmoid_cross_entropy(logits, logits > 0), mask)
            + losses.masked_mean(losses.smooth_l1(logits, logits[::-1], 0.1), mask)
        )

    clean_value, clean_gradient = total(logits, labels)
    poisoned = np.where(mask[:, None], logits, np.float32(poison))
    wild_labels = np.where(mask, labels, 10**9)
    value, gradient = total(poisoned, wild_labels)
    assert np.isfinite(value)
    np.testing.assert_array_equal(value, clean_value)
    np.testing.assert_array_equal(gradient, clean_gradient)
    np.testing.assert_array_equal(gradient[~mask], 0)
    assert np.abs(gradient[mask]).min() > 0
