"""Placement of arrays: parameters on every device, batches split over the `data` axis."""

import functools
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """Makes a `('data', 'model')` mesh of all devices; the model axis is 1.

    A run is of one process (`config.check`), which holds its run directory.
    """
    return jax.make_mesh(
        (jax.device_count(), 1), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the first axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batch: Any, mesh: Mesh) -> Any:
    """Places this process's share of a pytree of arrays on its devices, as part of the whole."""
    place = functools.partial(jax.make_array_from_process_local_data, split_batch(mesh))
    return jax.tree.map(place, batch)
