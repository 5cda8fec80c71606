"""Spots that are planted are counted, and what is no spot is not."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import metrics

SIDE = 192
change = jax.jit(metrics.spot_change)


def centres(count=16, step=40, first=28):
    return [(first + step * (i // 4), first + step * (i % 4)) for i in range(count)]


def planted(image, contrast, radius=3.0):
    """Sixteen soft discs; a negative contrast is dark."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    total = np.zeros((SIDE, SIDE), np.float32)
    for row, column in centres():
        distance = np.hypot(rows - row, columns - column)
        total += 1 / (1 + np.exp((distance - radius) / 0.5))
    return (image * (1 + contrast * total[..., None])).astype(np.float32)


def numbers(result):
    """Counts of the whole image, of the rates per megapixel where all of it is in the field."""
    return [round(float(value) * SIDE * SIDE / 1e6) for value in result[:4]]


@pytest.mark.parametrize("contrast", [-0.3, 0.25])
@pytest.mark.parametrize("radius", [2.0, 3.0, 4.5])
def test_planted_spots_are_added_and_erased_ones_lost(fundus, contrast, radius):
    spotted = planted(fundus, contrast, radius)
    dark_added, dark_lost, bright_added, bright_lost = numbers(change(spotted, fundus))
    added = dark_added if contrast < 0 else bright_added
    assert 14 <= added <= 17
    assert dark_lost + bright_lost <= 3
    found = np.argwhere(np.asarray(change(spotted, fundus).added_map))
    distances = np.abs(found[:, None] - np.array(centres())[None]).max(axis=-1)
    assert (distances.min(axis=0) <= 2).sum() >= 14
    erased = numbers(change(fundus, spotted))
    assert erased[1 if contrast < 0 else 3] == added


def test_the_fainter_the_fewer(fundus):
    counts = [numbers(change(planted(fundus, -c), fundus))[0] for c in (0.3, 0.12, 0.03)]
    assert counts[0] >= counts[1] > counts[2]
    assert counts[2] <= 1


def test_light_and_tone_add_none(fundus):
    shade = np.linspace(0.4, 1, SIDE, dtype=np.float32)[:, None]
    for other in (0.5 * fundus, fundus * shade, fundus**0.8):
        assert sum(numbers(change(other, fundus))) <= 1
    assert sum(numbers(change(fundus, fundus))) == 0


def test_lines_and_highlights_are_no_spots(fundus):
    lined = fundus.copy()
    for row in range(20, SIDE - 20, 24):
        cv2.line(lined, (20, row), (SIDE - 20, row + 9), (0.3, 0.1, 0.05), 3, cv2.LINE_AA)
    assert numbers(change(lined, fundus))[0] <= 2
    shining = fundus.copy()
    for row, column in centres():
        cv2.circle(shining, (column, row), 3, (1.0, 1.0, 1.0), -1, cv2.LINE_AA)
    # a bright ring's surroundings are dark in proportion, but no highlight is counted
    assert numbers(change(shining, fundus))[2] <= 1


def test_outside_the_field_of_view_nothing_is_counted(fundus):
    black = np.zeros_like(fundus)
    noise = np.random.default_rng(0).uniform(0, 0.02, fundus.shape).astype(np.float32)
    assert numbers(change(noise, black)) == [0, 0, 0, 0]


def test_compiled_batched_and_mapped_values_equal_those_of_each_image(fundus):
    images = jnp.stack([planted(fundus, -0.3), planted(fundus, 0.2)])
    references = jnp.stack([fundus, fundus])
    batch = change(images, references)
    mapped = jax.jit(jax.vmap(metrics.spot_change))(images, references)
    for i in range(2):
        alone = metrics.spot_change(images[i], references[i])
        for one, many, each in zip(alone, batch, mapped, strict=True):
            np.testing.assert_allclose(many[i], one, rtol=1e-5)
            np.testing.assert_allclose(each[i], one, rtol=1e-5)


def test_without_truth_an_output_is_compared_with_its_input_at_its_own_brightness(fundus):
    unlike_input = jax.jit(metrics.spots_unlike_input)
    low = 0.05 * fundus
    assert numbers(change(fundus, low)) == [0, 0, 0, 0]  # dim as it is, no field of view is left
    for contrast, place in ((-0.3, 0), (0.2, 2)):
        output = planted(fundus, contrast)
        assert numbers(unlike_input(output, low)) == numbers(change(output, fundus))
        assert numbers(unlike_input(output, low))[place] >= 0.9 * len(centres())


def test_structure_where_the_input_at_that_brightness_would_be_white_is_not_added():
    tissue = planted(np.ones((SIDE, SIDE, 3), np.float32), -0.3)
    lit = np.arange(SIDE)[:, None, None] < SIDE // 3
    low = np.where(lit, 0.4 * tissue, np.float32(0.03))  # an endoscope's light falls on a third
    output = np.where(lit, 0.85 * tissue, np.float32(0.5))
    assert numbers(metrics.spots_unlike_input(output, low)) == [0, 0, 0, 0]
    assert numbers(change(output, metrics.gt_mean(low, output)))[0] >= 4  # as clipping has it


def test_shapes_must_agree(fundus):
    with pytest.raises(ValueError, match="must be equal"):
        metrics.spot_change(fundus, fundus[:-1])
