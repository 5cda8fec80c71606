"""Model, measure, undo and evaluate the degradation of low-light medical images."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`lle_jax.enhance`, imported when it is first asked for: it brings jax with it."""
    if name == "enhance":
        from lle_jax.inference.enhance import enhance

        return enhance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
