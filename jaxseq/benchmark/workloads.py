"""What is timed: sizes, and the matrix products that a training step of them cannot do without. Numbers only."""

from __future__ import annotations

from typing import NamedTuple


class Workload(NamedTuple):
    """One training step: a stack of recurrent layers, a dense head, squared error, Adam.

    The head reads the last state or, with `every_step`, the state of every step. `steps` are done in one turn, so that
    a turn is long against the clock, and `rounds` is the most turns that a big one takes.
    """

    name: str
    cell: str
    hidden: int
    window: int
    batch: int
    features: int
    steps: int
    layers: int = 1
    outputs: int = 1
    every_step: bool = False
    norm: str = ""
    rounds: int = 100


class Product(NamedTuple):
    """`times` matrix products "rows inner" @ "inner columns", one after the other in a scan where they are many."""

    times: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.times * self.rows * self.inner * self.columns


SMALL = (
    Workload("RNN 50", "rnn", 50, 50, 32, 1, 60),
    Workload("LSTM 50", "lstm", 50, 50, 32, 1, 40),
    Workload("GRU 50", "gru", 50, 50, 32, 1, 40),
    Workload("RNN 20-20, every step", "rnn", 20, 50, 32, 1, 40, layers=2, outputs=10, every_step=True),
)
"""The workloads of `--quick`, those of the main job."""
CHORALE = Workload("chorale net", "lstm", 256, 131, 32, 96, 6, outputs=47, every_step=True)
"""The book's network of notes (`notenet`), whose last convolution has `features` channels, on its batch of 32 windows."""
LARGE = (
    Workload("LSTM 256", "lstm", 256, 128, 32, 96, 2),
    Workload("GRU 256", "gru", 256, 128, 32, 96, 2),
    Workload("LSTM 512", "lstm", 512, 256, 128, 96, 1, rounds=3),
    Workload("GRU 512", "gru", 512, 256, 128, 96, 1, rounds=3),
    Workload("GRU 50, batch 256", "gru", 50, 50, 256, 1, 10),
    CHORALE,
)
NORMALISED = tuple(load._replace(name=f"LN-{load.name}", norm="layer", steps=20) for load in SMALL[:3])
"""Layer norm in the cell, each timed against the plain cell."""


def products(load: Workload) -> list[Product]:
    """The products of a step: forward, back to the layer below, and for the weights.

    A recurrent layer has h R and δ Rᵀ in a scan each and h ⊗ δ over all steps; its input has x W and x ⊗ δ, where it is
    more than one feature, and δ Wᵀ where a layer below waits for it. So has the head.
    """
    # Here, for the command's help is there before JAX is.
    from jaxseq.cells import CELLS

    cell = CELLS[load.cell]
    found: list[Product] = []
    every = load.window * load.batch
    gates = cell.gate_count * load.hidden
    for layer in range(load.layers):
        # A linear cell multiplies its input alone.
        if cell.linear is None:
            found += [
                Product(load.window, load.batch, load.hidden, gates),
                Product(load.window, load.batch, gates, load.hidden),
                Product(1, load.hidden, every, gates),
            ]
        inputs = load.hidden if layer else load.features
        found += _dense(every, inputs, gates, below=layer > 0) if inputs > 1 else []
    read = every if load.every_step else load.batch
    return found + _dense(read, load.hidden, load.outputs, below=True)


def _dense(rows: int, inputs: int, outputs: int, below: bool) -> list[Product]:
    """x W, x ⊗ δ and, for a layer below, δ Wᵀ."""
    back = [Product(1, rows, outputs, inputs)] if below else []
    return [Product(1, rows, inputs, outputs), Product(1, inputs, rows, outputs), *back]


def flops(load: Workload) -> int:
    """Multiplications and additions in the products of a step."""
    return sum(product.flops for product in products(load))
