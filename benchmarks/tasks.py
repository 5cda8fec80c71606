"""Does diagnosis get easier? Segmentation before, in, and after low light.

    python benchmarks/tasks.py [path of shared/data [drive | kvasir_seg ...]]

prints the table of docs/tasks.md (drive by default): means over the test images with 95 %
intervals, two low-light realisations each (seed 0), and the share of the lost Dice that each method
recovers; beside them the dark spots per megapixel, and pixels of dark lines per megapixel, that it
adds; for vessels also the AUC of Frangi's filter, an independent check. About five minutes per
set on two CPU cores, most of it non-local means.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import skimage.filters

from lle_jax import classical, degrade
from lle_jax.checkpoints import segmenters
from lle_jax.evaluation import methods, statistics
from lle_jax.evaluation import tasks as task

TASKS = {"drive": ("vessels", "fundus"), "kvasir_seg": ("polyps", "endoscopy")}


def frangi(image: np.ndarray) -> np.ndarray:
    """Vesselness of the green channel (Frangi et al., MICCAI 1998, doi:10.1007/BFb0056195)."""
    green = image[..., image.shape[-1] // 2]
    return skimage.filters.frangi(green, sigmas=(1, 2, 3), black_ridges=True)


def within(case: task.Case) -> task.Case:
    """Without the border of the field of view, which the filter takes for a vessel."""
    inner = cv2.erode(case.region.astype(np.uint8), np.ones((15, 15))) > 0
    return case._replace(region=inner)


def main(root: Path, sets: list[str]) -> None:
    for name in sets:
        segmenter, preset = TASKS[name]
        segmenter, degradation = segmenters.load(segmenter), degrade.load(preset)
        cases = list(task.cases(root, name, "test"))
        evaluated = classical.METHODS | {"released": methods.load("released").enhance_image}
        rows = task.evaluate_task(cases, segmenter, degradation, evaluated)
        means = {(s.method, s.metric): s for s in statistics.summarise(rows)}
        back = {r.method: r for r in task.recovered(rows) if r.metric == "dice"}
        images = means["clean", "dice"].images
        print(f"\n{name} test, {images} images, preset {preset}, threshold {segmenter.threshold}\n")
        print("| | Dice | AUC | sensitivity | specificity | lost Dice recovered | added |")
        print("|---|---|---|---|---|---|---|")
        for method in dict.fromkeys(method for method, _ in means):
            cells = [
                f"{s.mean:.3f} ({s.low:.3f} to {s.high:.3f})"
                for metric in ("dice", "auc", "sensitivity", "specificity")
                for s in [means[method, metric]]
            ]
            r = back.get(method)
            share = f"{r.recovered:.0%} ({r.low:.0%} to {r.high:.0%})" if r else ""
            added = " and ".join(
                f"{means[method, f'dark_{kind}_added'].mean:,.0f}" for kind in ("spots", "lines")
            )
            print(f"| {method} | {' | '.join(cells)} | {share} | {added} |", flush=True)
        if segmenter.name == "vessels":
            some = {method: evaluated[method] for method in ("clahe", "released")}
            rows = task.evaluate_task(map(within, cases), frangi, degradation, some, threshold=0)
            print("\nAUC of Frangi's filter:")
            for s in statistics.summarise(rows):
                if s.metric == "auc":
                    print(f"  {s.method} {s.mean:.3f} ({s.low:.3f} to {s.high:.3f})", flush=True)


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    arguments = sys.argv[1:]
    main(Path(arguments[0]) if arguments else default, arguments[1:] or ["drive"])
