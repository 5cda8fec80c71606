"""Where a method helps and harms is said by intervals, not by means."""

import re
from types import SimpleNamespace

from lle_jax.evaluation import statistics, surfaces


def result(gains_of):
    """Of a sweep over the exposure gain, with the gains in PSNR of its images at each."""
    rows, cases = [], {}
    for gain, values in gains_of.items():
        for number, value in enumerate(values):
            image, realisation = f"image {number}", f"{gain:g}"
            cases[image, realisation] = (None, f"{gain:g} 0 0")
            for method, psnr in (("low", 20.0), ("net", 20 + value)):
                rows.append(statistics.Row(image, method, "psnr", psnr, realisation))
    settings = {"sweep": {"gains": list(gains_of), "noises": [0.0], "blurs": [0.0]}}
    made = SimpleNamespace(kind="sweep", settings=settings)
    return SimpleNamespace(suite=made, rows=rows, cases=cases, methods=["net"])


def test_a_gain_whose_interval_holds_0_is_not_settled():
    page = surfaces.figures(
        result({0.1: [4, 5, 6, 7, 5], 0.5: [-9, 3, 4, 6, -2], 1.0: [-3, -2, -4, -1, -3]})
    )
    kinds = re.findall(r'rect class="(\w+)"', page)
    assert kinds == ["helps", "open", "harms"]
    assert "It harms at gain 1, noise 0." in page
    assert "Not settled (the 95 % interval over images holds 0) at gain 0.5, noise 0." in page
    assert "It helps everywhere." in surfaces.figures(result({0.1: [4, 5], 0.5: [1, 2]}))


def test_one_image_settles_nothing():
    page = surfaces.figures(result({0.1: [5.0]}))
    assert re.findall(r'rect class="(\w+)"', page) == ["open"]
    assert "It helps everywhere." not in page
