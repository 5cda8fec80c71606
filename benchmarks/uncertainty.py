"""Are the released model's intervals true? Coverage and width on images that it never saw.

    python benchmarks/uncertainty.py [path of shared/data]

prints the table of the model card: for each modality of the suite "modalities" (role test) the
share of values within their interval, the interval's mean half width and the mean error, and by
rank correlation whether wider means worse, over images and over the pixels of an image.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.stats

from lle_jax.evaluation import coverage, suite
from lle_jax.inference import enhance


def main(root: Path) -> None:
    cases = suite.load("modalities", source=str(root / "manifest.csv")).cases()
    found: dict[str, list[tuple[float, ...]]] = {}
    for each in coverage.measure(enhance.load(), cases):
        error = each.error.mean(axis=-1)
        pixels = scipy.stats.spearmanr(error.ravel(), each.half_width.ravel()).statistic
        row = each.coverage, float(each.half_width.mean()), float(error.mean()), float(pixels)
        for name in (each.case.modality, "all"):
            found.setdefault(name, []).append(row)
    print("| | images | covered | least covered image | half width | error | images | pixels |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sorted(found, key=lambda name: (name == "all", name)):
        covered, width, error, pixels = np.array(found[name]).T
        images = scipy.stats.spearmanr(width, error).statistic
        print(
            f"| {name} | {len(covered)} | {covered.mean():.1%} | {covered.min():.1%} | "
            f"{width.mean():.3f} | {error.mean():.3f} | {images:.2f} | {np.nanmean(pixels):.2f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
