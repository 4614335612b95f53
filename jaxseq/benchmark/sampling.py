"""Notes composed by the chorales' network of notes (Géron 2019): our compiled scan, and loops in torch with carried states.

All have the same weights, and compose with the notes that they drew themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxseq.benchmark import compare, machine, notenet, peers, tables, turns
from jaxseq.benchmark.compare import OURS, Settings, Spreads
from jaxseq.common.arrays import Variables
from jaxseq.music.networks.layers import BOOK_EPSILON
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.sampling import FREE, ancestral

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 64
"""Sixteenths, of four notes each."""
ROWS = (1, 64)
"""Pieces that are composed together."""
FIRST = 20
"""The symbol that every piece begins with."""

Composed: TypeAlias = tuple[np.ndarray, np.ndarray]
"""The notes "b n", and the logits of each after the first."""


class Composer(NamedTuple):
    """The network with its parameters and running moments, and the size of the music."""

    model: NoteNet
    params: Variables
    stats: Variables
    rows: int
    steps: int = STEPS


class Timing(Spreads):
    """Figures of a number of rows, as they stand in the JSON file; the ratios are peer / ours."""

    rows: int
    notes: int
    absent: dict[str, str]


def ours(composer: Composer) -> Callable[[], np.ndarray]:
    """Return a function that composes, with other notes at each call."""
    # The network has no distribution of a first note: it is given, all others are drawn.
    forced = np.full((composer.rows, composer.steps, 4), FREE)
    forced[:, 0, 0] = FIRST
    positions = np.arange(composer.steps) % 16
    # A key for each call: torch's loops compose something else each time, too.
    calls = itertools.count()
    variables = {"params": composer.params, **composer.stats}

    def work() -> np.ndarray:
        key = jax.random.key(next(calls))
        sample = ancestral(composer.model, variables, key, forced, positions, started=False)
        # The copy waits for the last note.
        return np.asarray(sample.tokens)

    return work


def layers(composer: Composer) -> Callable[[], Composed]:
    """Return a loop of torch's own layers, eager, one thread, without gradients.

    Each `Conv1d` reads the values that it has kept and the new one, and the `LSTM` a single step.
    """
    import torch

    torch.set_num_threads(1)
    net = notenet.network(composer.model, composer.params).eval()
    convolutions = [layer for layer in net.convolutions if isinstance(layer, torch.nn.Conv1d)]
    norms = [layer for layer in net.norms if isinstance(layer, torch.nn.BatchNorm1d)]
    # `network` sets the parameters alone; a composer's norms use running moments, which are state.
    for number, norm in enumerate(norms):
        assert norm.running_mean is not None and norm.running_var is not None, "kept by default"
        moments = composer.stats["batch_stats"][f"norm_{number}"]
        norm.running_mean.copy_(torch.tensor(np.asarray(moments["mean"])))
        norm.running_var.copy_(torch.tensor(np.asarray(moments["var"])))

    @torch.inference_mode()
    def work() -> Composed:
        # Before the first note are zeros, as in the causal padding of training.
        past = [torch.zeros(composer.rows, layer.in_channels, layer.dilation[0]) for layer in convolutions]
        notes = [torch.full((composer.rows, 1), FIRST)]
        logits = []
        state = None
        # The first note is given.
        for _ in range(4 * composer.steps - 1):
            z = net.notes(notes[-1]).transpose(1, 2)
            for number, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
                # As many values as the dilation are kept, so that the convolution gives one output.
                window = torch.cat([past[number], z], dim=2)
                past[number] = window[:, :, 1:]
                z = norm(torch.relu(convolution(window)))
            outputs, state = net.recurrent(z.transpose(1, 2), state)
            logits.append(net.head(outputs[:, 0]))
            probabilities = torch.softmax(logits[-1], dim=1)
            notes.append(torch.multinomial(probabilities, 1))
        return torch.cat(notes, dim=1).numpy(), torch.stack(logits, dim=1).numpy()

    return work


class _Convolution(NamedTuple):
    """A dilated convolution of two taps as a linear layer, with the batch norm after it as a factor and an addend."""

    weight: Tensor
    bias: Tensor | None
    distance: int
    scale: Tensor
    shift: Tensor


def by_hand(composer: Composer) -> Callable[[], Composed]:
    """Return the same loop as lean as torch allows.

    Each convolution is a linear layer over a ring of past values, batch norm one multiplication and addition, and the
    recurrence an `LSTMCell`.
    """
    import torch

    torch.set_num_threads(1)
    net = notenet.network(composer.model, composer.params)
    cell = torch.nn.LSTMCell(net.recurrent.input_size, net.recurrent.hidden_size)
    # A cell has no layers to number in the names of its weights.
    weights = {name.removesuffix("_l0"): weight for name, weight in net.recurrent.state_dict().items()}
    cell.load_state_dict(weights)
    convolutions = _convolutions(composer, net)

    @torch.inference_mode()
    def work() -> Composed:
        past = [[torch.zeros(composer.rows, layer.weight.shape[1] // 2)] * layer.distance for layer in convolutions]
        zeros = torch.zeros(composer.rows, cell.hidden_size)
        state = (zeros, zeros)
        notes = [torch.full((composer.rows,), FIRST)]
        logits = []
        for number in range(4 * composer.steps - 1):
            z = net.notes(notes[-1])
            for ring, layer in zip(past, convolutions, strict=True):
                # The value of as many steps ago stands where the new one goes.
                place = number % layer.distance
                taps = torch.cat([ring[place], z], dim=1)
                ring[place] = z
                activation = torch.nn.functional.linear(taps, layer.weight, layer.bias).relu_()
                z = torch.addcmul(layer.shift, activation, layer.scale)
            state = cell(z, state)
            logits.append(net.head(state[0]))
            probabilities = torch.softmax(logits[-1], dim=1)
            notes.append(torch.multinomial(probabilities, 1)[:, 0])
        return torch.stack(notes, dim=1).numpy(), torch.stack(logits, dim=1).numpy()

    return work


def _convolutions(composer: Composer, net: notenet.TorchNetwork) -> list[_Convolution]:
    """Return the network's convolutions with the norms by running moments."""
    import torch

    convolutions = []
    for number, layer in enumerate(net.convolutions):
        assert isinstance(layer, torch.nn.Conv1d), "built so"
        norm = composer.params[f"norm_{number}"]
        moments = composer.stats["batch_stats"][f"norm_{number}"]
        scale = np.asarray(norm["scale"]) / np.sqrt(np.asarray(moments["var"]) + BOOK_EPSILON)
        shift = np.asarray(norm["bias"]) - np.asarray(moments["mean"]) * scale
        convolutions.append(
            _Convolution(
                # The channels of the older value come first, as `taps` has them.
                weight=layer.weight.permute(0, 2, 1).flatten(1).contiguous(),
                bias=layer.bias,
                distance=layer.dilation[0],
                scale=torch.tensor(scale),
                shift=torch.tensor(shift),
            )
        )
    return convolutions


PEERS: MappingProxyType[str, Callable[[Composer], Callable[[], object]]] = MappingProxyType(
    {"torch": layers, "torch by hand": by_hand}
)
"""Loops that a torch user would write, and the leanest that we could."""


def measure(rows: int, settings: Settings) -> Timing:
    """Time the composition of `STEPS` sixteenths by each, in turn."""
    # The network before any training, as the work is the same with all weights; its rows are not used, so few are drawn.
    start = notenet.given(notenet.LOAD._replace(steps=1))
    model = start.setup.model
    assert isinstance(model, NoteNet), "the workload builds this network"
    composer = Composer(model, start.state.params, start.state.stats, rows)
    works: dict[str, Callable[[], object]] = {OURS: ours(composer)}
    absent = {}
    # The network's recurrent layer is an LSTM.
    reason = peers.PEERS["torch"].absent("lstm", settings.device)
    if reason is None:
        works |= {name: make(composer) for name, make in PEERS.items()}
    else:
        absent = dict.fromkeys(PEERS, reason)

    ready = {name: turns.Work(work) for name, work in works.items()}
    _, clock = machine.CLOCKS[settings.device]
    # A call is one composition, whose notes depend on each other: its time is not divided.
    times = turns.measure(ready, steps=1, pace=settings.pace, clock=clock)
    milliseconds = {name: np.array(timing.milliseconds) for name, timing in times.items()}
    ratios = {name: milliseconds[name] / milliseconds[OURS] for name in works if name != OURS}
    return Timing(
        rows=rows,
        notes=4 * STEPS,
        **compare.spreads(milliseconds, ratios),
        absent=absent,
    )


def table(results: Sequence[Timing]) -> str:
    """Return the table of all sizes."""
    titles = ["pieces at once", "jaxseq, ms", *(f"{name}, ms" for name in PEERS)]
    titles += [f"{name} / jaxseq" for name in PEERS]
    rows = []
    for result in results:
        cells = [f"{result['rows']}"]
        for name in (OURS, *PEERS):
            cells.append(_span(result["ms"], result["ms_range"], result["absent"], name))
        for name in PEERS:
            cells.append(_span(result["ratio"], result["ratio_range"], result["absent"], name))
        rows.append(cells)
    title = f"{4 * STEPS} notes composed by the chorales' network of notes"
    return f"{title}\n\n{tables.markdown(titles, rows)}"


def _span(
    medians: dict[str, float],
    ranges: dict[str, list[float]],
    absent: dict[str, str],
    name: str,
) -> str:
    """Return a median with its range, or the reason why there is none."""
    if name in absent:
        return absent[name]
    low, high = ranges[name]
    return f"{medians[name]:.1f} ({low:.1f}-{high:.1f})"
