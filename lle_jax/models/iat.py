"""IAT (Cui et al., BMVC 2022, arXiv:2205.14871): correct every pixel, then colours and gamma.

As published (width 16, 3 blocks, global width 64): 90,962 parameters; the authors' file has 192
more of two batch normalisations, each after a convolution. At inference such a pair is one
convolution, into which the import folds it, so there is none here: in training, small batches
would give it poor statistics (Lim et al., CVPRW 2017, arXiv:1707.02921, section 3.1). Names of the
parameters follow the public checkpoints; the authors' stochastic depth, for training only, is left
out.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers

DARKEST = 1e-8  # to which values are raised before the gamma, where 0 would have no gradient
QUERIES = 10  # one asks for gamma, nine for the entries of the colour matrix
HEADS = 4  # of attention; the checkpoints' shapes do not tell it


def _gelu(x: jax.Array) -> jax.Array:
    return nnx.gelu(x, approximate=False)  # the error function, as the checkpoints were trained


class ColourNorm(nnx.Module):
    """Mixes the channels by a matrix, then scales and shifts each ("light normalisation")."""

    def __init__(self, width: int, *, dtype: jnp.dtype):
        self.dtype = dtype
        self.color = nnx.Param(jnp.eye(width))
        self.alpha = nnx.Param(jnp.ones(width))
        self.beta = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        color, alpha, beta = (
            p[...].astype(self.dtype) for p in (self.color, self.alpha, self.beta)
        )
        return (x @ color) * alpha + beta


class MLP(nnx.Module):
    """Applies two linear layers to each pixel or token, four times as wide in between."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.fc1 = nnx.Linear(width, 4 * width, **kwargs)
        self.fc2 = nnx.Linear(4 * width, width, **kwargs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(_gelu(self.fc1(x)))


class Block(nnx.Module):
    """Adds a position, a 5x5 depthwise mixing and a feed-forward part (figure 3, left)."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.pos_embed = layers.DepthwiseConv(width, **kwargs)
        self.norm1 = ColourNorm(width, dtype=dtype)
        self.conv1 = nnx.Linear(width, width, **kwargs)
        self.attn = layers.DepthwiseConv(width, size=5, **kwargs)
        self.conv2 = nnx.Linear(width, width, **kwargs)
        self.norm2 = ColourNorm(width, dtype=dtype)
        self.mlp = MLP(width, **kwargs)
        self.gamma_1 = nnx.Param(jnp.full(width, 1e-4))
        self.gamma_2 = nnx.Param(jnp.full(width, 1e-4))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.pos_embed(x)
        mixed = self.conv2(self.attn(self.conv1(self.norm1(x))))
        x = x + self.gamma_1[...].astype(self.dtype) * mixed
        return x + self.gamma_2[...].astype(self.dtype) * self.mlp(self.norm2(x))


class LocalBranch(nnx.Module):
    """Predicts a factor and an addend of every pixel and channel (section 3.2)."""

    def __init__(self, width: int, blocks: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.conv1 = layers.Conv3x3(3, width, **kwargs)
        self.mul_blocks = nnx.List([Block(width, **kwargs) for _ in range(blocks)])
        self.add_blocks = nnx.List([Block(width, **kwargs) for _ in range(blocks)])
        # small, with a factor of 1, so that training starts near the identity
        small = kwargs | {"kernel_init": nnx.initializers.normal(0.02)}
        one = nnx.initializers.ones_init()
        self.mul_end = layers.Conv3x3(width, 3, bias_init=one, **small)
        self.add_end = layers.Conv3x3(width, 3, **small)

    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = nnx.leaky_relu(self.conv1(image), 0.2)
        factor = addend = features
        for block in self.mul_blocks:
            factor = block(factor)
        for block in self.add_blocks:
            addend = block(addend)
        factor, addend = self.mul_end(factor + features), self.add_end(addend + features)
        return nnx.relu(factor.astype(jnp.float32)), jnp.tanh(addend.astype(jnp.float32))


class QueryAttention(nnx.Module):
    """Computes attention from learned queries to the tokens of the image."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.q = nnx.Param(jnp.ones((QUERIES, width)))
        self.k = nnx.Linear(width, width, use_bias=False, **kwargs)
        # zero, as published: gamma and colour matrix start as the identity
        zero = nnx.initializers.zeros_init()
        self.v = nnx.Linear(width, width, use_bias=False, kernel_init=zero, **kwargs)
        self.proj = nnx.Linear(width, width, **kwargs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        def split(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:-1], HEADS, x.shape[-1] // HEADS)

        query, key, value = (
            split(x) for x in (self.q[...].astype(self.dtype), self.k(tokens), self.v(tokens))
        )
        similarity = jnp.einsum("qhi,bnhi->bhqn", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(similarity * query.shape[-1] ** -0.5, axis=-1)
        mixed = jnp.einsum("bhqn,bnhi->bqhi", weights.astype(self.dtype), value)
        return self.proj(mixed.reshape(*mixed.shape[:2], -1))


class Generator(nnx.Module):
    """Turns a small map of the image into one vector per query (figure 3, right)."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.pos_embed = layers.DepthwiseConv(width, **kwargs)
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-5, **kwargs)
        self.attn = QueryAttention(width, **kwargs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-5, **kwargs)
        self.mlp = MLP(width, **kwargs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.pos_embed(x)
        answers = self.attn(self.norm1(x.reshape(x.shape[0], -1, x.shape[-1])))
        return answers + self.mlp(self.norm2(answers))


class GlobalBranch(nnx.Module):
    """Predicts the image's colour matrix and gamma (section 3.3)."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        halve = kwargs | {"strides": 2, "padding": ((1, 1), (1, 1))}
        self.conv_large = nnx.List(
            [layers.Conv3x3(3, width // 2, **halve), layers.Conv3x3(width // 2, width, **halve)]
        )
        self.generator = Generator(width, **kwargs)
        # small, since what they map is normalised and moves the whole image's colours
        small = kwargs | {"kernel_init": nnx.initializers.normal(0.02)}
        self.gamma_linear = nnx.Linear(width, 1, **small)
        self.color_linear = nnx.Linear(width, 1, **small)
        self.gamma_base = nnx.Param(jnp.ones(1))
        self.color_base = nnx.Param(jnp.eye(3))

    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[B, H, W, 3]` -> gamma `[B, 1]`, colour matrix `[B, out, in]`, float32."""
        first, second = self.conv_large
        answers = self.generator(second(_gelu(first(image))))
        gamma = self.gamma_linear(answers[:, 0]).astype(jnp.float32)
        color = self.color_linear(answers[:, 1:]).astype(jnp.float32).reshape(-1, 3, 3)
        return gamma + self.gamma_base[...], color + self.color_base[...]


class IAT(nnx.Module):
    """Corrects every pixel, then the colours and the tone of the whole image (section 3.1).

    Args:
      width: channels of the local branch.
      blocks: of each of its two parts.
      global_width: channels of the global branch, a multiple of 4.
      dtype: of the computation; parameters and the correction itself are float32.
      rngs: initialises the parameters.
    """

    def __init__(
        self, *, width: int, blocks: int, global_width: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        if min(width, blocks, global_width) < 1 or global_width % HEADS:
            raise ValueError(
                f"width={width}, blocks={blocks}, global_width={global_width}; expected positive "
                f"numbers, the last a multiple of {HEADS}"
            )
        self.dtype = dtype
        self.local_net = LocalBranch(width, blocks, dtype=dtype, rngs=rngs)
        self.global_net = GlobalBranch(global_width, dtype=dtype, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the enhanced image, same shape, float32."""
        image = image.astype(jnp.float32)
        x = image.astype(self.dtype)
        factor, addend = self.local_net(x)
        gamma, color = self.global_net(x)
        # of three terms, and matrix products may be computed in fewer bits on an accelerator
        lit = jnp.einsum("bhwi,boi->bhwo", image * factor + addend, color, precision="highest")
        return jnp.clip(lit, DARKEST, 1) ** gamma[:, None, None]
