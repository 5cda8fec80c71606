import json

import pytest
import skimage.data
import skimage.io

from lle_jax import cli
from lle_jax.reader_study import answers as reader_answers
from lle_jax.reader_study import page as reader_study

METHODS = ("alpha_net", "beta_net")
QUESTIONS = ("better", "lost", "invented")


@pytest.fixture
def study(tmp_path):
    """The page of two methods on three cases, with a reference."""
    for i, case in enumerate("abc"):
        face = skimage.data.astronaut()[i : i + 48, 180:244]
        for divisor, name in enumerate(("truth", *METHODS), 1):
            (tmp_path / name).mkdir(exist_ok=True)
            path = tmp_path / name / f"{case}.png"
            skimage.io.imsave(path, face // divisor, check_contrast=False)
    folders = {name: tmp_path / name for name in METHODS}
    return reader_study.write(tmp_path / "s.html", folders, tmp_path / "truth", progress=False)


def started(page_of, study, reader="R1", **options):
    page = page_of(study.page, **options)
    page.get_by_label("Your reader name").fill(reader)
    page.keyboard.press("Enter")
    return page


def place(page):
    return page.locator("#place").text_content()


def click(page, question, value):
    page.locator(f'[data-question="{question}"] [data-value="{value}"]').click()


def saved(page, tmp_path):
    with page.expect_download() as download:
        page.locator(".save:visible").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def given(path):
    return [
        tuple(answer[question] for question in QUESTIONS)
        for answer in json.loads(path.read_text("utf-8"))["answers"]
    ]


def test_a_study_is_answered_by_keys_and_mouse_saved_and_analysed(study, page_of, tmp_path, capsys):
    page = started(page_of, study)
    assert place(page) == "Pair 1 of 3, 0 answered"
    for key in "130":
        page.keyboard.press(key)
    assert place(page) == "Pair 2 of 3, 1 answered"
    for question, value in zip(QUESTIONS, ("none", "right", "both"), strict=True):
        click(page, question, value)
    assert place(page) == "Pair 3 of 3, 2 answered"
    page.keyboard.press("3")  # no answer to which is better
    assert place(page) == "Pair 3 of 3, 2 answered"
    for key in "201":
        page.keyboard.press(key)
    assert page.get_by_role("heading", name="All pairs are answered").is_visible()
    path = saved(page, tmp_path)
    expected = [("left", "both", "none"), ("none", "right", "both"), ("right", "none", "left")]
    assert given(path) == expected

    key = json.loads(study.key.read_text("utf-8"))["pairs"]
    found = reader_answers.read([path], [study.key]).answers
    assert [judgement.better for judgement in found] == [key[0]["left"], "", key[2]["right"]]
    assert found[1].lost == (key[1]["right"],)
    assert found[2].invented == (key[2]["left"],)
    assert cli.main(["reader-study", "--analyse", str(path), "--key", str(study.key)]) == 0
    out = capsys.readouterr().out
    assert "2 methods, 3 cases, 1 reader\n" in out
    assert "alpha_net to beta_net" in out


def test_the_images_are_those_of_the_key(study, page_of, tmp_path):
    page = started(page_of, study)
    pairs = json.loads(study.key.read_text("utf-8"))["pairs"]
    for pair in pairs:
        for place_, folder in (
            ("#left", pair["left"]), ("#right", pair["right"]), ("#between img", "truth"),
        ):  # fmt: skip
            found = page.locator(place_).evaluate(
                """async image => {
                  await image.decode();
                  const canvas = document.createElement("canvas");
                  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                  canvas.getContext("2d").drawImage(image, 0, 0);
                  return [...canvas.getContext("2d").getImageData(20, 30, 1, 1).data]
                }"""
            )
            image = skimage.io.imread(tmp_path / folder / f"{pair['case']}.png")
            assert found == [*image[30, 20].tolist(), 255]
        page.keyboard.press("ArrowRight")


def test_progress_is_kept_by_reader_and_goes_on_where_it_stopped(study, page_of, tmp_path):
    page = started(page_of, study)
    for key in "1002":
        page.keyboard.press(key)
    page.reload()
    page.get_by_label("Your reader name").fill("R1")
    page.keyboard.press("Enter")
    assert place(page) == "Pair 2 of 3, 1 answered"
    pressed = page.locator('[data-question="better"] [aria-pressed="true"]')
    assert pressed.get_attribute("data-value") == "right"
    assert given(saved(page, tmp_path)) == [("left", "none", "none")]
    page.reload()
    page.get_by_label("Your reader name").fill("R2")
    page.keyboard.press("Enter")
    assert place(page) == "Pair 1 of 3, 0 answered"


@pytest.mark.parametrize("kept", ["{", "3", '[{"better": "<b>", "lost": "none"}, null, []]'])
def test_what_the_browser_kept_is_checked(study, page_of, kept):
    page = page_of(study.page)
    name = json.loads(study.key.read_text("utf-8"))["study"]
    page.evaluate(
        "([k, v]) => localStorage.setItem(k, v)", [f"lle_jax reader study {name} R1", kept]
    )
    page.get_by_label("Your reader name").fill("R1")
    page.keyboard.press("Enter")
    assert place(page) == "Pair 1 of 3, 0 answered"
    assert page.get_by_role("alert").is_visible() == (kept == "{")


def test_answers_can_be_changed(study, page_of, tmp_path):
    page = started(page_of, study)
    for key in "100200":
        page.keyboard.press(key)
    assert place(page) == "Pair 3 of 3, 2 answered"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")
    assert place(page) == "Pair 1 of 3, 2 answered"
    click(page, "invented", "both")
    assert given(saved(page, tmp_path))[0] == ("right", "none", "both")


def test_a_key_that_is_held_answers_once(study, page_of):
    page = started(page_of, study)
    for _ in range(6):
        page.keyboard.down("1")  # all but the first repeat
    page.keyboard.up("1")
    assert page.locator('[aria-pressed="true"]').count() == 1


def views(page):
    """The transforms of the images, which must be equal."""
    found = page.locator(".pane img").evaluate_all(
        "all => all.map(image => new DOMMatrix(getComputedStyle(image).transform))"
    )
    values = {(round(v["a"], 3), round(v["e"], 1), round(v["f"], 1)) for v in found}
    assert len(found) == 3
    (value,) = values
    return value


def test_images_are_zoomed_and_moved_together(study, page_of):
    page = started(page_of, study)
    assert views(page) == (1, 0, 0)
    page.keyboard.press("z")
    page.keyboard.press("Shift+ArrowRight")
    assert views(page) == (2, -40, 0)
    # the point under the pointer stays where it is
    box = page.locator(".pane").first.bounding_box()
    x, y = box["width"] / 4, box["height"] / 8
    page.mouse.move(box["x"] + 3 * box["width"] / 4, box["y"] + 5 * box["height"] / 8)
    page.mouse.wheel(0, -200)
    page.wait_for_function("document.querySelector('#left').style.transform.match(/scale\\(3/)")
    zoom, moved_x, moved_y = views(page)
    assert (x - moved_x) / zoom == pytest.approx((x + 40) / 2, abs=0.3)
    assert (y - moved_y) / zoom == pytest.approx(y / 2, abs=0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + 3 * box["width"] / 4 + 10, box["y"] + 5 * box["height"] / 8 + 20)
    page.mouse.up()
    page.mouse.move(box["x"], box["y"])
    assert views(page) == pytest.approx((zoom, moved_x + 10, moved_y + 20), abs=0.2)
    # no further than their edges, and back at the next pair
    for _ in range(40):
        page.keyboard.press("Shift+ArrowRight")
    assert views(page)[1] == pytest.approx(-box["width"] * (zoom - 1) / 2, abs=1)
    page.keyboard.press("ArrowRight")
    assert views(page) == (1, 0, 0)


def test_full_screen_is_a_key(study, page_of):
    page = started(page_of, study)
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement !== null")
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement === null")
    assert page.get_by_role("alert").count() == 0


def test_no_method_or_file_is_named_anywhere_in_the_page(study, page_of):
    page = started(page_of, study)
    page.evaluate("study.images.length = 0")
    everything = page.evaluate(
        """() => document.documentElement.outerHTML.replace(/"images": \\[.*?\\]/s, "")
          + JSON.stringify(localStorage) + JSON.stringify(study)"""
    )
    for word in (*METHODS, "truth", ".png", "a.png"):
        assert word not in everything


@pytest.mark.parametrize("viewport", [(390, 844), (844, 390), (1280, 720)])
def test_all_is_within_reach_on_small_screens(study, page_of, viewport):
    width, height = viewport
    page = page_of(study.page, viewport={"width": width, "height": height})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("Your reader name").fill("R1")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = [pane.bounding_box() for pane in page.locator(".pane").all()]
    assert len({(round(box["width"]), round(box["height"])) for box in sizes}) == 1
    assert min(sizes[0]["width"], sizes[0]["height"]) > 80
    for button in page.locator("#study button").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
