import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lle_jax.degrade.poisson import poisson

DRAWS = 2_000_000
# Dark to bright, with both sides of the switch at 8 between the two methods.
MEANS = (0.5, 1, 2, 5, 7.9, 8, 8.1, 10, 12, 25, 50, 100, 200)


@pytest.fixture(scope="module")
def draw():
    sample = jax.jit(lambda key, mean: poisson(key, jnp.broadcast_to(mean, (DRAWS,))))
    return lambda seed, mean: np.asarray(sample(jax.random.key(seed), jnp.float32(mean)))


@pytest.mark.parametrize("mean", MEANS)
def test_counts_follow_the_poisson_distribution(draw, mean):
    counts = draw(0, mean)
    assert np.array_equal(counts, np.rint(counts))
    peers = np.random.default_rng(1).poisson(mean, DRAWS)
    assert scipy.stats.ks_2samp(counts, peers, method="asymp").pvalue > 0.05
    assert abs(counts.mean(dtype=np.float64) / mean - 1) < 0.005
    assert abs(counts.astype(np.float64).var() / mean - 1) < 0.005


@pytest.mark.parametrize("mean", MEANS)
def test_the_frequency_of_every_count_is_right(draw, mean):
    # Stricter than Kolmogorov-Smirnov for counts: chi-square over all that are expected 50 times.
    counts = np.bincount(draw(2, mean).astype(int))
    expected = DRAWS * scipy.stats.poisson.pmf(np.arange(len(counts)), mean)
    usual = expected > 50
    observed = np.append(counts[usual], DRAWS - counts[usual].sum())
    theory = np.append(expected[usual], DRAWS - expected[usual].sum())
    assert scipy.stats.chisquare(observed, theory).pvalue > 1e-4


def test_extreme_means():
    means = jnp.array([0.0, -1.0, 1e-6, 1e4, 1e6])
    counts = np.asarray(poisson(jax.random.key(0), means))
    assert (counts[:2] == 0).all()
    assert counts[2] <= 1
    np.testing.assert_allclose(counts[3:], means[3:], rtol=0.06)
    assert np.isnan(poisson(jax.random.key(0), jnp.array([jnp.nan]))).all()


def test_the_least_likely_deviates_give_no_outliers(draw):
    for mean in (0.5, 7.9, 8.1):
        counts = draw(4, mean)
        assert scipy.stats.poisson.sf(counts.max() - 1, mean) > 1e-9


def test_whole_numbers_are_accepted_as_means():
    counts = poisson(jax.random.key(0), jnp.full((1000,), 3))
    assert counts.dtype == jnp.float32
    assert abs(float(counts.mean()) - 3) < 0.3
