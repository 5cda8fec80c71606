"""Is the Poisson sampler as fast as NumPy's on one core?

Images of 256 x 256 x 3 whose mean photon counts are those of a photograph at several exposures.
Both run in this process, which keeps itself to one core; the median of many draws, taking turns.
`ratio` is NumPy's time over ours.

Floor set beforehand: 1.0.

Prediction: 14 terms of 5 operations, 196,608 pixels, 8 lanes at 2 GHz: 0.9 ms, the deviates and the
expansion as much again; NumPy 5 to 8 ms.

Measured (jax 0.10.2, NumPy 2.4.6, one quiet core): 3.19 to 4.44, met at every exposure.

    python benchmarks/poisson.py
"""

import os
import statistics
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {0})

import jax
import numpy as np
import skimage.data

from lle_jax.degrade.poisson import poisson

ROUNDS = 15


def main() -> None:
    levels = skimage.data.astronaut()[:256, 128:384] / 255.0
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    sampler, generator = jax.jit(poisson), np.random.default_rng(0)
    print(
        f"{'photons at white':>18s}{'mean count':>12s}{'ours ms':>9s}{'NumPy ms':>10s}{'ratio':>7s}"
    )
    for photons in (10, 30, 100, 300, 1000, 5000):
        mean = (light * photons).astype(np.float32)
        on_device = jax.device_put(mean)
        times = {"ours": [], "numpy": []}
        for number in range(ROUNDS + 1):
            key = jax.random.key(number)
            start = time.perf_counter()
            sampler(key, on_device).block_until_ready()
            middle = time.perf_counter()
            generator.poisson(mean)
            times["ours"].append(middle - start)
            times["numpy"].append(time.perf_counter() - middle)
        ours, numpy = (1e3 * statistics.median(t[1:]) for t in times.values())
        print(f"{photons:18d}{mean.mean():12.2f}{ours:9.2f}{numpy:10.2f}{numpy / ours:7.2f}")


if __name__ == "__main__":
    main()
