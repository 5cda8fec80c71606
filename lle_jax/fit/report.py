"""The result of a fit as a preset's file and as a page with histograms."""

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np

from lle_jax import pages
from lle_jax.degrade import presets
from lle_jax.degrade.presets import Preset
from lle_jax.fit import distributions
from lle_jax.fit.measures import MEASURES
from lle_jax.images.errors import shown
from lle_jax.pages import text


@dataclasses.dataclass(frozen=True)
class Report:
    """A fitted preset and its agreement with the real images.

    Attributes:
      preset: the fitted preset.
      provenance: lines that go into the preset's file.
      real: measures of the real images, `[n, measures]`, in the order of MEASURES.
      synthetic: of clean images degraded with the preset.
      tests: per measure the statistic and p-value of Kolmogorov and Smirnov's two-sample test.
      auc: area under the curve of a classifier of real against synthetic; 0.5 is a perfect fit.
      failures: files that could not be read, with the reason.
      warnings: limits of the fit.
    """

    preset: Preset
    provenance: tuple[str, ...]
    real: np.ndarray
    synthetic: np.ndarray
    tests: tuple[tuple[float, float], ...]
    auc: float
    failures: tuple[tuple[Path, str], ...]
    warnings: tuple[str, ...]


def to_toml(report: Report, prior: Preset) -> str:
    """The preset, fitted within the prior, as a file that `load` reads, provenance as comments."""
    lines = [f"# {line}" for line in report.provenance]
    lines += ["", f'description = "{report.preset.description}"']
    ranges = distributions.Space.of(prior).ranges
    narrowed = {(stage, name): distribution for stage, name, distribution in ranges}
    for stage in report.preset.stages:

        def source(name: str, stage: str = stage.name) -> str:
            within = narrowed.get((stage, name))
            if within is None:
                return "as the prior"
            return f"fitted within {within.kind} [{within.values[0]:g}, {within.values[1]:g}]"

        lines += ["", presets.to_toml(stage, source).rstrip()]
    return "\n".join(lines) + "\n"


def to_html(report: Report) -> bytes:
    rows = [
        f"<tr><td>{text(name)}</td><td>{d:.2f}</td><td>{p:.2g}</td></tr>"
        for name, (d, p) in zip(MEASURES, report.tests, strict=True)
    ]
    failed = [f"<li>{text(f'{shown(path)}: {reason}')}</li>" for path, reason in report.failures]
    return pages.fill(
        Path(__file__).with_name("fit.html"),
        report=False,
        name=text(shown(report.preset.name)),
        provenance="\n".join(f"<li>{text(line)}</li>" for line in report.provenance),
        histograms=base64.b64encode(_histograms(report)).decode(),
        rows="\n".join(rows),
        failed="\n".join(failed) or "<li>none</li>",
    )


def _histograms(report: Report) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 15), layout="constrained")
    axes = figure.subplots(6, 4).ravel()
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
