"""Does the model help, and does it harm? Degradations that it never saw, good light, false spots.

    python benchmarks/harm.py [--model FOLDER] [--data ../shared/data] [--role test] [--limit N]

Every image of the four sets of ../shared/data under the degradations of tests/reference/unseen.py,
an independent implementation in NumPy, at one seed each: PSNR as `lle_jax.enhance` gives it, with
the truth's brightness told, and after scaling to it (GT-mean); what becomes of clean images; false
dark spots and the AUC of Frangi's filter for vessels in the fundus photographs.
"""

import argparse
import csv
import runpy
import types
from pathlib import Path

import jax
import numpy as np
from tasks import frangi, within

from lle_jax import classical, degrade, images, jobs, metrics
from lle_jax.evaluation import tasks
from lle_jax.inference import enhance, exposure

FUNDUS, PRESETS = "drive", ("fundus", "lowlight", "camera")
METHODS = ("low", "default", "told", "GT-mean")
REFERENCE = types.SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "tests" / "reference" / "unseen.py"))
)
# taken off before the network, by rule or by a path of its own; and noise in good light
FURTHER = {name: getattr(REFERENCE, name) for name in ("impulses", "veil", "coarse")}
psnr, spot_change = jax.jit(metrics.psnr), jax.jit(metrics.spot_change)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a release or a run directory (default: the bundled one)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--role", default="test", choices=["val", "test"])
    parser.add_argument("--limit", type=int, help="images of each set")
    parser.add_argument("--only", choices=["psnr", "spots"], help="one of the two parts")
    arguments = parser.parse_args()
    net = enhance.load(arguments.model)
    listed = find(arguments.data, arguments.role, arguments.limit)
    if arguments.only != "spots":
        unseen, others = REFERENCE.UNSEEN, REFERENCE.OTHERS | FURTHER
        print_fidelity(measure(net, listed, unseen | others), list(unseen), list(others))
    if arguments.only != "psnr":
        print_spots(net, listed[FUNDUS], REFERENCE.UNSEEN | FURTHER, arguments)


def find(root: Path, role: str, limit: int | None) -> dict[str, list[Path]]:
    """Lists the images of each set, without masks."""
    found: dict[str, list[Path]] = {}
    with (root / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["role"] == role and "mask" not in row["modality"]:
                found.setdefault(row["set"], []).append(root / row["path"])
    return {name: paths[:limit] for name, paths in found.items()}


def measure(net, listed: dict[str, list[Path]], kinds: dict) -> dict:
    """Computes PSNR, `{(degradation, method): {set: [values]}}`; 100 for equal images."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    paths = [(name, number, path) for name, p in listed.items() for number, path in enumerate(p)]
    for name, number, path in jobs.track(paths, len(paths), unit="image"):
        clean = images.read(path).pixels

        def add(kind, method, output, truth, name=name):
            value = min(float(psnr(np.asarray(output), truth)), 100.0)
            values.setdefault((kind, method), {}).setdefault(name, []).append(value)

        same, unchanged = enhance.enhance_pixels(net, clean)
        add("clean", "default", clean if unchanged else same, clean)
        for index, (kind, function) in enumerate(kinds.items()):
            low = function(np.random.default_rng([number, index]), clean)
            truth = np.broadcast_to(clean, low.shape)
            output = enhance.enhance_pixels(net, low)[0]
            told = exposure.Wish(exposure.Aim(mean=exposure.mean_luma(clean)))
            add(kind, "low", low, truth)
            add(kind, "default", output, truth)
            add(kind, "told", enhance.enhance_pixels(net, low, wish=told)[0], truth)
            add(kind, "GT-mean", metrics.gt_mean(output, truth), truth)
    return values


def print_fidelity(values: dict, unseen: list[str], others: list[str]) -> None:
    """Prints the means of each set, of the sets, and the worst image; and what good light loses."""
    sets = list(values["clean", "default"])
    print(f"| degradation | method | {' | '.join(sets)} | mean | worst |")
    print("|---|---|" + "---|" * (len(sets) + 2))
    for kind in (*unseen, *others):
        for method in METHODS:
            of = values[kind, method]
            print(row(kind, method, [of[name] for name in sets]))
    for method in METHODS:
        pooled = [np.mean([values[kind, method][name] for kind in unseen], axis=0) for name in sets]
        print(row("the unseen", method, pooled))
    clean = np.concatenate([values["clean", "default"][name] for name in sets])
    changed = clean[clean < 100]
    print(f"\nclean: {np.mean(clean >= 100):.1%} bit for bit; the others from", end=" ")
    print(f"{changed.min():.1f} dB" if changed.size else "(none)")
    for kind in ("mild", "half", "coarse"):
        before, after = (
            np.concatenate([values[kind, method][name] for name in sets])
            for method in ("low", "default")
        )
        change = after - before
        print(
            f"{kind}: mean {before.mean():.2f} -> {after.mean():.2f} dB; {np.sum(change < -0.5)} "
            f"of {len(change)} images lose more than 0.5 dB, the worst {change.min():+.2f} dB"
        )


def row(kind: str, method: str, groups: list) -> str:
    """Formats means of the groups, their mean, and the least value."""
    means = [float(np.mean(group)) for group in groups]
    least = min(float(np.min(group)) for group in groups)
    cells = " | ".join(f"{value:.2f}" for value in (*means, np.mean(means), least))
    return f"| {kind} | {method} | {cells} |"


def print_spots(net, paths: list[Path], unseen: dict, arguments: argparse.Namespace) -> None:
    """Prints dark and bright spots per megapixel, and the AUC of vessels by Frangi's filter."""
    cases = {case.name: case for case in tasks.cases(arguments.data, FUNDUS, arguments.role)}
    print("\n| degradation | method | dark added | dark lost | bright added | bright lost | AUC |")
    print("|---|---|---|---|---|---|---|")
    for kind in (*PRESETS, *unseen):
        found: dict[str, list] = {}
        for number, path in enumerate(paths):
            clean = images.read(path).pixels
            case = cases[images.stem(path).name]
            if kind in unseen:
                low = unseen[kind](np.random.default_rng([number, 0]), clean)
            else:
                key = jax.random.key(number)
                low = np.asarray(degrade.sample_and_apply(key, degrade.load(kind), clean)[0])
            outputs = {
                "clean": clean,
                "low": low,
                "gamma+nlm": np.asarray(classical.METHODS["gamma+nlm"](low)),
                "model": enhance.enhance_pixels(net, low)[0],
            }
            for method, output in outputs.items():
                change = spot_change(output, clean)[:4]
                found.setdefault(method, []).append([*map(float, change), vessels(output, case)])
        for method, each in found.items():
            *spots, auc = np.mean(each, axis=0)
            cells = " | ".join(f"{value:,.0f}" for value in spots)
            print(f"| {kind} | {method} | {cells} | {auc:.3f} |", flush=True)


def vessels(image: np.ndarray, case: tasks.Case) -> float:
    """AUC of Frangi's vesselness, as benchmarks/tasks.py has it."""
    inner = within(case)
    return tasks.auc(frangi(np.asarray(image)), inner.mask, inner.region)


if __name__ == "__main__":
    main()
