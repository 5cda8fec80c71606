import numpy as np
import pytest
from PIL import Image

from lle_jax import data, images


def write_crops(folder, photographs, count, side=32, channels=3):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        shifted = np.roll(photographs[number % 2], 3 * number, axis=1)[:side, :side, :channels]
        images.write(folder / f"{number:02d}.png", np.ascontiguousarray(shifted))


@pytest.fixture
def folder(tmp_path, photographs):
    write_crops(tmp_path / "images", photographs, 12)
    return tmp_path / "images"


def split_names(splits):
    return [set(getattr(splits, role).names) for role in data.ROLES]


def test_a_folder_is_divided_into_disjoint_roles(folder, photographs):
    splits = data.load(str(folder), crop=16)
    train, validation, test = split_names(splits)
    assert (len(train), len(validation), len(test)) == (8, 2, 2)
    assert not train & validation | train & test | validation & test
    number = int(splits.train.names[0])
    expected = np.roll(photographs[number % 2], 3 * number, axis=1)[:32, :32]
    np.testing.assert_allclose(splits.train[0], expected, atol=1e-6)


def test_renaming_files_moves_no_image_to_another_role(folder):
    before = data.load(str(folder), crop=16)
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        path.rename(folder / f"renamed_{number}.png")
    after = data.load(str(folder), crop=16)
    for role in data.ROLES:
        assert set(getattr(before, role).hashes) == set(getattr(after, role).hashes)


def test_subfolders_give_the_roles(tmp_path, photographs):
    write_crops(tmp_path / "all", photographs, 5)
    for number, role in enumerate(["train", "train", "train", "validation", "test"]):
        (tmp_path / role).mkdir(exist_ok=True)
        (tmp_path / "all" / f"{number:02d}.png").rename(tmp_path / role / f"{number}.png")
    (tmp_path / "all").rmdir()
    train, validation, test = split_names(data.load(str(tmp_path), crop=16))
    assert (train, validation, test) == (
        {"train_0", "train_1", "train_2"},
        {"validation_3"},
        {"test_4"},
    )


def test_files_that_cannot_be_read_are_left_out_with_the_reason(folder):
    whole = (folder / "00.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("this is no image")
    splits = data.load(str(folder), crop=16)
    assert sum(map(len, split_names(splits))) == 12
    reasons = dict(splits.rejected)
    assert set(reasons) == {str(folder / "truncated.png"), str(folder / "text.jpg")}
    assert all("\n" not in reason and path in reason for path, reason in reasons.items())


def test_pictures_of_other_formats_are_rejected_with_the_reason(folder):
    (folder / "x.jxl").write_bytes(b"anything")
    (folder / "notes.txt").write_text("not a picture")
    splits = data.load(str(folder), crop=16)
    ((path, reason),) = splits.rejected
    assert path == str(folder / "x.jxl")
    assert reason.startswith(f"{path}: jxl files are not read; convert it")


def test_names_are_unique_and_keep_what_is_no_suffix(tmp_path, photographs):
    pictures = [np.roll(photographs[0], 3 * n, axis=1)[:32, :32] for n in range(9)]
    paths = ["b/c.png", "b_c.png", "d.png", "d.tif", "1.2.840.1.png", "1.2.840.2.png", "e.x.png"]
    paths += ["f/g_h.png", "f_g/h.png"]  # the same but for the slash, suffix and all
    for path, pixels in zip(paths, pictures, strict=True):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        images.write(tmp_path / path, np.ascontiguousarray(pixels))
    names = set().union(*split_names(data.load(str(tmp_path), crop=16)))
    assert names == {
        "b_c.png", "b_c.png_2", "d.png", "d.tif", "1.2.840.1", "1.2.840.2", "e.x",
        "f_g_h.png", "f_g_h.png_2",
    }  # fmt: skip


def test_sources_of_equal_names_are_joined_under_different_ones(tmp_path, photographs):
    for folder, shift in (("one", 0), ("two", 1)):
        write_crops(tmp_path / folder, np.roll(photographs, shift, axis=1), 6)
    splits = data.load(f"{tmp_path / 'one'},{tmp_path / 'two'}", crop=16)
    for role in data.ROLES:
        names = getattr(splits, role).names
        assert len(set(names)) == len(names)
    assert sum(map(len, split_names(splits))) == 12


def test_a_copy_of_an_image_is_left_out_so_that_it_cannot_be_in_two_roles(folder):
    (folder / "copy.png").write_bytes((folder / "03.png").read_bytes())
    splits = data.load(str(folder), crop=16)
    assert sum(map(len, split_names(splits))) == 12
    assert len(splits.rejected) == 1
    assert "a copy of" in splits.rejected[0][1]


def test_the_fingerprint_follows_the_content(folder):
    before = data.load(str(folder), crop=16).fingerprint
    assert data.load(str(folder), crop=16).fingerprint == before
    images.write(folder / "00.png", np.full((32, 32, 3), 0.25, np.float32))
    assert data.load(str(folder), crop=16).fingerprint != before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(data.DataError, match=r"nowhere: no such folder; set --config.data.source"):
        data.load(str(tmp_path / "nowhere"), crop=16)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(data.DataError, match=f"{tmp_path.name}: no images in this folder"):
        data.load(str(tmp_path), crop=16)


def test_a_folder_without_a_readable_image_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("this is no image")
    with pytest.raises(data.DataError, match=r"none of the 1 images can be read; .*text.jpg"):
        data.load(str(tmp_path), crop=16)


def test_too_few_images_for_three_roles(tmp_path, photographs):
    write_crops(tmp_path / "images", photographs, 2)
    with pytest.raises(data.DataError, match=r"2 readable image\(s\); at least 3 are needed"):
        data.load(str(tmp_path / "images"), crop=16)


def test_an_image_smaller_than_the_crop_is_named_with_the_remedy(folder):
    with pytest.raises(
        data.DataError, match=r"is 32x32 pixels, smaller than the crop of 40; .*data.crop=32"
    ):
        data.load(str(folder), crop=40)


def test_the_samples_serve_the_experiments_crop():
    splits = data.load("samples", crop=96)
    assert [len(getattr(splits, role)) for role in data.ROLES] == [15, 4, 5]
    assert len(splits.fingerprint) == 64


def write_manifest(folder, photographs, rows, header="path,modality,role,licence"):
    for number in range(6):
        picture = np.clip(photographs[number % len(photographs)] * (1 - number / 20), 0, 1)
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return str(folder / "manifest.csv")


ROWS = (
    "0.png,fundus,train,x",
    "1.png,endoscopy,train,x",
    "2.png,fundus,val,x",
    "3.png,radiograph,test,x",
    "4.png,vessel mask,train,x",
)


def test_a_manifest_gives_roles_and_modalities_and_joins_the_samples(tmp_path, photographs):
    manifest = write_manifest(tmp_path, photographs, ROWS)
    splits = data.load(manifest, crop=16)
    assert splits.train.names == ("0", "1")
    assert splits.train.modalities == ("fundus", "endoscopy")
    assert (splits.validation.names, splits.test.modalities) == (("2",), ("radiograph",))
    ((path, reason),) = splits.rejected
    assert path == str(tmp_path / "4.png")
    assert reason.startswith(f"{manifest}: modality 'vessel mask' is not known; known are derma")
    both = data.load(f"samples,{manifest}", crop=16)
    samples = data.load("samples", crop=16)
    assert both.train.names == (*samples.train.names, "0", "1")
    assert both.train.modalities == (*samples.train.modalities, "fundus", "endoscopy")
    np.testing.assert_array_equal(both.test[len(samples.test)], splits.test[0])
    assert len({both.fingerprint, samples.fingerprint, splits.fingerprint}) == 3


def test_rows_of_unknown_modality_are_named_and_counted(tmp_path, photographs):
    more = ("5.png,vessel mask,test,x", "5.png,,test,x", "6.png,x-ray,train,x")
    splits = data.load(write_manifest(tmp_path, photographs, (*ROWS, *more)), crop=16)
    assert splits.test.modalities == ("radiograph", "")
    assert len(splits.rejected) == 3
    lines = data.skipped_lines(splits.rejected)
    assert [line.partition(": modality ")[2].partition(" is not")[0] for line in lines] == [
        "'vessel mask'",
        "'x-ray'",
    ]
    assert lines[0].endswith(": 2 images (4.png, 5.png)")
    assert lines[1].endswith("known are " + ", ".join(data.MODALITIES[1:]) + ": 1 image (6.png)")


def test_many_that_are_skipped_are_a_few_lines_and_a_count():
    masks = [(f"{number}.png", "m.csv: modality 'mask' is not known") for number in range(9)]
    damaged = [(f"{number}.jpg", f"{number}.jpg: cut short") for number in range(20)]
    lines = data.skipped_lines([*masks, *damaged])
    assert lines[0] == (
        "skipped: m.csv: modality 'mask' is not known: 9 images (0.png, 1.png, 2.png and 6 more)"
    )
    assert lines[1] == "skipped: 0.jpg: cut short"
    assert lines[-1] == "skipped: 11 more, 29 images in all"
    assert len(lines) == 11


def test_an_image_in_none_of_the_folders_of_roles_is_named(tmp_path, photographs):
    write_crops(tmp_path / "all", photographs, 4)
    for number, role in enumerate(data.ROLES):
        (tmp_path / role).mkdir()
        (tmp_path / "all" / f"{number:02d}.png").rename(tmp_path / role / f"{number}.png")
    ((path, reason),) = data.load(str(tmp_path), crop=16).rejected
    assert path == str(tmp_path / "all" / "03.png")
    assert reason.endswith("in none of the folders train, validation, test")


def test_an_image_in_two_roles_of_two_sources_is_refused(tmp_path, photographs):
    manifest = write_manifest(tmp_path, photographs, ROWS)
    other = tmp_path / "other.csv"
    other.write_text("path,modality,role\n0.png,fundus,test\n5.png,fundus,train\n")
    with pytest.raises(data.DataError, match=r"0 in train and 0 in test are the same image"):
        data.load(f"{manifest},{other}", crop=16)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, "path,kind,role,licence", "'modality' is missing"),
        (("0.png,fundus,training,x",), "path,modality,role,licence", "2: role is 'training'"),
        (("../0.png,fundus,train,x",), "path,modality,role,licence", "2: .* outside the folder"),
        (("0.png,mask,train,x",), "path,modality,role,licence", "no row has a modality"),
        ((",fundus,train,x",), "path,modality,role,licence", "2: the path is empty"),
        (("0.png,fundus",), "path,modality,role,licence", "2: role is ''"),
        (("0.png",), "path,modality", r"1 readable image\(s\); at least 3"),
        (
            (*ROWS, "0.png,fundus,test,x"),
            "path,modality,role,licence",
            "rows 2 and 7 differ on '0.png'; keep one",
        ),
        (ROWS, "path,patient,role,modality,group", "columns patient and group; keep the one"),
        (
            ("0.png,fundus,train,7", "1.png,fundus,train,7", "2.png,fundus,val,", "3.png,,test,7"),
            "path,modality,role,patient",
            r"patient '7' is in train \(rows 2, 3\) and test \(row 5\); give all images of one "
            "patient the same role$",
        ),
        (
            ("0.png,fundus,train,7", "1.png,fundus,test,7", "2.png,,test,b", "3.png,,val,b"),
            " Path,Modality,ROLE,Group",
            r"group '7' is in train \(row 2\) and test \(row 3\); so are 1 more; give",
        ),
        (
            ("0.png,fundus,a", "1.png,fundus,b", "2.png,fundus,b", "3.png,fundus,b"),
            "path,modality,patient",
            r"4 readable image\(s\) of 2 patient\(s\) or group\(s\); at least 3 are needed",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(tmp_path, photographs, rows, header, message):
    manifest = write_manifest(tmp_path, photographs, rows, header)
    with pytest.raises(data.DataError, match=message) as error:
        data.load(manifest, crop=16)
    assert "\n" not in str(error.value)


def test_a_patient_in_one_role_is_accepted_and_a_row_listed_twice_is_named(tmp_path, photographs):
    rows = ("0.png,,train,7", "1.png,,train,7", "2.png,,val,", "3.png,,test,", "3.png,,test,")
    mask = "4.png,mask,test,7"  # no image, so that it cannot be in a role
    manifest = write_manifest(tmp_path, photographs, (*rows, mask), "path,modality,role,patient")
    splits = data.load(manifest, crop=16)
    assert [len(getattr(splits, role)) for role in data.ROLES] == [2, 1, 1]
    assert (str(tmp_path / "3.png"), f"{manifest}:6: listed in row 5 too") in splits.rejected


@pytest.mark.parametrize("seed", range(4))
def test_patients_stay_whole_where_the_code_makes_the_split(tmp_path, photographs, seed):
    write_crops(tmp_path, photographs, 12, side=16)
    patients = "aaaaaabbccd "  # the last states none
    order = np.random.default_rng(seed).permutation(12)
    rows = [f"{number:02d}.png,,{patients[place]}" for place, number in enumerate(order)]
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["path,modality,patient", *rows]) + "\n")
    splits = data.load(str(path), crop=16)
    patient_of = {f"{number:02d}": patients[place] for place, number in enumerate(order)}
    roles = [{patient_of[name] for name in names} for names in split_names(splits)]
    assert sum(map(len, roles)) == 5
    assert "a" in roles[0]  # half of the images
    assert len(splits.train) >= 6
    assert sum(map(len, split_names(splits))) == 12


@pytest.mark.parametrize(
    ("dark", "clean"), [("low", "high"), ("train/Low", "train/GT"), ("a/our/input", "a/our/target")]
)
def test_pairs_are_not_taken_for_clean_images(tmp_path, photographs, dark, clean):
    write_crops(tmp_path / dark, photographs / 4, 4)
    write_crops(tmp_path / clean, photographs, 4)
    with pytest.raises(data.DataError, match="looks like pairs") as error:
        data.load(str(tmp_path), crop=8)
    assert str(tmp_path / clean) in str(error.value)
    assert len(data.load(str(tmp_path / clean), crop=8).train) == 2


def test_a_dark_folder_alone_is_a_name_like_any_other(tmp_path, photographs):
    write_crops(tmp_path / "low", photographs, 4)
    assert len(data.load(str(tmp_path), crop=8).train) == 2


@pytest.mark.parametrize("source", ["", " ", "{},", ",{}", "{},,samples"])
def test_an_empty_name_is_not_the_current_directory(folder, monkeypatch, source):
    monkeypatch.chdir(folder)
    with pytest.raises(data.DataError, match=r"data\.source has an empty name"):
        data.load(source.format(folder), crop=16)


def test_a_patient_in_two_roles_of_two_manifests_is_refused_and_not_named(tmp_path, photographs):
    write_manifest(tmp_path, photographs, ROWS)
    for name, roles in (("a", ("train", "val", "test")), ("b", ("val", "test", "train"))):
        first = 0 if name == "a" else 3
        rows = [f"{first + n}.png,,{role},Jane Doe {n}" for n, role in enumerate(roles)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,modality,role,patient", *rows]))
    sources = f"{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}"
    with pytest.raises(
        data.DataError, match=r"0 in train and 3 in validation are of the same patient"
    ) as error:
        data.load(sources, crop=16)
    assert "Jane" not in str(error.value)
    text = (tmp_path / "b.csv").read_text()
    (tmp_path / "b.csv").write_text(text.replace("Jane", "John"))
    assert len(data.load(sources, crop=16).train) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,modality,role\n\n\n0.png,,nobody\n", r"m\.CSV:4: role is 'nobody'"),
        ("path,modality\n0\0.png,\n", r"m\.CSV:2: the path '0\\x00\.png' has a NUL byte"),
        ("path;modality\n0.png;\n", r"m\.CSV: it is separated by ';'; save it separated by commas"),
    ],
)
def test_faults_of_a_manifest_are_named_by_their_line(tmp_path, text, message):
    (tmp_path / "m.CSV").write_text(text)
    with pytest.raises(data.DataError, match=message):
        data.load(str(tmp_path / "m.CSV"), crop=16)


def test_the_record_tells_order_and_modality_and_not_names(tmp_path, photographs):
    def order(rows):
        return data.load(write_manifest(tmp_path, photographs, rows), crop=16).ordered_record[
            "order"
        ]

    before = order(ROWS[:4])
    assert order((ROWS[1], ROWS[0], *ROWS[2:4])) != before
    assert order((ROWS[0].replace("fundus", "endoscopy"), *ROWS[1:4])) != before
    manifest = write_manifest(tmp_path, photographs, ("renamed.png,fundus,train,x", *ROWS[1:4]))
    (tmp_path / "0.png").rename(tmp_path / "renamed.png")
    assert data.load(manifest, crop=16).ordered_record["order"] == before
