"""Workloads of the comparison, and the matrix products that a training step of them needs. Numbers only, no JAX."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Workload(NamedTuple):
    """A training step: a stack of recurrent layers, a dense head, squared error, Adam.

    features    width of the input
    steps       training steps in one call of a compiled program
    every_step  the head reads the states of all time steps instead of the last one
    norm        normalisation inside the cell; empty for the plain cell
    chunk       time steps that the derivative computes again at once; "auto" leaves it to the layer, None keeps all
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
    chunk: int | Literal["auto"] | None = "auto"


class Product(NamedTuple):
    """`times` matrix products "rows inner" @ "inner columns", one after the other in a loop where there are several."""

    times: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.times * self.rows * self.inner * self.columns


def _series(name: str, cell: str, steps: int) -> Workload:
    """Return a layer of 50 units on windows of a series, as in the main job."""
    return Workload(name, cell, hidden=50, window=50, batch=32, features=1, steps=steps)


def _wide(name: str, cell: str) -> Workload:
    """Return a layer of 256 units on many features."""
    return Workload(name, cell, hidden=256, window=128, batch=32, features=96, steps=2)


def _huge(name: str, cell: str) -> Workload:
    """Return a layer whose arrays fit into no cache."""
    return Workload(name, cell, hidden=512, window=256, batch=128, features=96, steps=1)


SMALL = (
    _series("RNN 50", "rnn", steps=60),
    _series("LSTM 50", "lstm", steps=40),
    _series("GRU 50", "gru", steps=40),
    Workload(
        "RNN 20-20, every step",
        "rnn",
        hidden=20,
        window=50,
        batch=32,
        features=1,
        steps=40,
        layers=2,
        outputs=10,
        every_step=True,
    ),
)
"""The workloads of `--quick`."""
CHORALE = Workload(
    "chorale net",
    "lstm",
    hidden=256,
    window=131,
    batch=32,
    features=96,
    steps=6,
    outputs=47,
    every_step=True,
)
"""The book's network of notes (`notenet`), whose last convolution has `features` channels, on its batch of 32 windows."""
BATCH_256 = _series("GRU 50, batch 256", "gru", steps=10)._replace(batch=256)
LARGE = (
    _wide("LSTM 256", "lstm"),
    _wide("GRU 256", "gru"),
    BATCH_256,
    CHORALE,
    _huge("LSTM 512", "lstm"),
    _huge("GRU 512", "gru"),
)
"""The other workloads; those of 512 units come last, as they may not fit into the time."""
NORMALISED = tuple(load._replace(name=f"LN-{load.name}", norm="layer", steps=20) for load in SMALL[:3])
"""Layer norm in the cell, each timed against the plain cell."""


def products(load: Workload) -> list[Product]:
    """Return the products of a step: forwards, back to the layer below, and for the weights.

    A recurrent layer has h R and δ Rᵀ in a loop each and h ⊗ δ over all time steps. Its input has x W and x ⊗ δ, unless it
    is one feature, and δ Wᵀ if there is a layer below. So has the head.
    """
    # Here, as the command prints its help before JAX is imported.
    from jaxseq.cells import CELLS

    cell = CELLS[load.cell]
    step_products: list[Product] = []
    all_rows = load.window * load.batch
    gates = cell.gate_count * load.hidden
    for layer in range(load.layers):
        # A linear cell multiplies its input alone.
        if cell.linear is None:
            step_products += [
                Product(load.window, load.batch, load.hidden, gates),
                Product(load.window, load.batch, gates, load.hidden),
                Product(1, load.hidden, all_rows, gates),
            ]

        # A layer above another one reads its states.
        inputs = load.features
        if layer > 0:
            inputs = load.hidden
        if inputs > 1:
            step_products += _dense(all_rows, inputs, gates, below=layer > 0)

    # The head of the last state alone has a row for each window.
    head_rows = load.batch
    if load.every_step:
        head_rows = all_rows
    return step_products + _dense(head_rows, load.hidden, load.outputs, below=True)


def _dense(rows: int, inputs: int, outputs: int, below: bool) -> list[Product]:
    """Return x W, x ⊗ δ and, for a layer below, δ Wᵀ."""
    layer_products = [Product(1, rows, inputs, outputs), Product(1, inputs, rows, outputs)]
    if below:
        layer_products.append(Product(1, rows, outputs, inputs))
    return layer_products


def flops(load: Workload) -> int:
    """Return the multiplications and additions in the products of a step."""
    return sum(product.flops for product in products(load))
