import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.stats

from lle_jax import models
from lle_jax.checks import ConfigError
from lle_jax.inference import tiles
from lle_jax.models.params import load_params, named
from lle_jax.training import uncertainty

CONFIG = {
    "name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1),
    "uncertainty": True, "exposure_path": False,
}  # fmt: skip


def experiment(**changes):
    return ml_collections.ConfigDict({"model": CONFIG, "optim": {"weight_decay": 0.0}} | changes)


def dict_of(params):
    return dict(named(params))


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = models.shapes(ml_collections.ConfigDict(CONFIG))
    return jax.tree.map(lambda s: rng.normal(0, 0.1, s.shape).astype(np.float32), shapes)


def test_only_the_scale_is_moved_and_the_output_is_that_of_the_network(params, photographs):
    apply, _, loss = uncertainty.make(experiment())
    low = 0.3 * photographs
    gradients = jax.jit(jax.grad(lambda p: loss(apply(p, low), photographs)))(params)
    for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        name = jax.tree_util.keystr(path)  # no image is grey
        assert np.any(leaf) == ("log_scale" in name and "log_scale_grey" not in name)
    restored, found = jax.jit(apply)(params, low)
    without = ml_collections.ConfigDict(CONFIG | {"uncertainty": False})
    fewer = load_params(params, ml_collections.ConfigDict(CONFIG), "here")
    fewer = {n: leaf for n, leaf in dict_of(fewer).items() if not n.startswith(uncertainty.LAYERS)}
    plain, drawn = models.build(without, jax.random.key(0))
    structure = jax.tree.structure(drawn)
    same = jax.jit(plain)(jax.tree.unflatten(structure, list(fewer.values())), low)
    np.testing.assert_allclose(restored, same, atol=1e-5)
    assert found.shape == (2, 64, 64, 1)
    assert np.ptp(found) > 1e-3


def test_the_loss_is_that_of_a_laplace_distribution(photographs):
    rng = np.random.default_rng(0)
    restored = np.clip(photographs + rng.normal(0, 0.05, photographs.shape), 0, 1)
    scale = rng.uniform(0.02, 0.2, (*photographs.shape[:-1], 1)).astype(np.float32)
    expected = -scipy.stats.laplace.logpdf(photographs, restored, scale).mean() - np.log(2)
    found = uncertainty.negative_log_likelihood((jnp.asarray(restored), scale), photographs)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_factor_covers_the_level_whatever_the_images_sizes():
    rng = np.random.default_rng(0)
    cases = []
    for side, scale in ((20, 0.1), (200, 0.02)):
        shape = side, side, 1
        cases.append((np.abs(rng.laplace(0, scale, shape)), np.full(shape, scale), "skin", False))
    by = uncertainty.calibration_factors(cases, 0.9).colour
    np.testing.assert_allclose(by, np.log(10), rtol=0.05)  # of a Laplace distribution
    cases[1] = cases[1][0] * 5, *cases[1][1:]  # spreads five times too small in the large image
    by = uncertainty.calibration_factors(cases, 0.9).colour
    covered = [np.mean(error <= by * half) for error, half, *_ in cases]
    np.testing.assert_allclose(np.mean(covered), 0.9, atol=0.005)  # each image counts alike


@pytest.mark.parametrize(("times", "expected"), [(1.1, (0.9, None)), (3, (None, 0.87))])
def test_no_modality_is_covered_by_much_less_than_the_level(times, expected):
    """`times`: how much greater one modality's errors are than its scales say."""
    rng = np.random.default_rng(0)
    scale = np.full((100, 100, 1), 0.05)
    errors = {"skin": [rng.laplace(0, 0.05, scale.shape) for _ in range(9)]}
    errors["fundus"] = [rng.laplace(0, 0.05 * times, scale.shape)]
    cases = [(np.abs(error), scale, name, False) for name, each in errors.items() for error in each]
    by = uncertainty.calibration_factors(cases, 0.9).colour
    covered = [np.mean(error <= by * scale) for error, *_ in cases]
    for found, wanted in zip((np.mean(covered), covered[-1]), expected, strict=True):
        if wanted is not None:
            np.testing.assert_allclose(found, wanted, atol=0.005)
    assert np.mean(covered) >= 0.895
    assert covered[-1] >= 0.865


def test_grey_images_have_a_factor_of_their_own_and_a_kind_without_images_the_others():
    rng = np.random.default_rng(0)
    scale = np.full((100, 100, 1), 0.05)
    errors = {False: rng.laplace(0, 0.05, scale.shape), True: rng.laplace(0, 0.025, scale.shape)}
    cases = [(np.abs(error), scale, "all", grey) for grey, error in errors.items()]
    by = uncertainty.calibration_factors(cases, 0.9)
    np.testing.assert_allclose(by, (np.log(10), np.log(10) / 2), rtol=0.05)
    colour, grey = (uncertainty.calibration_factors([case], 0.9) for case in cases)
    assert colour == (by.colour, by.colour)
    assert grey == (by.grey, by.grey)
    with pytest.raises(ValueError, match="no images to calibrate on"):
        uncertainty.calibration_factors([], 0.9)


@pytest.mark.parametrize(("is_grey", "times"), [(False, 1.5), (True, 0.7)])
def test_scaled_parameters_change_the_predicted_scale_alone(params, photographs, is_grey, times):
    config = ml_collections.ConfigDict(CONFIG)
    scaled = uncertainty.scale_uncertainty(params, uncertainty.Factors(1.5, 0.7))
    nets = [tiles.network(config, p) for p in (params, scaled)]
    image = 0.3 * photographs[0]
    image = np.repeat(image[..., :1], 3, axis=-1) if is_grey else image
    outs = [np.empty_like(image) for _ in nets]
    for net, out in zip(nets, outs, strict=True):
        tiles.restore(net, image, out)
    np.testing.assert_array_equal(*outs)
    first, second = (tiles.half_width(net, image) for net in nets)
    np.testing.assert_allclose(second, times * first, rtol=1e-4)


def test_a_network_without_uncertainty_and_a_moving_decay_are_refused():
    plain = experiment(model=CONFIG | {"uncertainty": False})
    with pytest.raises(ConfigError, match=r"model\.uncertainty is not set"):
        uncertainty.make(plain)
    with pytest.raises(ConfigError, match=r"optim\.weight_decay is 0\.1, which would move"):
        uncertainty.make(experiment(optim={"weight_decay": 0.1}))


def test_a_start_without_uncertainty_keeps_the_rest_and_takes_the_initial_one(params):
    config = ml_collections.ConfigDict(CONFIG)
    tree = {n: leaf for n, leaf in dict_of(params).items() if not n.startswith(uncertainty.LAYERS)}
    drawn = jax.tree.map(jnp.ones_like, params)
    with pytest.raises(ConfigError, match=r"log_scale\.bias is absent"):
        load_params(tree, config, "here")
    found = dict_of(load_params(tree, config, "here", drawn, uncertainty.LAYERS))
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, tree.get(name, np.ones(leaf.shape)))
