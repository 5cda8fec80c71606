"""Is blur with a traced, per-image size as fast as kornia's with a fixed one?

Batches of eight colour images. kornia (optional, `pip install -e ".[bench]"`) gets the same kernel
size, cut off at 4 sigma; OpenCV blurs image by image. All take turns in one process; the least time
of many, as other programs can only add to it. `ratio` is the other's time over ours.

Floor set beforehand: 0.8 x kornia's speed for the Gaussian at 256 x 256.

Prediction: 2 x 9 or 2 x 33 taps from the cache, 1.6 million samples, 8 lanes: 1 to 3 ms; beyond
sigma 4.1 a product with a 256 x 256 matrix, 400 MFLOP an image, about 1.5 ms each.

Measured (jax 0.10.2, torch 2.13.0, kornia 0.9.0, two quiet cores), Gaussian at 256 x 256: 2.4 to
2.8, 1.6 to 1.7 and 2.0 at sigma 1, 2 and 5, met; 6.0 at 96 x 96, 1.7 at 512 x 512. Defocus against
a general filter of its size 1.6 to 2.5, motion 1.7 to 3.0. OpenCV is 1.4 to 2.3 times faster.

    python benchmarks/blur.py
"""

import time

import cv2
import jax
import numpy as np

from lle_jax import degrade

ROUNDS = 15


def least(contestants: dict) -> dict[str, float]:
    """Name -> least milliseconds of `ROUNDS` calls, the contestants taking turns."""
    times = {name: [] for name in contestants}
    for _ in range(ROUNDS + 2):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(values[2:]) for name, values in times.items()}


def kornia_calls(images: np.ndarray, taps: int, sigma: float) -> dict:
    """kornia's Gaussian, disc-sized box filter and motion blur; nothing if it is not installed."""
    try:
        import torch
        from kornia.filters import filter2d, gaussian_blur2d, motion_blur
    except ImportError:
        return {}
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    kernel = torch.ones(1, 11, 11) / 121
    return {
        "kornia gaussian": lambda: gaussian_blur2d(tensor, (taps, taps), (sigma, sigma)),
        "kornia filter2d 11x11": lambda: filter2d(tensor, kernel),
        "kornia motion 15": lambda: motion_blur(tensor, 15, 30.0, 0.0),
    }


def main() -> None:
    gaussian = jax.jit(degrade.gaussian_blur)
    defocus = jax.jit(lambda x, radius: degrade.defocus_blur(x, radius=radius))
    motion = jax.jit(lambda x, length: degrade.motion_blur(x, length=length, angle=30.0))
    for side, sigma in ((96, 1.0), (256, 1.0), (256, 2.0), (256, 5.0), (512, 2.0)):
        images = np.random.default_rng(0).random((8, side, side, 3), np.float32)
        x = jax.device_put(images)
        taps = 2 * int(4 * sigma + 0.5) + 1

        def opencv(images=images, taps=taps, sigma=sigma):
            for image in images:
                cv2.GaussianBlur(image, (taps, taps), sigma)

        contestants = {
            "ours gaussian": lambda x=x, s=sigma: gaussian(x, sigma=s).block_until_ready(),
            "ours defocus 5": lambda x=x: defocus(x, 5.0).block_until_ready(),
            "ours motion 15": lambda x=x: motion(x, 15.0).block_until_ready(),
            "OpenCV gaussian": opencv,
        } | kornia_calls(images, taps, sigma)
        times = least(contestants)
        pairs = (
            ("gaussian", "ours gaussian", "kornia gaussian", "0.8" if side == 256 else ""),
            ("gaussian", "ours gaussian", "OpenCV gaussian", ""),
            ("defocus", "ours defocus 5", "kornia filter2d 11x11", ""),
            ("motion", "ours motion 15", "kornia motion 15", ""),
        )
        print(f"8 x {side} x {side} x 3, sigma {sigma:g}")
        for what, ours, other, bar in pairs:
            if other not in times:
                print(f"  {what:10s}{other}: not installed")
                continue
            ratio = times[other] / times[ours]
            print(
                f"  {what:10s}{times[ours]:8.2f} ms   {other:22s}{times[other]:8.2f} ms"
                f"   ratio {ratio:5.2f}   {bar}"
            )


if __name__ == "__main__":
    main()
