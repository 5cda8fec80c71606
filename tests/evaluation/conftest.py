import numpy as np
import pytest

from lle_jax import images
from lle_jax.evaluation import evaluate, methods, suite

SUITE = """
description = "Seven small photographs"
[images]
source = "{source}"
role = "all"
[degradation]
preset = "lowlight"
realisations = 1
seed = 3
severities = [0.5, 1.0]
"""


@pytest.fixture(scope="session")
def clean_folder(tmp_path_factory, photographs):
    """Seven different photographs of 40 x 48 pixels; one has markup for a name."""
    folder = tmp_path_factory.mktemp("clean")
    for number in range(7):
        shifted = np.roll(photographs[number % 2], 9 * number, axis=(0, 1))[:40, :48]
        name = "<b>six" if number == 6 else f"photo{number}"
        images.write(folder / f"{name}.png", np.ascontiguousarray(shifted))
    return folder


@pytest.fixture(scope="session")
def small_suite(tmp_path_factory, clean_folder):
    path = tmp_path_factory.mktemp("suite") / "small.toml"
    path.write_text(SUITE.format(source=clean_folder.as_posix()))
    return suite.load(str(path))


def brighten(low):
    return np.clip(low * 2.5, 0, 1)


@pytest.fixture(scope="session")
def brightener():
    """A `network` that multiplies by 2.5 and was trained on other images."""
    return methods.Method("brightener", lambda case: brighten(case.low), brighten, {"kind": "test"})


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory, small_suite, brightener):
    """(folder, result) of the brightener, a copy of it, and gamma."""
    folder = tmp_path_factory.mktemp("evaluated") / "small"
    evaluated_methods = methods.unique([brightener, brightener])
    return folder, evaluate.evaluate(
        small_suite, evaluated_methods, [methods.load("gamma")], folder
    )


@pytest.fixture
def with_hashes():
    """A method as if it had been trained, or validated, on images of these hashes."""
    return lambda method, **known: method._replace(
        **{name: frozenset(hashes) for name, hashes in known.items()}
    )
