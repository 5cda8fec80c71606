"""Checks the values of an experiment's config that no other module checks."""

import difflib
import math
import sys
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from lle_jax.checks import ConfigError
from lle_jax.rundir import flatten

_COUNTS = {
    "data": ("crop", "batch_size"),
    "train": ("steps", "log_every", "validate_every", "checkpoint_every"),
    "evaluation": ("realisations",),
}
_FRACTIONS = {
    "data": ("photometric_augmentation", "pairs_weight", "whole_fraction"),
    "degradation": ("clean_fraction",),
    "train": ("given_exposure",),
}
_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text",
          list: "a tuple"}  # fmt: skip
MIN_FOLDS = 3  # one each to test, to validate and to train
MIN_CROP = 11  # side of the window of SSIM


def upgrade(
    config: ml_collections.ConfigDict,
    base: ml_collections.ConfigDict,
    renamed: Mapping[str, str],
) -> None:
    """Moves values under former keys to the keys of today, with a line on stderr for each.

    Then every key is there, with a value of the type of its default.

    Args:
      config: an experiment; is changed.
      base: the experiment that has every key; those of its network are checked by the network.
      renamed: former keys, and what they are called now.

    Raises:
      ConfigError: for a key that there is not, naming the nearest; and for one that is missing, or
        whose value is of another type.
    """
    known = flatten(base)
    for name, value in flatten(config).items():
        if name in known or (name.startswith("model.") and name not in renamed):
            continue
        group, _, key = name.rpartition(".")
        if name not in renamed:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ConfigError(f"{name}: there is no such key; did you mean {nearest[0]}?")
        print(f"{name} is now called {renamed[name]}", file=sys.stderr)
        with config.unlocked():
            del config[group][key]
            value = tuple(value) if isinstance(value, list) else value
            config.update_from_flattened_dict({renamed[name]: value})
    _check_types(flatten(config), known)


def _check_types(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """An experiment that does not begin with base.py may lack a key, or give it any type."""
    for name, default in defaults.items():
        if name.startswith("model.") and name != "model.name":
            continue
        if name not in values:
            raise ConfigError(f"{name} is missing; begin with get_config() of experiments/base.py")
        kind, value = type(default), values[name]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ConfigError(f"{name} is {value!r}; expected {_KINDS[kind]}")


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a value that no run can have; the message names the key."""
    if (processes := jax.process_count()) > 1:  # the second would find the run directory locked
        raise ConfigError(
            f"JAX was started as one of {processes} processes; a run is of one process, which uses "
            "all devices of its machine: start one alone"
        )
    for group, names in _COUNTS.items():
        for name in names:
            if (value := config[group][name]) < 1:
                raise ConfigError(f"{group}.{name} is {value}; expected a whole number >= 1")
    for group, names in _FRACTIONS.items():
        for name in names:
            if not 0 <= (value := config[group][name]) <= 1:
                raise ConfigError(f"{group}.{name} is {value}; expected a fraction in [0, 1]")
    for name, value in (("seed", config.seed), ("evaluation.seed", config.evaluation.seed)):
        if not 0 <= value < 2**63:
            raise ConfigError(f"{name} is {value}; expected a whole number from 0 to 2**63 - 1")
    data = config.data
    if data.crop < MIN_CROP:
        raise ConfigError(f"data.crop is {data.crop}; SSIM needs at least {MIN_CROP} pixels")
    if not 0 < data.random_resized_crop_min_scale <= 1:
        raise ConfigError(
            f"data.random_resized_crop_min_scale is {data.random_resized_crop_min_scale}; expected "
            "a number in (0, 1]"
        )
    if data.folds and not (data.folds >= MIN_FOLDS and 0 <= data.fold < data.folds):
        raise ConfigError(
            f"data.folds is {data.folds} and data.fold {data.fold}; expected at least {MIN_FOLDS} "
            "folds, and a fold from 0 to one less"
        )
    if not data.folds and data.fold:
        raise ConfigError(f"data.fold is {data.fold} without folds; set data.folds")
    if data.pairs and not data.pairs_weight:
        raise ConfigError(
            "data.pairs_weight is 0, so that no pair would be used; set data.pairs to ''"
        )
    if not data.pairs and data.pairs_weight != 1:
        raise ConfigError(f"data.pairs_weight is {data.pairs_weight} without data.pairs; set that")
    if not 0 <= data.mixup < math.inf:
        raise ConfigError(f"data.mixup is {data.mixup}; expected a number >= 0")
    for side in data.context_sizes:
        if type(side) is not int:
            raise ConfigError(f"data.context_sizes: {side!r} is not a whole number of pixels")
        if side < data.crop:
            raise ConfigError(f"data.context_sizes: {side} is less than data.crop ({data.crop})")
    if not 0 <= config.optim.ema_decay < 1:
        raise ConfigError(f"optim.ema_decay is {config.optim.ema_decay}; expected [0, 1)")
    if data.batch_size % jax.device_count():
        raise ConfigError(
            f"data.batch_size is {data.batch_size}; expected a multiple of the "
            f"{jax.device_count()} devices"
        )
