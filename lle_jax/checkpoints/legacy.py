"""Reads what earlier versions wrote: configs and parameters under their former names."""

from collections.abc import Mapping
from typing import Any

_LEAVES = {"spread.": "log_scale."}


def upgrade_model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the keys of a network's config and adds those that did not exist."""
    stored = dict(config)
    if stored.get("name") == "dual_path":
        before = stored.pop("spread", False)
        stored.setdefault("uncertainty", before)
        stored.setdefault("exposure_path", False)
        stored.setdefault("light_path", False)
    return stored


def upgrade_name(name: str) -> str:
    """Renames a parameter."""
    for old, new in _LEAVES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
