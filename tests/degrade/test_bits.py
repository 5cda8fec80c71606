import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lle_jax.degrade import bits

KEY = jax.random.key(0)


def test_threefry_gives_the_published_vectors():
    # Known answers of Random123 (kat_vectors, threefry2x32 20), as "counter, key, result".
    vectors = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ]
    for counter, key, expected in vectors:
        words = (jnp.uint32(word) for word in (*key, *counter))
        assert tuple(int(word) for word in bits.threefry(*words)) == expected


def test_threefry_equals_jax():
    # jax's own cipher: the key derived for `data` is the encryption of the counter (0, data).
    for data in (0, 1, 12345):
        expected = jax.random.key_data(jax.random.fold_in(KEY, data))
        key = jax.random.key_data(KEY)
        found = bits.threefry(key[0], key[1], jnp.uint32(0), jnp.uint32(data))
        np.testing.assert_array_equal(jnp.stack(found), expected)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3, 2)])
def test_words_have_the_shape_asked_for_and_no_repeats(shape):
    words = np.asarray(bits.words(KEY, shape))
    assert words.shape == shape
    assert words.dtype == np.uint32
    assert len(np.unique(words)) == words.size


def test_the_same_key_gives_the_same_words_and_another_key_others():
    first, again = bits.words(KEY, (64,)), jax.jit(bits.words, static_argnums=1)(KEY, (64,))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, bits.words(jax.random.PRNGKey(0), (64,)))
    assert not np.intersect1d(first, bits.words(jax.random.key(1), (64,))).size


def test_mapping_over_keys_equals_a_loop():
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda key: bits.words(key, (5, 4)))(keys)
    np.testing.assert_array_equal(mapped, [bits.words(key, (5, 4)) for key in keys])


def test_every_bit_is_set_half_of_the_time_and_bytes_are_uniform():
    words = np.asarray(bits.words(KEY, (1_000_000,)))
    for bit in range(32):
        assert abs((words >> bit & 1).mean() - 0.5) < 5 * 0.5 / 1000
    for shift in (0, 8, 16, 24):
        counts = np.bincount(words >> shift & 255, minlength=256)
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_neighbours_rows_halves_and_related_keys_are_uncorrelated():
    shape = (1000, 1000)
    u = np.asarray(bits.uniform(KEY, shape, jnp.float32), np.float64) - 0.5
    bound = 5 / np.sqrt(u.size) / 12  # five standard deviations of the mean product
    assert abs((u[:, 1:] * u[:, :-1]).mean()) < bound
    assert abs((u[1:] * u[:-1]).mean()) < bound
    assert abs((u[:500] * u[500:]).mean()) < 1.5 * bound
    for related in (jax.random.key(1), jax.random.fold_in(KEY, 0), jax.random.split(KEY)[0]):
        other = np.asarray(bits.uniform(related, shape, jnp.float32), np.float64) - 0.5
        assert abs((u * other).mean()) < bound


def test_uniform_deviates_are_uniform_and_never_0_or_1():
    u = np.asarray(bits.uniform(KEY, (2_000_000,), jnp.float32))
    assert scipy.stats.kstest(u, "uniform").pvalue > 0.05
    assert 0 < u.min() < 2e-6
    assert 1 - 2e-6 < u.max() < 1
    ends = (jnp.array([0, 2**32 - 1], jnp.uint32) >> 9).astype(jnp.float32)
    np.testing.assert_array_equal((ends + 0.5) * 2.0**-23, [2.0**-24, 1 - 2.0**-24])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_normal_deviates_are_normal(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        z = np.asarray(bits.normal(jax.random.key(3), (1_000_000,), dtype))
    assert z.dtype == dtype
    assert scipy.stats.kstest(z, "norm").pvalue > 0.05
    assert abs(z.mean()) < 5e-3
    assert abs(z.std() - 1) < 4e-3
    assert abs(scipy.stats.kurtosis(z)) < 0.025
    assert 4.3 < np.abs(z).max() < 6.5


def test_the_normal_quantile_equals_scipy():
    u = ((np.arange(2**23)[::37] + 0.5) * 2.0**-23).astype(np.float32)  # from end to end
    expected = scipy.stats.norm.ppf(u.astype(np.float64))
    np.testing.assert_allclose(bits.normal_quantile(jnp.asarray(u)), expected, rtol=3e-7, atol=3e-7)
