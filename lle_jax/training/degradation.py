"""Random degradation of batches, as `config.degradation` describes it."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections

from lle_jax import data, degrade

Degrade = Callable[[jax.Array, data.Batch], jax.Array]
# the key of the noise, and the parameters
Draw = Callable[[jax.Array, data.Batch], tuple[jax.Array, degrade.Parameters]]


def make(preset: str, drop: Sequence[str] = (), mixed_with: Sequence[str] = ()) -> Degrade:
    """Returns `(key, batch) -> low`, which draws every image's parameters as `drawing` does."""
    return applying(drawing(preset, drop, mixed_with))


def applying(draw: Draw) -> Degrade:
    """Returns what degrades by the parameters that are drawn."""

    def random_degradation(key: jax.Array, batch: data.Batch) -> jax.Array:
        return degrade.apply(*draw(key, batch), jnp.asarray(batch.clean))

    return random_degradation


def drawing(preset: str, drop: Sequence[str] = (), mixed_with: Sequence[str] = ()) -> Draw:
    """Returns what draws the parameters of every image from its preset.

    Args:
      preset: a name or a TOML file, or "by_modality" for the preset of each image's modality.
      drop: names of stages to drop.
      mixed_with: other presets; every image gets `preset` or one of these, all equally often.

    Raises:
      degrade.PresetError: if there is no such preset, or none has a stage to drop.
    """
    own = _presets(preset)
    presets = _without((*own, *(degrade.load(other) for other in mixed_with)), drop)

    def draw(key: jax.Array, batch: data.Batch) -> tuple[jax.Array, degrade.Parameters]:
        sample_key, noise_key = jax.random.split(key)
        if len(presets) == 1:
            return noise_key, degrade.sample(sample_key, presets[0], batch.clean.shape[:-3])
        which = jnp.asarray(batch.modality) if len(own) > 1 else jnp.zeros_like(batch.modality)
        if mixed_with:
            choice_key = jax.random.fold_in(sample_key, 1)
            drawn = jax.random.randint(choice_key, which.shape, 0, len(mixed_with) + 1)
            which = jnp.where(drawn == 0, which, len(own) - 1 + drawn)
        return noise_key, degrade.sample_mixture(sample_key, presets, which)

    return draw


def digests(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Returns SHA-256 of the stages of every preset that `config.degradation` means, by its name.

    What a preset only says, as where its ranges come from, does not count.
    """
    presets = {}
    for name in (config.preset, *config.mixed_with):
        for modality in data.MODALITIES if name == degrade.BY_MODALITY else ("",):
            resolved = degrade.name_for(name, modality)
            stages = [dataclasses.asdict(stage) for stage in degrade.load(resolved).stages]
            presets[resolved] = hashlib.sha256(json.dumps(stages).encode()).hexdigest()
    return presets


def prefer_measured(
    batch: data.Batch, low: jax.Array, clean: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns (low, clean) as measured where the batch has a low-light version, else as given.

    Args:
      batch: whose `low` is NaN where nothing was measured, or None.
      low, clean: `[B, H, W, 3]`, modelled low light and what it was modelled from.
    """
    if batch.low is None:
        return low, clean
    measured = ~jnp.isnan(batch.low)
    return jnp.where(measured, batch.low, low), jnp.where(measured, batch.clean, clean)


def keep_clean(key: jax.Array, low: jax.Array, clean: jax.Array, fraction: float) -> jax.Array:
    """Replaces a random fraction of the degraded images `[B, H, W, C]` by the clean ones.

    The network thereby learns to leave well-exposed images unchanged.
    """
    is_clean = jax.random.bernoulli(key, fraction, (len(low), 1, 1, 1))
    return jnp.where(is_clean, clean, low)


def _presets(name: str) -> tuple[degrade.Preset, ...]:
    """Loads one preset for all images, or one for each of data.MODALITIES."""
    modalities = data.MODALITIES if name == degrade.BY_MODALITY else ("",)
    return tuple(degrade.load(degrade.name_for(name, modality)) for modality in modalities)


def _without(
    presets: tuple[degrade.Preset, ...], drop: Sequence[str]
) -> tuple[degrade.Preset, ...]:
    present = {stage.name for preset in presets for stage in preset.stages}
    for name in drop:
        if name not in present:
            valid = ", ".join(sorted(present))
            raise degrade.PresetError(
                f"degradation.drop: no stage {name!r}; expected some of {valid}"
            )
    return tuple(
        dataclasses.replace(p, stages=tuple(s for s in p.stages if s.name not in drop))
        for p in presets
    )
