"""Computes LPIPS, a distance in the features of a trained network whose weights you provide.

Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep features as a
perceptual metric", CVPR 2018, arXiv:1801.03924, version 0.1 of the weights (inputs are scaled).

The weights do not come with lle_jax. `load_lpips` reads them from one .npz of arrays under
PyTorch's names, which is made where PyTorch is at hand:

    import lpips, numpy
    state = lpips.LPIPS(net="alex").state_dict()
    numpy.savez("lpips_alex.npz", **{name: tensor.numpy() for name, tensor in state.items()})

The networks learned from photographs, and the heads from opinions about photographs.
"""

import io
import re
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax.metrics.conventions import pair

Weights = dict[str, jax.Array]

# Per tap: the convolutions up to it as (number in torchvision's `features`, channels in, channels
# out), and the pooling before the first of them as (window, stride). Every convolution is followed
# by ReLU; the tap is after the last.
_TAPS = {
    "alex": (
        (None, ((0, 3, 64),)),
        ((3, 2), ((3, 64, 192),)),
        ((3, 2), ((6, 192, 384),)),
        (None, ((8, 384, 256),)),
        (None, ((10, 256, 256),)),
    ),
    "vgg": (
        (None, ((0, 3, 64), (2, 64, 64))),
        ((2, 2), ((5, 64, 128), (7, 128, 128))),
        ((2, 2), ((10, 128, 256), (12, 256, 256), (14, 256, 256))),
        ((2, 2), ((17, 256, 512), (19, 512, 512), (21, 512, 512))),
        ((2, 2), ((24, 512, 512), (26, 512, 512), (28, 512, 512))),
    ),
}
# (side, stride, padding) of AlexNet's convolutions; all of VGG's are (3, 1, 1).
_ALEX = {0: (11, 4, 2), 3: (5, 1, 2), 6: (3, 1, 1), 8: (3, 1, 1), 10: (3, 1, 1)}
_LEAST = {"alex": 31, "vgg": 16}  # pixels: smaller ones leave nothing to pool
# Mean and deviation of ImageNet for images in [-1, 1], as the authors round them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class WeightsError(ValueError):
    """Reports a file of weights that cannot be used, the tensor and how to repair it."""


def lpips_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Lists name and shape of every tensor of "alex" or "vgg", in PyTorch's order of axes.

    `features.N.weight` `[out, in, height, width]` and `features.N.bias` as in torchvision;
    `linK.model.1.weight` `[1, channels, 1, 1]` as in the authors' package.

    Raises:
      ValueError: if `network` is neither.
    """
    if network not in _TAPS:
        raise ValueError(f"network is {network!r}; expected one of {', '.join(_TAPS)}")
    shapes: dict[str, tuple[int, ...]] = {}
    for head, (_, convolutions) in enumerate(_TAPS[network]):
        for number, inputs, outputs in convolutions:
            side = _ALEX[number][0] if network == "alex" else 3
            shapes[f"features.{number}.weight"] = (outputs, inputs, side, side)
            shapes[f"features.{number}.bias"] = (outputs,)
        shapes[f"lin{head}.model.1.weight"] = (1, convolutions[-1][2], 1, 1)
    return shapes


def load_lpips(path: str | Path) -> Weights:
    """Loads the weights of AlexNet or VGG16, recognised by the shape of the first tensor.

    The trunk may have torchvision's names (`features.0.weight`) or those of the authors' package
    (`net.slice1.0.weight`). Of that package, `lins.K.*` repeats `linK.*` and `scaling_layer.*` is
    built in: both must agree. torchvision's `classifier.*` is left out. Any other name is refused.

    Args:
      path: .npz.

    Raises:
      WeightsError: if the file is missing or damaged, or a tensor is missing, of another shape,
        not finite or not known; the first is named.
    """
    path = Path(path)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = dict(archive)
    except FileNotFoundError:
        raise WeightsError(f"{path}: not found; see lle_jax.metrics.learned for how") from None
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not an archive of arrays ({error}); save it again") from None
    try:
        return lpips_weights(arrays)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None


def lpips_weights(arrays: dict[str, np.ndarray]) -> Weights:
    """Converts arrays under PyTorch's names to weights for `lpips`, as `load_lpips` says.

    Raises:
      ValueError: if a tensor is missing, of another shape, not finite or not known.
    """
    loaded: dict[str, np.ndarray] = {}
    repeated: dict[str, np.ndarray] = {
        "scaling_layer.shift": np.asarray(_SHIFT, np.float32).reshape(1, 3, 1, 1),
        "scaling_layer.scale": np.asarray(_SCALE, np.float32).reshape(1, 3, 1, 1),
    }
    copies = []
    for name, array in arrays.items():
        if name.startswith("classifier."):
            continue
        trunk = re.sub(r"^net\.slice[1-5]\.(\d+)\.", r"features.\1.", name)
        if name in repeated or name.startswith("lins."):
            copies.append((name, re.sub(r"^lins\.(\d)", r"lin\1", name)))
        elif trunk in loaded:
            raise ValueError(f"{name} is present twice, also under another name")
        else:
            loaded[trunk] = np.asarray(array)
    first = loaded.get("features.0.weight", np.zeros(0)).shape
    network = "alex" if first == lpips_shapes("alex")["features.0.weight"] else "vgg"
    for name, shape in lpips_shapes(network).items():
        if name not in loaded:
            raise ValueError(f"{name} is missing of {network}; save all tensors")
        array = loaded[name]
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name} is {array.dtype} {array.shape}; {network} has floats {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite; save it again")
    for name in loaded:
        if name not in lpips_shapes(network):
            raise ValueError(f"{name} is no tensor of {network}; leave it out")
    for name, original in copies:
        expected = repeated.get(name, loaded.get(original))
        if expected is None:
            raise ValueError(f"{name} is no tensor of {network}; leave it out")
        if not np.array_equal(np.float32(arrays[name]), np.float32(expected)):
            raise ValueError(f"{name} differs from what version 0.1 has; use its weights")
    return {name: jnp.asarray(loaded[name], jnp.float32) for name in lpips_shapes(network)}


def lpips(image: jax.Array, reference: jax.Array, weights: Weights) -> jax.Array:
    """Computes LPIPS, a learned perceptual distance; lower is more alike.

    At five depths, features of unit length are subtracted, squared, weighted by a linear head and
    averaged over positions; the five are added. Nothing is resized.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3 (one channel counts as R = G = B), at least
        31 x 31 with AlexNet and 16 x 16 with VGG16.
      reference: same shape.
      weights: from `load_lpips`.

    Returns:
      `[...]`, 0 for identical images. A loss too.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or smaller images.
    """
    x, y = pair(image, reference)
    network = "alex" if weights["features.0.weight"].shape[-1] == 11 else "vgg"
    least = _LEAST[network]
    if min(x.shape[-3:-1]) < least:
        size = f"{x.shape[-3]}x{x.shape[-2]}"
        raise ValueError(f"image is {size} pixels; LPIPS ({network}) needs {least}x{least}")
    batch = x.shape[:-3]
    both = jnp.stack([x, y]).reshape(-1, *x.shape[-3:])
    both = jnp.broadcast_to(both, (*both.shape[:-1], 3))
    shift, scale = (jnp.asarray(values, both.dtype) for values in (_SHIFT, _SCALE))
    features = (2 * both - 1 - shift) / scale
    total = jnp.zeros(len(both) // 2, both.dtype)
    for head, (pool, convolutions) in enumerate(_TAPS[network]):
        if pool:
            features = _max_pool(features, *pool)
        for number, *_ in convolutions:
            geometry = _ALEX[number] if network == "alex" else (3, 1, 1)
            features = _convolution(features, weights, number, *geometry[1:])
        unit = _unit(features)
        square = (unit[: len(unit) // 2] - unit[len(unit) // 2 :]) ** 2
        total += jnp.mean(square, axis=(1, 2)) @ weights[f"lin{head}.model.1.weight"][0, :, 0, 0]
    return total.reshape(batch)


def _convolution(x: jax.Array, weights: Weights, number: int, stride: int, pad: int) -> jax.Array:
    """ReLU of a convolution of `[B, H, W, C]`."""
    x = jax.lax.conv_general_dilated(
        x,
        weights[f"features.{number}.weight"].astype(x.dtype),
        (stride, stride),
        [(pad, pad), (pad, pad)],
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
        precision="highest",
    )
    return jax.nn.relu(x + weights[f"features.{number}.bias"])


def _max_pool(x: jax.Array, side: int, stride: int) -> jax.Array:
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, stride, stride, 1), "VALID"
    )


def _unit(features: jax.Array) -> jax.Array:
    """Features divided by their length at each position; gradient 0 where all are 0."""
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    some = square > 0
    length = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    return features / (length + 1e-10)
