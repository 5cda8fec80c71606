"""How fast is the degradation chain, against albumentations and within a train step?

    python benchmarks/chain.py

The chain is the preset `lowlight` with every artifact occurring, compiled, on 16 images of
256 x 256 x 3; albumentations degrades the same images with the same artifacts one at a time in
pools of two threads and two processes, of which the faster counts, as a user would set it up for
two cores. Rows "without" are the chain with one stage taken out. The row "camera" is that preset,
with a Bayer sensor, denoising and sharpening, which albumentations does not have: it is compared
with the same pools. Needs the extra `bench`.

Floors set beforehand: 1.2 times albumentations' speed with exact Poisson noise and for `camera`,
2.5 times with the Gaussian approximation, below 15 % of the train step for either preset.

Measured (jax 0.10.2, albumentations 2.0.8, two quiet cores): exact 1.64, met; approximation 2.73,
met; 3.6 % of the train step, met. Beside a training on the same two cores, two runs: exact 2.17
and 2.31, approximation 3.70 and 3.35, camera 1.45 and 1.56, met; 5.5 and 4.2 % of the train step,
with camera 6.9 and 6.9 %, met. Again on quiet cores, one run: exact 1.97, approximation 3.01,
camera 1.37, 7.1 % and with camera 11.6 %, met.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import statistics
import time

import numpy as np
import skimage.data

SHAPE = (16, 256, 256, 3)


def images() -> np.ndarray:
    photo = skimage.data.astronaut()
    return np.stack([photo[i * 16 : i * 16 + 256, i * 16 : i * 16 + 256] for i in range(16)])


def milliseconds(function, repeats: int) -> float:
    """Median over `repeats` calls, after one that compiles or fills caches."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


@functools.cache
def pipeline(noise: str):
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)
    shot = {
        "shot": A.ShotNoise(scale_range=(0.0005, 0.005), p=1),
        "iso": A.ISONoise(intensity=(0.1, 0.5), p=1),
    }[noise]
    return A.Compose(
        [
            A.RandomBrightnessContrast((-0.8, -0.4), 0, p=1),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 1.0), p=1),
            shot,
            A.RandomGamma((100, 150), p=1),
            A.GaussNoise(std_range=(0.0, 0.02), p=1),
            A.SaltAndPepper(amount=(0.0001, 0.01), p=1),
            A.ImageCompression(quality_range=(40, 95), p=1),
        ]
    )


def albumentations_one(noise: str, image: np.ndarray) -> np.ndarray:
    return pipeline(noise)(image=image)["image"]


def albumentations_rows(repeats: int) -> dict[str, float]:
    batch = images()
    rows = {}
    pools = {
        "threads": concurrent.futures.ThreadPoolExecutor(2),
        "processes": concurrent.futures.ProcessPoolExecutor(
            2, mp_context=multiprocessing.get_context("spawn")
        ),
    }
    for noise in ("shot", "iso"):
        for kind, pool in pools.items():
            work = functools.partial(albumentations_one, noise)
            chunk = 1 if kind == "threads" else 4
            list(pool.map(work, batch, chunksize=1))
            rows[f"albumentations, {noise} noise, 2 {kind}"] = milliseconds(
                lambda pool=pool, work=work, chunk=chunk: list(
                    pool.map(work, batch, chunksize=chunk)
                ),
                repeats,
            )
    for pool in pools.values():
        pool.shutdown()
    return rows


def presets():
    """The presets to time: (name, preset), the first three are full chains."""
    from lle_jax import degrade

    def whole(name: str) -> tuple:
        return tuple(
            dataclasses.replace(stage, probability=1.0) for stage in degrade.load(name).stages
        )

    stages = whole("lowlight")
    swap = {
        True: {"approximate_poisson_gaussian_noise": "poisson_gaussian_noise"},
        False: {"poisson_gaussian_noise": "approximate_poisson_gaussian_noise"},
    }

    def chain(exact: bool, without: str = "") -> degrade.Preset:
        kept = [
            dataclasses.replace(stage, name=swap[exact].get(stage.name, stage.name))
            for stage in stages
            if stage.name != without
        ]
        return degrade.Preset("bench", "", tuple(kept))

    yield "lle_jax chain, camera", degrade.Preset("bench", "", whole("camera"))
    yield "lle_jax chain, exact Poisson", chain(True)
    yield "lle_jax chain, Gaussian approximation", chain(False)
    for stage in stages:
        yield f"  without {stage.name}", chain(False, stage.name)


def chain_rows(repeats: int) -> dict[str, float]:
    import jax

    from lle_jax import degrade

    batch = jax.device_put(images().astype(np.float32) / 255)
    rows = {}
    for name, preset in presets():

        @jax.jit
        def run(key, batch, preset=preset):
            draw, noise = jax.random.split(key)
            return degrade.apply(noise, degrade.sample(draw, preset, batch.shape[:-3]), batch)

        key = jax.random.key(0)
        rows[name] = milliseconds(lambda run=run, key=key: jax.block_until_ready(run(key, batch)),
                                  repeats)  # fmt: skip
    return rows


def step_share(preset: str, repeats: int) -> tuple[float, float]:
    """Milliseconds of one train step of experiments/unet.py, and of the degradation in it."""
    import jax

    from lle_jax import data
    from lle_jax.experiments import unet
    from lle_jax.training import train

    config = unet.get_config()
    config.degradation.preset = preset
    side = config.data.crop
    clean = images()[: config.data.batch_size, :side, :side].astype(np.float32) / 255
    batch = data.Batch(clean, np.zeros(len(clean), np.int32))
    setup = train.prepare(config)
    run = train.make_step(config, setup)
    holder = [setup.state]

    def one_step():
        holder[0], scalars = run(holder[0], batch)
        jax.block_until_ready(scalars)

    degrade_batch = jax.jit(setup.degrade)
    key = jax.random.key(0)
    return (
        milliseconds(one_step, repeats),
        milliseconds(lambda: jax.block_until_ready(degrade_batch(key, batch)), repeats),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    others, ours = albumentations_rows(repeats), chain_rows(repeats)
    for name, value in (others | ours).items():
        print(f"{name:60s} {value:8.1f} ms")
    baseline = min(value for name, value in others.items() if "shot" in name)
    for name, bar in (("exact Poisson", 1.2), ("Gaussian approximation", 2.5), ("camera", 1.2)):
        ratio = baseline / ours[f"lle_jax chain, {name}"]
        print(f"chain, {name}: {ratio:.2f} times as fast as albumentations (bar {bar})")
    for name in ("lowlight", "camera"):
        whole, part = step_share(name, repeats)
        print(f"{name}: train step {whole:.1f} ms, degradation {part:.1f} ms = {part / whole:.1%}")


if __name__ == "__main__":
    main()
