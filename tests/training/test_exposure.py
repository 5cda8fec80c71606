import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy import stats

from lle_jax import data, models
from lle_jax.checks import ConfigError
from lle_jax.models import grid, thumbnail_paths
from lle_jax.models.params import named
from lle_jax.training import degradation, exposure, thumbnails

CONFIG = ml_collections.ConfigDict(
    {
        "name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1),
        "uncertainty": False, "exposure_path": True,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(np.float32), models.shapes(CONFIG)
    )


def images(*arrays, modalities=()):
    names = tuple(str(number) for number in range(len(arrays)))
    return data.Images(
        names,
        names,
        tuple(array.shape[:2] for array in arrays),
        tuple(lambda array=array: array for array in arrays),
        modalities,
    )


def dimmed(light):
    """A degradation that is known: all pixels times `light`."""
    return lambda key, batch: light * jnp.asarray(batch.clean)


def test_thumbnails_are_of_whole_images_and_of_squares_of_them(params):
    """Of an image with one white half, on its long side: the whole has a mean luma of a half."""
    image = np.zeros((40, 400, 1), np.float32)
    image[:, 200:] = 1
    drawn = exposure.draw(CONFIG, params, images(image), dimmed(0.5), 200, seed=0)
    assert drawn.cells.shape == (200, grid.CELLS, grid.CELLS, 6)
    whole = np.abs(drawn.mean - 0.5) < 0.01
    assert 0.65 < whole.mean() < 0.85
    assert set(np.round(drawn.mean[~whole])) == {0, 1}
    low = drawn.cells[..., :3].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(low, 0.5 * drawn.mean, atol=1 / 255)  # rounded to 8 bits
    np.testing.assert_allclose(255 * drawn.cells[whole][:, 0, -1, 0] % 1, 0, atol=1e-3)


def test_modalities_have_equally_many_thumbnails_whatever_their_images(params):
    levels = [0.2, 0.4, 0.6, 0.8]
    flat = [np.full((20, 30, 3), level, np.float32) for level in levels]
    modalities = ("fundus", "fundus", "fundus", "endoscopy")
    drawn = exposure.draw(
        CONFIG, params, images(*flat, modalities=modalities), dimmed(1), 192, seed=0
    )
    counts = [int(np.sum(np.abs(drawn.mean - level) < 0.01)) for level in levels]
    assert counts == [32, 32, 32, 96]


def test_the_seed_decides_what_is_drawn(params):
    flat = images(np.full((20, 30, 3), 0.5, np.float32))
    degrade = degradation.make("good_light")
    one, same, other = (
        exposure.draw(CONFIG, params, flat, degrade, 16, seed).cells for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.001


def leaves(params):
    return {name: np.asarray(leaf, np.float64) for name, leaf in named(params)}


def without_clinic(params):
    return jax.tree.unflatten(
        jax.tree.structure(params),
        [0 * leaf if "clinic" in name else leaf for name, leaf in named(params)],
    )


def test_only_the_path_moves_and_it_learns_the_light(params, photographs, monkeypatch):
    """Of two photographs under four lights, whatever the light."""
    monkeypatch.setattr(thumbnails, "WHOLE", 1.0)
    monkeypatch.setattr(thumbnails, "BATCH", 16)
    drawn = [
        exposure.draw(CONFIG, params, images(*photographs), dimmed(light), 32, seed=0)
        for light in (0.9, 0.6, 0.4, 0.2)
    ]
    together = exposure.Thumbnails(*(np.concatenate(part) for part in zip(*drawn, strict=True)))
    before = exposure.log_error(CONFIG, params, together)
    found = exposure.fit(CONFIG, params, together, steps=300, lr=5e-3, seed=0)
    after = exposure.log_error(CONFIG, found, together)
    assert np.sqrt(np.mean(after**2)) < 0.1 < 0.4 < np.sqrt(np.mean(before**2))
    for (name, old), (_, new) in zip(named(params), named(found), strict=True):
        assert np.array_equal(old, new) != name.startswith(exposure.LAYER), name
    assert not np.any(leaves(found)["exposure.clinic.kernel"])


def drawn_with(params, photographs, error):
    """Thumbnails of photographs under several lights, whose means are `error(features)` off."""
    parts = [
        exposure.draw(CONFIG, params, images(*photographs), dimmed(light), 32, 0)
        for light in (0.9, 0.4, 0.1)
    ]
    cells = np.concatenate([part.cells for part in parts])
    path = models.bind(CONFIG)(params).exposure
    features = np.asarray(path.features(cells), np.float64)
    said = np.log(np.asarray(path(cells))[:, 0, 0, 0])
    return exposure.Thumbnails(cells, np.exp(said + error(features))), features


def test_the_features_are_what_the_last_layer_sees(params, photographs):
    path = models.bind(CONFIG)(params).exposure
    cells = grid.cell_means(0.3 * photographs)
    features = path.features(cells)
    assert features.shape == (2, 64)
    own = np.log((np.asarray(cells[..., :3]) @ [0.299, 0.587, 0.114]).mean(axis=(1, 2)))
    known, lacking = np.asarray(path.clinic(features)).T
    said = own + np.asarray(path.output(features))[:, 0] + lacking / (1 + np.exp(-known))
    assert np.abs(lacking).min() > 0.01
    np.testing.assert_allclose(np.log(path(cells))[:, 0, 0, 0], said, atol=1e-4)


def test_what_clinics_images_lack_is_an_independent_ridge_regression(params, photographs):
    rng = np.random.default_rng(0)

    def error(features):
        spread = (features - features.mean(axis=0)) / features.std(axis=0)
        return 0.2 + 0.05 * spread @ rng.normal(size=64) / 8 + rng.normal(0, 0.1, len(features))

    drawn, features = drawn_with(params, photographs, error)
    others = exposure.draw(CONFIG, params, images(*photographs), dimmed(1), 32, 0)
    found = exposure.calibrate(CONFIG, params, drawn, others)
    missing = -exposure.log_error(CONFIG, without_clinic(params), drawn)
    x = stats.zscore(features) / 8  # of 64
    rows = np.block(
        [[x, np.ones((len(x), 1))], [exposure.RIDGE**0.5 * np.eye(64), np.zeros((64, 1))]]
    )
    solution = np.linalg.lstsq(rows, np.append(missing, np.zeros(64)))[0]
    lacking = features @ leaves(found)["exposure.clinic.kernel"][:, 1]
    lacking += leaves(found)["exposure.clinic.bias"][1]
    np.testing.assert_allclose(lacking, rows[: len(x)] @ solution, atol=2e-3)
    assert np.ptp(lacking) > 0.02
    for (name, old), (_, new) in zip(named(params), named(found), strict=True):
        assert np.array_equal(old, new) != name.startswith("exposure.clinic"), name


def test_what_all_images_lack_alike_is_learned_from_any_number(params, photographs):
    params = without_clinic(params)
    drawn, features = drawn_with(params, photographs, lambda features: -0.4)
    for count in (1, 3, len(drawn.mean)):
        few = exposure.Thumbnails(*(part[:count] for part in drawn))
        found = leaves(exposure.calibrate(CONFIG, params, few, drawn))
        lacking = features @ found["exposure.clinic.kernel"] + found["exposure.clinic.bias"]
        np.testing.assert_allclose(lacking[:, 1], -0.4, atol=2e-3)


def test_which_images_are_the_clinics_is_logistic_regression(params, photographs):
    """At its optimum the sum of the residuals is 0, and that with each feature its weight."""
    clinic, others = (
        exposure.draw(CONFIG, params, images(*photographs), dimmed(light), 48, 0)
        for light in (0.3, 0.5)
    )
    found = exposure.calibrate(CONFIG, params, clinic, others)
    path = models.bind(CONFIG)(params).exposure
    cells = np.concatenate([clinic.cells, others.cells])
    features = np.asarray(path.features(cells), np.float64)
    label = np.arange(len(cells)) < len(clinic.cells)
    kernel, bias = (leaves(found)[f"exposure.clinic.{name}"] for name in ("kernel", "bias"))
    probability = 1 / (1 + np.exp(-(features @ kernel[:, 0] + bias[0])))
    assert np.mean(probability[label]) > 0.6
    assert np.mean(probability[~label]) < 0.4
    residual = label - probability
    np.testing.assert_allclose(residual.sum(), 0, atol=0.02)
    deviation = features.std(axis=0)
    kept = deviation > 0.01 * np.median(deviation)
    np.testing.assert_allclose(
        (stats.zscore(features).T @ residual)[kept], (kernel[:, 0] * deviation)[kept], atol=0.02
    )

    # the prediction moves by both
    before = exposure.log_error(CONFIG, without_clinic(params), others)
    moved = exposure.log_error(CONFIG, found, others) - before
    lacking = features @ kernel[:, 1] + bias[1]
    np.testing.assert_allclose(moved, (probability * lacking)[~label], atol=2e-3)


def test_what_a_clinics_images_lack_alike_is_learned_and_good_light_is_left(params, photographs):
    drawn = {
        light: exposure.draw(CONFIG, params, images(*photographs), dimmed(light), 64, 0)
        for light in (0.2, 1)
    }
    found = exposure.calibrate(CONFIG, params, drawn[0.2], drawn[1])
    before, after = (
        {light: exposure.log_error(CONFIG, each, part) for light, part in drawn.items()}
        for each in (params, found)
    )
    assert np.abs(before[0.2]).min() > 0.5
    np.testing.assert_allclose(after[0.2], 0, atol=0.05)
    np.testing.assert_allclose(after[1], before[1], atol=0.1)
    again = exposure.calibrate(CONFIG, found, drawn[0.2], drawn[1])  # in place of the former
    np.testing.assert_allclose(exposure.log_error(CONFIG, again, drawn[0.2]), after[0.2], atol=1e-3)


def test_the_error_is_that_of_the_logarithm(params, photographs):
    cells = np.asarray(grid.cell_means(photographs))
    said = models.tiled(CONFIG).finish_context(params, cells, np.zeros((2, 1, 1, 1), bool))
    mean = np.asarray(said.exposure)[:, 0, 0, 0]
    error = exposure.log_error(CONFIG, params, exposure.Thumbnails(cells, mean / 1.25))
    np.testing.assert_allclose(error, np.log(1.25), rtol=1e-3)


def test_a_network_is_told_a_brightness_in_place_of_what_its_path_predicts(params, photographs):
    tiled, low = models.tiled(CONFIG), 0.3 * photographs
    predicted = models.bind(CONFIG)(params).exposure(grid.cell_means(low))
    found, told = (tiled.compute_context(params, low, mean) for mean in (jnp.nan, predicted))
    np.testing.assert_array_equal(found.curves, told.curves)
    np.testing.assert_allclose(found.exposure, predicted, rtol=0.02)

    brighter = jax.tree.unflatten(
        jax.tree.structure(params),
        [leaf + (name == "exposure.output.bias") for name, leaf in named(params)],
    )
    again, same = (tiled.compute_context(brighter, low, mean) for mean in (jnp.nan, predicted))
    assert np.all(again.exposure > 1.2 * found.exposure)
    np.testing.assert_array_equal(same.curves, told.curves)


def test_no_orientation_of_an_image_changes_what_is_predicted(params, photographs):
    path = models.bind(CONFIG)(params).exposure
    cells = grid.cell_means(0.3 * photographs)
    turned = np.stack([thumbnail_paths.turn(cells, number) for number in range(8)])
    assert len({part.tobytes() for part in turned}) == 8
    for number in range(8):
        np.testing.assert_allclose(path(turned[number]), path(cells), rtol=1e-5)
    one = [np.asarray(path.log_gain(part)) for part in turned]
    assert np.ptp(one, axis=0).max() > 1e-4


def test_a_network_without_the_path_is_refused(photographs):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | {"exposure_path": False})
    params = models.build(config, jax.random.key(0))[1]
    drawn = exposure.draw(config, params, images(photographs[0]), dimmed(1), 16, seed=0)
    with pytest.raises(ConfigError, match=r"model\.exposure_path is not set"):
        exposure.fit(config, params, drawn, steps=10, lr=1e-3, seed=0)
    with pytest.raises(ConfigError, match=r"model\.exposure_path is not set"):
        exposure.calibrate(config, params, drawn, drawn)
