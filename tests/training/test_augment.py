import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import exposure

from lle_jax.colour import BT601
from lle_jax.training import augment


def test_a_grey_image_is_stretched_as_by_scikit_image(photographs):
    image = 0.2 + 0.5 * photographs[0, ..., :1]
    low, high = np.quantile(image, [0.03, 0.97])
    expected = exposure.rescale_intensity(image, (low, high), (0, 1))
    np.testing.assert_allclose(augment.contrast_stretch(image, 0.03), expected, atol=1e-5)
    assert np.isfinite(augment.contrast_stretch(np.full((4, 4, 1), 0.3, np.float32), 0.0)).all()


def test_gamma_is_that_of_scikit_image(photographs):
    image = np.clip(photographs[0] - 0.1, 0, 1)
    assert (image == 0).any()
    for exponent in (0.7, 1.0, 1.4):
        expected = exposure.adjust_gamma(image, exponent)
        np.testing.assert_allclose(augment.gamma(image, exponent), expected, atol=1e-6)
    assert np.isfinite(jax.grad(lambda x: augment.gamma(x, 0.7).sum())(image)).all()


def test_a_grey_image_is_equalised_as_by_opencv(photographs):
    for grey in (photographs[0, ..., :1], 0.3 * photographs[1, ..., 1:2], np.zeros((5, 5, 1))):
        levels = np.rint(255 * grey).astype(np.uint8)
        found = augment.equalise(jnp.asarray(levels / np.float32(255)))
        np.testing.assert_array_equal(np.rint(255 * found[..., 0]), cv2.equalizeHist(levels))


def test_equalising_colours_keeps_their_proportions(photographs):
    image = 0.4 * photographs[0]
    found = np.asarray(augment.equalise(image))
    dark = (image > 0.05).all(-1) & (found < 1).all(-1)
    ratio = found[dark] / image[dark]
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(3), rtol=1e-3)
    luma = (found @ np.asarray(BT601, np.float32))[dark]
    assert np.quantile(luma, 0.9) > 0.6 > np.quantile(image @ np.asarray(BT601, np.float32), 0.99)


@pytest.mark.parametrize(("fraction", "least", "most"), [(0.0, 0, 0), (0.5, 20, 44), (1.0, 60, 64)])
def test_a_fraction_of_the_images_is_changed_each_in_its_own_way(
    photographs, fraction, least, most
):
    same = np.repeat(photographs[:1, :16, :16], 64, axis=0)
    found = np.asarray(jax.jit(augment.random, static_argnums=2)(jax.random.key(0), same, fraction))
    changed = np.abs(found - same).max(axis=(1, 2, 3)) > 1e-4
    assert least <= changed.sum() <= most
    assert found.min() >= 0
    assert found.max() <= 1
    assert len(np.unique(found[changed].mean(axis=(1, 2, 3)).round(5))) >= changed.sum() - 2


def test_mixup_mixes_both_images_of_a_pair_alike():
    clean = np.random.default_rng(0).random((64, 2, 2, 3), np.float32)
    low, mixed = jax.jit(augment.mixup, static_argnums=1)(jax.random.key(0), 1.2, clean / 4, clean)
    np.testing.assert_allclose(low * 4, mixed, rtol=1e-6)
    # Every output lies on the line between its own image and another of the batch.
    weights = []
    for image, result in zip(clean.reshape(64, -1), np.asarray(mixed).reshape(64, -1), strict=True):
        steps = clean.reshape(64, -1) - image
        share = (steps @ (result - image)) / np.maximum((steps**2).sum(1), 1e-9)
        errors = np.abs(image + share[:, None] * steps - result).max(1)
        errors[(steps**2).sum(1) == 0] = np.abs(result - image).max()
        assert errors.min() < 1e-5
        weights.append(1 - share[errors.argmin()])
    # Moments of the symmetric Beta distribution: mean 1 / 2, variance 1 / (4 (2 alpha + 1)).
    assert abs(np.mean(weights) - 0.5) < 0.12
    assert abs(np.var(weights) - 1 / (4 * 3.4)) < 0.03
