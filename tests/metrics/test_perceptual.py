import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import metrics


def test_gmsd_equals_piq(recorded):
    gmsd = jax.jit(metrics.gmsd)
    for image, reference, values in recorded.values():
        # piq divides by n instead of n - 1, of a quarter of the pixels.
        np.testing.assert_allclose(gmsd(image, reference), values["piq.gmsd"], atol=1e-5)


def test_gmsd_of_even_sides_equals_pyiqa(recorded):
    # pyiqa drops the last pixels of odd sides; the authors' code takes black beyond them.
    gmsd = jax.jit(functools.partial(metrics.gmsd, channels="rounded_luma"))
    for name in ("noise", "dark", "black border", "one channel"):
        image, reference, values = recorded[name]
        np.testing.assert_allclose(gmsd(image, reference), values["pyiqa.gmsd"], atol=1e-5)


def test_vif_equals_piq(recorded):
    vif = jax.jit(metrics.vif)
    for image, reference, values in recorded.values():
        np.testing.assert_allclose(vif(image, reference), values["piq.vif_p"], atol=1e-5)


def test_identical_images_are_perfect(photographs):
    vif = jax.jit(metrics.vif)
    np.testing.assert_allclose(vif(photographs, photographs), 1, atol=1e-5)
    assert (metrics.gmsd(photographs, photographs) == 0).all()
    flat = jnp.full((64, 64, 3), 0.3)
    assert vif(flat, flat) == 1
    assert vif(photographs[0, :64, :64], flat) == 0
    assert metrics.gmsd(flat, flat) == 0


def test_vif_rewards_contrast_and_finds_nothing_in_a_flat_image(photographs):
    vif = jax.jit(metrics.vif)
    mean = photographs.mean(axis=(1, 2), keepdims=True)
    assert (vif(mean + 1.2 * (photographs - mean), photographs) > 1.05).all()
    assert (vif(mean + 0.8 * (photographs - mean), photographs) < 0.95).all()
    np.testing.assert_allclose(vif(mean + 0 * photographs, photographs), 0, atol=1e-4)


@pytest.mark.parametrize("metric", [metrics.gmsd, metrics.vif])
def test_colour_is_refused_where_only_luma_is_defined(metric):
    flat = jnp.full((48, 48, 3), 0.5)
    with pytest.raises(ValueError, match=r"channels is 'rgb'; .* defined on luma only"):
        metric(flat, flat, channels="rgb")
    one = jax.jit(functools.partial(metric, channels="rgb"))
    assert np.isfinite(one(flat[..., :1], flat[..., :1]))
