import numpy as np
import pytest
import skimage.data

from lle_jax.data import samples

MEDICAL = {"fundus", "CT", "MR", "ultrasound", "microscopy"}


def test_the_roles_hold_different_images():
    files = [(package, name) for package, name, _, _ in samples.SAMPLES]
    assert len(set(files)) == len(files)
    content = {}
    for package, name, _, role in samples.SAMPLES:
        content.setdefault(samples.load(package, name).tobytes(), set()).add(role)
    assert all(len(roles) == 1 for roles in content.values())


def test_frames_of_one_file_have_one_role():
    roles = {}
    for package, name, _, role in samples.SAMPLES:
        roles.setdefault((package, name.partition(":")[0]), set()).add(role)
    assert all(len(of_file) == 1 for of_file in roles.values())


def test_the_test_images_are_medical_and_of_several_modalities():
    modalities = {modality for *_, modality, role in samples.SAMPLES if role == "test"}
    assert modalities <= MEDICAL
    assert len(modalities) >= 4


@pytest.mark.parametrize(("package", "name"), [sample[:2] for sample in samples.SAMPLES])
def test_every_sample_is_a_well_formed_image_that_cannot_be_changed(package, name):
    image = samples.load(package, name)
    assert image.dtype == np.float32
    assert image.ndim == 3
    assert image.shape[-1] in (1, 3)
    assert min(image.shape[:2]) >= 96
    assert max(image.shape[:2]) <= samples.MAX_SIDE
    assert image.min() >= 0
    assert 0.3 < image.max() <= 1
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 0


def test_a_sample_within_the_limit_is_the_packages_own_pixels():
    expected = skimage.data.astronaut().astype(np.float32) / 255
    np.testing.assert_array_equal(samples.load("skimage", "astronaut"), expected)


def test_reducing_a_sample_keeps_its_mean():
    full = skimage.data.retina() / 255
    np.testing.assert_allclose(samples.load("skimage", "retina").mean(), full.mean(), atol=1e-3)
