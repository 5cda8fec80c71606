"""The page of `lle evaluate` in a browser."""

import numpy as np
import pytest

from lle_jax import images
from lle_jax.evaluation import evaluate, methods, report, suite

SUITE = """
[images]
source = "{source}"
role = "all"
[sweep]
seed = 3
gains = [0.1, 1.0]
noises = [0.0]
blurs = [0.0]
"""


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, photographs):
    root = tmp_path_factory.mktemp("page")
    (root / "clean").mkdir()
    for number in range(3):
        image = np.roll(photographs[number % 2], 9 * number, axis=0)[:40, :48]
        name = "<img src=x onerror=alert(1)>" if number == 2 else f"photo{number}"
        images.write(root / "clean" / f"{name}.png", np.ascontiguousarray(image))
    (root / "small.toml").write_text(SUITE.format(source=(root / "clean").as_posix()))
    loaded = suite.load(str(root / "small.toml"))
    gamma, he = methods.load("gamma"), methods.load("he")
    result = evaluate.evaluate(loaded, [gamma], [he], root)
    report.write(root, result, [gamma, he])
    return root / "index.html"


def test_the_slider_moves_by_keyboard_and_by_mouse(page_of, page_path):
    page = page_of(page_path, viewport={"width": 1000, "height": 900})
    clip = "document.querySelector('#stage .over').style.clipPath"
    assert page.evaluate(clip) == "inset(0px 50% 0px 0px)"
    page.focus("#divide")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 49% 0px 0px)"
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.up()
    assert page.evaluate(clip) == "inset(0px 75% 0px 0px)"
    assert page.input_value("#divide") == "25"


def test_methods_cases_error_map_and_enlarged_region(page_of, page_path):
    page = page_of(page_path)
    marked = "gamma: added red, lost blue"  # the first method, by spots and lines
    shown = page.locator("#left option").all_inner_texts()
    assert shown == ["low", "gamma", "he", "clean", marked]
    page.select_option("#right", "clean")
    assert "right clean" in page.inner_text("#caption")
    first = page.inner_text("#caption")
    page.click("#after")
    assert page.inner_text("#caption") != first
    page.click("#before")
    assert page.inner_text("#caption") == first
    page.click("#error")
    assert page.locator("#stage .truth").count() == 2
    before = page.evaluate("document.querySelector('.lens img').style.left")
    page.focus("#stage")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('.lens img').style.left") != before
    assert page.locator("#values tbody tr").count() == 3
    decoded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    page.wait_for_function(decoded)


def test_tables_sort_lists_open_cases_and_surfaces_say_where_it_stops(page_of, page_path):
    page = page_of(page_path)
    page.click("#summary th:nth-child(2) button")
    shown = page.locator("#summary tbody td:nth-child(2)").evaluate_all(
        "cells => cells.map(cell => Number(cell.dataset.value))"
    )
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) == 3
    entry = page.locator("#worst button").last
    entry.click()
    assert entry.get_attribute("data-case") in page.inner_text("#caption")
    said = page.inner_text("#surfaces")
    assert "It harms at gain 1, noise 0." in said
    assert "Not settled" not in said
    assert page.locator("#surfaces .helps").count() == page.locator("#surfaces .harms").count() == 1


def test_a_hostile_name_is_text_and_a_phone_shows_all(page_of, page_path):
    page = page_of(page_path, viewport={"width": 390, "height": 800})
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#worst")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
