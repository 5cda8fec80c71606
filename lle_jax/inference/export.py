"""A released model as one file of StableHLO that needs jax alone, not lle_jax, to run.

Batch, height and width stay open (symbolic), and the same file runs on CPU, NVIDIA GPU and TPU.
"""

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx
from jax import export

from lle_jax import colour, models
from lle_jax.models import grid

PLATFORMS = ("cpu", "cuda", "tpu")


class ExportError(ValueError):
    """The model cannot be exported here; the message says what to install."""


def serialise(config: ml_collections.ConfigDict, params: nnx.State) -> bytes:
    """Serialises `[B, H, W, 3] -> [B, H, W, 3]`, float32 in [0, 1], with its parameters.

    For any B, H and W of at least 1. The image is taken as a whole: memory grows with its size.

    Args:
      config: of a network that works in tiles, as for `models.build`.
      params: its parameters.

    Raises:
      ExportError: if the package flatbuffers, in which jax writes such files, is missing.
      checks.ConfigError: if the network does not work in tiles.
    """
    multiple = models.tiled(config).multiple
    bind = models.bind(config)

    def enhance(images: jax.Array) -> jax.Array:
        network, (height, width) = bind(params), images.shape[1:3]
        rows, columns = (grid.cell_weights(side, 0, side, jnp) for side in (height, width))
        cells = jax.vmap(lambda image: grid.strip_means(image, True, rows, columns, jnp))(images)
        grey = colour.is_grey(images)
        context = network.finish_context(cells, grey)
        # jnp.pad and slices ask which symbolic size is larger; taking pixels by number does not
        for axis, side in ((1, height), (2, width)):
            padded = (side + multiple - 1) // multiple * multiple
            number = jnp.minimum(jnp.arange(padded), side - 1)
            images = jnp.take(images, number, axis, mode="clip")
        out = network.restore(images, context, (0, 0), (height, width))
        for axis, side in ((1, height), (2, width)):
            out = jnp.take(out, jnp.arange(side), axis, mode="clip")
        return jnp.clip(out, 0, 1)

    shape = export.symbolic_shape("batch, height, width, 3")
    exported = export.export(jax.jit(enhance), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    try:
        return bytes(exported.serialize())
    except ImportError:
        raise ExportError(
            "jax writes this format with a package that is missing: pip install flatbuffers"
        ) from None
