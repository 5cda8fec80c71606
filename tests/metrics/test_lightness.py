import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from lle_jax import metrics

ERROR = jax.jit(metrics.lightness_order_error)


def by_definition(image, reference):
    """Every pair of sampled pixels compared in NumPy."""
    sampled = []
    for levels in (image, reference):
        lightness = ndimage.maximum_filter(np.rint(255 * levels.max(-1)), 15, mode="nearest")
        step = max(1, min(lightness.shape) // 50)
        sampled.append(lightness[step - 1 :: step, step - 1 :: step].ravel())
    after, before = (values[:, None] >= values for values in sampled)
    return (after != before).sum() / len(sampled[0])


def test_lightness_order_error_equals_its_definition(recorded):
    for name in ("dark", "odd sides"):  # sampled at every 5th and every 3rd pixel
        image, reference, _ = recorded[name]
        np.testing.assert_allclose(
            ERROR(image, reference), by_definition(image, reference), rtol=1e-6
        )


def test_small_images_are_not_sampled(pair):
    expected = [by_definition(a, b) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(ERROR(*pair), expected, rtol=1e-6)


def test_an_increasing_curve_keeps_the_order(photographs):
    # Doubled levels keep all ties and steps of 8-bit levels.
    levels = np.rint(127 * photographs) / 255
    assert (ERROR(2 * levels, levels) == 0).all()


def test_an_inverted_ramp_changes_the_order_of_all_pairs():
    # One lightness per row after the running maximum, so only pairs within a row stay in order.
    ramp = jnp.broadcast_to(jnp.arange(40.0)[:, None, None] / 255, (40, 40, 1))
    inverted = 39 / 255 - ramp
    error = float(ERROR(inverted, ramp))
    np.testing.assert_allclose(error, by_definition(np.asarray(inverted), np.asarray(ramp)))
    assert error > 0.8 * 1600
