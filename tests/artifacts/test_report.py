import base64
import hashlib
import html.parser
import math
import re
import shutil

import cv2
import numpy as np
import pydicom.data
import pytest
import scipy.ndimage
import skimage.data
import skimage.io

from lle_jax.artifacts import maps, measures, quantify, report, severity, study, tables

HOSTILE = """<img src=x onerror=alert(1)>&amp;"'</td></script><script>alert(2)</script>"""
VOID = {"meta", "link", "img", "rect", "br"}


class Page(html.parser.HTMLParser):
    """Elements and text of a page; fails where elements are not nested."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((tuple(self.open), data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def row(path="a.png", source=None, **changes):
    found = dict.fromkeys(measures.UNITS, 0.25) | {"luminance": 0.3, "jpeg_quality": 100.0}
    found |= {"salt": 0.0, "pepper": 0.0}
    about = {"path": path, "source": source or path, "sha256": "0", "lle_jax": "0", "frame": 0,
             "frames": 1, "format": "png", "height": 24, "width": 32, "channels": 3,
             "jpeg_quality_from": "pixels"}  # fmt: skip
    levels = severity.severity(found | changes)
    return about | found | {"severity": levels, "recommendation": "denoise"} | changes


def written(tmp_path, rows, failures=(), **options):
    report.write(tmp_path / "index.html", quantify.Result(list(rows), list(failures)), **options)
    return (tmp_path / "index.html").read_text("utf-8")


@pytest.fixture
def picture(tmp_path):
    skimage.io.imsave(tmp_path / "a.png", skimage.data.astronaut()[:24, 180:212])
    return tmp_path / "a.png"


@pytest.fixture
def page(tmp_path, picture):
    rows = [row("a.png", picture), row("b.png", noise_sigma=0.5, entropy=math.nan)]
    return Page(written(tmp_path, rows, [("c.png", "the file is empty")]))


def test_nothing_is_loaded_from_outside_the_page(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
    assert "url(" not in "".join(data for place, data in page.texts if place[-1:] == ("style",))


def test_the_policy_allows_the_pages_own_script_and_style_only(page):
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (text,) = [data for place, data in page.texts if place[-1:] == (kind,)]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_each_measure_has_a_histogram_with_its_numbers_as_text(page):
    labels = [a["aria-label"] for a in page.all("svg") if a.get("class") == "histogram"]
    names = [name for name in measures.UNITS if name not in study.MEASURES]
    assert [label.split(":")[0] for label in labels] == [f"Histogram of {name}" for name in names]
    assert "median 0.375" in labels[0]
    assert "n = 1" in labels[names.index("entropy")]


def test_the_table_is_sorted_by_buttons_and_says_so_to_screen_readers(page):
    heads = [a for a in page.all("th") if "aria-sort" in a]
    buttons = [a for a in page.all("button") if a.get("type") == "button"]
    assert len(heads) == len(buttons) == 4 + len(severity.curves()) + 1 + len(report._COLUMNS)
    assert all(head["aria-sort"] == "none" for head in heads)
    assert any(a.get("role") == "status" for a in page.all("p"))
    regions = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)


def test_the_page_has_language_title_headings_and_alternatives(page):
    assert page.all("html")[0]["lang"] == "en"
    assert [t for place, t in page.texts if place[-1:] == ("title",)] == ["Artifacts of 2 images"]
    targets = {a["id"] for _, a in page.elements if "id" in a}
    assert {a["href"][1:] for a in page.all("a")} <= targets
    assert len(page.all("img")) == 5
    assert all(image["alt"] for image in page.all("img"))


def test_names_and_reasons_are_shown_and_never_run(tmp_path, picture):
    text = written(tmp_path, [row(HOSTILE, picture)], [(HOSTILE, HOSTILE)])
    page = Page(text)
    assert len(page.all("script")) == 1
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    cells = [data for place, data in page.texts if place[-1:] in (("th",), ("td",))]
    assert cells.count(HOSTILE) == 3


def test_unreadable_files_are_listed(page):
    cells = [data for place, data in page.texts if "tbody" in place]
    assert cells.index("the file is empty") == cells.index("c.png") + 1


def test_a_page_without_images_is_a_page(tmp_path):
    assert "Artifacts of 0 images" in written(tmp_path, [], [("c.png", "empty")])


def test_pictures_are_of_the_worst_images_and_bounded(tmp_path, picture):
    rows = [row(f"{i}.png", picture, noise_sigma=i / 1000) for i in range(30)]
    page = Page(written(tmp_path, rows))
    titles = [data for place, data in page.texts if place[-1:] == ("h3",)]
    assert titles == [f"{i}.png" for i in range(29, 29 - report.PICTURES, -1)]


def test_pictures_of_dicom_are_shown_only_on_demand(tmp_path, picture):
    path = tmp_path / "scan"
    shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), path)
    rows = [row("scan", path, format="dicom"), row("a.png", picture)]
    for options, count in (({}, 5), ({"dicom_pictures": True}, 10)):
        text = written(tmp_path, rows, **options)
        assert len(Page(text).all("img")) == count
        assert ("--dicom-pictures" in text) == (count == 5)


def test_the_page_of_many_images_is_bounded_and_says_what_it_lacks(tmp_path):
    rows = [row(f"{i:0200d}", noise_sigma=i / 1e5) for i in range(3000)]
    failures = [(f"{i:0200d}", "empty") for i in range(3000)]
    text = written(tmp_path, rows, failures)
    assert len(text) < 4e6
    assert text.count('scope="row"') == len(severity.curves()) + 2 * report.ROWS
    assert "1,000 most severe of 3,000" in text
    assert f"{2999:0200d}</th>" in text
    assert "all are in unreadable.csv" in text


def decoded(attributes):
    data = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_the_picture_is_the_image(page):
    expected = skimage.data.astronaut()[:24, 180:212]
    np.testing.assert_array_equal(decoded(page.all("img")[0]), expected)


def test_maps_agree_with_scipy_and_the_study():
    image = skimage.data.astronaut()[:40, 180:229].astype(np.float32) / 255
    grey = image @ np.array([0.299, 0.587, 0.114])
    found = maps.maps(image)
    kernel = np.array([[1, 4, 1], [4, -20, 4], [1, 4, 1]]) / 6
    expected = np.abs(scipy.ndimage.correlate(grey, kernel, mode="nearest"))
    np.testing.assert_allclose(found["Laplacian"], expected, atol=1e-5)
    assert found["block variance"].shape == found["noise"].shape == (5, 6)
    block = grey[8:16, 16:24].var(ddof=1)
    np.testing.assert_allclose(found["block variance"][1, 2], block, rtol=1e-4)
    np.testing.assert_allclose(
        found["block variance"].mean(), study.jpeg_artifact_metric(image), rtol=0.02
    )


def test_the_map_of_noise_is_its_sigma_in_each_half():
    sigma = np.repeat([[0.02, 0.08]], 128, axis=0).repeat(64, axis=1)[..., None]
    image = 0.5 + sigma * np.random.default_rng(0).standard_normal((128, 128, 1))
    found = maps.maps(image.astype(np.float32))["noise"]
    np.testing.assert_allclose(found[:, :8].mean(), 0.02, rtol=0.05)
    np.testing.assert_allclose(found[:, 8:].mean(), 0.08, rtol=0.05)


def test_the_map_of_illumination_is_brightest_where_the_light_is():
    rows, columns = np.indices((64, 96)) / 64
    image = (0.8 * np.exp(-((rows - 0.3) ** 2) - (columns - 1) ** 2))[..., None]
    found = maps.maps(image.astype(np.float32))["illumination"]
    row_, column = np.unravel_index(found.argmax(), found.shape)
    assert abs(row_ / 64 - 0.3) < 0.1
    assert abs(column / 64 - 1) < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 9, 3), (8, 300, 1)])
def test_maps_of_small_images_are_finite(shape):
    for values in maps.maps(np.full(shape, 0.5, np.float32)).values():
        assert np.isfinite(values).all()
        assert values.size


def test_the_printed_table_has_quartiles_and_counts():
    rows = [row(noise_sigma=v) for v in (0.01, 0.02, 0.03, 0.04, math.nan)]
    lines = tables.text(rows).splitlines()
    noise = next(line for line in lines if line.startswith("noise_sigma"))
    assert noise.split()[1:5] == ["0.0175", "0.025", "0.0325", "4"]
    counts = next(line for line in lines if line.startswith("noise "))
    assert re.split(r"\s+", counts)[2:] == ["0", "1", "1", "2", "1"]
    assert lines[-1].startswith("recommended for the median image: ")


def test_the_studys_table_has_its_numbers_verdicts_and_a_warning():
    # row 22.png of the study's table
    known = {"gaussian_noise_variance": 3.4681e-05, "salt_and_pepper_ratio": 0.37394,
             "blur_metric": 0.015022, "jpeg_artifact_metric": 0.00014864}  # fmt: skip
    small = known | {"gaussian_noise_variance": math.nan}
    lines = tables.study_text([row("22.png", **known), row("dot.png", **small)]).splitlines()
    assert lines[0].split() == ["image", *study.MEASURES]
    assert lines[1].split() == [
        "22.png", "3.4681e-05", "weak", "0.37394", "strong", "0.015022", "strong",
        "0.00014864", "moderate",
    ]  # fmt: skip
    assert lines[2].split()[1:4] == ["-", "-", "0.37394"]
    text = " ".join(lines)
    assert "cannot be trusted on low light" in text
    assert "calls 2 of 2 images strong" in text
