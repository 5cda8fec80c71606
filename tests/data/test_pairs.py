"""Measured pairs: where they come from, how they are cut, and what is refused."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from lle_jax import data, images
from lle_jax.data import pairs

LOW = 0.25


def write_pairs(low, clean, names, side=24, seed=0):
    """Random pictures whose low-light version is a quarter of them, to 8 bits."""
    rng = np.random.default_rng(seed)
    for name in names:
        picture = rng.integers(0, 64, (side, side, 3)).astype(np.float32) * 4 / 255
        for folder, factor in ((low, LOW), (clean, 1.0)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            images.write(folder / name, picture * factor)


def names(count, first=0):
    return [f"{number:02}.png" for number in range(first, first + count)]


def sizes(splits):
    return [len(getattr(splits, role)) for role in data.ROLES]


def assert_in_step(part):
    """Each image's low-light version is its own."""
    for index in range(len(part)):
        np.testing.assert_allclose(part.low(index), part[index] * LOW, atol=1e-6)


@pytest.mark.parametrize(("low", "clean"), [("low", "high"), ("Low", "GT"), ("input", "clean")])
def test_a_folder_of_two_folders(tmp_path, low, clean):
    write_pairs(tmp_path / low, tmp_path / clean, names(12))
    splits = data.load("samples", pairs=str(tmp_path), crop=16)
    assert sizes(splits) == [8, 2, 2]
    for role in data.ROLES:
        assert_in_step(getattr(splits, role))
    assert len({*splits.record["train"]}) == 16  # both images of each pair


def test_two_folders_with_folders_of_roles_inside(tmp_path):
    for first, role in enumerate(("train", "val", "test")):
        inside = [f"{role}/{name}" for name in names(3, 3 * first)]
        write_pairs(tmp_path / "a", tmp_path / "b", inside, seed=first)
    splits = data.load("samples", pairs=f"{tmp_path / 'a'},{tmp_path / 'b'}", crop=16)
    assert sizes(splits) == [3, 3, 3]
    assert splits.validation.names == ("val_03", "val_04", "val_05")
    assert_in_step(splits.test)


def test_the_folders_of_lol_give_the_roles_and_validation_comes_from_training(tmp_path):
    for count, role in ((11, "our485"), (2, "eval15")):
        folder = tmp_path / role
        write_pairs(folder / "low", folder / "high", names(count), seed=count)
    splits = data.load("samples", pairs=str(tmp_path), crop=16)
    assert sizes(splits) == [9, 2, 2]
    assert splits.test.names == ("eval15_high_00", "eval15_high_01")


def test_low_light_versions_of_one_image_share_its_role(tmp_path):
    write_pairs(tmp_path / "low", tmp_path / "high", names(12))
    for side, folder in ((0, "low"), (1, "high")):  # a second, darker version of each image
        for path in list((tmp_path / folder).iterdir()):
            picture = images.read(path).pixels
            images.write(path.with_name(f"again_{path.name}"), picture * (1 if side else 0.5))
    splits = data.load("samples", pairs=str(tmp_path), crop=16)
    assert sum(sizes(splits)) == 24
    roles = [set(getattr(splits, role).hashes) for role in data.ROLES]
    assert len(set.union(*roles)) == sum(map(len, roles)) == 12


def test_a_manifest_with_low_paths_and_patients(tmp_path):
    write_pairs(tmp_path / "dark", tmp_path / "light", names(12))
    rows = [f"light/{n},dark/{n},fundus,{index // 2}" for index, n in enumerate(names(12))]
    manifest = tmp_path / "pairs.csv"
    manifest.write_text(
        "\n".join(["path,low_path,modality,patient", *rows, "light/x.png,,fundus,9"])
    )
    splits = data.load("samples", pairs=str(manifest), crop=16)
    assert sum(sizes(splits)) == 12
    assert splits.train.modalities[0] == "fundus"
    assert_in_step(splits.train)
    patients = [
        {int(name[-2:]) // 2 for name in getattr(splits, role).names} for role in data.ROLES
    ]
    assert sum(map(len, patients)) == 6
    assert ["rows without low_path" in reason for _, reason in splits.rejected] == [True]
    with pytest.raises(data.DataError, match=r"give it as --config\.data\.pairs"):
        data.load(str(manifest), crop=16)


@pytest.mark.parametrize(
    ("low", "clean"),
    [
        ("1.2.840.113.1", "1.2.840.113.1"),  # the last part of a UID is no suffix
        ("a.webp.png", "a.webp"),
        ("a.tif", "a.png"),
        ("low00690.png", "normal00690.png"),
        ("7_input.png", "7-gt.jpg"),
    ],
)
def test_names_that_match(tmp_path, low, clean):
    for folder, name in (("l", low), ("c", clean)):
        folder = tmp_path / folder
        folder.mkdir()
        kind = "DICOM" if name[-4:].isdigit() or name.endswith(".1") else None
        if kind:
            (folder / name).write_bytes(b"\0" * 128 + b"DICM")  # the name counts, not the content
            (folder / name.replace(".1", ".2")).write_bytes(b"\0" * 128 + b"DICM")
        else:
            Image.new("L", (8, 8)).save(folder / name)
    matched, rejected = pairs.match(tmp_path / "l", tmp_path / "c")
    assert (low, clean) in [(dark.name, light.name) for dark, light in matched]
    assert not rejected


def test_images_without_a_partner_are_named(tmp_path):
    write_pairs(tmp_path / "low", tmp_path / "high", names(12))
    (tmp_path / "low" / "00.png").unlink()
    (tmp_path / "high" / "01.png").unlink()
    splits = data.load("samples", pairs=str(tmp_path), crop=16)
    assert sum(sizes(splits)) == 10
    reasons = sorted(reason for _, reason in splits.rejected)
    assert [f"high{'/'}00.png" in reasons[0], "low/01.png" in reasons[1]] == [True, True]
    assert all("has no image of that name" in reason for reason in reasons)


def other_size(path):
    images.write(path, np.zeros((24, 20, 3), np.float32))


def truncated(path):
    path.write_bytes(path.read_bytes()[:200])


def grey(path):
    images.write(path, np.zeros((24, 24, 1), np.float32))


def sixteen_bits(path):
    cv2.imwrite(str(path), np.zeros((24, 24, 3), np.uint16))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_size, "24x20 and 24x24 pixels; a pair must be of one size"),
        (truncated, "05.png"),
        (grey, "1 and 3 channels; convert one"),
        (sixteen_bits, "16 and 8 bits a sample"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_by_name(tmp_path, damage, message):
    write_pairs(tmp_path / "low", tmp_path / "high", names(12))
    damage(tmp_path / "low" / "05.png")
    with pytest.raises(data.DataError, match=message) as error:
        data.load("samples", pairs=str(tmp_path), crop=16)
    assert "05.png" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("low", "no folders low/ and high/ in"),
        ("low,c", "c"),
    ],
)
def test_what_holds_no_pairs_is_refused(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "low", tmp_path / "high", names(3))
    (tmp_path / "c").mkdir()
    with pytest.raises(data.DataError, match=message):
        data.load("samples", pairs=source, crop=16)


def test_both_images_of_a_pair_are_cut_and_turned_alike(tmp_path):
    write_pairs(tmp_path / "low", tmp_path / "high", names(12))
    train = data.load("samples", pairs=str(tmp_path), crop=16).train
    iterator = data.crops(
        train, sides=(8,), batch_size=8, seed=0, random_resized_crop_min_scale=0.5
    )
    for batch in (next(iterator), next(iterator)):
        np.testing.assert_allclose(batch.low, batch.clean * LOW, atol=1e-6)
        assert len({crop.tobytes() for crop in batch.clean}) == 8


@pytest.mark.parametrize("weight", [0.25, 0.75])
def test_pairs_and_clean_images_are_mixed_by_weight(tmp_path, weight):
    write_pairs(tmp_path / "pairs" / "low", tmp_path / "pairs" / "high", names(12))
    write_pairs(tmp_path / "x", tmp_path / "clean", names(12), seed=1)
    splits = data.load(
        str(tmp_path / "clean"), pairs=str(tmp_path / "pairs"), pairs_weight=weight, crop=16
    )
    assert sizes(splits) == [16, 2, 2]
    iterator = data.crops(splits.train, sides=(8,), batch_size=8, seed=0, pairs_weight=weight)
    measured = np.concatenate([~np.isnan(next(iterator).low).any((1, 2, 3)) for _ in range(5)])
    assert abs(measured.mean() - weight) < 0.05


def test_an_image_of_the_pairs_test_is_not_trained_on_as_a_clean_image(tmp_path):
    measured, clean = tmp_path / "pairs", tmp_path / "clean"
    write_pairs(measured / "low", measured / "high", names(12))
    tested = data.load("samples", pairs=str(measured), crop=16).test.names[0]
    for number, role in enumerate(data.ROLES, start=1):
        write_pairs(tmp_path / "x", clean, [f"{role}/{name}" for name in names(4)], seed=number)
    shutil.copy(measured / "high" / f"{tested[-2:]}.png", clean / "train" / "copy.png")
    with pytest.raises(data.DataError, match=r"copy in train and .* in test are the same"):
        data.load(str(clean), pairs=str(measured), pairs_weight=0.5, crop=16)


@pytest.mark.parametrize("groups", [12, 4])
def test_folds_test_every_image_once_and_divide_no_patient(tmp_path, groups):
    write_pairs(tmp_path / "x", tmp_path / "clean", names(12))
    rows = [f"clean/{name},fundus,p{index % groups}" for index, name in enumerate(names(12))]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["path,modality,patient", *rows]))
    parts = [data.load(str(manifest), crop=16, folds=data.Folds(4, fold)) for fold in range(4)]
    tested = [name for part in parts for name in part.test.names]
    assert sorted(tested) == sorted(f"clean_{n[:2]}" for n in names(12))
    for part, after in zip(parts, [*parts[1:], parts[0]], strict=True):
        assert part.validation.names == after.test.names
        patients = [
            {int(name[-2:]) % groups for name in getattr(part, role).names} for role in data.ROLES
        ]
        assert sum(map(len, patients)) == groups
    with pytest.raises(data.DataError, match="at least 13 are needed, one for each fold"):
        data.load(str(manifest), crop=16, folds=data.Folds(13, 0))


def test_folds_of_images_that_have_roles_are_refused(tmp_path):
    with pytest.raises(data.DataError, match="these images have roles"):
        data.load("samples", crop=16, folds=data.Folds(5, 0))
    for first, role in enumerate(("train", "test")):
        inside = [f"{role}/{name}" for name in names(4)]
        write_pairs(tmp_path / "x", tmp_path / "clean", inside, seed=first)
    with pytest.raises(data.DataError, match=r"remove the roles or --config\.data\.folds"):
        data.load(str(tmp_path / "clean"), crop=16, folds=data.Folds(3, 0))


def test_the_fingerprint_follows_the_low_light_versions(tmp_path):
    write_pairs(tmp_path / "low", tmp_path / "high", names(12))
    before = data.load("samples", pairs=str(tmp_path), crop=16)
    images.write(tmp_path / "low" / "03.png", np.full((24, 24, 3), 0.5, np.float32))
    after = data.load("samples", pairs=str(tmp_path), crop=16)
    assert before.fingerprint != after.fingerprint
    assert [before.train.hashes, before.test.hashes] == [after.train.hashes, after.test.hashes]
    clean = dataclasses.replace(before.train, low_loaders=(), low_hashes=())
    assert dataclasses.replace(before, train=clean).fingerprint != before.fingerprint


def test_pairs_of_an_image_with_itself_are_refused(tmp_path):
    write_pairs(tmp_path / "low", tmp_path / "high", names(4))
    clean = str(tmp_path / "high")
    with pytest.raises(data.DataError, match="the low-light image of every pair is the clean one"):
        data.load("", crop=16, pairs=f"{clean},{clean}")


@pytest.mark.parametrize("pairs", ["{},", ",{}"])
def test_an_empty_name_is_not_the_current_directory(tmp_path, monkeypatch, pairs):
    write_pairs(tmp_path / "low", tmp_path / "high", names(4))
    monkeypatch.chdir(tmp_path / "low")
    with pytest.raises(data.DataError, match=r"data\.pairs has an empty name"):
        data.load("", crop=16, pairs=pairs.format(tmp_path / "high"))
