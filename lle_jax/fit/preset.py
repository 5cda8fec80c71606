"""Fits a preset to files of images: reads them, fits, writes the preset and its page."""

import dataclasses
import datetime
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lle_jax
from lle_jax import colour, images, jobs
from lle_jax.degrade import presets
from lle_jax.degrade.presets import Preset, StageDistribution
from lle_jax.files import write_bytes
from lle_jax.fit import distributions, lamp, measures
from lle_jax.fit.report import Report, to_html, to_toml
from lle_jax.images import picture
from lle_jax.images.errors import shown

MIN_IMAGES, RECOMMENDED_IMAGES = 2, 20
MAX_SIDE, MIN_SIDE = 256, 64


def load_prior(name: str) -> Preset:
    """Loads a prior by its name in configs/fit, or any preset; raises PresetError."""
    folder = presets.folder().parent / "fit"
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name in known:
        return presets.load(folder / f"{name}.toml")
    if not name.endswith(".toml") and name not in presets.names():
        raise presets.PresetError(
            f"no prior {name!r}{presets.nearest(name, known)}; or give a preset, or the path of a "
            ".toml file"
        )
    return presets.load(name)


def fit_files(
    real: Iterable[Path],
    clean: Iterable[Path],
    prior: Preset,
    output: Path,
    seed: int = 0,
    *,
    simulations: int | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Report:
    """Fits `prior` to real low-light images and writes `output` (.toml) and a page (.html) beside.

    All images are cut to a square of one size in the middle, at most 256 pixels wide, along the
    grid of JPEG's blocks. Where the real or the clean images are all grey, the others are made
    grey; else grey ones stay as they are among those in colour, whose channels have noise of their
    own. A colour of the light of all images is not searched for by the measures, but found
    afterwards (`lamp`), and left out where there is none. Of a film all frames count for the fit,
    the middle one for lamp and tests. `simulations` and `out_of_time`: see `distributions.fit`.

    Raises:
      ValueError: for fewer than two files of real images, no clean image, an image among both,
        images smaller than 64 pixels, an output that exists, cannot be written or is not .toml, or
        a seed of more than 63 bits.
    """
    output, key = Path(output), _key(seed)
    _check_output(output, output.with_suffix(".html"))
    distributions.Space.of(_without_lamp(prior))  # complains before anything is read
    failures: list[tuple[Path, str]] = []
    real_set, clean_set = (_read(paths, failures) for paths in (real, clean))
    _check(real_set, clean_set)
    side = _side(real_set + clean_set)
    grey = any(all(_is_grey(p.pixels) for p in each) for each in (real_set, clean_set))
    real_crops, clean_crops = (_crops(squares, side, grey) for squares in (real_set, clean_set))
    warnings = _warnings(len(real_set), len(clean_set))
    measured = np.concatenate([np.asarray(measures.measure(crop[None])) for crop in real_crops])
    middle = _middle(real_set)
    coloured = None if grey else (real_crops[middle], clean_crops[_middle(clean_set)])
    fitted = _fit(key, prior, measured, clean_crops, coloured, simulations, out_of_time)
    preset = dataclasses.replace(
        fitted.preset, name=output.stem, description=f"Fitted to {len(real_set)} real images"
    )
    made_of = _files(clean_set)[fitted.made_of]
    auc = measures.classify(measured, fitted.synthetic, _files(real_set), made_of)
    provenance = (
        f"Fitted by lle_jax {lle_jax.__version__} on "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d} from the prior "
        f"{shown(prior.name)}, seed {seed}.",
        f"Real images: {_counted(real_set)}, fingerprint {_fingerprint(real_set)}.",
        f"Clean images: {_counted(clean_set)}, fingerprint {_fingerprint(clean_set)}.",
        f"All measured on squares of {side} pixels{', in grey' if grey else ''}.",
        *fitted.said,
        *_agreement(fitted.discrepancy, auc),
        *(f"Warning: {warning}." for warning in warnings),
    )
    tests = _tests(measured[middle], fitted.synthetic[_one_of_each(made_of)])
    report = Report(
        preset, provenance, measured, fitted.synthetic, tests, auc, tuple(failures), warnings
    )
    _write(report, prior, output)
    return report


class _Fitted(NamedTuple):
    preset: Preset
    synthetic: np.ndarray  # measures of clean images under the preset
    made_of: np.ndarray  # the index of the clean image that each is of
    discrepancy: float
    said: tuple[str, ...]  # of the lamp, where one was looked for


def _fit(
    key: jax.Array,
    prior: Preset,
    measured: np.ndarray,
    clean: np.ndarray,
    coloured: tuple[np.ndarray, np.ndarray] | None,
    simulations: int | None,
    out_of_time: Callable[[], bool],
) -> _Fitted:
    """Fits the ranges by the measures, then the lamp by real and clean images of a file each.

    `coloured` are those, None where they are grey.
    """
    searched = _without_lamp(prior)
    within = [stage for stage in prior.stages if stage not in searched.stages]
    # what the lamp does to an image's colour must not be looked for in its tone curve
    compared = np.array([name != measures.CAST or not within for name in measures.MEASURES])
    found = distributions.fit(
        key,
        searched,
        measured[:, compared],
        clean,
        lambda image: measures.measure(image)[:, np.flatnonzero(compared)],
        progress=functools.partial(jobs.track, unit="step", description="fit"),
        simulations=simulations,
        out_of_time=out_of_time,
    )
    preset = found.space.preset(found.parameters, "", "")
    light = None
    if within and coloured is not None:
        own = jax.random.fold_in(key, distributions.ROUNDS + 1)
        light = _lamp(own, within[0], preset, *coloured)
    if light:
        preset = dataclasses.replace(preset, stages=lamp.added(preset.stages, light))
    synthetic, made_of = distributions.synthesise(
        jax.random.fold_in(key, distributions.ROUNDS),
        preset,
        clean,
        measures.measure,
        simulations or distributions.SIMULATIONS,
        functools.partial(jobs.track, unit="step", description="compare"),
    )
    said: tuple[str, ...] = ()
    if within:
        grey = "Colour of the light: not looked for in grey images."
        said = (grey if coloured is None else lamp.described(light),)
    return _Fitted(preset, synthetic, made_of, found.discrepancy, said)


def _without_lamp(prior: Preset) -> Preset:
    """The prior without the light whose colour is found by itself."""
    stages = tuple(stage for stage in prior.stages if not lamp.is_searched(stage))
    return dataclasses.replace(prior, stages=stages)


def _lamp(
    key: jax.Array, within: StageDistribution, preset: Preset, real: np.ndarray, clean: np.ndarray
) -> lamp.Lamp | None:
    """Finds the colour that the real images have more than the clean ones under the preset."""
    batches = -(-len(clean) // distributions.BATCH)

    def synthesise(light: lamp.Lamp | None) -> np.ndarray:
        stages = lamp.added(preset.stages, light) if light else preset.stages
        lit = dataclasses.replace(preset, stages=stages)
        colours, made_of = distributions.synthesise(
            key, lit, clean, lamp.colours, batches * distributions.BATCH
        )
        return colours[_one_of_each(made_of)]

    colours = np.concatenate([lamp.colours(crop[None]) for crop in real])
    return lamp.find(colours, synthesise, within)


def _write(report: Report, prior: Preset, output: Path) -> None:
    """Writes the page and then the preset, so that where it is there is a page too."""
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(output.with_suffix(".html"), to_html(report))
    write_bytes(output, to_toml(report, prior).encode())


def _tests(real: np.ndarray, synthetic: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Computes statistic and p-value of each measure's two-sample test."""
    results = map(measures.kolmogorov_smirnov, real.T, synthetic.T)
    return tuple((float(result.statistic), float(result.pvalue)) for result in results)


def _check_output(output: Path, page: Path) -> None:
    if output.suffix != ".toml":
        raise ValueError(f"{shown(output)}: a preset's name ends in .toml")
    for path in (output, page):
        if path.exists():
            raise ValueError(f"{shown(path)} exists; remove it or choose another name")
    folder = next(each for each in output.absolute().parents if os.path.lexists(each))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"{shown(output)}: cannot be written, since {shown(folder)} is not a folder that may "
            "be written to; choose another"
        )


def _key(seed: int) -> jax.Array:
    try:
        return jax.random.key(seed)
    except OverflowError:
        raise ValueError(f"seed is {seed}; expected a whole number below 2^63") from None


def _warnings(real: int, clean: int) -> tuple[str, ...]:
    """Returns the limits of a fit to so many images; raises ValueError where there is none."""
    if real < MIN_IMAGES:
        raise ValueError(
            "one real image, or film, says nothing about a distribution; give at least 2, or 20"
        )
    warnings = []
    if real < RECOMMENDED_IMAGES:
        warnings.append(f"{real} real images: below {RECOMMENDED_IMAGES} a fit mostly shows chance")
    if clean < RECOMMENDED_IMAGES:
        warnings.append(f"{clean} clean images: the fit takes their content for typical")
    return tuple(warnings)


def _agreement(discrepancy: float, auc: float) -> tuple[str, str]:
    told = f"area under the curve {auc:.2f} (0.5 chance, 1 always)"
    return (
        f"Squared maximum mean discrepancy of the measures: {discrepancy:.4f}.",
        "Real and synthetic images told apart: "
        f"{'not tested with one clean image' if np.isnan(auc) else told}.",
    )


class _Image(NamedTuple):
    path: Path
    digest: str
    pixels: np.ndarray  # [frames, H, W, C], cut to the largest square of use


def _read(paths: Iterable[Path], failures: list) -> list[_Image]:
    squares = []
    for path in jobs.track(images.find(paths), description="read"):
        try:
            pixels = images.read(path).pixels
            pixels = _cut(pixels.reshape(-1, *pixels.shape[-3:]), MAX_SIDE)
            squares.append(_Image(path, images.sha256(path), pixels))
        except (images.ImageError, OSError) as error:
            failures.append((path, str(error).removeprefix(f"{shown(path)}: ")))
    return squares


def _cut(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of `[n, H, W, C]`, at most `side` high and wide, along the grid of 8 pixels."""
    top, left = (max(whole - side, 0) // 16 * 8 for whole in pixels.shape[1:3])
    return pixels[:, top : top + side, left : left + side].copy()


def _check(real: Sequence[_Image], clean: Sequence[_Image]) -> None:
    if not real:
        raise ValueError("no real image could be read; give low-light images")
    if not clean:
        raise ValueError("no clean image could be read; give well-lit images of the same kind")
    of_clean = {image.digest for image in clean}
    for image in real:
        if image.digest in of_clean:
            raise ValueError(f"{shown(image.path)} is among the real and the clean images")


def _side(pictures: Sequence[_Image]) -> int:
    smallest = min(pictures, key=lambda image: min(image.pixels.shape[1:3]))
    side = min(min(smallest.pixels.shape[1:3]) // 16 * 16, MAX_SIDE)
    if side < MIN_SIDE:
        raise ValueError(
            f"{shown(smallest.path)} is smaller than {MIN_SIDE} pixels, and all images are "
            "measured on the same size; leave it out"
        )
    return side


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _crops(pictures: Sequence[_Image], side: int, grey: bool) -> np.ndarray:
    """Squares `[n, side, side, C]`, a frame each, C 3 unless they are made grey.

    Of 8 bits as the synthetic ones are: luma of JPEG's flat blocks, not rounded, varies by less
    than a level and measures as no noise.
    """
    crops = [_cut(each.pixels, side) for each in pictures]
    if grey:
        crops = [np.asarray(jnp.round(colour.luma(jnp.asarray(c)) * 255) / 255) for c in crops]
    else:
        # the values that reading a file of 8 bits gives, to the bit
        crops = [picture.to_unit(picture.to_levels(crop, 8), 255) for crop in crops]
        crops = [np.broadcast_to(crop, (*crop.shape[:-1], 3)) for crop in crops]
    return np.concatenate(crops)


def _files(pictures: Sequence[_Image]) -> np.ndarray:
    """The number of the file that each frame is of."""
    return np.repeat(np.arange(len(pictures)), [len(each.pixels) for each in pictures])


def _middle(pictures: Sequence[_Image]) -> np.ndarray:
    """Where the middle frame of each file is among all frames."""
    frames = np.array([len(each.pixels) for each in pictures])
    return np.cumsum(frames) - frames + frames // 2


def _one_of_each(files: np.ndarray) -> np.ndarray:
    """Where the first image of each file is."""
    return np.unique(files, return_index=True)[1]


def _counted(pictures: Sequence[_Image]) -> str:
    frames = sum(len(each.pixels) for each in pictures)
    return f"{len(pictures)}{f' of {frames} frames' if frames > len(pictures) else ''}"


def _fingerprint(pictures: Sequence[_Image]) -> str:
    digests = sorted(picture.digest for picture in pictures)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
