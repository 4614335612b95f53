"""The devices, and the layout of state, data and batch on them.

A run has one mesh with one axis, `data`, even on a single device. State and data are replicated over it. The batch is
split over it (`epoch.Setup.batch_sharding`), so that each device computes its share and the gradients are summed. With
several processes (`processes`), the mesh spans the devices of all of them.
"""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError
from jaxseq.train import processes

DATA = "data"


def make(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh of the given devices, or of all devices, along the axis `data`."""
    if devices is None:
        devices = jax.devices()
    # JAX's default, explicit axes, cannot gather rows from sharded data.
    return jax.make_mesh((len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh, batch: int) -> NamedSharding:
    """Return the sharding that splits a batch over the mesh. Raises `UsageError` if its rows do not divide evenly."""
    if batch % mesh.size:
        raise UsageError(
            f"the batch cannot be split over {mesh.size} devices",
            where="--batch",
            got=batch,
            needed=f"a multiple of {mesh.size}",
        )
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays that every device holds whole: state and data."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh, tree: Tree) -> Tree:
    """Put every leaf of a tree whole on every device; all processes of the mesh must hold the same tree."""
    if not mesh.is_multi_process:
        return jax.device_put(tree, replicated(mesh))
    # `device_put` cannot reach devices of other processes; each process fills its own shards instead.
    arrays = jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda a: jax.make_array_from_callback(a.shape, replicated(mesh), a.__getitem__), arrays)


def split(sharding: NamedSharding | None, tree: Tree) -> Tree:
    """Put the leaves of a batch on the devices, an equal share of the rows on each; None takes the default device."""
    if sharding is None or not sharding.mesh.is_multi_process:
        return jax.device_put(tree, sharding)
    # Every process reads the same batch, and fills its own shares.
    return jax.tree.map(lambda a: jax.make_array_from_callback(a.shape, sharding, a.__getitem__), tree)


def first_local_copy(tree: Tree) -> Tree:
    """Return a replicated tree on this process's first device only; unchanged if there is no other process."""
    if not processes.several():
        return tree
    # Every device holds the whole tree, so one process can save it without the others.
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def describe(mesh: Mesh) -> str:
    """Describe the devices, say ``1 cpu`` or ``4 NVIDIA H200 of 2 processes``."""
    devices = f"{mesh.size} {mesh.devices.flat[0].device_kind}"
    if mesh.is_multi_process:
        return f"{devices} of {jax.process_count()} processes"
    return devices


def cores() -> int:
    """Return the number of cores that this process may use."""
    # A container or a cluster may give a process fewer cores than the machine has; macOS cannot say.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
