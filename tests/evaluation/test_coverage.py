import types

import jax
import numpy as np
import pytest

from lle_jax import models
from lle_jax.commands import release as command
from lle_jax.evaluation import coverage, suite
from lle_jax.experiments import base
from lle_jax.inference import tiles


def small(**changes):
    config = base.network("dual_path")
    config.update(widths=(4, 6), blocks=(1, 1), **changes)
    return config


@pytest.fixture(scope="module")
def config():
    return small(uncertainty=True)


@pytest.fixture(scope="module")
def params(config):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), models.shapes(config)
    )


@pytest.fixture
def cases(photographs):
    return [
        suite.Case(str(number), "", "", "", 0.4 * clean, clean, None)
        for number, clean in enumerate(photographs)
    ]


def test_coverage_is_the_share_of_errors_within_the_interval(config, params, cases):
    net = tiles.network(config, params)
    for each in coverage.measure(net, cases):
        low, clean = each.case.low, each.case.clean
        out = np.empty_like(low)
        # at the truth's brightness: an interval is that of the brightness that was chosen
        truth = float((clean @ np.array([0.299, 0.587, 0.114])).mean())
        context = tiles.finish_context(net, tiles.cell_means(low), tiles.is_grey(low), truth)
        tiles.restore(net, low, out, context=context)
        np.testing.assert_allclose(each.error, np.abs(out - clean), atol=1e-5)
        inside = np.abs(out - clean) <= tiles.half_width(net, low, context=context)
        assert each.coverage == pytest.approx(inside.mean(), abs=1e-3)
        assert 0 < each.coverage < 1


def test_a_release_with_an_interval_covers_its_share(config, params, cases):
    images = types.SimpleNamespace(cases=lambda: iter(cases), count=len(cases))
    scaled, factor = command.calibrate(config, params, images, 0.9)
    assert factor != 1
    net = tiles.network(config, scaled)
    covered = np.mean([each.coverage for each in coverage.measure(net, cases)])
    np.testing.assert_allclose(covered, 0.9, atol=0.002)


def test_a_network_that_cannot_tell_is_refused(cases):
    config = small()
    _, params = models.build(config, jax.random.key(0))
    with pytest.raises(ValueError, match=r"train it with model\.uncertainty"):
        list(coverage.measure(tiles.network(config, params), cases))
