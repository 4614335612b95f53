"""Choice of the program that computes a recurrence: the scan of XLA, the persistent kernels, or cuDNN.

`Traversal.kernel` asks for one of them. "auto" takes what was the fastest in `python -m jaxseq.benchmark --gpu`, and the
scan where nothing was measured; `docs/gpu.md` has the figures.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells import adjoint, cudnn, kernel_layout, linear, persistent, spread, stepwise, strategy
from jaxseq.cells.adjoint import Layer, Recurrence, Result, Sequence, Trainable

Kernel: TypeAlias = Literal["auto", "scan", "pallas", "cudnn"]
"""Program of a recurrence.

auto    the fastest one for the layer, its size and the platform; the scan on a host with several GPUs, and in
        `jax.shard_map`
scan    `jaxseq.cells.adjoint`, on any platform; the other two are refused in `jax.shard_map` unless `check_vma=False`
pallas  `jaxseq.cells.persistent`, for NVIDIA GPUs; on other platforms it is interpreted, which is slow and for tests
cudnn   `jaxseq.cells.cudnn`, the plain LSTM on NVIDIA GPUs
"""

MOST_UNITS = 128
"""Most units of the persistent kernels; half of the recurrent kernel of so wide a layer fits into the registers."""


def recurrence(kernel: str) -> Recurrence:
    """Return the scan of layers by a kernel, one of `Kernel`.

    Its calls raise `ValueError`, which names the reason, for a layer that the kernel cannot compute. Raises `ValueError`
    for another name.
    """
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel is {kernel!r}; expected one of {', '.join(get_args(Kernel))}")
    if kernel == "scan":
        return by_scan

    def scan(
        layer: Layer,
        trainable: Trainable,
        sequence: Sequence,
    ) -> Result:
        chosen: str = kernel
        if kernel == "auto":
            chosen = _fastest(layer, sequence)
        elif reason := refusal(kernel, layer, trainable, sequence):
            raise ValueError(f"kernel is {kernel!r}; {reason}")

        match chosen:
            case "pallas":
                return persistent.scan(layer, trainable, sequence)
            case "cudnn":
                return cudnn.scan(layer, trainable, sequence)
            case _:
                return by_scan(layer, trainable, sequence)

    return scan


def by_scan(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan a cell of any family; the derivative is the cell's adjoint where it has one, or else autodiff's."""
    if layer.cell.adjoint is not None and not layer.every_state:
        return adjoint.with_adjoint(layer, trainable, sequence)
    return by_autodiff(layer, trainable, sequence)


def by_autodiff(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan a cell of any family, with autodiff's derivative."""
    if layer.cell.linear is not None:
        return linear.scan(layer, trainable, sequence)
    if layer.cell.step is not None:
        return stepwise.scan(layer, trainable, sequence)
    return adjoint.plain(layer, trainable, sequence)


def _fastest(layer: Layer, sequence: Sequence) -> Kernel:
    """Choose a kernel by what was measured on an H100, where cuDNN by JAX was slower than the scan at every size."""
    # The kernels cannot share a batch between devices, and where there are several the caller's arrays may be spread
    # over them without a mesh being set.
    if not strategy.on_nvidia() or strategy.on_many_devices():
        return "scan"
    if layer.every_state or _refusal_of_pallas(layer, sequence.carry.h):
        return "scan"
    # Timed on an H100; for a GPU of compute capability 8.0 the assembler of CUDA 13.5 crashes on the backward kernel.
    if not kernel_layout.plan(layer, sequence.carry.h.shape[-1]).keeps_all and not strategy.on_hopper():
        return "scan"
    return "pallas"


def refusal(
    kernel: str,
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> str | None:
    """Return the reason why a kernel cannot compute a layer, None if it can."""
    if layer.every_state:
        return "it returns outputs alone, and carries are asked for"
    h = sequence.carry.h
    if kernel == "pallas":
        return _refusal_of_pallas(layer, h)
    return _refusal_of_array(h) or _refusal_of_cudnn(layer, trainable, sequence)


def _refusal_of_array(h: Float[Array, "b h"]) -> str | None:
    # JAX neither interprets a Pallas kernel whose arrays vary nor knows how the results of cuDNN do.
    axes = spread.varying_axes(h)
    if axes:
        return f"in jax.shard_map it needs check_vma=False, and the arrays vary over {', '.join(axes)}"
    if h.dtype != jnp.float32:
        return f"it needs float32, and the layer has {h.dtype}"
    if not h.shape[0]:
        return "it needs a row, and the batch has none"
    return None


def _refusal_of_pallas(layer: Layer, h: Float[Array, "b h"]) -> str | None:
    units = h.shape[-1]
    if layer.cell.pointwise is None:
        return f"the cell {layer.cell.name} has no pointwise step"
    # Wider layers need registers that a multiprocessor has not.
    if units > MOST_UNITS:
        return f"it computes at most {MOST_UNITS} units, and the layer has {units}"
    return _refusal_of_array(h)


def _refusal_of_cudnn(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> str | None:
    if layer.cell.name != "lstm":
        return f"it computes the LSTM alone, and the cell is {layer.cell.name}"
    if layer.norm is not None:
        return f"it has no normalisation, and the norm is {layer.norm.name}"
    # The input of a normalised layer passes its norm before the recurrence.
    if trainable.params.input_kernel is None:
        return "it projects the input itself, and x is projected already"
    if sequence.valid is not None:
        return "it scans whole rows, and these have lengths"
    if sequence.drop is not None:
        return "it has no recurrent dropout, and there is a mask"
    if sequence.anew is not None:
        return "it starts no row anew within its length, and there are resets"
    # Last, so that on other platforms the layer's own reason is named first.
    if not strategy.on_nvidia():
        return f"it needs an NVIDIA GPU, and the platform is {strategy.platform()}"
    return None
