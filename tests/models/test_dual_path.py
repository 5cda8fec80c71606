import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import skimage.data

from lle_jax import colour, degrade, models
from lle_jax.experiments import base
from lle_jax.experiments import dual_path as experiment
from lle_jax.models import dual_path, grid


def statistics(image):
    """What the brightness path is given of an image `[B, H, W, 3]`."""
    return grid.statistics(grid.cell_means(image))


def config(**changes):
    small = {"widths": (4, 6), "blocks": (1, 1), "light_path": True}
    return ml_collections.ConfigDict(base.network("dual_path").to_dict() | small | changes)


def shaken(params):
    """Random parameters everywhere, so that no path is the identity."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (
            leaf + rng.normal(0, 0.3 if leaf.ndim == 1 else 0.03, leaf.shape).astype(np.float32)
        ),
        params,
    )


@pytest.fixture(scope="module")
def untrained():
    apply, params = models.build(config(), jax.random.key(0))
    return jax.jit(apply), params


@pytest.fixture(scope="module")
def network(untrained):
    return untrained[0], shaken(untrained[1])


@pytest.fixture(scope="module")
def tiled(network):
    """The same network in two steps, and the first step's result for a wide image."""
    steps = models.tiled(config())
    return steps, jax.jit(steps.compute_context), jax.jit(steps.restore, static_argnums=4)


def test_the_experiments_network_has_under_two_million_parameters():
    params = models.shapes(experiment.get_config().model)
    assert 500_000 < models.parameter_count(params) < 2_000_000


def test_an_untrained_network_is_the_identity(untrained, photographs):
    apply, params = untrained
    np.testing.assert_allclose(apply(params, photographs), photographs, atol=1e-6)


def test_odd_sizes_and_grey(network, photographs):
    apply, params = network
    image = photographs[:, :13, :7].copy()
    image[0] = image[0, ..., :1]
    output = np.asarray(apply(params, image))
    assert output.shape == image.shape
    np.testing.assert_array_equal(output[0, ..., 0], output[0, ..., 2])
    assert np.abs(output[1, ..., 0] - output[1, ..., 2]).max() > 0.01
    assert apply(params, photographs[:, :1, :1]).shape == (2, 1, 1, 3)


def test_a_grey_image_under_a_tint_comes_out_grey_and_a_colour_image_does_not(network, photographs):
    apply, params = network
    grey = colour.luma(photographs)
    tinted = colour.linear_to_srgb(colour.srgb_to_linear(grey) * jnp.array([0.9, 0.7, 0.5]))
    output = apply(params, tinted)
    np.testing.assert_array_equal(output[..., 0], output[..., 2])
    # as of the grey image itself, whose channels the network takes for those of a colour image
    own = jnp.mean(tinted, axis=(1, 2, 3)) / jnp.mean(grey, axis=(1, 2, 3))
    np.testing.assert_allclose(
        output[..., :1], apply(params, grey * own[:, None, None, None]), atol=0.03
    )
    assert np.abs(np.ptp(apply(params, photographs), axis=-1)).max() > 0.05


def test_bfloat16_stays_close(network, photographs):
    apply, params = network
    half, _ = models.build(config(dtype="bfloat16"), jax.random.key(0))
    output, full = jax.jit(half)(params, photographs), apply(params, photographs)
    assert output.dtype == jnp.float32
    change = np.abs(full - photographs).max()
    assert 0 < np.abs(output - full).max() < 0.05 * change + 0.02


def test_a_tile_equals_the_whole_image_beyond_its_reach_and_not_at_its_edge(
    network, tiled, photographs
):
    (apply, params), (steps, see, restore) = network, tiled
    image = np.concatenate(list(photographs), axis=1)[None]  # 64 x 128
    whole, context = apply(params, image), see(params, image)
    for left in (0, 32, 64):
        right = left + 64
        tile = restore(params, image[:, :, left:right], context, (0, left), (64, 128))
        start = left + steps.reach if left else 0
        end = right - steps.reach if right < 128 else 128
        assert end - start >= 16
        inner = tile[:, :, start - left : end - left]
        np.testing.assert_allclose(inner, whole[:, :, start:end], atol=1e-5)
        if left:
            assert np.abs(tile[:, :, 0] - whole[:, :, left]).max() > 1e-3


def test_nothing_beyond_the_reach_moves_a_pixel_once_the_context_is_known(
    network, tiled, photographs
):
    (apply, params), (steps, see, restore) = network, tiled
    image = photographs[:1]
    context = see(params, image)

    def pixel(x):
        return restore(params, x, context, (0, 0), (64, 64))[0, 30, 30].sum()

    rows, columns = np.nonzero(np.abs(jax.jit(jax.grad(pixel))(image)[0]).max(axis=-1))
    distance = np.maximum(np.abs(rows - 30), np.abs(columns - 30))
    assert steps.reach / 2 < distance.max() <= steps.reach
    brighter = image.copy()
    brighter[:, :, -1] = 1
    assert np.abs(apply(params, brighter) - apply(params, image))[0, 30, 30].max() > 1e-6


def test_statistics_are_means_over_cells_for_every_size():
    rng = np.random.default_rng(0)
    image = rng.random((1, 96, 64, 3)).astype(np.float32)
    found = statistics(jnp.asarray(image))
    assert found.shape == (1, 32, 32, 6)
    cells = image.reshape(1, 32, 3, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found[..., :3], np.log(cells + 0.01) / 2 + 1, atol=1e-5)
    ramp = np.linspace(0, 1, 50, dtype=np.float32)[None, :, None, None]
    flat = statistics(jnp.asarray(np.broadcast_to(ramp, (1, 50, 3, 3))))
    np.testing.assert_allclose(flat[..., 3:], np.log(1e-3) / 3 + 1.3, atol=1e-3)
    pixel = statistics(jnp.full((1, 1, 1, 3), 0.25))
    np.testing.assert_allclose(pixel[..., :3], np.log(0.26) / 2 + 1, rtol=1e-5)


def test_noise_statistics_do_not_depend_on_the_image_size():
    rng = np.random.default_rng(0)
    for side in (192, 320):
        noise = rng.normal(0.5, 0.05, (1, side, side, 3)).astype(np.float32)
        level = np.asarray(statistics(jnp.asarray(noise))[..., 3:]).mean()
        # the difference of four pixels has sigma 2 x 0.05, its magnitude a mean of sqrt(2 / pi)
        expected = np.log(0.1 * np.sqrt(2 / np.pi) + 1e-3) / 3 + 1.3
        np.testing.assert_allclose(level, expected, atol=0.02)


def test_curves_follow_their_formula_and_interpolate_linearly():
    image = np.array([0.0, 0.2, 0.5, 1.0], np.float32).reshape(1, 2, 2, 1).repeat(3, axis=-1)
    curves = np.array([0.3, 0.0, -0.3, 0.0, 0.7, -0.7, 0.1, 0.0, 0.0], np.float32)
    scaled = image * np.exp(3 * np.tanh(curves[:3] / 3))
    expected = scaled + np.tanh(curves[3:6]) * scaled * (1 - scaled) + curves[6:]
    np.testing.assert_allclose(dual_path.brighten(image, curves), expected, atol=1e-6)
    centres = (np.arange(16) + 0.5) / 16
    curves = np.broadcast_to(centres[None, :, None, None], (1, 16, 16, 9)).astype(np.float32)
    found = dual_path.curves_at(jnp.asarray(curves), (20, 3), (40, 0), (100, 3))
    expected = np.clip((np.arange(40, 60) + 0.5) / 100, centres[0], centres[-1])
    np.testing.assert_allclose(found[0, :, 1, 4], expected, atol=1e-5)


def test_a_few_steps_lower_the_error_and_every_parameter_has_a_gradient(network, photographs):
    (apply, params), dark = network, 0.4 * photographs

    @jax.jit
    def step(params):
        loss, slope = jax.value_and_grad(lambda p: jnp.mean((apply(p, dark) - photographs) ** 2))(
            params
        )
        return loss, slope, jax.tree.map(lambda p, s: p - 0.05 * s, params, slope)

    losses = []
    for _ in range(8):
        loss, slope, params = step(params)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    paths = jax.tree_util.tree_flatten_with_path(slope)[0]
    assert [path for path, leaf in paths if not np.abs(leaf).max() > 0] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": ()},
        {"blocks": (1,), "uncertainty": False},
        {"blocks": (1, 0), "uncertainty": False},
    ],
)
def test_a_wrong_configuration_is_named(changes):
    with pytest.raises(ValueError, match="expected positive numbers, as many of both"):
        models.build(config(**changes), jax.random.key(0))


def test_only_a_network_with_a_context_works_in_tiles():
    with pytest.raises(ValueError, match="only dual_path works in tiles"):
        models.tiled(
            ml_collections.ConfigDict(
                {"name": "unet", "dtype": "float32", "widths": (4,), "blocks": 1}
            )
        )


@pytest.fixture(scope="module")
def dark_cells():
    """The cells of dark photographs: the night sky, and a retina with a tenth of its light."""
    photos = [skimage.data.hubble_deep_field(), skimage.data.retina()]
    sky, retina = (photo.astype(np.float32)[None] / 255 for photo in photos)
    retina = degrade.exposure(retina, gain=0.1)
    return jnp.concatenate([grid.cell_means(jnp.asarray(image)) for image in (sky, retina)])


@pytest.fixture(scope="module")
def curves():
    """Curves that differ from place to place, as a trained network's do."""
    shape = (2, dual_path.GRID, dual_path.GRID, 9)
    return jnp.asarray(np.random.default_rng(0).normal(0, 0.3, shape), jnp.float32)


def mean_luma(curves, cells):
    bright = np.asarray(dual_path.thumbnail(curves, cells))
    return (bright @ np.array([0.299, 0.587, 0.114])).mean(axis=(1, 2))


def test_told_curves_give_the_wanted_mean_luma(dark_cells, curves):
    means = []
    for wanted in (0.1, 0.2, 0.3, 0.5, 0.7):
        told, stated = dual_path.expose(curves, dark_cells[..., :3], wanted)
        means.append(mean_luma(told, dark_cells[..., :3]))
        np.testing.assert_allclose(stated[:, 0, 0, 0], means[-1], rtol=1e-4)
        np.testing.assert_allclose(means[-1], wanted, rtol=0.01)
        moved = np.asarray(told - curves)
        np.testing.assert_array_equal(moved[..., 3:], 0)
        assert np.ptp(moved[..., :3], axis=(1, 2, 3)).max() < 1e-5
    assert (np.diff(means, axis=0) > 0).all()


def test_a_mean_beyond_the_largest_gain_is_stated_as_what_is_reached(dark_cells, curves):
    cells = 0.03 * dark_cells[..., :3]
    told, stated = dual_path.expose(curves, cells, 0.7)
    assert (stated < 0.2).all()
    np.testing.assert_allclose(stated[:, 0, 0, 0], mean_luma(told, cells), rtol=1e-4)


def test_an_exposure_of_nan_leaves_the_curves_bit_for_bit(dark_cells, curves):
    cells = dark_cells[..., :3]
    exposure = jnp.array([jnp.nan, 0.3]).reshape(2, 1, 1, 1)
    mixed, stated = dual_path.expose(curves, cells, exposure)
    np.testing.assert_array_equal(mixed[0], curves[0])
    assert np.abs(mixed[1] - curves[1]).max() > 0.1
    np.testing.assert_allclose(stated[:, 0, 0, 0], mean_luma(mixed, cells), rtol=1e-4)
    np.testing.assert_array_equal(dual_path.expose(curves, cells, jnp.nan)[0], curves)


@pytest.mark.parametrize("exposure", [np.nan, 0.1, 0.7])
def test_gradients_through_a_told_exposure_are_finite(dark_cells, curves, exposure):
    black_and_white = jnp.stack([jnp.zeros_like(dark_cells[0]), jnp.ones_like(dark_cells[0])])

    @jax.jit
    @jax.grad
    def slope(curves, cells):
        told, mean = dual_path.expose(curves, cells[..., :3], exposure)
        return jnp.sum(told**2) + jnp.sum(mean)

    for cells in (dark_cells, black_and_white):
        assert np.isfinite(slope(curves, cells)).all()


def test_the_context_states_the_wanted_exposure_and_else_the_predicted_one(
    network, tiled, photographs
):
    (apply, params), (_, see, restore) = network, tiled
    predicted = see(params, photographs)
    whole = jnp.full((2, 1, 1, 1), jnp.nan).at[1].set(0.35)
    told = see(params, photographs, whole)
    np.testing.assert_array_equal(told.exposure[0], predicted.exposure[0])
    np.testing.assert_allclose(told.exposure[1], 0.35, rtol=0.01)
    restored = [restore(params, photographs, each, (0, 0), (64, 64)) for each in (predicted, told)]
    np.testing.assert_array_equal(restored[0][0], restored[1][0])
    lumas = [float(np.mean(colour.luma(image[1]))) for image in restored]
    asked, given = 0.35 - float(predicted.exposure[1, 0, 0, 0]), lumas[1] - lumas[0]
    assert asked * given > 0
    assert abs(asked) > 0.02
    np.testing.assert_array_equal(restored[0], apply(params, photographs))
