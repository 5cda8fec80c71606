"""The final table: the network and the classical baselines on the test images.

Nothing is chosen here: the network is the last checkpoint's moving average, and every method sees
the same low-light images, made from the test images with fixed seeds.
"""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
import tqdm

from lle_jax import classical, data, files, metrics
from lle_jax.evaluation import panels

METRICS = {"psnr": jax.jit(metrics.psnr), "ssim": jax.jit(metrics.ssim)}

Enhance = Callable[[np.ndarray], np.ndarray]
Row = tuple[str, str, str, float]


def evaluate(
    test: data.Images,
    rejected: int,
    network: tuple[str, Enhance],
    degrade: Callable[[jax.Array, data.Batch], jax.Array],
    *,
    draws: int,
    seed: int,
    folder: Path,
    baselines: Mapping[str, Enhance] = classical.METHODS,
) -> list[tuple]:
    """Degrades and enhances every test image, and writes what was measured.

    Args:
      test: the test images.
      rejected: number of files that were found but left out, for the summary.
      network: its name as in the table, and the function `[H, W, C] -> [H, W, C]`.
      degrade: `(key, batch) -> low`, here for batches without a batch axis.
      draws: low-light versions per image, each with its own parameters and noise.
      seed: of the versions; with an image's content it decides each, whatever the other images.
      folder: gets per_image.csv (image, method, metric, value), summary.csv (method, metric, mean,
        std, n) and panels/, a picture per image.
      baselines: what the network is compared with besides its input.

    Returns:
      the rows of summary.csv.
    """
    (folder / "panels").mkdir(parents=True, exist_ok=True)
    methods: dict[str, Enhance] = {"low": lambda low: low, network[0]: network[1]}
    methods |= baselines
    rows: list[Row] = []
    count = len(test) * draws
    with tqdm.tqdm(total=count, desc="evaluate", unit="image", leave=False, disable=None) as bar:
        for name, digest, number, clean in zip(
            test.names, test.hashes, test.modality_ids, test, strict=True
        ):
            one = data.Batch(clean, number)
            image_key = data.image_key(seed, digest)
            for draw in range(draws):
                low = np.asarray(degrade(jax.random.fold_in(image_key, draw), one))
                outputs = {method: run(low) for method, run in methods.items()}
                label = f"{name}-{draw}"
                rows += measure(label, outputs, clean)
                if draw == 0:
                    panels.save(folder / "panels" / f"{name}.png", outputs, clean)
                bar.update()
    summary = summarise(rows)
    # One row that is no measurement, so that the file alone says how many files were left out.
    counted = [("(files left out)", "count", rejected, 0.0, len(test))]
    files.write_csv(folder / "per_image.csv", ("image", "method", "metric", "value"), rows)
    files.write_csv(
        folder / "summary.csv", ("method", "metric", "mean", "std", "n"), summary + counted
    )
    return summary


def measure(label: str, outputs: dict[str, np.ndarray], clean: np.ndarray) -> list[Row]:
    """One row per method and metric; outputs are clipped to [0, 1] first."""
    return [
        (label, method, metric, float(function(np.clip(output, 0, 1), clean)))
        for method, output in outputs.items()
        for metric, function in METRICS.items()
    ]


def summarise(rows: list[Row]) -> list[tuple[str, str, float, float, int]]:
    """Mean and sample standard deviation over images: (method, metric, mean, std, n)."""
    values: dict[tuple[str, str], list[float]] = {}
    for _, method, metric, value in rows:
        values.setdefault((method, metric), []).append(value)
    return [
        (*key, statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0, len(v))
        for key, v in values.items()
    ]


def table(summary: list[tuple]) -> str:
    """The summary as text: a line per method, mean +- standard deviation per metric."""
    cells = {(method, metric): (mean, std) for method, metric, mean, std, _ in summary}
    methods = list(dict.fromkeys(method for method, *_ in summary))
    width = max(map(len, methods))
    lines = [f"{'method':<{width}}  {'PSNR (dB)':>14}  {'SSIM':>15}   n = {summary[0][4]}"]
    for method in methods:
        (psnr, psnr_std), (ssim, ssim_std) = cells[method, "psnr"], cells[method, "ssim"]
        lines.append(
            f"{method:<{width}}  {psnr:>6.2f} +- {psnr_std:>4.2f}  {ssim:>6.3f} +- {ssim_std:>5.3f}"
        )
    return "\n".join(lines)


def verdict(summary: list[tuple], network: str) -> str:
    """How the network compares with its input and with the best baseline of each metric, if any."""
    means = {(method, metric): mean for method, metric, mean, _, _ in summary}
    psnr, ssim = means[network, "psnr"], means[network, "ssim"]
    baselines = [method for method in classical.METHODS if (method, "psnr") in means]
    if not baselines:
        return (
            f"{network}: {psnr - means['low', 'psnr']:+.2f} dB and SSIM "
            f"{ssim - means['low', 'ssim']:+.3f} over the low-light input"
        )
    best = {metric: max(baselines, key=lambda method: means[method, metric]) for metric in METRICS}
    return (
        f"{network}: {psnr - means['low', 'psnr']:+.2f} dB over the low-light input, "
        f"{psnr - means[best['psnr'], 'psnr']:+.2f} dB over the best baseline ({best['psnr']}); "
        f"SSIM {ssim - means['low', 'ssim']:+.3f} and "
        f"{ssim - means[best['ssim'], 'ssim']:+.3f} ({best['ssim']})"
    )
