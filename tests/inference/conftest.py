import jax
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.checkpoints import release

CONFIG = {"name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1)}


@pytest.fixture(scope="session")
def config():
    return ml_collections.ConfigDict(CONFIG)


@pytest.fixture(scope="session")
def params(config):
    """Random parameters of a small network, with which it changes every image."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), models.shapes(config)
    )


@pytest.fixture(scope="session")
def folder(config, params, tmp_path_factory):
    """A release of that network."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    release.save(folder, config, params, {"trained": "not at all"})
    return folder
