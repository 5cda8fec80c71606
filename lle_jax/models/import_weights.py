"""Public PyTorch checkpoints as parameters of our networks: every tensor, or none.

Names and shapes are those of the authors' code: megvii-research/NAFNet,
caiyuanhao1998/Retinexformer (one stage) and Li-Chongyi/Zero-DCE. The sizes of the network are read
off the tensors. A PyTorch convolution is [out, in, height, width], ours [height, width, in, out].
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import checks, models
from lle_jax.models.params import named
from lle_jax.models.torch_files import WeightsError

_Shape = tuple[int, ...]


class _Source(NamedTuple):
    """Where a parameter comes from: a tensor's name, its shape there, and how it becomes ours.

    `convert` is also given the tensors of `also`, by name and shape.
    """

    name: str
    shape: _Shape
    convert: Callable[..., np.ndarray]
    also: Mapping[str, _Shape] = {}


def check_network(network: str) -> None:
    """Raises WeightsError for a network that no checkpoint is imported for."""
    if network not in NETWORKS:
        raise WeightsError(f"no import for {network!r}; expected one of {', '.join(NETWORKS)}")


def convert(
    tensors: Mapping[str, np.ndarray], network: str
) -> tuple[ml_collections.ConfigDict, nnx.State]:
    """Makes parameters of a checkpoint's tensors.

    Args:
      tensors: by name, as `torch_files.parse` gives them.
      network: a key of `NETWORKS`.

    Returns:
      the network's configuration, as for `models.build`, and its parameters, float32.

    Raises:
      WeightsError: for an unknown network, or unless names and shapes are those of the network;
        names the first that are not.
    """
    check_network(network)
    sizes, source = NETWORKS[network]
    # how many batches a batch normalisation averaged over, which nothing depends on
    tensors = {n: array for n, array in tensors.items() if not n.endswith(".num_batches_tracked")}
    config = ml_collections.ConfigDict({"name": network, "dtype": "float32"} | sizes(tensors))
    try:
        expected = models.shapes(config)
    except checks.ConfigError as error:
        raise WeightsError(f"no {network}: {error}") from None
    sources = [source(name, leaf.shape) for name, leaf in named(expected)]
    _check(tensors, sources, network)
    leaves = [
        np.ascontiguousarray(
            source.convert(*(tensors[name] for name in (source.name, *source.also))), np.float32
        )
        for source in sources
    ]
    return config, jax.tree.unflatten(jax.tree.structure(expected), map(jax.numpy.asarray, leaves))


def _check(tensors: Mapping[str, np.ndarray], sources: list[_Source], network: str) -> None:
    shapes = {
        name: shape
        for source in sources
        for name, shape in ({source.name: source.shape} | dict(source.also)).items()
    }
    wrong = {
        "missing": [name for name in shapes if name not in tensors],
        "unexpected": [repr(name[:80]) for name in tensors if name not in shapes],
        "of another shape": [
            f"{name} {tensors[name].shape}, not {shape}"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in wrong.items()
        if names
    ]
    if parts:
        raise WeightsError(f"tensors are not those of {network}: {'; '.join(parts)}")


def _length(tensors: Mapping[str, np.ndarray], name: str) -> int:
    """The first axis of a tensor, for a size of the network."""
    if name not in tensors or not tensors[name].shape:
        raise WeightsError(f"{name} is missing; this is a checkpoint of another network")
    return _bounded(tensors[name].shape[0])


def _bounded(size: int) -> int:
    if size > 1024:  # a network of that size could not even be declared in bearable time
        raise WeightsError(f"a width or number of blocks of {size}; expected at most 1024")
    return size


def _blocks(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    """How many names fit; gaps in their numbering show later as missing and unexpected names."""
    return _bounded(sum(re.fullmatch(pattern, name) is not None for name in tensors))


def _plain(name: str, shape: _Shape) -> _Source:
    """What most layers are: convolutions, 1x1 ones that are our linear layers, vectors."""
    name = re.sub(r"\b(kernel|scale)$", "weight", name)
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return _Source(name, (outputs, inputs, height, width), lambda x: x.transpose(2, 3, 1, 0))
    if len(shape) == 2:
        return _Source(name, (*shape[::-1], 1, 1), lambda x: x[:, :, 0, 0].T)
    return _Source(name, shape, lambda x: x)


def _nafnet_sizes(tensors: Mapping[str, np.ndarray]) -> dict:
    levels = _blocks(tensors, r"downs\.\d+\.weight")
    if not 1 <= levels <= 8:
        raise WeightsError(f"{levels} levels (downs.*.weight); expected 1 to 8 of a nafnet")
    count = {
        part: tuple(_blocks(tensors, rf"{part}\.{level}\.\d+\.beta") for level in range(levels))
        for part in ("encoders", "decoders")
    }
    return {
        "width": _length(tensors, "intro.weight"),
        "encoder": count["encoders"],
        "middle": _blocks(tensors, r"middle_blks\.\d+\.beta"),
        "decoder": count["decoders"],
    }


def _nafnet(name: str, shape: _Shape) -> _Source:
    if name.startswith("ups."):
        inputs, outputs = shape
        c = outputs // 4

        def depth_last(x: np.ndarray) -> np.ndarray:
            """PixelShuffle counts channel, row, column; `depth_to_space` row, column, channel."""
            return x.reshape(c, 2, 2, inputs).transpose(3, 1, 2, 0).reshape(inputs, outputs)

        return _Source(name.replace(".kernel", ".0.weight"), (outputs, inputs, 1, 1), depth_last)
    if name.endswith(("beta", "gamma")):
        return _Source(name, (1, *shape, 1, 1), np.ravel)
    return _plain(name.replace(".sca.", ".sca.1."), shape)


def _retinexformer_sizes(tensors: Mapping[str, np.ndarray]) -> dict:
    root = r"body\.0\.denoiser\."
    levels = _blocks(tensors, root + r"encoder_layers\.\d+\.1\.weight")
    if levels > 8:
        raise WeightsError(f"{levels} levels (encoder_layers); expected at most 8")
    stages = [rf"encoder_layers\.{level}\.0" for level in range(levels)] + ["bottleneck"]
    return {
        "width": _length(tensors, "body.0.estimator.conv1.weight"),
        "blocks": tuple(
            _blocks(tensors, rf"{root}{stage}\.blocks\.\d+\.0\.rescale") for stage in stages
        ),
    }


_RETINEXFORMER = (  # our names -> theirs
    (r"^halve\.(\d+)", r"encoder_layers.\1.1"),
    (r"^halve_light\.(\d+)", r"encoder_layers.\1.2"),
    (r"^merge\.(\d+)", r"decoder_layers.\1.1"),
    (r"^encoder\.(\d+)\.(\d+)\.", r"encoder_layers.\1.0.blocks.\2."),
    (r"^bottleneck\.(\d+)\.", r"bottleneck.blocks.\1."),
    (r"^decoder\.(\d+)\.(\d+)\.", r"decoder_layers.\1.2.blocks.\2."),
    (r"\.attention\.position1\.", ".0.pos_emb.0."),
    (r"\.attention\.position2\.", ".0.pos_emb.2."),
    (r"\.attention\.", ".0."),
    (r"\.norm\.", ".1.norm."),
    (r"\.expand\.", ".1.fn.net.0."),
    (r"\.depthwise\.", ".1.fn.net.2."),
    (r"\.contract\.", ".1.fn.net.4."),
)


def _retinexformer(name: str, shape: _Shape) -> _Source:
    if grouped := re.fullmatch(r"estimator\.depth_conv\.(\d)\.(kernel|bias)", name):
        part = int(grouped[1])  # the outputs of a grouped convolution are ordered by group
        source, count = _plain(f"body.0.estimator.depth_conv.{grouped[2]}", shape), shape[-1]
        return _Source(
            source.name,
            (4 * count, *source.shape[1:]),
            lambda x: source.convert(x[part * count : (part + 1) * count]),
        )
    if name.startswith("estimator."):
        return _plain(f"body.0.{name}", shape)
    if double := re.fullmatch(r"double\.(\d)\.kernel", name):
        inputs, outputs = shape  # of a transposed convolution [in, out, height, width]
        return _Source(
            f"body.0.denoiser.decoder_layers.{double[1]}.0.weight",
            (inputs, outputs // 4, 2, 2),
            lambda x: x.transpose(0, 2, 3, 1).reshape(inputs, outputs),
        )
    if bias := re.fullmatch(r"double_bias\.(\d)", name):
        return _plain(f"body.0.denoiser.decoder_layers.{bias[1]}.0.bias", shape)
    linear = re.search(r"\.attention\.(to_[qkv]|proj)\.kernel$", name)
    for pattern, replacement in _RETINEXFORMER:
        name = re.sub(pattern, replacement, name)
    source = _plain(f"body.0.denoiser.{name}", shape)
    if linear:  # these are linear layers there too
        return _Source(source.name, shape[::-1], np.transpose)
    if name.endswith(".rescale"):
        return _Source(source.name, (*shape, 1, 1), np.ravel)
    return source


def _zero_dce_sizes(tensors: Mapping[str, np.ndarray]) -> dict:
    return {
        "width": _length(tensors, "e_conv1.weight"),
        "iterations": _length(tensors, "e_conv7.weight") // 3,
    }


def _flol_sizes(tensors: Mapping[str, np.ndarray]) -> dict:
    return {
        "width": _length(tensors, "conv_first_1.weight"),
        "amplitude_width": _length(tensors, "AmpNet.0.conv_init.weight"),
        "frequency_blocks": _blocks(tensors, r"transformer\.block\.\d+\.cat\.weight"),
        "spatial_blocks": _blocks(tensors, r"recon_trunk_light\.\d+\.conv1\.weight"),
    }


_FLOL = (  # our names -> theirs
    (r"^amp_net\.", "AmpNet.0."),
    (r"^(feature_extraction|recon_trunk)\.", r"\1.0."),
    (r"^transformer\.", "transformer.block."),
    (r"\.sge\.", ".sge.dwc."),
    (r"\.(process[12])\.1\.", r".\1.2."),
)


def _flol(name: str, shape: _Shape) -> _Source:
    for pattern, replacement in _FLOL:
        name = re.sub(pattern, replacement, name)
    if name.endswith(("beta", "gamma")):
        return _Source(name, (1, *shape, 1, 1), np.ravel)
    source = _plain(name, shape)
    if name.startswith("upconv"):

        def depth_last(x: np.ndarray) -> np.ndarray:
            """PixelShuffle counts channel, row, column; `depth_to_space` row, column, channel."""
            x = np.moveaxis(x.reshape(-1, 2, 2, *x.shape[1:]), 0, 2)
            return source.convert(x.reshape(-1, *x.shape[3:]))

        return _Source(source.name, source.shape, depth_last)
    return source


_CONV_LARGE = "global_net.conv_large.proj."


def _fold_batch_norm(source: _Source, norm: str) -> _Source:
    """Makes of a convolution, and of the batch normalisation after it, what both are at inference.

    That is another convolution: each output is scaled, its bias besides shifted.
    """
    parts = ["weight", "running_var"]
    if source.name.endswith("bias"):
        parts += ["bias", "running_mean"]

    def fold(array: np.ndarray, scale: np.ndarray, variance: np.ndarray, *more) -> np.ndarray:
        factor = scale / np.sqrt(variance.astype(np.float64) + 1e-5)
        if not more:
            return source.convert(array * factor[:, None, None, None])
        shift, mean = more
        return (array - mean) * factor + shift

    also = {f"{norm}.{part}": source.shape[:1] for part in parts}
    return _Source(source.name, source.shape, fold, also)


def _iat_sizes(tensors: Mapping[str, np.ndarray]) -> dict:
    return {
        "width": _length(tensors, "local_net.conv1.weight"),
        "blocks": _blocks(tensors, r"local_net\.mul_blocks\.\d+\.gamma_1"),
        "global_width": _length(tensors, f"{_CONV_LARGE}3.weight"),
    }


def _iat(name: str, shape: _Shape) -> _Source:
    if name.endswith(("alpha", "beta", "attn.q")):
        return _Source(name, (1,) * (3 - len(shape)) + shape, lambda x: x.reshape(shape))
    if name.endswith(("gamma_1", "gamma_2")):
        return _Source(name, (1, *shape, 1, 1), np.ravel)
    if name.endswith("color"):
        return _Source(name, shape, np.transpose)
    if name.endswith("color_base"):
        return _Source(name, shape, lambda x: x)
    if embedding := re.fullmatch(r"global_net\.conv_large\.([01])\.(\w+)", name):
        place = 3 * int(embedding[1])
        source = _plain(f"{_CONV_LARGE}{place}.{embedding[2]}", shape)
        return _fold_batch_norm(source, f"{_CONV_LARGE}{place + 1}")
    source = _plain(re.sub(r"_end\.", "_end.0.", name), shape)
    if name.startswith("global_net") and len(shape) == 2:  # these are linear layers there too
        return _Source(source.name, shape[::-1], np.transpose)
    return source


NETWORKS = {
    "flol": (_flol_sizes, _flol),
    "iat": (_iat_sizes, _iat),
    "nafnet": (_nafnet_sizes, _nafnet),
    "retinexformer": (_retinexformer_sizes, _retinexformer),
    "zero_dce": (_zero_dce_sizes, _plain),
}
