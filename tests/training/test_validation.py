import numpy as np
import pytest

from lle_jax import data
from lle_jax.experiments import base
from lle_jax.training import validation

SIZES = ((40, 52), (48, 44), (70, 70))


class Pictures:
    """Keeps what would be saved."""

    def grid(self, step, columns):
        self.shapes = [np.shape(column) for column in columns]
        self.low = columns[0]


def validated(*sides, sizes=SIZES):
    """Validates a network that halves the light; returns the sides seen and the pictures."""
    config = base.get_config()
    config.data.crop, config.data.context_sizes = 16, sides
    names = tuple(map(str, range(len(sizes))))
    rng = np.random.default_rng(0)
    arrays = [rng.random((*size, 1), np.float32) for size in sizes]
    loaders = tuple((lambda array=array: array) for array in arrays)
    seen, log = [], Pictures()

    def apply(params, low):
        seen.append(low.shape)
        return params * low

    run = validation.make(
        config, apply, lambda key, batch: batch.clean, data.Images(names, names, sizes, loaders)
    )
    values = run(0.5, log, 3)
    assert values["validation_psnr"] == pytest.approx(10.8, abs=0.3)  # mean of (x / 2)^2 is 1 / 12
    return seen, log, arrays


@pytest.mark.parametrize(
    ("sides", "side"),
    [((), 16), ((24,), 24), ((16, 40, 24), 40), ((24, 44), 24), ((64,), 16)],
    ids=["no context", "one", "the largest", "that all images have", "none has it"],
)
def test_a_network_is_validated_with_the_context_it_is_trained_with(sides, side):
    seen, log, arrays = validated(*sides)
    assert seen == [(3, side, side, 3)]
    assert log.shapes == [(3, 16, 16, 3)] * 3  # pictures do not grow
    np.testing.assert_array_equal(log.low[0], np.broadcast_to(arrays[0][12:28, 18:34], (16, 16, 3)))
