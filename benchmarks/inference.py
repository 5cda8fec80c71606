"""How fast is the released model beside the same network in PyTorch, on this machine?

The released dual_path is written a second time, in PyTorch with channels last, with the same
parameters; the outputs are compared, and both enhance one image in turns after warming up.
`ratio` is our time over PyTorch's; the aim is at most 1. The paths that see a thumbnail alone are
left out of both; what they add to our time is printed too. Needs the extra `bench`.

Measured (jax 0.10.2, torch 2.14.1, two CPU threads): 512 x 512, 69 ms to 99 ms, ratio 0.69; 256 x
256, 18.1 ms to 16.9 ms, ratio 1.07; largest difference 2e-6.

    python benchmarks/inference.py [side ...]
"""

import sys
import time

import jax
import ml_collections
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

from lle_jax import models
from lle_jax.checkpoints import release
from lle_jax.models import grid, thumbnail_paths
from lle_jax.models.params import load_params, named

ROUNDS = 15


class Reference:
    """`lle_jax.models.dual_path.DualPath` in PyTorch: `[1, 3, H, W]` -> the same."""

    def __init__(self, config, params):
        self.levels = len(config.widths)
        self.blocks = config.blocks
        self.p = {}
        for name, value in named(params):
            value = torch.from_numpy(np.array(value, np.float32))
            if name.endswith("kernel") and value.ndim == 4:
                value = value.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            self.p[name] = value

    def conv(self, name, x, **options):
        return F.conv2d(x, self.p[f"{name}.kernel"], self.p[f"{name}.bias"], **options)

    def linear(self, name, x):
        """Over channels, which are dimension 1."""
        kernel = self.p[f"{name}.kernel"].T[:, :, None, None]
        return F.conv2d(x, kernel, self.p[f"{name}.bias"])

    def residual(self, name, x):
        y = F.gelu(self.conv(f"{name}.first", x, padding=1), approximate="tanh")
        summary = self.linear(f"{name}.context.hidden", y.mean((2, 3), keepdim=True))
        change = self.linear(f"{name}.context.modulation", F.gelu(summary, approximate="tanh"))
        scale, shift = change.chunk(2, 1)
        return x + self.conv(f"{name}.second", y * (1 + scale) + shift, padding=1)

    def half(self, name, x):
        return self.conv(name, F.pad(x, (0, 1, 0, 1)), stride=2)

    def context(self, image):
        down = F.pad(image, (0, 1, 0, 1), mode="replicate")
        down = down[:, :, 1:] - down[:, :, :-1]
        diagonal = (down[..., 1:] - down[..., :-1]).abs()
        rows, columns = (
            torch.from_numpy(grid.cell_weights(side, 0, side)) for side in image.shape[2:]
        )
        values = torch.cat([image, diagonal], 1)
        values = torch.einsum("yh,bchw->bcyw", rows, values)
        values = torch.einsum("xw,bcyw->bcyx", columns, values)
        bright, noise = values.chunk(2, 1)
        bright, noise = (bright + 0.01).log() / 2 + 1, (noise + 1e-3).log() / 3 + 1.3
        cells = torch.cat([bright, noise], 1).to(memory_format=torch.channels_last)
        x = F.gelu(self.half("brightness.fine", cells), approximate="tanh")
        x = self.residual("brightness.fine_block", x)
        y = F.gelu(self.half("brightness.coarse", x), approximate="tanh")
        y = self.residual("brightness.coarse_block", y).mean((2, 3), keepdim=True)
        vector = F.gelu(self.linear("brightness.vector", y), approximate="tanh")
        x = F.gelu(x + self.linear("brightness.whole", vector), approximate="tanh")
        return self.conv("brightness.curves", x, padding=1), vector

    def norm(self, name, x):
        y = x.permute(0, 2, 3, 1)
        y = F.layer_norm(y, y.shape[-1:], self.p[f"{name}.scale"], self.p[f"{name}.bias"], 1e-6)
        return y.permute(0, 3, 1, 2)

    def block(self, name, x, vector):
        def gate(x):
            first, second = x.chunk(2, 1)
            return first * second

        y = self.linear(f"{name}.conv1", self.norm(f"{name}.norm1", x))
        y = gate(self.conv(f"{name}.conv2", y, padding=1, groups=y.shape[1]))
        y = self.linear(f"{name}.conv3", y * self.linear(f"{name}.sca", vector))
        x = x + y * self.p[f"{name}.beta"][:, None, None]
        y = gate(self.linear(f"{name}.conv4", self.norm(f"{name}.norm2", x)))
        return x + self.linear(f"{name}.conv5", y) * self.p[f"{name}.gamma"][:, None, None]

    @torch.inference_mode()
    def __call__(self, image):
        image = image.to(memory_format=torch.channels_last)
        curves, vector = self.context(image)
        height, width = image.shape[2:]
        padding = (0, -width % 2**self.levels, 0, -height % 2**self.levels)
        tile = F.pad(image, padding, mode="replicate")
        # as in curves_at: positions beyond the image stay at its last curve
        full = F.interpolate(curves, (height, width), mode="bilinear", align_corners=False)
        gain, bend, offset = F.pad(full, padding, mode="replicate").chunk(3, 1)
        bright = tile * (3 * (gain / 3).tanh()).exp()
        bright = bright + bend.tanh() * bright * (1 - bright) + offset
        x = torch.cat([tile, bright], 1)
        x = self.conv("stem", self.fold(x), padding=1)
        skips = []
        for level in range(self.levels):
            x = self.conv(f"down.{level - 1}", x, stride=2) if level else x
            for index in range(self.blocks[level]):
                x = self.block(f"encoder.{level}.{index}", x, vector)
            skips.append(x)
        for level in reversed(range(self.levels)):
            if level < self.levels - 1:
                x = self.unfold(self.linear(f"up.{level}", x)) + skips[level]
            for index in range(self.blocks[level]):
                x = self.block(f"decoder.{level}.{index}", x, vector)
        gain, offset = self.unfold(self.conv("head", x, padding=1)).chunk(2, 1)
        return (bright * (1 + gain) + offset)[:, :, :height, :width]

    @staticmethod
    def fold(x):
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        x = x.reshape(b, 4 * c, h // 2, w // 2)
        return x.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def unfold(x):
        b, c, h, w = x.shape
        x = x.reshape(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
        x = x.reshape(b, c // 4, 2 * h, 2 * w)
        return x.contiguous(memory_format=torch.channels_last)


def without_paths(
    config: ml_collections.ConfigDict, params: nnx.State
) -> tuple[ml_collections.ConfigDict, nnx.State]:
    """Leaves out the paths that see a thumbnail alone."""
    config = ml_collections.ConfigDict(
        config.to_dict() | dict.fromkeys(("exposure_path", "light_path", "glare_path"), False)
    )
    kept = {n: leaf for n, leaf in named(params) if not n.startswith(thumbnail_paths.NAMES)}
    return config, load_params(kept, config, "the released model")


def main(sides: list[int]) -> None:
    whole_config, whole_params = release.load()
    config, params = without_paths(whole_config, whole_params)
    apply = jax.jit(models.forward(config))
    whole = jax.jit(models.forward(whole_config))
    reference = Reference(config, params)
    print(f"jax {jax.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for side in sides:
        image = np.random.default_rng(0).random((1, side, side, 3), np.float32) ** 3
        tensor = torch.from_numpy(image).permute(0, 3, 1, 2)
        ours = np.asarray(apply(params, image))
        theirs = reference(tensor).permute(0, 2, 3, 1).numpy()
        runs = (
            lambda: np.asarray(apply(params, image)),  # noqa: B023
            lambda: reference(tensor),  # noqa: B023
            lambda: np.asarray(whole(whole_params, image)),  # noqa: B023
        )
        runs[-1]()
        times = tuple([] for _ in runs)
        for _ in range(ROUNDS):
            for found, run in zip(times, runs, strict=True):
                start = time.perf_counter()
                run()
                found.append(1e3 * (time.perf_counter() - start))
        first, second, third = (float(np.median(found)) for found in times)
        print(
            f"{side} x {side}: ours {first:.1f} ms, PyTorch {second:.1f} ms, ratio "
            f"{first / second:.2f}; largest difference {np.abs(ours - theirs).max():.1e}; "
            f"the paths for thumbnails add {third - first:.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main([int(side) for side in sys.argv[1:]] or [256, 512])
