"""Sensitivity of the spot and line counts to planted dots and vessels, against false positives.

    python benchmarks/invention.py ../shared/data docs/invention.png

In each of the ten test images of DRIVE forty dots (radius 2 to 5 pixels) or short vessels (length
15 to 40, width 2 to 4, gently curved) are planted at one contrast, half of them darker than what
is there and half brighter. White noise is added to the planted and to the clean image, each its
own. The least contrast of `spot_change` and `line_change` is swept.
"""

import csv
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
from matplotlib.figure import Figure

from lle_jax import colour, files, images, metrics
from lle_jax.metrics import field, lines, spots

CONTRASTS = (0.03, 0.05, 0.1, 0.2, 0.3)
THRESHOLDS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.2)
NOISE = 0.02  # sigma
COUNT, SPACING, NEAR = 40, 45, 4  # objects an image; pixels
KINDS = {
    "dots": (metrics.spot_change, spots.CONTRAST),
    "vessels": (metrics.line_change, lines.CONTRAST),
}


def main() -> None:
    """Prints the tables and draws the figure."""
    clean = _images(Path(sys.argv[1]))
    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    for axis, kind in zip(figure.subplots(1, 2), KINDS, strict=True):
        result = _sweep(clean, kind)
        _print(kind, result)
        _draw(axis, kind, result)
    files.write_figure(Path(sys.argv[2]), figure)


def _images(root: Path) -> list[np.ndarray]:
    with (root / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] == "fundus"]
    return [images.read(root / row["path"]).pixels for row in rows if row["role"] == "test"]


def _sweep(clean: list[np.ndarray], kind: str) -> dict[float, np.ndarray]:
    """Share of objects found and false positives per megapixel: contrast -> `[threshold, 2]`."""
    change = KINDS[kind][0]
    # what does not depend on the threshold is computed once
    added_maps = jax.jit(
        jax.vmap(lambda x, y, t: change(x, y, contrast=t).added_map, in_axes=(None, None, 0))
    )
    results: dict[float, list[np.ndarray]] = {contrast: [] for contrast in CONTRASTS}
    for number, image in enumerate(clean):
        rng = np.random.default_rng(number)
        masks = _masks(rng, image, kind)
        signs = np.where(np.arange(len(masks)) % 2, 1, -1)
        total = np.sum(signs[:, None, None] * masks, axis=0)
        around = [cv2.dilate(mask, np.ones((2 * NEAR + 1,) * 2)) > 0.1 for mask in masks]
        elsewhere = ~np.any(around, axis=0)
        area = np.sum(field.field_of_view(colour.luma(image))) / 1e6
        for contrast in CONTRASTS:
            pair = [
                np.clip(each + rng.normal(0, NOISE, image.shape), 0, 1).astype(np.float32)
                for each in (image * (1 + contrast * total[..., None]), image)
            ]
            added = np.asarray(added_maps(*pair, np.float32(THRESHOLDS)))
            found = np.mean([added[:, each].any(axis=-1) for each in around], axis=0)
            false = np.sum(added & elsewhere, axis=(-2, -1)) / area
            results[contrast].append(np.stack([found, false], axis=-1))
    return {contrast: np.mean(each, axis=0) for contrast, each in results.items()}


def _masks(rng: np.random.Generator, image: np.ndarray, kind: str) -> np.ndarray:
    """Draws objects apart from each other in the field of view: `[object, H, W]` in [0, 1]."""
    shape = image.shape[:2]
    inside = cv2.erode((image.mean(axis=-1) > 0.1).astype(np.uint8), np.ones((61, 61)))
    places: list[np.ndarray] = []
    for place in rng.permutation(np.argwhere(inside)):
        if all(np.hypot(*(place - other)) >= SPACING for other in places):
            places.append(place)
        if len(places) == COUNT:
            break
    draw = _dot if kind == "dots" else _vessel
    return np.stack([draw(rng, place, shape) for place in places])


def _dot(rng: np.random.Generator, place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - place[0], columns - place[1])
    return (1 / (1 + np.exp(np.clip((distance - rng.uniform(2, 5)) / 0.5, -50, 50)))).astype("f4")


def _vessel(rng: np.random.Generator, place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    length, width = rng.uniform(15, 40), rng.uniform(2, 4)
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.01, 0.01)
    along = np.linspace(-length / 2, length / 2, 60)
    across = bend * along**2
    x = place[1] + np.cos(angle) * along - np.sin(angle) * across
    y = place[0] + np.sin(angle) * along + np.cos(angle) * across
    mask = np.zeros((4 * shape[0], 4 * shape[1]), np.uint8)
    points = np.rint(4 * np.stack([x, y], axis=1) + 1.5).astype(np.int32)
    cv2.polylines(mask, [points], False, 255, round(4 * width))
    small = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(small, (0, 0), 0.6)


def _print(kind: str, result: dict[float, np.ndarray]) -> None:
    heads = " | ".join(f"{contrast:.0%}" for contrast in result)
    print(f"| {kind}: threshold | {heads} | false / Mpx |")
    print("|" + "---|" * (len(result) + 2))
    for i, threshold in enumerate(THRESHOLDS):
        cells = " | ".join(f"{values[i, 0]:.2f}" for values in result.values())
        false = np.mean([values[i, 1] for values in result.values()])
        used = " (in use)" if threshold == KINDS[kind][1] else ""
        print(f"| {threshold:.2f}{used} | {cells} | {false:,.0f} |", flush=True)


def _draw(axis, kind: str, result: dict[float, np.ndarray]) -> None:
    for contrast, values in result.items():
        (line,) = axis.plot(values[:, 1], values[:, 0], ".-", label=f"{contrast:.0%}")
        used = THRESHOLDS.index(KINDS[kind][1])
        axis.plot(values[used, 1], values[used, 0], "o", color=line.get_color())
    unit = "spots" if kind == "dots" else "pixels of centreline"
    axis.set(xlabel=f"false {unit} / Mpx", ylabel="share found", title=f"planted {kind}")
    axis.set_xscale("symlog", linthresh=10)
    axis.set_ylim(-0.02, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(title="contrast", fontsize=8)


if __name__ == "__main__":
    main()
