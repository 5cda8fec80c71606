"""Pairing inputs with outputs."""

import pytest

from lle_jax import images
from lle_jax.images import plan


def touch(*paths):
    """Files that look like images; what is planned is not read."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if images.stem(path) != path else bytes(128) + b"DICM")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    touch(*(root / name for name in ("a.png", "deep/b.png", "deep/a.jpg", "c.tif", "1.2.840.7")))
    return root


def test_the_folder_is_mirrored_and_dicom_gets_a_suffix(folder, tmp_path):
    out = tmp_path / "out"
    planned = plan.plan([folder], out)
    assert planned.pairs == [
        (folder / "1.2.840.7", out / "1.2.840.7.dcm"),
        *((folder / name, out / name) for name in ("a.png", "c.tif", "deep/a.jpg", "deep/b.png")),
    ]
    assert (planned.failed, planned.others) == ([], [])


def test_no_input_is_ever_overwritten(folder):
    for inputs, output in (([folder], folder), ([folder / "deep"], folder / "deep")):
        with pytest.raises(images.ImageError, match="would be overwritten"):
            plan.plan(inputs, output)


def test_what_is_written_beside_an_output_overwrites_no_input(folder):
    def outputs(target):
        return [target, target.with_name("c.tif")]

    touch(folder / "new" / "z.png")
    assert plan.plan([folder / "new"], folder).pairs
    touch(folder / "new" / "c.tif")
    with pytest.raises(images.ImageError, match="would be overwritten"):
        plan.plan([folder / "new" / "z.png", folder / "c.tif"], folder, outputs)


def test_an_output_folder_inside_the_input_is_not_an_input(folder):
    pairs = plan.plan([folder], folder / "out").pairs
    touch(*(target for _, target in pairs))
    again = plan.plan([folder], folder / "out")
    assert again.pairs == pairs
    assert len(pairs) == 5


@pytest.mark.parametrize("pattern", ["**/*.png", "*"])
def test_a_pattern_does_not_stand_for_results(folder, monkeypatch, pattern):
    monkeypatch.chdir(folder)
    pairs = plan.plan([pattern], folder / "out").pairs
    assert pairs
    touch(*(target for _, target in pairs))
    assert plan.plan([pattern], folder / "out").pairs == pairs
    single = plan.plan(["a*.png"], folder / "a2.png").pairs
    touch(folder / "a2.png")
    assert plan.plan(["a*.png"], folder / "a2.png").pairs == single
    with pytest.raises(images.ImageError, match="would be overwritten"):
        plan.plan(["a2*.png"], folder / "a2.png")


@pytest.mark.parametrize("suffix", ["jxl", "webp", "DNG"])
def test_a_format_that_is_not_written_is_no_folder(folder, suffix):
    with pytest.raises(images.ImageError, match="this format is not written"):
        plan.plan([folder / "a.png"], folder / f"b.{suffix}")


def test_a_file_given_twice_is_done_once(folder, tmp_path):
    pairs = plan.plan([folder / "a.png", folder / "a.png", folder], tmp_path / "out").pairs
    assert len(pairs) == 5


def test_links_to_one_image_are_images_of_their_own(folder, tmp_path):
    (folder / "link.png").symlink_to("a.png")
    (folder / "deep" / "a.png").symlink_to(folder / "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").symlink_to(folder / "a.png")
    (tmp_path / "same").symlink_to(folder, target_is_directory=True)
    out = tmp_path / "out"
    planned = plan.plan([folder, tmp_path / "same"], out)
    assert [pair[1].relative_to(out).as_posix() for pair in planned.pairs] == [
        *("1.2.840.7.dcm", "a.png", "c.tif", "deep/a.jpg", "deep/a.png", "deep/b.png", "link.png"),
    ]
    # by names that give one output too, once
    inputs = [folder / "a.png", tmp_path / "other"]
    assert plan.plan(inputs, out) == ([(folder / "a.png", out / "a.png")], [], [])


def test_no_input_is_overwritten_through_a_link(folder, tmp_path):
    other = tmp_path / "elsewhere.png"
    touch(other)
    (folder / "link.png").symlink_to(other)
    out = tmp_path / "out"
    touch(out / "seen.png")
    for inputs, output, linked in (
        ([folder / "link.png"], folder, None),  # the link itself
        ([folder / "link.png"], other, None),  # what it is a link to
        ([folder / "a.png"], out, folder / "a.png"),  # an output that is a link to it
        ([folder / "link.png", folder / "c.tif"], out, folder / "c.tif"),
    ):
        for name in ("a.png", "link.png"):
            (out / name).unlink(missing_ok=True)
            if linked:
                (out / name).symlink_to(linked)
        with pytest.raises(images.ImageError, match="would be overwritten"):
            plan.plan(inputs, output)


def test_results_are_no_inputs_though_they_are_links(folder, tmp_path):
    touch(tmp_path / "x.png")
    (folder / "out").mkdir()
    (folder / "out" / "x.png").symlink_to(tmp_path / "x.png")
    assert len(plan.plan([folder], folder / "out").pairs) == 5


def test_links_in_a_loop_are_no_images_and_no_output(folder, tmp_path):
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (folder / "loop.png").symlink_to("loop.png")
    assert len(plan.plan([folder], tmp_path / "out").pairs) == 5
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to("a.png")
    assert len(plan.plan([folder], tmp_path / "out").pairs) == 5
    (tmp_path / "loop").symlink_to("loop")
    for output in (tmp_path / "loop", tmp_path / "loop" / "out"):
        with pytest.raises(images.ImageError, match="cannot be written to") as caught:
            plan.plan([folder], output)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.PNG", "A.png"])
def test_names_that_differ_in_case_only_fail_alone(folder, tmp_path, name):
    touch(folder / name)
    planned = plan.plan([folder], tmp_path / "out")
    assert len(planned.pairs) == 4
    assert {pair[0] for pair, _ in planned.failed} == {folder / "a.png", folder / name}
    for (source, _), reason in planned.failed:
        (other,) = {"a.png", name} - {source.name}
        assert reason.startswith(f"{source}: ")
        assert str(folder / other) in reason
        assert reason.endswith("; rename one of them")
    (folder / name).rename(folder / "renamed.png")
    assert len(plan.plan([folder], tmp_path / "out").pairs) == 6


def test_two_folders_with_one_name_fail_with_advice_that_helps(folder, tmp_path):
    other = tmp_path / "other" / "a.png"
    touch(other)
    planned = plan.plan([folder, other.parent], tmp_path / "out")
    assert {pair[0] for pair, _ in planned.failed} == {folder / "a.png", other}
    assert all("an output folder of its own" in reason for _, reason in planned.failed)
    assert plan.plan([other.parent], tmp_path / "out2").failed == []


def test_other_formats_are_listed_and_an_error_only_where_nothing_else_is_there(folder, tmp_path):
    for path in (folder / "deep" / "x.jxl", folder / "y.nii.gz", tmp_path / "z.psd"):
        path.write_bytes(b"anything")
    planned = plan.plan([folder, tmp_path / "z.psd", tmp_path / "z.psd"], tmp_path / "out")
    assert len(planned.pairs) == 5
    assert planned.others == [folder / "deep" / "x.jxl", folder / "y.nii.gz", tmp_path / "z.psd"]
    line = images.skipped_formats(planned.others)
    assert line.startswith("3 skipped: jxl, nii, psd (")
    assert images.skipped_formats([]) == ""
    for inputs in ([tmp_path / "z.psd"], [tmp_path / "z.psd", tmp_path / "z.psd"]):
        with pytest.raises(images.ImageError, match=r"z\.psd: psd files are not read; convert"):
            plan.plan(inputs, tmp_path / "out")
    (tmp_path / "z2.psd").write_bytes(b"anything")
    with pytest.raises(images.ImageError, match=r"z.psd: psd files .*\(and 1 more\)"):
        plan.plan([tmp_path / "z.psd", tmp_path / "z2.psd"], tmp_path / "out")


def test_a_long_list_of_other_formats_is_cut_short(tmp_path):
    line = images.skipped_formats(tmp_path / f"{number:02}.psd" for number in range(12))
    assert line.startswith("12 skipped: psd (")
    assert "09.psd and 2 more)" in line


def test_a_suffix_that_is_none_belongs_to_the_name(tmp_path):
    for name, expected in (
        ("1.2.840.498.1", "1.2.840.498.1"),
        ("1.2.840.498.1.dcm", "1.2.840.498.1"),
        ("a.b.PNG", "a.b"),
        ("a", "a"),
    ):
        assert images.stem(tmp_path / name) == tmp_path / expected
