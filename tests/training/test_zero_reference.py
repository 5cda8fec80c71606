import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import data, models
from lle_jax.experiments import zero_dce as experiment
from lle_jax.training import objective, optimiser, sharding, state, train, zero_reference


def test_spatial_consistency_follows_its_sum(pair):
    image, enhanced = (np.asarray(value, np.float64) for value in pair)
    change = (enhanced - image).mean(-1).reshape(2, 16, 4, 16, 4).mean(axis=(2, 4))
    total = 0.0
    for b, i, j in np.ndindex(change.shape):
        for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= i + di < 16 and 0 <= j + dj < 16:
                total += (change[b, i, j] - change[b, i + di, j + dj]) ** 2
    found = zero_reference.spatial_consistency(*(jnp.asarray(value) for value in pair))
    np.testing.assert_allclose(found, total / change.size, rtol=1e-4)


def test_spatial_consistency_sees_an_inverted_contrast_and_no_uniform_shift(photographs):
    image = jnp.asarray(photographs)
    np.testing.assert_allclose(zero_reference.spatial_consistency(image, image + 0.1), 0, atol=1e-9)
    assert zero_reference.spatial_consistency(image, 1 - image) > 1e-3


def test_exposure_is_the_distance_of_patches_that_fit():
    image = np.full((1, 40, 40, 3), 9.0, np.float32)  # the margin is left out
    image[:, :16, :16], image[:, :16, 16:32], image[:, 16:32, :32] = 0.1, 0.5, 0.9
    found = zero_reference.exposure_control(jnp.asarray(image), 0.6)
    np.testing.assert_allclose(found, np.mean([0.5, 0.1, 0.3, 0.3]), rtol=1e-5)


def test_colour_is_the_sum_over_pairs_of_channels():
    image = jnp.broadcast_to(jnp.array([0.1, 0.4, 0.6]), (2, 5, 5, 3))
    expected = 0.3**2 + 0.2**2 + 0.5**2
    np.testing.assert_allclose(zero_reference.colour_constancy(image), expected, rtol=1e-5)


def test_smoothness_of_a_plane_is_its_slope_squared():
    rows, columns = np.mgrid[:6, :7]
    plane = (0.1 * rows - 0.2 * columns).astype(np.float32)
    curves = jnp.asarray(np.broadcast_to(plane[None, ..., None], (1, 6, 7, 6)))
    np.testing.assert_allclose(zero_reference.smoothness(curves), 3 * 0.3**2, rtol=1e-4)


def test_training_brightens_without_looking_at_the_clean_image(photographs):
    config = experiment.get_config()
    config.model.width, config.model.iterations, config.optim.warmup_steps = 4, 4, 0
    config.optim.lr, config.optim.ema_decay = 0.01, 0.5
    apply, loss = zero_reference.make(config)
    update, schedule = optimiser.make(config.optim, 1000)
    mesh = sharding.make_mesh()
    restore, params = models.build(config.model, jax.random.key(0))
    current = state.create(params, update, jax.random.key(1))
    current = jax.device_put(current, sharding.replicated(mesh))

    def dim(key, batch):
        return 0.2 * batch.clean

    run = train.make_step(
        config,
        train.Experiment(
            mesh,
            restore,
            objective.make(config, restore),
            dim,
            dim,
            update,
            schedule,
            current,
            None,
        ),
    )
    batch = data.Batch(photographs, np.zeros(len(photographs), np.int32))
    batch = sharding.to_devices(batch, mesh)
    losses = []
    for _ in range(15):
        current, scalars = run(current, batch)
        losses.append(float(scalars["loss"]))
    assert losses[-1] < losses[0] - 0.05
    brightened = jax.jit(restore)(current.params, 0.2 * photographs)
    assert brightened.mean() > 0.2 * photographs.mean() + 0.05
    dark = apply(current.params, 0.2 * photographs)
    assert loss(dark, photographs) == loss(dark, 1 - photographs)


def test_another_network_and_a_small_image_are_refused(photographs):
    config = experiment.get_config()
    config.model = ml_collections.ConfigDict({"name": "unet"})
    with pytest.raises(ValueError, match="zero-reference takes zero_dce"):
        zero_reference.make(config)
    config.model.name, config.data.crop = "zero_dce", 12
    with pytest.raises(ValueError, match=r"data\.crop is 12; zero-reference losses need 16"):
        zero_reference.make(config)
    with pytest.raises(ValueError, match="images of 8 x 8; zero-reference losses need 16"):
        zero_reference.exposure_control(photographs[:, :8, :8], 0.6)
