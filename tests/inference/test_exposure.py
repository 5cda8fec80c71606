import dataclasses

import numpy as np
import pydicom
import pytest
import skimage.data
import skimage.exposure
import skimage.transform
from PIL import Image

import lle_jax
from lle_jax import cli, colour, images, metrics
from lle_jax.inference import consistent, enhance, exposure, files, tiles


@pytest.fixture(scope="module")
def scene():
    image = skimage.data.astronaut()[:256, 120:376] / 255
    return skimage.transform.resize(image, (96, 96), anti_aliasing=True).astype(np.float32)


def darker(image, light):
    """Less light, by scikit-image's gamma of 2.2 there and back."""
    linear = skimage.exposure.adjust_gamma(image, 2.2) * light
    return skimage.exposure.adjust_gamma(linear, 1 / 2.2).astype(np.float32)


def luma(image):
    return float((image @ np.array([0.299, 0.587, 0.114])).mean())


@pytest.mark.parametrize(
    ("text", "aim"),
    [
        ("auto", exposure.Aim()),
        ("0.4", exposure.Aim(mean=0.4)),
        (0.4, exposure.Aim(mean=0.4)),
        ("+1EV", exposure.Aim(stops=1)),
        ("-0.5ev", exposure.Aim(stops=-0.5)),
    ],
)
def test_an_exposure_is_a_mean_or_stops_of_light(text, aim):
    assert exposure.parse(text) == aim


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bright", "exposure is 'bright'; expected auto, a mean brightness as 0.4, or"),
        ("1.2", "exposure is 1.2"),
        ("nan", "exposure is NaN"),
        ("9EV", "exposure is 9"),
    ],
)
def test_another_exposure_is_refused_in_one_line(text, message, tmp_path, capsys):
    with pytest.raises(ValueError, match=message):
        exposure.parse(text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert cli.main(["enhance", str(tmp_path / "a.png"), "-o", str(out), "--exposure", text]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("mean", [0.2, 0.35, 0.5])
def test_the_output_is_as_bright_as_was_asked(net, scene, mean):
    out = lle_jax.enhance(darker(scene, 0.1), net, exposure=mean)
    assert luma(out) == pytest.approx(mean, rel=0.01)


def test_a_brightness_that_white_does_not_allow_is_said(net, scene, tmp_path, capsys):
    framed = np.zeros_like(scene)  # most of it is a black border
    framed[: len(scene) // 2, : len(scene) // 2] = scene[::2, ::2]
    images.write(tmp_path / "dark.png", darker(framed, 0.2))
    for mean, said in (("0.6", True), ("0.1", False)):
        settings = files.Settings(exposure=mean)
        files.enhance_file(net, tmp_path / "dark.png", tmp_path / f"{mean}.png", settings, "")
        reached = luma(images.read(tmp_path / f"{mean}.png").pixels)
        line = f"dark.png: its mean brightness is {reached:.2f}, not {mean}0 as asked for"
        assert (line in capsys.readouterr().err) == said
        assert (reached < float(mean) - 0.02) == said


def test_stops_are_stops_of_light(net, scene):
    dark = darker(scene, 0.1)
    auto, more, less = (
        lle_jax.enhance(dark, net, exposure=text) for text in ("auto", "+0.5EV", "-0.5EV")
    )
    assert luma(less) < luma(auto) < luma(more)
    linear = skimage.exposure.adjust_gamma(auto, 2.2)
    assert luma(less) == pytest.approx(
        luma(skimage.exposure.adjust_gamma(linear / 2**0.5, 1 / 2.2)), rel=0.1
    )


def test_the_true_brightness_is_worth_at_least_scaling_to_it(net, scene):
    dark = darker(scene, 0.05)
    told = lle_jax.enhance(dark, net, exposure=luma(scene))
    scaled = metrics.gt_mean(lle_jax.enhance(dark, net, always=True), scene)
    assert metrics.psnr(told, scene) > metrics.psnr(scaled, scene) - 1


@pytest.fixture(scope="module")
def measured(scene):
    return exposure.measure(darker(scene, 0.1))


def gained(net, measured, factor, noise, peak=0.5, veil=0.0):
    """What is decided for an image whose mean luma the network would multiply by a factor."""
    own = luma(measured.cells[0, ..., :3])
    made = tiles.finish_context(net, measured.cells, measured.grey)
    made = made._replace(
        exposure=np.full((1, 1, 1, 1), factor * own),
        veil=made.veil._replace(share=np.full((1, 1, 1, 1), veil)),
    )
    fixed = net._replace(finish_context=lambda *_: made)
    return exposure.decide(fixed, measured._replace(noise=noise, peak=peak))


def test_the_correction_grows_without_a_cliff(net, measured):
    factors = np.linspace(1, 1.5, 101)
    amounts = [gained(net, measured, factor, 0.01).amount for factor in factors]
    assert amounts[0] == 0
    assert amounts[-1] == 1
    assert (np.diff(amounts) >= 0).all()
    assert np.diff(amounts).max() < 0.1  # half a percent of brightness, from 1.08 to 1.16
    # what is bright somewhere has not lost half its light
    lit = [gained(net, measured, 1.3, 0.01, value).amount for value in np.linspace(0.7, 0.85, 101)]
    assert lit[0] == 1
    assert lit[-1] == 0
    assert np.abs(np.diff(lit)).max() < 0.15
    # nor has what has no noise
    quiet = [gained(net, measured, 1.2, noise).amount for noise in np.linspace(0, 0.01, 101)]
    assert quiet[0] == 0
    assert quiet[-1] == 1
    assert (np.diff(quiet) >= 0).all()
    # but by half, whatever is bright and whether there is noise or not
    for noise in (0.0, 0.01):
        assert gained(net, measured, 1.35, noise, 1.0).amount == 0
        assert gained(net, measured, 1.47, noise, 1.0).amount == 1
        assert gained(net, measured, 2.5, noise, 1.0).amount == 1
    # noise alone brightens nothing, and no noise takes from what brightness needs
    for share in (0.0, 0.3):
        noisy = measured._replace(denoising=share)
        assert gained(net, noisy, 1, 0.1)[1:3] == (0, share)
        assert gained(net, noisy, 1.4, 0.1)[1:3] == (1, 1)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_of_one_value_stays_finite(net, value):
    """Of the noise of what is all clipped nothing can be measured."""
    image = np.full((64, 64, 3), value, np.float32)
    assert exposure.measure(image).noise == 0
    out = enhance.enhance_pixels(net, image.copy())[0]
    assert np.isfinite(out).all()
    assert out.std() < 0.05


@pytest.mark.parametrize("side", [256, 600, 3000])
def test_the_peak_is_that_of_a_part_and_not_of_a_pixel(side):
    """Of a tenth in one channel, a spot of a 40th of the side, and single white pixels."""
    image = np.full((side, side, 3), 0.05, np.float32)
    image[..., 1] = 0.1
    assert exposure.measure(image).peak == pytest.approx(0.1)
    image[side // 2 : side // 2 + side // 40, : side // 40, 0] = 0.8
    assert exposure.measure(image).peak == pytest.approx(0.8)
    image[::50, ::50] = 1
    assert exposure.measure(image).peak == pytest.approx(0.8, abs=0.02)


def test_an_image_under_a_veil_is_corrected_whatever_its_brightness(net, measured):
    shares = np.linspace(0, 0.9, 181)
    decided = [gained(net, measured, 1, 0.0, 1.0, share) for share in shares]
    assert (decided[0].amount, decided[0].strength) == (0, 0)
    assert (decided[-1].amount, decided[-1].strength) == (1, 1)
    assert np.diff([each.amount for each in decided]).min() >= 0
    assert np.diff([each.amount for each in decided]).max() < 0.06


def test_always_and_an_exposure_make_the_whole_correction(net, measured):
    for wish in (exposure.Wish(always=True), exposure.Wish(exposure.Aim(stops=1.0))):
        decided = exposure.decide(net, measured._replace(noise=0.0), wish)
        assert (decided.amount, decided.strength) == (1, 1)


def test_black_stays_black_whatever_is_wished(net):
    black = np.zeros((32, 48, 3), np.float32)
    for wish in (exposure.Wish(exposure.Aim(mean=0.4)), exposure.Wish(always=True), exposure.AUTO):
        out, unchanged = enhance.enhance_pixels(net, black, wish=wish)
        assert unchanged
        np.testing.assert_array_equal(out, black)


def test_a_change_below_half_a_level_is_none(net, measured):
    decided = gained(net, measured._replace(denoising=0.9 * exposure.LEAST), 1, 0.0)
    assert (decided.amount, decided.strength) == (0, 0)
    more = gained(net, measured._replace(denoising=1.1 * exposure.LEAST), 1, 0.0)
    assert more.strength == pytest.approx(1.1 * exposure.LEAST)


def test_nothing_to_correct_is_the_image_bit_for_bit(net, scene, monkeypatch):
    monkeypatch.setattr(exposure, "decide", lambda *_: exposure.Correction(strength=0.0))
    out, unchanged = enhance.enhance_pixels(net, scene)
    assert unchanged
    np.testing.assert_array_equal(out, scene)
    stack = np.stack([scene] * 3)
    out, unchanged = enhance.enhance_pixels(net, stack, frame_rate=25.0)
    assert unchanged
    np.testing.assert_array_equal(out, stack)


def test_noise_in_good_light_is_taken_out_and_nothing_is_brightened(net, scene):
    rng = np.random.default_rng(0)
    noisy = np.clip(scene + rng.normal(0, 0.05, scene.shape), 0, 1).astype(np.float32)
    correction = exposure.Correction(amount=0.0)
    about = exposure.measure(noisy)
    out = np.empty_like(noisy)
    tiles.restore(net, noisy, out, context=exposure.context(net, *about[:2], correction))
    assert luma(out) == pytest.approx(luma(noisy), rel=0.05)
    assert exposure.measure(out).noise < about.noise / 2


@pytest.mark.parametrize("sigma", [0.005, 0.01, 0.02, 0.04])
def test_as_much_noise_is_taken_out_as_leaves_the_least_error(net, scene, sigma):
    rng = np.random.default_rng(0)
    noisy = np.clip(scene + rng.normal(0, sigma, scene.shape), 0, 1)
    noisy = (np.rint(255 * noisy) / 255).astype(np.float32)
    about = exposure.examine(net, noisy)
    correction = exposure.decide(net, about)
    assert correction.amount == 0
    whole = np.empty_like(noisy)
    tiles.restore(net, noisy, whole, context=exposure.context(net, *about[:2], correction))

    def error(share):
        return np.mean((noisy + share * (whole - noisy) - scene) ** 2)

    least = min(error(share) for share in np.linspace(0, 1, 101))
    assert error(correction.strength) < 1.05 * least
    assert error(correction.strength) < 0.99 * error(0)
    out = enhance.enhance_pixels(net, noisy)[0]
    blended = noisy + correction.strength * (whole - noisy)
    assert np.median(np.abs(out - blended)) < 1e-4  # dead and hot pixels are mended before


def test_what_needs_the_whole_correction_is_not_looked_at_twice(net, scene, monkeypatch):
    monkeypatch.setattr(tiles, "central_tile", None)
    noisy = darker(scene, 0.1) + np.random.default_rng(0).normal(0, 0.02, scene.shape)
    about = exposure.examine(net, np.clip(noisy, 0, 1).astype(np.float32))
    assert about.noise > 0.01
    assert about.denoising == 0


def test_a_veil_is_taken_off_and_the_wanted_brightness_is_met(net, scene):
    """Through arrays, one gain for several images, and stops, as without a veil."""
    dark = darker(scene, 0.2)
    light = np.asarray(colour.srgb_to_linear(dark))
    veiled = np.asarray(colour.linear_to_srgb(light + light.mean()))
    found = lle_jax.enhance(veiled, net, exposure=luma(scene))
    assert luma(found) == pytest.approx(luma(scene), rel=0.02)
    assert metrics.psnr(found, scene) > metrics.psnr(metrics.gt_mean(veiled, scene), scene) + 5
    stops = []
    for image in (dark, veiled):
        about = exposure.measure(image)
        stops.append(exposure.gain(net, about, exposure.Correction()))
    assert stops[1] == pytest.approx(stops[0] - 1, abs=0.4)  # there is twice as much light already


def test_a_network_that_takes_no_exposure_says_so(net, scene):
    whole = net._replace(finish_context=None, restore=lambda image: image)
    for wish in (exposure.Wish(exposure.Aim(mean=0.4)), exposure.Wish(gain=1.0)):
        with pytest.raises(ValueError, match="this model takes no exposure"):
            enhance.enhance_pixels(whole, scene, wish=wish)
    with pytest.raises(ValueError, match="this model takes no exposure"):
        exposure.gain(whole, exposure.measure(scene), exposure.WHOLE)


def test_references_give_the_median_of_their_brightness(scene):
    references = [darker(scene, light) for light in (1.0, 0.5, 0.1)]
    assert exposure.of_references(references).mean == pytest.approx(luma(references[1]), rel=1e-3)


def test_references_that_are_not_well_lit_are_refused(scene):
    for reference in (np.zeros_like(scene), np.ones_like(scene)):
        with pytest.raises(ValueError, match="give well-lit ones"):
            exposure.of_references([reference])


def test_like_is_as_bright_as_the_references(scene, tmp_path):
    Image.fromarray((darker(scene, 0.1) * 255).astype(np.uint8)).save(tmp_path / "dark.png")
    outputs = []
    for number, light in enumerate((0.8, 0.3)):
        reference = tmp_path / f"reference{number}.png"
        Image.fromarray((darker(scene, light) * 255).astype(np.uint8)).save(reference)
        out = tmp_path / f"out{number}.png"
        command = ["enhance", str(tmp_path / "dark.png"), "-o", str(out), "--like", str(reference)]
        assert cli.main(command) == 0
        outputs.append((luma(images.read(out).pixels), luma(images.read(reference).pixels)))
    for made, wanted in outputs:
        assert made == pytest.approx(wanted, rel=0.1)


@pytest.fixture
def folder_of_two(scene, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, light in (("a", 0.2), ("b", 0.02)):
        Image.fromarray((darker(scene, light) * 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_consistent_gives_a_folder_the_same_stops(net, folder_of_two, tmp_path, capsys):
    sources = sorted(folder_of_two.iterdir())
    gains = consistent.gains(net, sources, exposure.AUTO, progress=False)
    assert len(set(gains.values())) == 1
    alone = [consistent.gains(net, [each], exposure.AUTO, progress=False)[each] for each in sources]
    assert alone[0] < gains[sources[0]] < alone[1]
    command = ["enhance", str(folder_of_two), "-o", str(tmp_path / "out")]
    assert cli.main([*command, "--consistent"]) == 0
    made = [luma(images.read(tmp_path / "out" / each.name).pixels) for each in sources]
    assert made[0] > 1.5 * made[1]  # the difference in light is kept
    capsys.readouterr()
    assert cli.main([*command, "--consistent"]) == 0
    assert "2 skipped (finished before)" in capsys.readouterr().out


def test_consistent_leaves_alone_what_needs_nothing_and_brightens_as_one_image_is(
    net, scene, tmp_path
):
    images.write(tmp_path / "lit.png", scene)
    images.write(tmp_path / "dark.png", darker(scene, 0.1))
    (lit,) = consistent.gains(net, [tmp_path / "lit.png"], exposure.AUTO, progress=False).values()
    assert lit == 0
    path = tmp_path / "dark.png"
    gains = consistent.gains(net, [path], exposure.AUTO, progress=False)
    dark = images.read(path).pixels
    alone, _ = enhance.enhance_pixels(net, dark)
    together, _ = enhance.enhance_pixels(net, dark, wish=exposure.Wish(gain=gains[path]))
    assert luma(together) == pytest.approx(luma(alone), abs=0.03)


def test_black_says_nothing_of_the_light_of_others(net, folder_of_two, tmp_path):
    sources = sorted(folder_of_two.iterdir())
    expected = consistent.gains(net, sources, exposure.AUTO, progress=False)[sources[0]]
    black = np.zeros_like(images.read(sources[0]).pixels)
    images.write(folder_of_two / "c.png", black)
    images.write(tmp_path / "black.png", black)
    sources = [*sorted(folder_of_two.iterdir()), tmp_path / "black.png"]
    gains = consistent.gains(net, sources, exposure.AUTO, progress=False)
    assert gains == dict.fromkeys(sources[:3], expected)


def test_a_series_that_cannot_be_read_is_left_to_whoever_enhances_it(net, tmp_path):
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm", download=False))
    del dataset.SeriesInstanceUID
    dataset.add_new("SeriesInstanceUID", "SL", 1)
    dataset.save_as(tmp_path / "a.dcm")
    data = (tmp_path / "a.dcm").read_bytes()
    found = b"\x20\0\x0e\0SL\x04\0"
    assert data.count(found) == 1
    (tmp_path / "a.dcm").write_bytes(data.replace(found, b"\x20\0\x0e\0FD\x04\0"))
    assert consistent.gains(net, [tmp_path / "a.dcm"], exposure.AUTO, progress=False) == {}


def test_consistent_keeps_the_difference_at_a_chosen_mean_too(folder_of_two, tmp_path):
    out = tmp_path / "out"
    command = ["enhance", str(folder_of_two), "-o", str(out), "--consistent", "--exposure", "0.4"]
    assert cli.main(command) == 0
    made = [luma(images.read(out / name).pixels) for name in ("a.png", "b.png")]
    assert made[0] > 1.5 * made[1]


def test_a_series_is_a_group_wherever_its_files_lie(net, folder_of_two, tmp_path):
    source = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
    for name, uid in (("a", "1.2.3"), ("b", "1.2.3"), ("c", "1.2.4")):
        dataset = pydicom.dcmread(source)
        dataset.SeriesInstanceUID = uid
        if name != "a":
            dataset.PixelData = (dataset.pixel_array // 4 * 3).tobytes()
        (tmp_path / name).mkdir()
        dataset.save_as(tmp_path / name / "slice.dcm")
    files = [tmp_path / name / "slice.dcm" for name in "abc"]
    gains = consistent.gains(net, files, exposure.Wish(always=True), progress=False)
    assert gains[files[0]] == gains[files[1]] != gains[files[2]]


def test_an_unreadable_file_has_no_gain(net, folder_of_two):
    (folder_of_two / "c.png").write_bytes(b"no image")
    sources = sorted(folder_of_two.iterdir())
    assert set(consistent.gains(net, sources, exposure.AUTO, progress=False)) == set(sources[:2])


def test_the_settings_of_the_journal_hold_the_exposure():
    from lle_jax.inference.files import Settings

    values = dataclasses.asdict(Settings(exposure="+1EV", consistent=True))
    assert values["exposure"] == "+1EV"
    assert values["consistent"]
