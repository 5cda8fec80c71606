import base64
import collections
import itertools
import json
import re
import shutil

import cv2
import numpy as np
import pydicom.data
import pytest
import skimage.data
import skimage.io

from lle_jax import cli, images
from lle_jax.reader_study import answers as reader_answers
from lle_jax.reader_study import page as reader_study

METHODS = ("alpha_net", "beta_net", "gamma_net")


def save(path, levels):
    path.parent.mkdir(parents=True, exist_ok=True)
    skimage.io.imsave(path, levels, check_contrast=False)


@pytest.fixture
def folders(tmp_path):
    """Method -> folder of five cases, one of them in a sub-folder; and a reference."""
    return make(tmp_path)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """What was written, and the key, for tests that change neither."""
    folder = tmp_path_factory.mktemp("study")
    return write(folder, make(folder))


def make(tmp_path):
    face = skimage.data.astronaut()[:24, 180:212]
    for i, case in enumerate(("ward/smith_j", "b", "c", "d", "e")):
        save(tmp_path / "truth" / f"{case}.png", face + np.uint8(i))
        for j, method in enumerate(METHODS):
            save(tmp_path / method / f"{case}.png", face // (j + 2) + np.uint8(i))
    return {method: tmp_path / method for method in METHODS}


def write(tmp_path, folders, name="study.html", **options):
    written = reader_study.write(tmp_path / name, folders, progress=False, **options)
    return written, json.loads(written.key.read_text("utf-8"))


def data_of(page):
    text = page.read_text("utf-8")
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text)[1])


def pixels(text):
    levels = np.frombuffer(base64.b64decode(text), np.uint8)
    return cv2.imdecode(levels, cv2.IMREAD_COLOR_RGB)


def test_every_two_methods_meet_once_on_every_case(tmp_path, folders):
    written, key = write(tmp_path, folders)
    met = [(p["case"], tuple(sorted((p["left"], p["right"])))) for p in key["pairs"]]
    cases = ["b", "c", "d", "e", "ward/smith_j"]
    pairs = itertools.combinations(sorted(METHODS), 2)
    assert sorted(met) == sorted(itertools.product(cases, pairs))
    assert (written.cases, written.pairs) == (5, 15)


def test_the_key_tells_which_image_is_whose(tmp_path, folders):
    written, key = write(tmp_path, folders, reference=tmp_path / "truth")
    data = data_of(written.page)
    assert data["study"] == key["study"]
    for numbers, about in zip(data["pairs"], key["pairs"], strict=True):
        of = [folders[about["left"]], folders[about["right"]], tmp_path / "truth"]
        for number, folder in zip(numbers, of, strict=True):
            expected = skimage.io.imread(folder / f"{about['case']}.png")
            np.testing.assert_array_equal(pixels(data["images"][number]), expected)


def test_the_page_names_neither_methods_nor_files(tmp_path, folders):
    written, key = write(tmp_path, folders, reference=tmp_path / "truth")
    text = re.sub(r'"images": \[.*?\]', "", written.page.read_text("utf-8"))
    for word in (*METHODS, "smith", "ward", "truth", "seed", str(tmp_path)):
        assert word not in text
    # no field but these, and the images' numbers are in no order
    assert data_of(written.page).keys() == {"study", "images", "pairs"}
    # nor does an image's number tell its case or method
    cases = {}
    for numbers, about in zip(data_of(written.page)["pairs"], key["pairs"], strict=True):
        cases |= {numbers[0]: (about["case"], about["left"])}
        cases |= {numbers[1]: (about["case"], about["right"])}
    by_number = [cases[number] for number in sorted(cases)]
    assert by_number != sorted(by_number)
    assert by_number != sorted(by_number, key=lambda of: of[::-1])
    # each image is its pixels only
    for image in data_of(written.page)["images"]:
        assert set(_chunks(base64.b64decode(image))) == {b"IHDR", b"IDAT", b"IEND"}
    assert len(key["pairs"]) == 15


def _chunks(png):
    place = 8
    while place < len(png):
        yield png[place + 4 : place + 8]
        place += 12 + int.from_bytes(png[place : place + 4], "big")


def test_sides_are_balanced_and_drawn_from_the_seed(tmp_path, folders):
    drawn = []
    for seed in range(6):
        _, key = write(tmp_path, folders, f"{seed}.html", seed=seed)
        left = collections.Counter()
        for pair in key["pairs"]:
            left[frozenset((pair["left"], pair["right"])), pair["left"]] += 1
        assert set(left.values()) == {2, 3}
        drawn.append([tuple(pair.values()) for pair in key["pairs"]])
    assert len({tuple(order) for order in drawn}) == 6
    assert len({tuple(sorted(order)) for order in drawn}) > 3
    _, again = write(tmp_path, folders, "again.html", seed=3)
    assert [tuple(pair.values()) for pair in again["pairs"]] == drawn[3]


def test_dicom_is_decoded_and_nobody_is_named(tmp_path):
    source = pydicom.data.get_testdata_file("CT_small.dcm")
    for method in ("alpha_net", "beta_net"):
        (tmp_path / method).mkdir()
        shutil.copy(source, tmp_path / method / "1.2.840.113")
    folders = {method: tmp_path / method for method in ("alpha_net", "beta_net")}
    written, key = write(tmp_path, folders)
    text = written.page.read_text("utf-8")
    dataset = pydicom.dcmread(source)
    for word in (str(dataset.PatientName), "CompressedSamples", dataset.PatientID, "1.2.840"):
        assert word not in text
    assert key["pairs"][0]["case"] == "1.2.840.113"
    expected = np.rint(images.read(source).pixels * 255)
    np.testing.assert_array_equal(pixels(data_of(written.page)["images"][0])[..., :1], expected)


def test_written_again_it_is_the_same_and_another_studys_key_is_kept(tmp_path, folders):
    first, key = write(tmp_path, folders)
    page = first.page.read_bytes()
    assert write(tmp_path, folders)[1] == key
    assert first.page.read_bytes() == page
    with pytest.raises(ValueError, match=r"study\.key\.json: the key to another study"):
        write(tmp_path, folders, seed=1)
    assert json.loads(first.key.read_text()) == key
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(ValueError, match=r"mine\.html would be replaced"):
        write(tmp_path, folders, "mine.html")
    assert (tmp_path / "mine.html").read_text() == "mine"


def lacking(folders):
    (folders["beta_net"] / "c.png").unlink()


def larger(folders):
    save(folders["beta_net"] / "c.png", np.zeros((25, 32, 3), np.uint8))


def doubled(folders):
    shutil.copy(folders["beta_net"] / "c.png", folders["beta_net"] / "c.PNG")


def cut(folders):
    path = folders["beta_net"] / "c.png"
    path.write_bytes(path.read_bytes()[:60])


def frames(folders):
    source = pydicom.data.get_testdata_file("examples_ybr_color.dcm")
    for folder in folders.values():
        (folder / "c.png").unlink()
        shutil.copy(source, folder / "c.dcm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacking, "beta_net has no image 'c'"),
        (larger, "case 'c' is "),
        (doubled, "both case 'c'"),
        (cut, r"beta_net/c\.png: "),
        (frames, r"c\.dcm: has 30 frames"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(tmp_path, folders, change, message):
    change(folders)
    with pytest.raises(ValueError, match=message):
        write(tmp_path, folders)
    assert not list(tmp_path.glob("study*"))


def test_a_page_that_is_too_large_is_refused(tmp_path, folders, monkeypatch):
    monkeypatch.setattr(reader_study, "MAX_BYTES", 2**13)
    with pytest.raises(ValueError, match="use fewer cases"):
        write(tmp_path, folders)


def answered(key, reader, judge):
    """Answers in a file as the page saves them; `judge(case, left, right)` gives the three."""
    answers = [
        {"pair": i} | dict(zip(("better", "lost", "invented"), judge(**pair), strict=True))
        for i, pair in enumerate(key["pairs"])
    ]
    return {"kind": reader_answers.ANSWERS, "format": 1, "study": key["study"],
            "reader": reader, "answers": answers}  # fmt: skip


def prefers(order, lost=()):
    """A reader who prefers what comes first in `order`, and sees something lost in `lost`."""

    def judge(case, left, right):
        better = "left" if order.index(left) < order.index(right) else "right"
        sides = [side for side, name in (("left", left), ("right", right)) if name in lost]
        return better, {0: "none", 1: sides[0] if sides else "", 2: "both"}[len(sides)], "none"

    return judge


def put(path, value):
    path.write_text(json.dumps(value))
    return path


def test_analysis_finds_what_readers_preferred(tmp_path, folders):
    written, key = write(tmp_path, folders)
    other, other_key = write(tmp_path, folders, "b.html", seed=7)  # a page of the reader's own
    order = ("gamma_net", "alpha_net", "beta_net")
    judge = prefers(order, lost=("beta_net",))
    paths = [
        put(tmp_path / "1.json", answered(key, "R1", judge)),
        put(tmp_path / "2.json", answered(other_key, "R2", judge)),
    ]
    study = reader_answers.read(paths, [written.key, other.key])
    assert study.answered == {"R1": (15, 15), "R2": (15, 15)}
    lines = [re.split(r"\s{2,}", line) for line in reader_answers.text(study).splitlines()]
    (row,) = [line for line in lines if line[0] == "alpha_net to gamma_net"]
    # Wilson of 0 of 10: 0 to z^2 / (10 + z^2); Clopper-Pearson of 0 of 5 cases: 1 - 0.025^(1/5)
    assert row[1:] == ["0", "10", "0", "0 %", "0 to 28", "0 to 52"]
    ranked = next(i for i, line in enumerate(lines) if line[0] == "Bradley-Terry ranking")
    assert tuple(line[0] for line in lines[ranked + 1 : ranked + 4]) == order
    assert ["beta_net", "lost", "20", "100 %", "84 to 100", "48 to 100"] in lines
    assert ["gamma_net", "lost", "20", "0 %", "0 to 16", "0 to 52"] in lines
    # all resamples agree as much, which says nothing of other cases
    assert ["better", "1.00", "-", "15"] in lines


def test_readers_who_answer_at_random_do_not_agree(tmp_path, study):
    written, key = study
    rng = np.random.default_rng(0)

    def judge(**_):
        return [str(rng.choice(["left", "right", "none"])) for _ in range(3)]

    paths = [put(tmp_path / f"{i}.json", answered(key, f"R{i}", judge)) for i in range(6)]
    text = reader_answers.text(reader_answers.read(paths, [written.key]))
    alpha = float(re.search(r"better\s+(-?[\d.]+)", text.split("agreement")[1])[1])
    assert abs(alpha) < 0.15


def test_a_reader_of_two_pages_does_not_agree_with_herself(tmp_path, folders):
    written, key = write(tmp_path, folders)
    other, other_key = write(tmp_path, folders, "b.html", seed=7)
    order = ("gamma_net", "alpha_net", "beta_net")
    hers = [
        put(tmp_path / "1.json", answered(key, "R1", prefers(order))),
        put(tmp_path / "2.json", answered(other_key, "R1", prefers(order))),
    ]
    keys = [written.key, other.key]
    assert "no pair has answers of two" in reader_answers.text(reader_answers.read(hers, keys))
    another = put(tmp_path / "3.json", answered(key, "R2", prefers(order[::-1])))
    text = reader_answers.text(reader_answers.read([*hers, another], keys))
    alpha = float(re.search(r"better\s+(-?[\d.]+)", text.split("agreement")[1])[1])
    assert alpha < 0


def test_unfinished_answers_are_counted_and_one_reader_has_no_agreement(tmp_path, study):
    written, key = study
    answers = answered(key, "R1", prefers(METHODS))
    answers["answers"] = answers["answers"][:4]
    found = reader_answers.read([put(tmp_path / "a.json", answers)], [written.key])
    assert found.answered == {"R1": (4, 15)}
    assert "no pair has answers of two readers" in reader_answers.text(found)


def changed(field, value):
    return lambda answers: answers | {field: value}


def first(**changes):
    return lambda answers: (
        answers | {"answers": [answers["answers"][0] | changes, *answers["answers"][1:]]}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("study", "0" * 16), "is of another study"),
        (changed("study", {"a": []}), "is of another study"),
        (changed("kind", reader_study.KEY), "is not a reader's answers"),
        (changed("format", 2), "another version"),
        (changed("reader", " "), "reader is not a name"),
        (changed("reader", "a\x1b[2J"), "reader is not a name"),
        (changed("reader", "a" * 65), "reader is not a name"),
        (changed("reader", 3), "reader is not a name"),
        (changed("answers", {}), "answers is not a list"),
        (changed("answers", [3]), "answer 0 is not an object"),
        (changed("answers", []), "nothing to analyse"),
        (first(pair=15), "answer 0 has no pair from 0 to 14"),
        (first(pair=-1), "answer 0 has no pair"),
        (first(pair=True), "answer 0 has no pair"),
        (first(pair=1), "answer 1 is a second one to pair 1"),
        (first(better="both"), "answer 0 has no better of left, right, none"),
        (first(lost=["left"]), "answer 0 has no lost of"),
        (first(invented=None), "answer 0 has no invented of"),
        (lambda answers: [answers], "is not a reader's answers"),
    ],
)
def test_wrong_answers_are_refused_in_one_line(tmp_path, study, capsys, change, message):
    written, key = study
    path = put(tmp_path / "a.json", change(answered(key, "R1", prefers(METHODS))))
    status = cli.main(["reader-study", "--analyse", str(path), "--key", str(written.key)])
    printed = capsys.readouterr()
    assert status == 2
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 200_000, b"NaN", b'{"kind": 1e999}', b"9" * 5000]
)
def test_files_that_are_no_answers_are_refused(tmp_path, study, content):
    written, key = study
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: is not "):
        reader_answers.read([tmp_path / "a.json"], [written.key])
    good = put(tmp_path / "b.json", answered(key, "R1", prefers(METHODS)))
    with pytest.raises(ValueError, match=r"a\.json: is not "):
        reader_answers.read([good], [tmp_path / "a.json"])


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": ["alpha_net"]},
        {"methods": [[], {}]},
        {"methods": ["alpha_net", "alpha_net"]},
        {"pairs": None},
        {"pairs": [{"case": "c", "left": "alpha_net", "right": "alpha_net"}]},
        {"pairs": [{"case": "c", "left": [], "right": {}}]},
        {"pairs": [[]]},
        {"study": 3},
    ],
)
def test_damaged_keys_are_refused(tmp_path, study, changes):
    _, key = study
    good = put(tmp_path / "b.json", answered(key, "R1", prefers(METHODS)))
    with pytest.raises(ValueError, match="the key is damaged"):
        reader_answers.read([good], [put(tmp_path / "k.json", key | changes)])


def test_a_reader_is_counted_once(tmp_path, study):
    written, key = study
    value = answered(key, "R1", prefers(METHODS))
    paths = [put(tmp_path / name, value) for name in ("a.json", "b.json")]
    with pytest.raises(ValueError, match=r"b\.json: reader 'R1' has also answered in .*a\.json"):
        reader_answers.read(paths, [written.key])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a=alpha_net", "b=beta_net"], "nothing to write"),
        (["a=alpha_net", "-o", "s.html"], "at least two methods"),
        (["a=alpha_net", "a=beta_net", "-o", "s.html"], "given twice"),
        (["a=alpha_net", "beta_net", "-o", "s.html"], "is not METHOD=FOLDER"),
        (["a=alpha_net", "b=nowhere", "-o", "s.html"], "nowhere: no such file"),
        (["a=alpha_net", "b=beta_net", "-o", "s.pdf"], "ends in .html"),
        (["a=alpha_net", "b=beta_net", "-o", "no/s.html"], "no: no such folder"),
        (["a=alpha_net", "b=beta_net", "-o", "s.html", "--seed", "-1"], "seed is -1"),
        (["a=alpha_net", "b=beta_net", "-o", "s.html", "--key", "k"], "--key is for --analyse"),
        (["--analyse", "a.json"], "needs the study's key"),
        (["--analyse", "a.json", "--key", "k.json"], "k.json"),
    ],
)
def test_what_cannot_start_is_said_in_one_line(
    tmp_path, folders, options, message, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status = cli.main(["reader-study", *options])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lle")]
    assert status == 2
    assert len(lines) == 1
    assert message in lines[0]


def test_the_command_says_what_it_wrote(tmp_path, folders, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [f"{name}={folder.name}" for name, folder in folders.items()]
    assert cli.main(["reader-study", *given, "--reference", "truth", "-o", "s.html"]) == 0
    out = capsys.readouterr().out
    assert "15 pairs of 3 methods on 5 cases" in out
    assert "s.key.json" in out
