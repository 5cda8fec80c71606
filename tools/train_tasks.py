"""Trains the segmenters of lle_jax/segmenters on clean images.

    python tools/train_tasks.py [path of shared/data] [vessels | polyps ...] [--seed 1 -o FOLDER]

Minutes each on two CPU cores. Parameters are trained on the role train of manifest.csv, the
threshold is chosen on val; test is never read. Mild changes of brightness and contrast stand for
the cameras and screens that a clinician is used to; there is no low light among them. With another
seed and folder it makes a training segmenter (`loss.segmenter`); the bundled evaluation segmenters
may not be used for training.
"""

import argparse
import dataclasses
import datetime
import time
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import tqdm
from flax import nnx

import lle_jax
from lle_jax.checkpoints import segmenters
from lle_jax.evaluation import tasks as task
from lle_jax.models import segmenter

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
EMA = 0.995


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one segmenter is made; a crop's side is in pixels of the reduced image."""

    set: str
    widths: tuple[int, ...]
    reduce: int
    fold: int
    crop: int
    batch: int
    steps: int
    lr: float
    zoom: float  # scaled by up to this factor, up or down
    turn: float  # degrees, either way
    licence: str


RECIPES = {
    "vessels": Recipe(
        "drive", (24, 32, 40), 1, 2, 128, 8, 1200, 2e-3, 1.1, 20,
        "Weights: trained on DRIVE, CC BY 4.0 as published on its challenge site",
    ),
    "polyps": Recipe(
        "kvasir_seg", (32, 48), 4, 4, 88, 16, 1000, 2e-3, 1.3, 30,
        "Weights: trained on Kvasir-SEG, whose terms allow research and educational use only",
    ),
}  # fmt: skip


def reduced(case: task.Case, factor: int) -> task.Case:
    """Averages squares of `factor` pixels, as the network does, so that it need not each step."""
    height, width = (side // factor for side in case.mask.shape)

    def average(plane: np.ndarray) -> np.ndarray:
        plane = plane[: height * factor, : width * factor].astype(np.float32)
        return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)

    mask, region = (average(plane) >= 0.5 for plane in (case.mask, case.region))
    return task.Case(case.name, average(case.image), mask, region)


def augmented(generator: np.random.Generator, case: task.Case, recipe: Recipe):
    """A crop `[crop, crop, 3]`, its mask and its region, moved and recoloured at random."""
    side = recipe.crop
    height, width = case.mask.shape
    scale = recipe.zoom ** generator.uniform(-1, 1)
    matrix = cv2.getRotationMatrix2D((0, 0), generator.uniform(-1, 1) * recipe.turn, scale)
    half = min(side, height, width) / 2  # the crop's centre stays so far from the border
    centre = generator.uniform([half, half], [width - half, height - half])
    matrix[:, 2] = side / 2 - matrix[:, :2] @ centre

    def warp(plane, flags):
        return cv2.warpAffine(plane, matrix, (side, side), flags=flags)

    image = warp(case.image, cv2.INTER_LINEAR)
    # nearest: a mask stays one, and vessels of one pixel stay vessels
    mask, region = (
        warp(plane.astype(np.float32), cv2.INTER_NEAREST) for plane in (case.mask, case.region)
    )
    turns, flip = generator.integers(4), generator.integers(2)
    image, mask, region = (
        np.rot90(plane[:, :: 1 - 2 * flip], turns) for plane in (image, mask, region)
    )
    contrast, brightness = generator.uniform(0.85, 1.15), generator.uniform(-0.06, 0.06)
    tint = generator.uniform(0.95, 1.05, 3)
    image = (image - 0.5) * contrast + 0.5 + brightness
    return np.clip(image * tint, 0, 1).astype(np.float32), mask, region


def loss_of(logits: jax.Array, mask: jax.Array, region: jax.Array) -> jax.Array:
    """Cross-entropy plus one minus soft Dice over the batch, both inside the region."""
    entropy = optax.sigmoid_binary_cross_entropy(logits, mask)
    p = jax.nn.sigmoid(logits) * region
    dice = (2 * jnp.sum(p * mask) + 1) / (jnp.sum(p) + jnp.sum(mask * region) + 1)
    return jnp.sum(entropy * region) / jnp.sum(region) + 1 - dice


def train(recipe: Recipe, cases: list[task.Case], seed: int = 0):
    """Trains on reduced images; returns the moving average of the parameters."""
    cases = [reduced(case, recipe.reduce) for case in cases]
    network = segmenter.Segmenter(
        widths=recipe.widths, reduce=1, fold=recipe.fold, rngs=nnx.Rngs(seed)
    )
    graph, params = nnx.split(network, nnx.Param)
    schedule = optax.warmup_cosine_decay_schedule(0, recipe.lr, 50, recipe.steps)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.99, weight_decay=1e-2)
    )
    state = (params, optimiser.init(params), params)

    @jax.jit
    def step(state, number, image, mask, region):
        params, moments, average = state
        loss, gradient = jax.value_and_grad(
            lambda params: loss_of(nnx.merge(graph, params)(image), mask, region)
        )(params)
        updates, moments = optimiser.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        decay = jnp.minimum(EMA, (1 + number) / (10 + number))
        average = optax.incremental_update(params, average, 1 - decay)
        return (params, moments, average), loss

    generator = np.random.default_rng(seed)
    with tqdm.tqdm(range(recipe.steps), desc=recipe.set, disable=None, mininterval=5) as bar:
        for number in bar:
            chosen = generator.choice(len(cases), recipe.batch, replace=False)
            batch = [augmented(generator, cases[index], recipe) for index in chosen]
            state, loss = step(state, number, *map(np.stack, zip(*batch, strict=True)))
            if number % 100 == 0:
                print(f"{recipe.set} step {number} loss {float(loss):.4f}", flush=True)
    return state[2]


def best_threshold(predict, cases: list[task.Case]) -> tuple[float, float]:
    """The threshold with the highest mean Dice over `cases`, and that Dice."""
    maps = [predict(case.image) for case in cases]
    means = {
        float(threshold): np.mean(
            [
                task.dice(p > threshold, case.mask, case.region)
                for p, case in zip(maps, cases, strict=True)
            ]
        )
        for threshold in np.round(np.arange(0.1, 0.91, 0.02), 2)
    }
    threshold = max(means, key=means.get)
    return threshold, float(means[threshold])


def main(root: Path, names: list[str], seed: int, folder: Path) -> None:
    for name in names:
        recipe = RECIPES[name]
        roles = {role: list(task.cases(root, recipe.set, role)) for role in ("train", "val")}
        start = time.monotonic()
        params = train(recipe, roles["train"], seed)
        seconds = time.monotonic() - start
        # what is saved is what is measured: rounded to float16 before the threshold is chosen
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), params)
        network = {key: getattr(recipe, key) for key in ("widths", "reduce", "fold")}
        graph, _ = segmenter.declare(ml_collections.ConfigDict(network))
        predict = segmenter.probabilities(graph, params)
        threshold, dice = best_threshold(predict, roles["val"])
        settings = dataclasses.asdict(recipe)
        licence = settings.pop("licence")
        for key in network:
            settings.pop(key)
        record = {
            "threshold": threshold,
            "data": f"{recipe.set}: {len(roles['train'])} clean training images, "
            f"{len(roles['val'])} validation images for the threshold",
            "licence": licence,
            "training": settings
            | {
                "script": "tools/train_tasks.py",
                "seed": seed,
                "date": datetime.date.today().isoformat(),
                "lle_jax": lle_jax.__version__,
                "jax": jax.__version__,
                "seconds": round(seconds),
                "validation_dice": round(dice, 4),
            },
        }
        segmenters.save(folder / name, network, params, record)
        print(f"{name}: threshold {threshold}, validation Dice {dice:.4f}, {seconds:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", nargs="?", type=Path, default=DATA)
    parser.add_argument("names", nargs="*", help="vessels, polyps; all if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--folder", type=Path, default=segmenters.FOLDER)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    main(given.root, given.names or list(RECIPES), given.seed, given.folder)
