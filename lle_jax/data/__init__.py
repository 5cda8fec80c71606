"""Well-lit images and the batches of crops that training draws from them."""

from lle_jax.data.pipeline import crops
from lle_jax.data.sources import ROLES, DataError, Images, Splits, load

__all__ = ["ROLES", "DataError", "Images", "Splits", "crops", "load"]
