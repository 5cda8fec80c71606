import math
import re

import pytest
import skimage.data
import skimage.io

from lle_jax.artifacts import measures, quantify, report, severity

HOSTILE = "<script>document.title='run'</script><img src=x onerror=alert(1)>.png"
PHONE = {"width": 390, "height": 844}


def row(path, source, **changes):
    found = dict.fromkeys(measures.UNITS, 0.25) | {"luminance": 0.3, "jpeg_quality": 100.0}
    found |= {"salt": 0.0, "pepper": 0.0} | changes
    about = {"path": path, "source": source, "frame": 0, "frames": 1, "format": "png",
             "height": 24, "width": 32}  # fmt: skip
    return about | found | {"severity": severity.severity(found), "recommendation": "denoise"}


@pytest.fixture
def index(tmp_path):
    """The page of four pictures, one of a hostile name, and of a file that cannot be read."""
    source = tmp_path / "a.png"
    skimage.io.imsave(source, skimage.data.astronaut()[:24, 180:212])
    noise = {"a2.png": 0.02, "a10.png": 0.3, HOSTILE: 0.004, "b.png": math.nan}
    rows = [row(name, source, noise_sigma=value) for name, value in noise.items()]
    report.write(tmp_path / "index.html", quantify.Result(rows, [(HOSTILE, "the file is empty")]))
    return tmp_path / "index.html"


def names(page):
    return page.locator("table.sortable tbody th").all_text_contents()


def column(page, name):
    # by text: Chromium counts the arrow that the style adds to the accessible name
    return page.locator("table.sortable thead th").filter(has_text=re.compile(f"^{name}$"))


def test_the_table_sorts_by_click(index, page_of):
    page = page_of(index)
    head = column(page, "noise_sigma")
    button = head.get_by_role("button")
    button.click()
    assert names(page) == ["a10.png", "a2.png", HOSTILE, "b.png"]
    assert head.get_attribute("aria-sort") == "descending"
    button.click()
    # what is unknown stays last
    assert names(page) == [HOSTILE, "a2.png", "a10.png", "b.png"]
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.get_by_role("status").text_content() == "Sorted by noise_sigma, smallest first"


def test_the_table_sorts_by_keyboard(index, page_of):
    page = page_of(index)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "image":
            break
    for key, expected in (
        ("Enter", [HOSTILE, "a2.png", "a10.png", "b.png"]),
        ("Space", ["b.png", "a10.png", "a2.png", HOSTILE]),
    ):
        page.keyboard.press(key)
        assert names(page) == expected
    assert column(page, "image").get_attribute("aria-sort") == "descending"


def test_names_of_files_are_shown_and_never_run(index, page_of):
    page = page_of(index)
    assert page.title() == "Artifacts of 4 images"
    # in the table, over its picture, and among the unreadable files
    assert page.get_by_text(HOSTILE, exact=True).count() == 3
    assert page.locator("script").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(index, page_of, scheme):
    page = page_of(index, viewport=PHONE, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for text in page.locator("h1, h2, h3, p, figcaption, nav a").all():
        box = text.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    # wide tables scroll inside their frames, which the keyboard reaches
    table = page.get_by_role("region", name="Table of images")
    assert table.evaluate("e => e.scrollWidth > e.clientWidth && e.tabIndex === 0")


def test_every_picture_is_shown(index, page_of):
    page = page_of(index)
    assert page.locator("img").count() == 20
    assert page.locator("img").evaluate_all("all => all.every(i => i.naturalWidth > 0)")


def test_text_stands_out_from_its_background(index, page_of):
    for scheme in ("light", "dark"):
        page = page_of(index, color_scheme=scheme)
        for place in ("body", "a", "thead button", "tbody td", "figcaption"):
            colours = page.locator(place).first.evaluate(
                """element => {
                  let behind = element;
                  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
                    behind = behind.parentElement;
                  return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
                }"""
            )
            # WCAG 2.2, 1.4.3, level AA
            assert contrast(*colours) >= 4.5, (scheme, place)


def contrast(one, other):
    def luminance(colour):
        levels = [int(part) / 255 for part in colour.removeprefix("rgb(")[:-1].split(",")]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
