import re
import tomllib

import pytest

from lle_jax import degrade
from lle_jax.degrade import presets

MODALITIES = [
    "camera",
    "dermatology",
    "endoscopy",
    "fundus",
    "glare",
    "good_light",
    "lowlight",
    "microscopy",
    "phone",
    "radiograph",
    "side_light",
    "ultrasound",
    "wide",
]


def test_every_modality_has_a_preset():
    assert presets.names() == MODALITIES


@pytest.mark.parametrize("name", MODALITIES)
def test_every_parameter_of_a_preset_says_where_it_comes_from(name):
    preset = degrade.load(name)
    assert hash(preset) == hash(degrade.load(name))
    tables = tomllib.loads((presets.folder() / f"{name}.toml").read_text())
    assert tables.pop("description")
    for stage in tables.values():
        for parameter in stage.values():
            if isinstance(parameter, dict):
                assert re.match("chosen: |Cofe-Net|as halo_x", parameter["source"])


def test_a_preset_is_found_by_path_and_its_stages_are_in_the_order_of_the_chain(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[jpeg]\nquality = 40\n[exposure]\nprobability = 0.5\ngain = 0.2\n")
    preset = degrade.load(path)
    assert preset.name == "mine"
    assert [stage.name for stage in preset.stages] == ["exposure", "jpeg"]
    assert preset.stages[0] == presets.StageDistribution(
        "exposure", 0.5, (("gain", presets.Distribution("fixed", (0.2,))),)
    )


def test_exact_false_selects_the_gaussian_approximation():
    text = "[poisson_gaussian_noise]\nexact = false\ngain = 0.01\nread_noise = 0\n"
    assert presets.parse(text).stages[0].name == "approximate_poisson_gaussian_noise"
    assert presets.parse(text.replace("false", "true")).stages[0].name == "poisson_gaussian_noise"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n[exposure]\ngian.uniform = [0, 1]\n", "f.toml:3: .*'gain'"),
        ("# a\n[exposure]\ngain.unifrom = [0, 1]\n", "f.toml:3: .*'uniform'"),
        ("[exposure.gain]\nloguniform = [1, 2]\nhigh = 3\n", "f.toml:3: exposure.gain.high "),
        ("[expsure]\ngain = 1\n", "f.toml:1: .*'exposure'"),
        ("[jpeg]\nquality = 3\n[exposure]\ngain.uniform = [0.9, 0.2]\n", "f.toml:4: .*empty range"),
        ("[exposure]\ngain = {uniform = [0.1, 100]}\n", "f.toml:2: .*in \\[0.001, 10\\]"),
        ("[exposure]\ngain.uniform = [0.1]\n", "f.toml:2: .*expected 2"),
        ("[exposure]\ngain.choice = []\n", "f.toml:2: exposure.gain.choice"),
        ("[exposure]\ngain = true\n", "f.toml:2: exposure.gain"),
        ("[exposure]\ngain = nan\n", "f.toml:2: exposure.gain"),
        ("[exposure]\ngain.source = 'x'\n", "f.toml:2: .*exactly one of"),
        ("[exposure]\ngain = 1\nprobability = 1.5\n", "f.toml:3: .*probability is 1.5"),
        ("[jpeg]\nquality = 5\nexact = false\n", "f.toml:3: .*poisson_gaussian_noise"),
        ("[gaussian_noise]\nsigma.loguniform = [0, 1]\n", "f.toml:2: .*number > 0"),
        ("[gaussian_noise]\nsigma.normal = [0, 0, 0, 1]\n", "f.toml:2: .*standard deviation"),
        ("[gaussian_noise]\nsigma.lognormal = [0, 1, 1, 1]\n", "f.toml:2: .*must be > 0"),
        ("[poisson_gaussian_noise]\ngain = 0.1\n", "f.toml:1: .*lacks read_noise"),
        ("exposure = 3\n", "f.toml:1: .*table"),
        ("[exposure]\ngain = \n", "f.toml:2: not TOML"),
        ("description = 'nothing'\n", "f.toml:1: no stage"),
        pytest.param(f"[exposure]\ngain = {'9' * 400}\n", "f.toml:2: .*finite", id="400 digits"),
        pytest.param(f"[exposure]\ngain = {'9' * 5000}\n", "not TOML", id="5000 digits"),
        pytest.param(f"x = {'[' * 5000}\n", "nested too deeply", id="nested"),
    ],
)
def test_a_malformed_preset_names_file_line_and_remedy(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        presets.parse(text, "f.toml")
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'endoscopy'"):
        degrade.load("endoscope")
    with pytest.raises(ValueError, match=r"nowhere/x.toml: No such file"):
        degrade.load("nowhere/x.toml")


def test_bytes_that_are_not_text_are_an_error_of_one_line(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(presets.PresetError, match="not UTF-8"):
        degrade.load(tmp_path / "x.toml")
