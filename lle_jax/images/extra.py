"""What is installed beyond the required packages: the extras of pyproject.toml."""

import importlib.util

INSTALL = "pip install 'lle_jax[formats]'"
INSTALL_VIDEO = "pip install 'lle_jax[video]'"


def has(package: str) -> bool:
    """Whether a package of an extra can be imported."""
    return importlib.util.find_spec(package) is not None
