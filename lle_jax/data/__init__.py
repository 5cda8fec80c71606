"""Well-lit images and the batches of crops that training draws from them."""

from lle_jax.data.pipeline import Batch, crops
from lle_jax.data.sources import (
    MODALITIES,
    ROLES,
    DataError,
    Images,
    Splits,
    image_key,
    join,
    load,
    skipped_lines,
)

__all__ = [
    "MODALITIES",
    "ROLES",
    "Batch",
    "DataError",
    "Images",
    "Splits",
    "crops",
    "image_key",
    "join",
    "load",
    "skipped_lines",
]
