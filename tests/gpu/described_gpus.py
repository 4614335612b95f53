"""GPUs that are described by a file: XLA compiles for one without a GPU, a driver, cuDNN or cuBLAS.

Import it before JAX. Programs that use it run in an environment that has JAX's CUDA plugin (`test_compiles.py`).
"""

import os
from pathlib import Path
from typing import Any

# The plugin would look for a driver and its libraries.
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def mesh_of(name: str) -> Mesh:
    """Return a mesh of one GPU, described by `NAME.textproto`."""
    description = (Path(__file__).parent / f"{name}.textproto").read_text()
    topology = topologies.get_topology_desc(platform="cuda", target_config=description, topology="1x1x1")
    devices = topologies.make_mesh(topology, (1,), ("data",)).devices
    return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))


def compiled(mesh: Mesh, function: Any, *arguments: Any, options: dict[str, Any] | None = None) -> Any:
    """Compile a jitted function for arguments of these shapes, whole on the one device of the mesh."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def on_mesh(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return function.lower(*jax.tree.map(on_mesh, arguments)).compile(compiler_options=options)
