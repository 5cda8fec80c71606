import math

import jax
import numpy as np
import pytest

from lle_jax import degrade
from lle_jax.artifacts import measures, severity

GOOD = {
    "salt": 0.0,
    "pepper": 0.0,
    "noise_sigma": 0.001,
    "luminance": 0.3,
    "non_uniformity": 0.3,
    "blur_sigma": 0.0,
    "jpeg_quality": 100.0,
}


def test_curves_are_monotone_within_0_and_1_and_start_at_0():
    for artifact, table in severity.curves().items():
        x, y = np.transpose(table["points"])
        assert (np.diff(x) > 0).all(), artifact
        assert (np.diff(y) > 0).all() or (np.diff(y) < 0).all(), artifact
        assert y.min() == 0, artifact
        assert y.max() <= 1, artifact


def test_a_good_image_needs_no_correction():
    found = severity.severity(GOOD)
    assert set(map(severity.label, found.values())) == {"none"}
    assert severity.recommend(found) == "no correction needed"


@pytest.mark.parametrize(
    ("change", "artifact"),
    [
        ({"salt": 0.01, "pepper": 0.02}, "impulses"),
        ({"noise_sigma": 0.1}, "noise"),
        ({"luminance": 0.01}, "low_light"),
        ({"non_uniformity": 1.0}, "uneven_light"),
        ({"blur_sigma": 6.0}, "blur"),
        ({"jpeg_quality": 5.0}, "jpeg"),
    ],
)
def test_each_artifact_alone_is_strong_and_names_its_correction(change, artifact):
    found = severity.severity(GOOD | change)
    assert {name for name, value in found.items() if severity.label(value) == "strong"} == {
        artifact
    }
    advice = severity.recommend(found)
    assert advice.startswith(severity.curves()[artifact]["correction"])
    assert ", then" not in advice


def test_corrections_are_in_the_reverse_order_of_the_artifacts_in_the_chain():
    found = severity.severity(GOOD | {"luminance": 0.02, "noise_sigma": 0.02, "jpeg_quality": 5})
    steps = severity.recommend(found).split(", then ")
    corrections = [severity.curves()[name]["correction"] for name in ("jpeg", "noise", "low_light")]
    assert [step.split(" (")[0] for step in steps] == corrections


def test_the_same_noise_is_worse_in_the_dark():
    noise = {"noise_sigma": 0.01}
    bright, dark = (severity.severity(GOOD | noise | {"luminance": v}) for v in (0.3, 0.01))
    assert dark["noise"] > 2 * bright["noise"]


def test_unknown_measures_give_unknown_severities_and_no_advice():
    found = severity.severity(GOOD | {"noise_sigma": math.nan, "salt": math.nan})
    assert severity.label(found["noise"]) == severity.label(found["impulses"]) == "unknown"
    assert severity.recommend(found) == "no correction needed"


def test_no_structure_above_the_noise_tells_nothing_of_blur():
    assert math.isnan(severity.severity(GOOD | {"blur_sigma": 20.0})["blur"])


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0, "none"),
        (0.1, "weak"),
        (0.24, "weak"),
        (0.25, "moderate"),
        (0.4, "strong"),
        (1, "strong"),
    ],
)
def test_labels_begin_at_their_limits(value, name):
    assert severity.label(value) == name


def test_severity_of_injected_artifacts_rises_with_their_strength(photographs):
    image, key = photographs[0], jax.random.key(0)
    series = {
        "noise": lambda s: degrade.gaussian_noise(key, image, sigma=0.1 * s),
        "low_light": lambda s: degrade.exposure(image, gain=1 - 0.9 * s),
        "impulses": lambda s: degrade.salt_and_pepper(key, image, salt=0.05 * s, pepper=0.05 * s),
        "blur": lambda s: degrade.gaussian_blur(image, sigma=4 * s),
        "jpeg": lambda s: degrade.jpeg(image, 100 - 90 * s),
    }
    for artifact, inject in series.items():
        low = [np.clip(inject(strength), 0, 1) for strength in (0.0, 0.2, 1.0)]
        levels = [np.rint(np.asarray(x) * 255).astype(np.float32) / 255 for x in low]
        found = [severity.severity(measures.measure(x))[artifact] for x in levels]
        assert found[0] < found[1] < found[2], (artifact, found)
        assert severity.label(found[2]) in ("moderate", "strong"), (artifact, found)
