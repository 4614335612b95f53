"""The devices, and how state, data and batch lie on them.

A run has one mesh with one axis, `data`, from the first line, be it of one device. State and data are replicated over
it; the BATCH is split over it (`fit.Setup.batch_sharding`), so that each device computes its share and the gradient is
summed between them. The mesh goes over the devices of all processes, where there are several (`processes`).
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
    """A mesh of the given devices, or of all there are, along the axis `data`."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices)


def batch_sharding(mesh: Mesh, batch: int) -> NamedSharding:
    """How a batch is split over the mesh; `UsageError` if its rows cannot be split evenly."""
    if batch % mesh.size:
        raise UsageError(f"batch {batch} cannot be split over {mesh.size} devices: take a multiple of {mesh.size}")
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole: state and data."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh, tree: Tree) -> Tree:
    """The tree, which all processes of the mesh have, with every leaf whole on every device."""
    if not mesh.is_multi_process:
        return jax.device_put(tree, replicated(mesh))
    arrays = jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda a: jax.make_array_from_callback(a.shape, replicated(mesh), a.__getitem__), arrays)


def here(tree: Tree) -> Tree:
    """What is whole on every device, on the first of this process alone; as it is if there is no other process."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree) if processes.several() else tree


def describe(mesh: Mesh) -> str:
    """The devices in a few words, say ``1 cpu`` or ``4 NVIDIA H200 of 2 processes``."""
    among = f" of {jax.process_count()} processes" if mesh.is_multi_process else ""
    return f"{mesh.size} {mesh.devices.flat[0].device_kind}{among}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
