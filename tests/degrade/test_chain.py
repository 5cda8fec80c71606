import json

import jax
import numpy as np
import pytest

from lle_jax import degrade
from lle_jax.degrade import chain, presets
from lle_jax.degrade.chain import from_json, to_json
from lle_jax.degrade.stages import STAGES

KEY = jax.random.key(3)
# Every stage but the alternative blurs; compiled once for the module.
EVERYTHING = presets.parse(
    """
[cos4_vignetting]
half_angle.uniform = [10, 40]
[light_source]
x.uniform = [-0.3, 0.3]
y.uniform = [-0.3, 0.3]
falloff.normal = [1.0, 0.5, 0.2, 2.0]
[fundus_illumination]
halo.uniform = [0.1, 0.5]
halo_x = 0
halo_y = 0
halo_radius = 0.6
shadow.uniform = [0.1, 0.8]
shadow_x.uniform = [-0.3, 0.3]
shadow_y = 0
shadow_radius = 0.4
[exposure]
gain.loguniform = [0.05, 0.4]
[gaussian_blur]
sigma.uniform = [0.5, 1.0]
[poisson_gaussian_noise]
exact = false
gain = 0.002
read_noise = 0.001
[white_balance]
red = 1.2
blue = 0.8
[gamma]
gamma.uniform = [1.1, 1.5]
[gaussian_noise]
sigma = 0.01
[salt_and_pepper]
salt = 0.01
pepper = 0.01
[quantise]
bits.choice = [5, 6]
[jpeg]
quality.uniform = [40, 95]
""",
    "everything.toml",
)
apply = jax.jit(degrade.apply)


@pytest.fixture(scope="module")
def images(photographs):
    return np.concatenate([photographs, photographs[:, ::-1]])[:, :31, :29]


def test_degraded_images_are_darker_and_in_range(images):
    low = apply(KEY, degrade.sample(KEY, EVERYTHING, (4,)), images)
    assert low.shape == images.shape
    assert low.dtype == np.float32
    assert 0 <= float(low.min()) <= float(low.max()) <= 1
    assert (np.mean(low, axis=(1, 2, 3)) < 0.8 * images.mean((1, 2, 3))).all()


def test_the_same_key_degrades_alike_and_another_key_differently(images):
    parameters = degrade.sample(KEY, EVERYTHING, (4,))
    low = apply(KEY, parameters, images)
    np.testing.assert_array_equal(low, apply(KEY, parameters, images))
    assert (low != apply(jax.random.key(4), parameters, images)).any(axis=(1, 2, 3)).all()
    other = degrade.sample(jax.random.key(4), EVERYTHING, (4,))
    assert (other["exposure.gain"] != parameters["exposure.gain"]).all()


def test_severity_zero_is_the_identity_bit_for_bit(images):
    parameters = degrade.sample(KEY, EVERYTHING, (4,), severity=np.array([0, 1, 0, 0.1]))
    low = np.asarray(apply(KEY, parameters, images))
    np.testing.assert_array_equal(low[[0, 2]], images[[0, 2]])
    assert (low[[1, 3]] != images[[1, 3]]).any(axis=(1, 2, 3)).all()


def test_severity_zero_is_the_identity_in_half_precision(images):
    image = images[0].astype(np.float16)
    low = degrade.apply(KEY, degrade.sample(KEY, EVERYTHING, (), 0.0), image)
    assert low.dtype == np.float16
    np.testing.assert_array_equal(low, image)


def test_artifacts_that_do_not_occur_leave_the_image_bit_for_bit(images):
    never = presets.parse(
        "[exposure]\nprobability = 0\ngain = 0.1\n[jpeg]\nprobability=0\nquality=5"
    )
    low = degrade.apply(KEY, degrade.sample(KEY, never, (4,)), images)
    np.testing.assert_array_equal(low, images)


def test_more_severity_is_never_less_of_any_artifact():
    steps = np.linspace(0, 1, 11)
    draws = [degrade.sample(KEY, EVERYTHING, (64,), severity=s) for s in steps]
    for stage, record in STAGES.items():
        for name, spec in record.parameters.items():
            if f"{stage}.{name}" not in draws[0]:
                continue
            values = np.stack([draw[f"{stage}.{name}"] for draw in draws])
            if spec.neutral is None:
                np.testing.assert_array_equal(values, np.broadcast_to(values[-1], values.shape))
            else:
                np.testing.assert_array_equal(values[0], spec.neutral)
                strength = np.abs(np.log(values) if spec.log_scaled else values - spec.neutral)
                assert (np.diff(strength, axis=0) >= 0).all()
                assert (strength[-1] > 0).all()


def test_parameters_follow_their_distributions():
    import scipy.stats

    text = """
[exposure]
probability = 0.25
gain.loguniform = [0.05, 0.4]
[gaussian_noise]
sigma.normal = [0.1, 0.05, 0.08, 0.3]
[gaussian_blur]
sigma.uniform = [1, 3]
[quantise]
bits.choice = [5, 6, 8]
[defocus_blur]
radius.lognormal = [2, 0.5, 1, 6]
[gamma]
gamma = 1.25
"""
    drawn = degrade.sample(KEY, presets.parse(text), (20000,))
    log = scipy.stats.loguniform(0.05, 0.4)
    normal = scipy.stats.truncnorm(-0.4, 4, 0.1, 0.05)
    uniform = scipy.stats.uniform(1, 2)
    radius = np.log(np.asarray(drawn["defocus_blur.radius"]) / 2) / 0.5
    law = scipy.stats.truncnorm(np.log(1 / 2) / 0.5, np.log(6 / 2) / 0.5)
    assert scipy.stats.kstest(radius, law.cdf).pvalue > 1e-3
    for name, law in (
        ("exposure.gain", log),
        ("gaussian_noise.sigma", normal),
        ("gaussian_blur.sigma", uniform),
    ):
        assert scipy.stats.kstest(np.asarray(drawn[name]), law.cdf).pvalue > 1e-3
    bits, counts = np.unique(drawn["quantise.bits"], return_counts=True)
    np.testing.assert_array_equal(bits, [5, 6, 8])
    np.testing.assert_allclose(counts / 20000, 1 / 3, atol=0.015)
    np.testing.assert_array_equal(drawn["gamma.gamma"], np.float32(1.25))
    assert float(drawn["exposure.active"].mean()) == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("deviations", [0.5, 5, 8, 11.9, 12.1, 30, 1000])
def test_a_mean_far_outside_the_range_gives_the_tail_nearest_to_it(deviations):
    import scipy.stats

    u = ((np.arange(20000) + 0.5) / 20000).astype(np.float32)
    for sign in (1, -1):
        mean = 0.3 - sign * 0.05 * deviations
        values = (mean, 0.05, *((0.3, 0.7) if sign > 0 else (-0.1, 0.3)))
        drawn = chain.quantile(presets.Distribution("normal", values), jax.numpy.asarray(u))
        assert (np.diff(drawn) > -1e-5).all()
        beyond = sign * (np.asarray(drawn, np.float64) - 0.3) / 0.05
        law = scipy.stats.truncnorm(deviations, deviations + 8, -deviations)
        # 1000 deviations away it is as narrow as float32 has numbers
        assert scipy.stats.kstest(beyond, law.cdf).statistic < (0.003 if deviations < 99 else 0.1)


def test_compiled_vmapped_and_looped_chains_agree(images):
    preset = presets.Preset("quiet", "", EVERYTHING.stages[:5])  # without noise or rounding
    parameters = degrade.sample(KEY, preset, (4,))
    batch = degrade.apply(KEY, parameters, images)
    np.testing.assert_allclose(apply(KEY, parameters, images), batch, atol=2e-6)
    mapped = jax.vmap(degrade.apply, (None, 0, 0))(KEY, parameters, images)
    np.testing.assert_allclose(mapped, batch, atol=2e-6)
    one = degrade.apply(KEY, {name: value[1] for name, value in parameters.items()}, images[1])
    np.testing.assert_allclose(one, batch[1], atol=2e-6)


def test_noise_of_one_image_agrees_with_vmap_over_keys(images):
    keys = jax.random.split(KEY, 4)
    parameters = degrade.sample(KEY, EVERYTHING, (4,))
    mapped = jax.jit(jax.vmap(degrade.apply))(keys, parameters, images)
    first = degrade.apply(keys[0], {n: v[0] for n, v in parameters.items()}, images[0])
    # a value on the edge between two levels may round either way, and JPEG spreads it
    assert float((np.abs(mapped[0] - first) > 1e-6).mean()) < 0.02


def test_a_batch_may_have_any_rank(images):
    light = presets.parse("[exposure]\ngain.uniform = [0.1, 0.9]\n[gaussian_blur]\nsigma = 1")
    parameters = degrade.sample(KEY, light, (2, 2))
    low = degrade.apply(KEY, parameters, images.reshape(2, 2, 31, 29, 3))
    flat = {name: value.reshape(4) for name, value in parameters.items()}
    np.testing.assert_allclose(
        low.reshape(images.shape), degrade.apply(KEY, flat, images), atol=1e-6
    )


def test_grey_images_pass_the_whole_chain(images):
    grey = images[..., :1]
    low = degrade.apply(KEY, degrade.sample(KEY, EVERYTHING, (4,)), grey)
    assert low.shape == grey.shape
    assert np.isfinite(low).all()


def test_parameters_have_gradients_that_finite_differences_confirm(images):
    smooth = presets.Preset(
        "smooth", "", tuple(s for s in EVERYTHING.stages if s.name not in ("quantise", "jpeg"))
    )
    with jax.enable_x64(True):
        image = 0.05 + 0.6 * images[0, :8, :8].astype(np.float64)
        drawn = degrade.sample(KEY, smooth, (), 1.0)
        parameters = {name: np.float64(value) for name, value in drawn.items()}
        parameters |= {"salt_and_pepper.active": 0.0, "fundus_illumination.halo": 0.01}

        @jax.jit
        def loss(values):
            return (degrade.apply(KEY, parameters | values, image) ** 2).mean()

        learned = {n: v for n, v in parameters.items() if not n.startswith("salt")}
        learned = {n: v for n, v in learned.items() if not n.endswith(".active")}
        slopes = jax.grad(loss)(learned)
        for name, value in learned.items():
            step = 1e-6
            up, down = (loss(learned | {name: value + s}) for s in (step, -step))
            numeric = float(up - down) / (2 * step)
            assert float(slopes[name]) == pytest.approx(numeric, rel=2e-4, abs=1e-8), name
            assert "halo_" in name or numeric != 0, name


def test_json_gives_the_parameters_back_to_the_bit():
    parameters = degrade.sample(KEY, EVERYTHING, (2, 3))
    text = to_json(parameters)
    assert json.loads(text)["exposure"]["gain"][0][0] == float(parameters["exposure.gain"][0, 0])
    again = from_json(text)
    assert again.keys() == parameters.keys()
    for name, value in parameters.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"exposure": {"gian": 1}}', "did you mean 'exposure.gain'"),
        ('{"exposure": {"gain": "bright"}}', "exposure.gain"),
    ],
)
def test_json_that_is_no_parameters_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        from_json(text)


def test_wrong_parameters_are_named(images):
    with pytest.raises(ValueError, match=r"did you mean 'exposure.gain'"):
        degrade.apply(KEY, {"exposure.gian": 0.5}, images)
    with pytest.raises(ValueError, match=r"lack white_balance.blue"):
        degrade.apply(KEY, {"white_balance.red": 0.5}, images)
    with pytest.raises(ValueError, match=r"exposure.gain has shape \(3,\)"):
        degrade.apply(KEY, {"exposure.gain": np.ones(3)}, images)
    with pytest.raises(ValueError, match=r"severity is 1.5"):
        degrade.sample(KEY, EVERYTHING, (), 1.5)
    with pytest.raises(ValueError, match="severity has shape"):
        degrade.sample(KEY, EVERYTHING, (4,), np.ones(3))


def test_three_equal_channels_stay_equal_and_noisy(images):
    grey = np.repeat(images[..., :1], 3, axis=-1)
    mixed = np.concatenate([grey[:2], images[2:4]])
    low = np.asarray(degrade.apply(KEY, degrade.sample(KEY, EVERYTHING, (4,)), mixed))
    np.testing.assert_array_equal(low[:2, ..., 1:], np.repeat(low[:2, ..., :1], 2, axis=-1))
    assert np.abs(low[:2] - mixed[:2]).max() > 0.01
    assert np.abs(low[2:, ..., 0] - low[2:, ..., 1]).max() > 0.01
