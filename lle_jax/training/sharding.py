"""Where arrays live: parameters on every device, batches split over the `data` axis."""

import functools
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """All devices of all processes as a `('data', 'model')` mesh; the model axis is 1 for now."""
    return jax.make_mesh(
        (jax.device_count(), 1), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(batch: Any, mesh: Mesh) -> Any:
    """This process's share of a pytree of arrays, placed on its devices as part of the whole's."""
    place = functools.partial(jax.make_array_from_process_local_data, split_batch(mesh))
    return jax.tree.map(place, batch)
