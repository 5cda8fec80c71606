"""Fixtures shared by the tests. The main checks run on CPU; nothing needs a network."""

# ruff: noqa: E402 (jax reads the environment as it is imported)

import gc
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the tests' time is compilation of programs that run once. LLVM's optimisation is half of
# that, and a third of the rest are XLA's emitters that make fusions fast, and its splitting of a
# program into parts. What is computed stays the same, but for rounding.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
# Programs are compiled once for all modules, workers and subprocesses of a session, in a folder
# made by the process that starts the session; the others inherit its name.
_OWNS_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWNS_CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="lle_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Nothing is written to the user's own folders. Workers inherit the name of this one, too.
_OWNS_USER_CACHE = "PYTEST_XDIST_WORKER" not in os.environ
if _OWNS_USER_CACHE:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="lle_jax_tests_")
    os.environ["XDG_STATE_HOME"] = os.environ["XDG_CACHE_HOME"]

import jax
import numpy as np
import pytest
import skimage.data

from lle_jax import models
from lle_jax.checkpoints import release
from lle_jax.experiments import base
from lle_jax.inference import enhance, exposure


def pytest_collection_finish():
    """Spares the collector what lives as long as the session, and lets it come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure():
    """Removes the cache folders, in the process that made them."""
    if _OWNS_USER_CACHE:
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    if _OWNS_CACHE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compiled programs of one module are of no use to the next, and take gigabytes in the end."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    """Two 64x64 crops of real photographs, `[2, 64, 64, 3]` float32 in [0, 1]."""
    crops = [skimage.data.astronaut()[0:64, 180:244], skimage.data.retina()[600:664, 200:264]]
    return np.stack(crops).astype(np.float32) / 255


@pytest.fixture(scope="session")
def pair(photographs) -> tuple[np.ndarray, np.ndarray]:
    """The photographs with noise of sigma 0.05 and a shift in brightness, and themselves."""
    noise = np.random.default_rng(0).normal(0.02, 0.05, photographs.shape)
    return np.clip(photographs + noise, 0, 1).astype(np.float32), photographs


@pytest.fixture(scope="session")
def config():
    """The config of a small network that works in tiles."""
    config = base.network("dual_path")
    config.update(widths=(4, 6), blocks=(1, 1))
    return config


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


@pytest.fixture(scope="module")
def net():
    """The released model."""
    return enhance.load()


@pytest.fixture
def whole_correction(monkeypatch):
    """Makes the whole correction; how much an image needs is tested in test_exposure.py."""

    def decide(net, measured, wish):
        return exposure.Correction(wish.aim, gain=wish.gain)

    monkeypatch.setattr(exposure, "decide", decide)
