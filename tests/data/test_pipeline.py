import collections
import dataclasses
import json

import numpy as np
import pytest

from lle_jax import data
from lle_jax.data import pipeline

SIDE, CROP = 24, 8


@pytest.fixture
def pictures():
    """Seven images in which a pixel's value tells its image, row and column."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    place = (rows * SIDE + columns) / SIDE**2
    arrays = [np.stack([place, place.T, np.full_like(place, n / 8)], -1) for n in range(7)]
    loaders = tuple(lambda a=a: a.astype(np.float32) for a in arrays)
    names = tuple(map(str, range(7)))
    return data.Images(names, names, ((SIDE, SIDE),) * 7, loaders)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def clean_of(batches):
    return np.stack([batch.clean for batch in batches])


def test_batches_are_crops_of_the_images_in_the_eight_orientations(pictures):
    found = set()
    for batch in take(data.crops(pictures, sides=(CROP,), batch_size=2, seed=0), 40):
        assert batch.clean.shape == (2, CROP, CROP, 3)
        assert batch.clean.dtype == np.float32
        for crop in batch.clean:
            image = pictures[round(float(crop[0, 0, 2]) * 8)]
            top, left = divmod(round(float(crop[..., 0].min()) * SIDE**2), SIDE)
            patch = image[top : top + CROP, left : left + CROP]
            turned = [np.rot90(side, k) for side in (patch, patch[:, ::-1]) for k in range(4)]
            matches = [n for n, candidate in enumerate(turned) if np.array_equal(candidate, crop)]
            assert len(matches) == 1
            found |= set(matches)
    assert found == set(range(8))


def test_every_image_comes_once_before_any_comes_again(pictures):
    iterator = data.crops(pictures, sides=(CROP,), batch_size=1, seed=0)
    orders = [[round(float(b.clean[0, 0, 0, 2]) * 8) for b in take(iterator, 7)] for _ in range(3)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1]


def test_the_seed_decides_the_batches(pictures):
    first, again, other = (
        clean_of(take(data.crops(pictures, sides=(CROP,), batch_size=2, seed=seed), 4))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_saved_position_resumes_with_the_next_batch(pictures):
    iterator = data.crops(pictures, sides=(CROP,), batch_size=2, seed=0)
    take(iterator, 5)
    position = json.loads(json.dumps(iterator.get_state()))
    expected = clean_of(take(iterator, 3))
    resumed = data.crops(pictures, sides=(CROP,), batch_size=2, seed=0)
    resumed.set_state(position)
    np.testing.assert_array_equal(clean_of(take(resumed, 3)), expected)


def test_a_grey_image_gives_equal_channels(photographs):
    grey = photographs[0, ..., :1]
    images = data.Images(("g",), ("g",), ((64, 64),), (lambda: grey,))
    batch = next(data.crops(images, sides=(CROP,), batch_size=1, seed=0)).clean
    assert batch.shape == (1, CROP, CROP, 3)
    np.testing.assert_array_equal(batch[..., 0], batch[..., 1])
    np.testing.assert_array_equal(batch[..., 0], batch[..., 2])


def test_balanced_modalities_come_equally_often_with_their_numbers(pictures):
    names = ("fundus", "fundus", "fundus", "fundus", "fundus", "endoscopy", "")
    labelled = dataclasses.replace(pictures, modalities=names)
    iterator = data.crops(labelled, sides=(CROP,), batch_size=1, seed=0, balance=True)
    seen = collections.Counter()
    for batch in take(iterator, 15):
        image = round(float(batch.clean[0, 0, 0, 2]) * 8)
        assert data.MODALITIES[int(batch.modality[0])] == names[image]
        seen[names[image]] += 1
    assert seen == {"fundus": 5, "endoscopy": 5, "": 5}


def test_scaled_crops_show_more_of_the_image_by_area_means(pictures):
    image = np.random.default_rng(0).random((SIDE, SIDE, 3)).astype(np.float32)
    one = data.Images(("a",), ("a",), ((SIDE, SIDE),), (lambda: image,))
    iterator = data.crops(
        one, sides=(CROP,), batch_size=1, seed=0, random_resized_crop_min_scale=0.1
    )
    deviations = [float(batch.clean.std()) for batch in take(iterator, 60)]
    # averages over n x n independent pixels deviate n times less
    assert max(deviations) > 0.9 * image.std()
    assert min(deviations) < 1.3 * image.std() / (SIDE / CROP)
    whole = data.crops(one, sides=(SIDE,), batch_size=1, seed=0, random_resized_crop_min_scale=0.1)
    np.testing.assert_array_equal(np.sort(next(whole).clean.ravel()), np.sort(image.ravel()))


def test_each_process_reads_its_own_images_and_together_they_read_all(pictures, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    read = []
    for index in range(2):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        iterator = data.crops(pictures, sides=(CROP,), batch_size=4, seed=0)
        batches = take(iterator, 8)
        assert {batch.clean.shape[0] for batch in batches} == {2}  # its share of the batch
        read.append({round(float(crop[0, 0, 2]) * 8) for b in batches for crop in b.clean})
    assert not read[0] & read[1]
    assert read[0] | read[1] == set(range(7))


@pytest.mark.parametrize("height", [2, 3, 4])
def test_every_position_of_a_crop_is_drawn_equally_often_the_last_ones_too(height):
    image = np.arange(height * 4, dtype=np.float32).reshape(height, 4, 1)
    transform, rng = pipeline._RandomCrop(2, 1.0, 0.0, False), np.random.default_rng(0)
    element = data.Batch(image, np.int32(0))
    corners = collections.Counter(
        int(transform.random_map(element, rng).clean.min()) for _ in range(900)
    )
    expected = {row * 4 + column for row in range(height - 1) for column in range(3)}
    assert corners.keys() == expected
    assert min(corners.values()) > 0.6 * 900 / len(expected)


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (4, 8)])
def test_a_whole_image_as_a_crop_is_all_of_it(shape):
    image = np.random.default_rng(0).random((*shape, 1), np.float32)
    transform = pipeline._RandomCrop(4, 1.0, 1.0, False)
    drawn = transform.random_map(data.Batch(image, np.int32(0)), np.random.default_rng(0)).clean
    rows, columns = shape[0] // 4, shape[1] // 4
    cells = image.reshape(4, rows, 4, columns).mean(axis=(1, 3))
    np.testing.assert_allclose(np.sort(drawn[..., 0].ravel()), np.sort(cells.ravel()), atol=1e-6)


def test_a_scaled_crop_reaches_the_last_row_and_column():
    image = np.zeros((9, 9, 1), np.float32)
    image[-1, -1] = image[0, 0] = 1
    transform = pipeline._RandomCrop(2, 0.25, 0.0, False)
    drawn = [
        transform.random_map(data.Batch(image, np.int32(0)), np.random.default_rng(seed)).clean
        for seed in range(600)
    ]
    # a side of 8 has 4 positions, of which two hold a corner
    assert sum(crop.max() > 0 for crop in drawn) > 30
    corner = np.zeros((9, 9, 1), np.float32)
    corner[-1, -1] = 1
    drawn = [
        transform.random_map(data.Batch(corner, np.int32(0)), np.random.default_rng(seed)).clean
        for seed in range(600)
    ]
    assert sum(crop.max() > 0 for crop in drawn) > 15


def test_crops_of_several_sides_take_turns_and_small_images_have_no_large_ones(pictures):
    sizes = ((SIDE, SIDE),) * 5 + ((CROP + 2, SIDE),) * 2
    loaders = tuple(
        lambda load=load, size=size: load()[: size[0]]
        for load, size in zip(pictures.loaders, sizes, strict=True)
    )
    mixed = dataclasses.replace(pictures, sizes=sizes, loaders=loaders)
    arguments = {"sides": (CROP, CROP + 4), "batch_size": 1, "seed": 0}
    iterator = data.crops(mixed, **arguments)
    batches = take(iterator, 28)
    seen = {CROP: set(), CROP + 4: set()}
    for number, batch in enumerate(batches):
        side = batch.clean.shape[1]
        assert side == (CROP, CROP + 4)[number % 2]
        seen[side].add(round(float(batch.clean[0, 0, 0, 2]) * 8))
    assert seen == {CROP: set(range(7)), CROP + 4: set(range(5))}
    (line,) = data.small_lines(mixed, arguments["sides"])
    assert line.startswith(f"2 of 7 training images are less than {CROP + 4} pixels high or wide")
    resumed = data.crops(mixed, **arguments)
    resumed.set_state(json.loads(json.dumps(iterator.get_state())))
    for _ in range(2):
        np.testing.assert_array_equal(next(resumed).clean, next(iterator).clean)
    with pytest.raises(
        data.DataError, match=r"no training image is 25 pixels high and wide; .*data\.context_sizes"
    ):
        data.crops(mixed, sides=(CROP, SIDE + 1), batch_size=1, seed=0)


@pytest.mark.parametrize("levels", [255, 1000])
def test_decoded_images_of_8_bits_are_kept_and_come_out_unchanged(pictures, monkeypatch, levels):
    decoded = []

    def counted(load):
        def loader():
            decoded.append(load)
            return np.rint(load() * levels).astype(np.float32) / np.float32(levels)

        return loader

    loaders = tuple(map(counted, pictures.loaders))
    images = dataclasses.replace(pictures, loaders=loaders, low_loaders=loaders)
    options = {"sides": (CROP,), "batch_size": 7, "seed": 0}
    first = take(data.crops(images, **options), 3)
    # Those kept are decoded once, or at most once in each of two threads; others each time.
    assert len(decoded) <= 28 if levels == 255 else len(decoded) >= 42
    monkeypatch.setattr(pipeline, "_MEMORY", 0)
    for batch, expected in zip(first, take(data.crops(images, **options), 3), strict=True):
        np.testing.assert_array_equal(batch.clean, expected.clean)
        np.testing.assert_array_equal(batch.low, expected.low)
