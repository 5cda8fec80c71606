"""What `lle fit` does: reads images, fits a preset, writes it with a page that shows the fit."""

import base64
import dataclasses
import datetime
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial
import scipy.stats
import tqdm

import lle_jax
from lle_jax import artifacts, colour, images, pages
from lle_jax.degrade.presets import Preset
from lle_jax.degrade.stages import APPROXIMATE
from lle_jax.files import write_bytes
from lle_jax.fit import fit
from lle_jax.pages import text
from lle_jax.xla import force_materialize

FEWEST, ENOUGH = 2, 20
_LARGEST, _SMALLEST = 256, 64
_OUTLIER = 0.1

# Name and unit of each measure, and whether its logarithm is compared.
MEASURES = {
    "noise sigma": ("of [0, 1]", 1e-4),
    "salt": ("fraction", 1e-5),
    "pepper": ("fraction", 1e-5),
    "blur sigma": ("pixels", None),
    "blur sigma of medians": ("pixels", None),
    "bright outliers": ("fraction", 1e-5),
    "dark outliers": ("fraction", 1e-5),
    "JPEG quality": ("1 to 100", None),
    "blockiness": ("of [0, 1]", None),
    "luminance": ("linear, of [0, 1]", 1e-6),
    "crushed": ("fraction", 1e-4),
    "saturated": ("fraction", 1e-4),
    "non-uniformity": ("std / mean", None),
    "contrast": ("of [0, 1]", 1e-4),
    "colour cast": ("std / mean", None),
    "entropy": ("bits", None),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What was fitted and how well.

    Attributes:
      preset: the fitted preset.
      provenance: lines that go into the preset's file.
      real: measures of the real images, `[n, measures]`, in the order of MEASURES.
      synthetic: of clean images degraded with the preset.
      tests: per measure the statistic and p-value of Kolmogorov and Smirnov's two-sample test.
      auc: area under the curve of a classifier of real against synthetic; 0.5 is a perfect fit.
      failures: files that could not be read, with the reason.
      warnings: what limits the fit.
    """

    preset: Preset
    provenance: tuple[str, ...]
    real: np.ndarray
    synthetic: np.ndarray
    tests: tuple[tuple[float, float], ...]
    auc: float
    failures: tuple[tuple[Path, str], ...]
    warnings: tuple[str, ...]


def fit_files(
    real: Iterable[Path], clean: Iterable[Path], prior: Preset, output: Path, seed: int = 0
) -> Report:
    """Fits `prior` to real low-light images and writes `output` (.toml) and a page (.html) beside.

    All images are cut to a square of one size in the middle, at most 256 pixels wide, along the
    grid of JPEG's blocks. If some are grey and some are not, all are made grey.

    Raises:
      ValueError: for fewer than two real images, no clean image, an image among both, images
        smaller than 64 pixels, or an output that exists or is not .toml.
    """
    output = Path(output)
    page = output.with_suffix(".html")
    if output.suffix != ".toml":
        raise ValueError(f"{output}: a preset's name ends in .toml")
    for path in (output, page):
        if path.exists():
            raise ValueError(f"{path} exists; remove it or choose another name")
    space = fit.Space.of(prior)  # complains before anything is read
    failures: list[tuple[Path, str]] = []
    real_set, clean_set = (_read(paths, failures) for paths in (real, clean))
    _check(real_set, clean_set)
    side = _side(real_set + clean_set)
    grey = any(_is_grey(p.pixels) for p in real_set + clean_set)
    real_crops, clean_crops = (_crops(found, side, grey) for found in (real_set, clean_set))
    if len(real_crops) < FEWEST:
        raise ValueError("one real image says nothing about a distribution; give at least 2, or 20")
    warnings = []
    if len(real_crops) < ENOUGH:
        warnings.append(f"{len(real_crops)} real images: below {ENOUGH} a fit mostly shows chance")
    if len(clean_crops) < ENOUGH:
        warnings.append(f"{len(clean_crops)} clean images: the fit takes their content for typical")
    found = np.concatenate([np.asarray(measure(crop[None])) for crop in real_crops])
    fitted = fit.fit(
        jax.random.key(seed),
        prior,
        found,
        clean_crops,
        measure,
        progress=lambda steps: tqdm.tqdm(steps, desc="fit", unit="batch", smoothing=0.05),
    )
    auc = classify(found, fitted.synthetic)
    provenance = (
        f"Fitted by lle_jax {lle_jax.__version__} on "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d} from the prior {prior.name}, seed {seed}.",
        f"Real images: {len(real_crops)}, fingerprint {_fingerprint(real_set)}.",
        f"Clean images: {len(clean_crops)}, fingerprint {_fingerprint(clean_set)}.",
        f"All measured on squares of {side} pixels{', in grey' if grey else ''}.",
        f"Squared maximum mean discrepancy of the measures: {fitted.discrepancy:.4f}.",
        f"Real and synthetic images told apart: area under the curve {auc:.2f} "
        "(0.5 chance, 1 always).",
        *(f"Warning: {warning}." for warning in warnings),
    )
    preset = space.preset(fitted.phi, output.stem, f"Fitted to {len(real_crops)} real images")
    tests = tuple(
        (float(result.statistic), float(result.pvalue))
        for result in map(_two_sample, found.T, fitted.synthetic.T)
    )
    report = Report(
        preset, provenance, found, fitted.synthetic, tests, auc, tuple(failures), tuple(warnings)
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(page, _page(report))
    write_bytes(output, to_toml(report, space).encode())
    return report


@jax.jit
def measure(image: jax.Array) -> jax.Array:
    """MEASURES of images `[b, H, W, C]`, `[b, measures]`; logarithms where MEASURES says so.

    JPEG moves impulses off 0 and 1, and impulses look sharp: so that both can be told from blur and
    noise, luma is also compared with its median over 3 x 3 pixels, and the medians' blur measured.
    Outliers are pixels a tenth of the range from the median.
    """
    salt, pepper = artifacts.impulse_density(image)
    luma = colour.luma(image)
    median = force_materialize(_median(luma))
    axes = (-3, -2, -1)
    light = artifacts.exposure(image)
    values = (
        artifacts.noise_sigma(image),
        salt,
        pepper,
        artifacts.blur_sigma(image),
        artifacts.blur_sigma(median),
        jnp.mean(luma > median + _OUTLIER, axis=axes),
        jnp.mean(luma < median - _OUTLIER, axis=axes),
        artifacts.jpeg_quality(image),
        artifacts.blockiness(image),
        light.luminance,
        light.crushed,
        light.saturated,
        light.non_uniformity,
        light.contrast,
        light.cast,
        light.entropy,
    )
    floors = [floor for _, floor in MEASURES.values()]
    return jnp.stack(
        [
            value if floor is None else jnp.log10(value + floor)
            for value, floor in zip(values, floors, strict=True)
        ],
        axis=-1,
    )


def _median(luma: jax.Array) -> jax.Array:
    """Median of 3 x 3 pixels of `[..., H, W, 1]`, by columns: Smith, Xilinx XCELL 23, 1996."""
    padding = [(0, 0)] * (luma.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = jnp.pad(luma, padding, mode="symmetric")
    height, width = luma.shape[-3:-1]
    low, middle, high = _sort(*(padded[..., y : y + height, :, :] for y in range(3)))
    shifts = [[v[..., x : x + width, :] for x in range(3)] for v in (low, middle, high)]
    lowest = jnp.maximum(jnp.maximum(*shifts[0][:2]), shifts[0][2])
    highest = jnp.minimum(jnp.minimum(*shifts[2][:2]), shifts[2][2])
    return _sort(lowest, _sort(*shifts[1])[1], highest)[1]


def _sort(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    a, b = jnp.minimum(a, b), jnp.maximum(a, b)
    b, c = jnp.minimum(b, c), jnp.maximum(b, c)
    return jnp.minimum(a, b), jnp.maximum(a, b), c


def classify(real: np.ndarray, synthetic: np.ndarray) -> float:
    """How well a nearest-neighbour classifier tells real from synthetic measures.

    The two-sample test of Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017:
    each image is scored by the share of real ones among its neighbours, itself left out, the
    classes made equally large; the mean over ten draws of the larger.

    Returns:
      area under the receiver operating characteristic, about 0.5 for equal distributions.
    """
    generator = np.random.default_rng(0)
    z_real, z_synthetic = fit.scale(real, real), fit.scale(real, synthetic)
    count = min(len(real), len(synthetic))
    areas = []
    for _ in range(10):
        points = np.concatenate(
            [
                z_real[generator.choice(len(real), count, replace=False)],
                z_synthetic[generator.choice(len(synthetic), count, replace=False)],
            ]
        )
        is_real = np.arange(2 * count) < count
        neighbours = max(1, round(np.sqrt(count)))
        _, nearest = scipy.spatial.cKDTree(points).query(points, neighbours + 1)
        # leaving a point out leaves one less of its own class: without the correction, chance
        # would be below 0.5
        others = np.where(is_real, count - 1, count)[:, None] / count
        share = (is_real[nearest[:, 1:]].mean(axis=1, keepdims=True) / others)[:, 0]
        statistic = scipy.stats.mannwhitneyu(share[is_real], share[~is_real]).statistic
        areas.append(statistic / count**2)
    return float(np.mean(areas))


def to_toml(report: Report, space: fit.Space) -> str:
    """The preset as a file that `load` reads, its provenance as comments."""
    lines = [f"# {line}" for line in report.provenance]
    lines += ["", f'description = "{report.preset.description}"']
    narrowed = {(stage, name): law for stage, name, law in space.ranges}
    for stage in report.preset.stages:
        section = stage.name.removeprefix(APPROXIMATE)
        lines += ["", f"[{section}]"]
        if section != stage.name:
            lines.append("exact = false")
        if stage.probability < 1:
            lines.append(f"probability = {stage.probability:g}")
        for name, law in stage.parameters:
            values = ", ".join(f"{value:g}" for value in law.values)
            values = values if law.kind == "fixed" else f"[{values}]"
            lines.append(f"{name}.{law.kind} = {values}")
            prior = narrowed.get((stage.name, name))
            source = (
                f"fitted within {prior.kind} [{prior.values[0]:g}, {prior.values[1]:g}]"
                if prior
                else "as the prior"
            )
            lines.append(f'{name}.source = "{source}"')
    return "\n".join(lines) + "\n"


class _Image(NamedTuple):
    path: Path
    digest: str
    pixels: np.ndarray  # [frames, H, W, C], cut to the largest square of use


def _read(paths: Iterable[Path], failures: list) -> list[_Image]:
    found = []
    for path in tqdm.tqdm(images.find(paths), desc="read", unit="file", leave=False):
        try:
            pixels = images.read(path).pixels
            pixels = _cut(pixels.reshape(-1, *pixels.shape[-3:]), _LARGEST)
            found.append(_Image(path, images.sha256(path), pixels))
        except (images.ImageError, OSError) as error:
            failures.append((path, str(error).removeprefix(f"{path}: ")))
    return found


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
            raise ValueError(f"{image.path} is among the real and the clean images")


def _side(pictures: Sequence[_Image]) -> int:
    smallest = min(pictures, key=lambda image: min(image.pixels.shape[1:3]))
    side = min(min(smallest.pixels.shape[1:3]) // 16 * 16, _LARGEST)
    if side < _SMALLEST:
        raise ValueError(
            f"{smallest.path} is smaller than {_SMALLEST} pixels, and all images are measured on "
            "the same size; leave it out"
        )
    return side


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _crops(pictures: Sequence[_Image], side: int, grey: bool) -> np.ndarray:
    """Squares `[n, side, side, C]`, a frame each."""
    crops = np.concatenate([_cut(picture.pixels, side) for picture in pictures])
    return np.asarray(colour.luma(jnp.asarray(crops))) if grey else crops


def _fingerprint(pictures: Sequence[_Image]) -> str:
    digests = sorted(picture.digest for picture in pictures)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _two_sample(real: np.ndarray, synthetic: np.ndarray):
    real, synthetic = (np.nan_to_num(values, nan=-1e30) for values in (real, synthetic))
    return scipy.stats.ks_2samp(real, synthetic)


def _page(report: Report) -> bytes:
    rows = [
        f"<tr><td>{text(name)}</td><td>{d:.2f}</td><td>{p:.2g}</td></tr>"
        for name, (d, p) in zip(MEASURES, report.tests, strict=True)
    ]
    failed = [f"<li>{text(f'{path}: {reason}')}</li>" for path, reason in report.failures]
    return pages.fill(
        Path(__file__).with_name("fit.html"),
        report=False,
        name=text(report.preset.name),
        provenance="\n".join(f"<li>{text(line)}</li>" for line in report.provenance),
        histograms=base64.b64encode(_histograms(report)).decode(),
        rows="\n".join(rows),
        failed="\n".join(failed) or "<li>none</li>",
    )


def _histograms(report: Report) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 10), layout="constrained")
    axes = figure.subplots(4, 4).ravel()
    for axis in axes[len(MEASURES) :]:
        axis.axis("off")
    for column, (name, (unit, floor)) in enumerate(MEASURES.items()):
        real, synthetic = (v[:, column] for v in (report.real, report.synthetic))
        real, synthetic = real[np.isfinite(real)], synthetic[np.isfinite(synthetic)]
        both = np.concatenate([real, synthetic])
        edges = np.histogram_bin_edges(both, bins=24) if len(both) else 2
        for values, style in (
            (synthetic, {"label": "synthetic", "color": "tab:orange", "alpha": 0.5}),
            (real, {"label": "real", "color": "tab:blue", "histtype": "step", "linewidth": 2}),
        ):
            weights = np.full(len(values), 1 / max(len(values), 1))
            axes[column].hist(values, edges, weights=weights, **style)
        prefix = "" if floor is None else "log10 "
        axes[column].set_title(f"{name} ({prefix}{unit})", fontsize=9)
        axes[column].tick_params(labelsize=8)
    axes[0].legend(fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return data.getvalue()
