"""Reads what earlier versions wrote: configs and parameters under their former names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_LEAVES = {"spread.": "log_scale."}


def upgrade_model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the keys of a network's config and adds those that did not exist."""
    stored = dict(config)
    if stored.get("name") == "dual_path":
        before = stored.pop("spread", False)
        stored.setdefault("uncertainty", before)
        for path in ("exposure_path", "light_path", "glare_path"):
            stored.setdefault(path, False)
    return stored


def upgrade_params(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Renames parameters, by name, and adds those that did not exist, with no effect."""
    upgraded = {_upgrade_name(name): leaf for name, leaf in leaves.items()}
    if "log_scale.bias" in upgraded:
        upgraded.setdefault("log_scale_grey", np.zeros((1, 1, 1, 1), np.float32))
    if "exposure.output.bias" in upgraded:
        upgraded.setdefault("exposure.clinic.kernel", np.zeros((64, 2), np.float32))
        upgraded.setdefault("exposure.clinic.bias", np.zeros(2, np.float32))
    return upgraded


def _upgrade_name(name: str) -> str:
    for old, new in _LEAVES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
