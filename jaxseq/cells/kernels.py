"""Choice of the program that computes a recurrence: the scan of XLA, the persistent kernels, or cuDNN.

`Traversal.kernel` asks for one of them. "auto" takes what was the fastest in `python -m jaxseq.benchmark --gpu`, and the
scan where nothing was measured; `docs/gpu.md` has the figures.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax.numpy as jnp

from jaxseq.cells import adjoint, cudnn, persistent, strategy
from jaxseq.cells.adjoint import Layer, Recurrence, Result, Sequence, Trainable

Kernel: TypeAlias = Literal["auto", "scan", "pallas", "cudnn"]
"""Program of a recurrence.

auto    the fastest one for the layer, its size and the platform
scan    `jaxseq.cells.adjoint`, on any platform
pallas  `jaxseq.cells.persistent`, for NVIDIA GPUs; on other platforms it is interpreted, which is slow and for tests
cudnn   `jaxseq.cells.cudnn`, the plain LSTM on NVIDIA GPUs
"""

MOST_UNITS = 128
"""Most units whose recurrent kernel fits on the chip."""
FASTER_UNITS = 64
"""Most units of which the persistent kernels are chosen for every cell."""


def recurrence(kernel: Kernel) -> Recurrence:
    """Return the scan of layers by a kernel.

    Its calls raise `ValueError`, which names the reason, for a layer that the kernel cannot compute.
    """
    if kernel == "scan":
        return adjoint.with_adjoint

    def scan(
        layer: Layer,
        trainable: Trainable,
        sequence: Sequence,
    ) -> Result:
        chosen = kernel
        if kernel == "auto":
            chosen = _fastest(layer, trainable, sequence)
        elif reason := refusal(kernel, layer, trainable, sequence):
            raise ValueError(f"kernel is {kernel!r}; {reason}")

        match chosen:
            case "pallas":
                return persistent.scan(layer, trainable, sequence)
            case "cudnn":
                return cudnn.scan(layer, trainable, sequence)
            case _:
                return adjoint.with_adjoint(layer, trainable, sequence)

    return scan


def _fastest(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Kernel:
    """Choose a kernel by what was measured on an H100."""
    # Neither kernel can share a batch between devices.
    if strategy.platform() != "gpu" or strategy.on_mesh():
        return "scan"
    # Wider layers need registers that a multiprocessor has not.
    units = sequence.carry.h.shape[-1]
    if units <= FASTER_UNITS and not refusal("pallas", layer, trainable, sequence):
        return "pallas"
    if not refusal("cudnn", layer, trainable, sequence):
        return "cudnn"
    return "scan"


def refusal(
    kernel: Kernel,
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> str | None:
    """Return the reason why a kernel cannot compute a layer, None if it can."""
    h = sequence.carry.h
    if h.dtype != jnp.float32:
        return f"it needs float32, and the layer has {h.dtype}"
    if not h.shape[0]:
        return "it needs a row, and the batch has none"

    if kernel == "pallas":
        return _refusal_of_pallas(layer, units=h.shape[-1])
    return _refusal_of_cudnn(layer, trainable, sequence)


def _refusal_of_pallas(layer: Layer, units: int) -> str | None:
    if layer.cell.pointwise is None:
        return f"the cell {layer.cell.name} has no pointwise step"
    if units > MOST_UNITS:
        return f"it holds at most {MOST_UNITS} units, and the layer has {units}"
    return None


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
    # Last, so that on other platforms the layer's own reason is named first.
    if strategy.platform() != "gpu":
        return f"it needs an NVIDIA GPU, and the platform is {strategy.platform()}"
    return None
