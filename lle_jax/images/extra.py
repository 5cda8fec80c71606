"""What is installed beyond the required packages: the extra `formats` of pyproject.toml."""

import importlib.util

INSTALL = "pip install 'lle_jax[formats]'"


def has(package: str) -> bool:
    """Whether a package of the extra can be imported."""
    return importlib.util.find_spec(package) is not None
