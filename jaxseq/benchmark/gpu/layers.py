"""Layers with the same weights: ours by each kernel, and those of other JAX libraries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from jaxtyping import Array, Float

from jaxseq.benchmark import layers as libraries
from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.start import Start, norm_of
from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells.kernels import Kernel
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Traversal
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

KERNELS: tuple[Kernel, ...] = ("scan", "pallas", "cudnn")
"""Our kernels, `jaxseq.cells.kernels`."""


class Layer(NamedTuple):
    """A layer's weights, and its outputs from zero states."""

    weights: Tree
    apply: Callable[[Tree, Float[Array, "t b d"]], Float[Array, "t b h"]]


class Inputs(NamedTuple):
    """Arguments of a scan that have gradients; `gains` are None for the plain cell."""

    params: Tree
    gains: Tree
    x: Tree
    carry: Tree


def scan(
    kernel: Kernel,
    load: Load,
    inputs: Inputs,
) -> tuple[Tree, Float[Array, "t b h"]]:
    """Scan by one of our kernels: the last carry, and the outputs."""
    cell = CELLS[load.cell]
    norm = norm_of(load)
    # A kernel that cannot compute the layer raises; "auto" would take another one under its name.
    traversal = Traversal(kernel=kernel)
    if norm is None:
        return recurrence.scan(
            cell,
            inputs.params,
            inputs.x,
            inputs.carry,
            traversal=traversal,
        )

    # The running moments, which come third, are those of batch norm.
    last, outputs, _ = normalised.scan(
        cell,
        Normalisation(norm, inputs.gains),
        inputs.params,
        inputs.x,
        inputs.carry,
        traversal=traversal,
    )
    return last, outputs


def ours(kernel: Kernel, load: Load, start: Start) -> Layer:
    """Build our layer by one of its kernels."""

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        params, gains = weights
        carry = CELLS[load.cell].start((load.batch, load.hidden), x.dtype)
        _, outputs = scan(kernel, load, Inputs(params, gains, x, carry))
        return outputs

    return Layer((start.params, start.gains), apply)


def _check_plain(library: str, load: Load) -> None:
    # A cell written by us for their library would not be a measurement of the library.
    if load.norm:
        raise UsageError(f"{library} has no cell with layer norm")


def library(name: str, load: Load, start: Start) -> Layer:
    """Build the layer of another library, `jaxseq.benchmark.layers`."""
    _check_plain(name, load)
    shape = libraries.Shape(
        load.cell,
        load.batch,
        load.time_steps,
        load.features,
        load.hidden,
        # As ours and torch's; a library that cannot take time first pays for its transposition.
        time_major=True,
    )
    layer = libraries.MAKERS[name](shape, start.params)

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        return layer.apply(weights, x).outputs

    return Layer(layer.weights, apply)


MAKERS: MappingProxyType[str, Callable[[Load, Start], Layer]] = MappingProxyType(
    {
        **{f"jaxseq {kernel}": partial(ours, kernel) for kernel in KERNELS},
        "flax linen": partial(library, "linen"),
        "flax nnx": partial(library, "nnx"),
        "keras": partial(library, "keras"),
    }
)
"""JAX layers by the name of the peer."""
