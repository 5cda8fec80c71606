"""Images, clean or in pairs, and the batches of crops that training draws from them."""

from lle_jax.data.manifest import MODALITIES, ROLES, DataError
from lle_jax.data.pipeline import Batch, crops, small_lines
from lle_jax.data.roles import Folds
from lle_jax.data.sources import load
from lle_jax.data.splits import Images, Splits, image_key, join, skipped_lines

__all__ = [
    "MODALITIES",
    "ROLES",
    "Batch",
    "DataError",
    "Folds",
    "Images",
    "Splits",
    "crops",
    "image_key",
    "join",
    "load",
    "skipped_lines",
    "small_lines",
]
