"""Where a medical image shows something, against fields of view that are known."""

from pathlib import Path

import numpy as np
import pytest

from lle_jax import colour, metrics
from lle_jax.evaluation import tasks
from lle_jax.metrics.field import field_of_view

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SIDE = 192


@pytest.fixture
def eye(fundus):
    """A retina in a disc, and around it black as DRIVE has it, with the noise of a photograph."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = (np.hypot(rows, columns) < 60)[..., None]
    noise = np.random.default_rng(0).normal(0, 0.008, fundus.shape)
    return np.where(disc, fundus, np.clip(0.03 + noise, 0, 1)).astype(np.float32), disc[..., 0]


def test_the_field_of_a_round_photograph_is_its_disc(eye):
    image, disc = eye
    found = np.asarray(field_of_view(colour.luma(image)))
    assert found[disc].all()
    assert 0 < np.mean(found[~disc]) < 0.1  # the blurred rim
    dark = np.array(image)
    dark[90:94, 90:94] = 0.0  # a lesion is no hole in it
    assert np.asarray(field_of_view(colour.luma(dark)))[disc].all()


@pytest.mark.parametrize("change", [metrics.spot_change, metrics.line_change])
def test_noise_in_the_black_around_is_neither_added_nor_lost(eye, change):
    image, disc = eye
    noise = np.random.default_rng(1).normal(0, 0.03, (*image.shape[:2], 1))  # grey: not averaged
    other = np.where(disc[..., None], image, np.clip(image + noise, 0, 1)).astype(np.float32)
    assert max(map(float, change(other, image)[:4])) == 0
    # as much noise in a dim retina is seen
    dim = np.where(disc[..., None], 0.3 * image, image).astype(np.float32)
    other = np.where(disc[..., None], np.clip(dim + noise, 0, 1), dim).astype(np.float32)
    assert float(change(other, dim)[0]) > 100


def test_a_count_is_per_megapixel_of_the_field(eye):
    image, disc = eye
    spotted = np.array(image)
    rows, columns = np.mgrid[:SIDE, :SIDE] - 96
    spotted *= (1 - 0.4 * np.exp(-(rows**2 + columns**2) / (2 * 2.0**2)))[..., None]
    added = float(metrics.spot_change(spotted, image).dark_added)
    np.testing.assert_allclose(added, 1e6 / disc.sum(), rtol=0.2)  # and of the rim


def test_the_fields_that_drive_publishes():
    """Of the test split; the thresholds were chosen on the others."""
    if not (DATA / "drive").is_dir():
        pytest.skip("no ../shared/data/drive beside the checkout")
    cases = list(tasks.cases(DATA, "drive", "test"))
    assert len(cases) == 10
    for case in cases:
        assert not case.region.all()
        found = np.asarray(field_of_view(colour.luma(case.image)))
        assert np.mean(found[case.region]) > 0.999
        assert np.mean(found[~case.region]) < 0.12
