import jax
import numpy as np
import pytest

from lle_jax import colour, degrade


@pytest.mark.parametrize(("share", "white"), [(0.3, 0.0), (0.7, 0.4), (0.7, 1.0)])
def test_glare_is_a_mean_light_mixed_in(photographs, share, white):
    found = degrade.veiling_glare(photographs, share=share, white=white)
    for image, veiled in zip(photographs.astype(np.float64), found, strict=True):
        mean = image.mean(axis=(0, 1))
        luminance = mean @ [0.2126, 0.7152, 0.0722]
        veil = (1 - white) * mean + white * luminance
        np.testing.assert_allclose(veiled, (1 - share) * image + share * veil, atol=1e-6)


def test_glare_keeps_the_luminance_and_grey(photographs):
    found = degrade.veiling_glare(photographs, share=np.float32([0.2, 0.9]), white=0.7)
    means = [
        colour.luma(image, colour.BT709).mean(axis=(1, 2, 3)) for image in (photographs, found)
    ]
    np.testing.assert_allclose(*means, rtol=1e-5)
    assert (found.std(axis=(1, 2, 3)) < 0.9 * photographs.std(axis=(1, 2, 3))).all()
    grey = np.repeat(photographs[..., :1], 3, axis=-1)
    found = np.asarray(degrade.veiling_glare(grey, share=0.4, white=0.7))
    np.testing.assert_allclose(np.ptp(found, axis=-1), 0, atol=1e-6)


def test_the_share_is_the_veiling_glare_index_of_a_black_spot_in_a_white_field():
    """ISO 9358: the light of the spot in parts of that of the field, which is nearly all of it."""
    field = np.ones((200, 200, 1), np.float32)
    field[100, 100] = 0
    found = np.asarray(degrade.veiling_glare(field, share=0.06))
    assert found[100, 100, 0] / found[0, 0, 0] == pytest.approx(0.06, rel=1e-3)


def test_the_chain_spreads_the_light_that_is_there_before_the_noise(photographs):
    """By the lamp's fall-off first, then the glare, all in linear light."""
    parameters = {
        "exposure.gain": 0.2,
        "light_source.x": 0.3,
        "light_source.y": 0.0,
        "light_source.falloff": 1.0,
        "veiling_glare.share": 0.5,
        "veiling_glare.white": 0.3,
    }
    found = degrade.apply(jax.random.key(0), parameters, photographs)
    field = degrade.light_source(*photographs.shape[1:3], x=0.3, falloff=1.0)
    light = 0.2 * np.asarray(colour.srgb_to_linear(photographs)) * np.asarray(field)
    expected = degrade.veiling_glare(light, share=0.5, white=0.3)
    np.testing.assert_allclose(found, colour.linear_to_srgb(expected), atol=2e-5)
    assert found.min() > photographs.min() + 0.05  # black is no longer black
