"""Notes composed by the chorales' network of notes (Géron 2019): our one compiled scan, and a loop of torch's on a carried
state, both from the same weights and each with notes that it has drawn itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseq.benchmark import machine, notenet
from jaxseq.benchmark.compare import Result
from jaxseq.common.arrays import Tree
from jaxseq.music.networks.layers import BOOK_EPSILON
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.sampling import FREE, ancestral

STEPS = 64
"""Sixteenths, of four notes each."""
ROWS = (1, 64)
"""Pieces that are composed together."""
FIRST = 20
"""The symbol that every piece begins with."""


def ours(model: NoteNet, params: Tree, stats: Tree, rows: int, steps: int = STEPS) -> Callable[[], np.ndarray]:
    """One call of what it gives composes; others notes in each call."""
    forced = np.full((rows, steps, 4), FREE)
    forced[:, 0, 0] = FIRST
    positions, calls = np.arange(steps) % 16, iter(range(10**9))
    variables = {"params": params, **stats}

    def work() -> np.ndarray:
        key = jax.random.key(next(calls))
        return np.asarray(ancestral(model, variables, key, forced, positions, started=False).tokens)

    return work


def layers(model: NoteNet, params: Tree, stats: Tree, rows: int, steps: int = STEPS) -> Callable[[], object]:
    """A stateful loop of torch's own layers as they come, eager, one thread, without gradients: each `Conv1d` over what
    it has kept and what is new, `BatchNorm1d`, `LSTM` of one step. It gives the notes, "b n", and the logits of each."""
    import torch as t

    t.set_num_threads(1)
    net = notenet.network(model, params).eval()
    for n, norm in enumerate(net.norms):
        moments = stats["batch_stats"][f"norm_{n}"]
        norm.running_mean.copy_(t.tensor(np.asarray(moments["mean"])))
        norm.running_var.copy_(t.tensor(np.asarray(moments["var"])))

    def work() -> Any:
        with t.inference_mode():
            kept = [t.zeros(rows, c.in_channels, c.dilation[0]) for c in net.convolutions]
            state, notes, logits = None, [t.full((rows, 1), FIRST)], []
            for _ in range(4 * steps - 1):
                z = net.notes(notes[-1]).transpose(1, 2)
                for n, (convolution, norm) in enumerate(zip(net.convolutions, net.norms, strict=True)):
                    both = t.cat([kept[n], z], dim=2)
                    kept[n], z = both[:, :, 1:], norm(t.relu(convolution(both)))
                outputs, state = net.recurrent(z.transpose(1, 2), state)
                logits.append(net.head(outputs[:, 0]))
                notes.append(t.multinomial(t.softmax(logits[-1], dim=1), 1))
            return t.cat(notes, dim=1).numpy(), t.stack(logits, dim=1).numpy()

    return work


def by_hand(model: NoteNet, params: Tree, stats: Tree, rows: int, steps: int = STEPS) -> Callable[[], object]:
    """The same loop as lean as torch allows: each convolution is a linear layer over a ring of what it has kept, batch norm
    one multiplication and addition, the recurrence an `LSTMCell`."""
    import torch as t

    t.set_num_threads(1)
    net = notenet.network(model, params)
    cell = t.nn.LSTMCell(net.recurrent.input_size, net.recurrent.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in net.recurrent.state_dict().items()})
    layers = [(c.weight.permute(0, 2, 1).flatten(1).contiguous(), c.bias, 2**n) for n, c in enumerate(net.convolutions)]
    affine = [_affine(params[f"norm_{n}"], stats["batch_stats"][f"norm_{n}"]) for n in range(len(layers))]

    def work() -> Any:
        with t.inference_mode():
            kept = [[t.zeros(rows, weight.shape[1] // 2)] * distance for weight, _, distance in layers]
            state = t.zeros(rows, cell.hidden_size), t.zeros(rows, cell.hidden_size)
            notes, logits = [t.full((rows,), FIRST)], []
            for number in range(4 * steps - 1):
                z = net.notes(notes[-1])
                for before, (weight, bias, distance), (scale, shift) in zip(kept, layers, affine, strict=True):
                    at = number % distance
                    both, before[at] = t.cat([before[at], z], dim=1), z
                    z = t.addcmul(shift, t.nn.functional.linear(both, weight, bias).relu_(), scale)
                state = cell(z, state)
                logits.append(net.head(state[0]))
                notes.append(t.multinomial(t.softmax(logits[-1], dim=1), 1)[:, 0])
            return t.stack(notes, dim=1).numpy(), t.stack(logits, dim=1).numpy()

    return work


def _affine(params: Tree, moments: Tree) -> Any:
    """Batch norm by running moments as a factor and an addend."""
    import torch as t

    scale = np.asarray(params["scale"]) / np.sqrt(np.asarray(moments["var"]) + BOOK_EPSILON)
    shift = np.asarray(params["bias"]) - np.asarray(moments["mean"]) * scale
    return t.tensor(scale), t.tensor(shift)


PEERS = {"torch": layers, "torch by hand": by_hand}
"""Loops that a torch user would write, and the leanest that we could."""


def measure(rows: int, rounds: int, device: str = "cpu") -> Result:
    """Milliseconds of `STEPS` sixteenths by each, in turn; medians, and the median and the range of the ratios."""
    start = notenet.given(notenet.LOAD._replace(steps=1))
    model: Any = start.setup.model
    params, stats = start.state.params, start.state.stats
    works: dict[str, Callable[[], Any]] = {"ours": ours(model, params, stats, rows)}
    absent = {} if (why := machine.absent("torch", "lstm", device)) is None else {"torch": why}
    if not absent:
        works |= {name: make(model, params, stats, rows) for name, make in PEERS.items()}
    for work in works.values():
        work()
    times = [[machine.milliseconds(work, 1, device) for work in works.values()] for _ in range(rounds)]
    by_name = dict(zip(works, np.array(times).T, strict=True))
    ratios = {} if absent else {name: by_name[name] / by_name["ours"] for name in PEERS}
    return {
        "rows": rows,
        "notes": 4 * STEPS,
        "rounds": rounds,
        "ms": {name: float(np.median(values)) for name, values in by_name.items()},
        "ms_range": {name: [float(v.min()), float(v.max())] for name, v in by_name.items()},
        "ratio": {name: float(np.median(values)) for name, values in ratios.items()},
        "ratio_range": {name: [float(r.min()), float(r.max())] for name, r in ratios.items()},
        "absent": absent,
    }


def table(results: list[Result]) -> Any:
    """The table of all sizes, for rich to print."""
    from rich.table import Table

    found = Table(title=f"{4 * STEPS} notes composed by the chorales' network of notes", title_justify="left")
    found.add_column("pieces at once", justify="right", no_wrap=True)
    for name in ("ours", *PEERS):
        found.add_column(f"{name}, ms", justify="right", no_wrap=True)
    for name in PEERS:
        found.add_column(f"{name} / ours", justify="right", no_wrap=True)
    for result in results:
        why = result["absent"].get("torch", "")
        cells = [
            _span(result[what][name], result[f"{what}_range"][name]) if name in result[what] else why
            for what, names in (("ms", ("ours", *PEERS)), ("ratio", tuple(PEERS)))
            for name in names
        ]
        found.add_row(str(result["rows"]), *cells)
    return found


def _span(median: float, ends: list[float]) -> str:
    return f"{median:.1f} ({ends[0]:.1f}-{ends[1]:.1f})"
