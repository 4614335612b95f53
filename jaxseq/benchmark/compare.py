"""Everybody in turn: milliseconds, ratios with their range, and the matrix products alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from jaxseq.benchmark import machine, matmuls, peers, turns, workloads
from jaxseq.benchmark.peers import Device, Given, Trainer
from jaxseq.benchmark.workloads import Product, Workload

OURS, PLAIN, PRODUCTS = "ours", "plain", "products in "
SAME_LOSS = 1e-4
"""Largest relative difference of the first loss of a peer that computes the same."""
FLOPS_A_SECOND = 4e10
COMPILE_SECONDS = 3.0
"""About the speed of a core, and the time to compile a peer."""


class Settings(NamedTuple):
    """How a comparison is measured.

    rounds        most rounds, in each of which every peer has a turn; medians are over them
    turn_seconds  least length of a turn
    peers         names of the peers to time; None times all
    """

    device: Device = "cpu"
    rounds: int = 7
    turn_seconds: float = 0.2
    peers: frozenset[str] | None = None

    @property
    def pace(self) -> turns.Pace:
        """Length and number of the turns of a workload."""
        return turns.Pace(
            self.turn_seconds,
            # A wide workload has fewer rounds, so that it leaves time for the others.
            round_seconds=60.0,
            # With fewer than three, a disturbed round would move the median.
            least_rounds=min(3, self.rounds),
            most_rounds=self.rounds,
        )


class Spreads(TypedDict):
    """Milliseconds and ratios over the rounds, by name.

    ms        medians
    ms_range  least and most of the rounds
    """

    rounds: int
    ms: dict[str, float]
    ms_range: dict[str, list[float]]
    ratio: dict[str, float]
    ratio_range: dict[str, list[float]]


class Figures(Spreads):
    """Figures of a workload's step, as they stand in the JSON file; the ratios are peer / ours, or normalised / plain."""

    workload: dict[str, str | int | bool]
    parameters: int
    compile_s: float
    memory_mib: float


class Result(Figures):
    """Figures of a workload that is compared with other libraries.

    absent          the reason why a peer has no figures
    apart           relative difference of a peer's first loss from our model's
    products        milliseconds of the matrix products alone, by the library that does them
    above_products  our step over its products in XLA, in each round
    """

    absent: dict[str, str]
    apart: dict[str, float]
    products: dict[str, float]
    products_gflops: dict[str, float]
    above_products: float
    above_products_range: list[float]


def expected_seconds(load: Workload, settings: Settings) -> float:
    """Return about the seconds that a workload takes; the budget corrects it by the cost of those before."""
    # Our step and the products have turns beside the peers.
    entrants = 2 + len(peers.names(settings.device, settings.peers))
    # A normalised cell is timed against the plain one alone.
    if load.norm:
        entrants = 2
    call_seconds = load.steps * workloads.flops(load) / FLOPS_A_SECOND
    turns_seconds = settings.rounds * max(settings.turn_seconds, call_seconds)
    # Rounds of long turns are fewer.
    limit_seconds = max(settings.pace.round_seconds / entrants, 3 * call_seconds)
    turns_seconds = min(turns_seconds, limit_seconds)
    # Two calls come before the turns: the first loss is compared, and the first turn is thrown away.
    return entrants * (COMPILE_SECONDS + 2 * call_seconds + turns_seconds)


def in_turn(
    works: Mapping[str, Callable[[], object]],
    load: Workload,
    settings: Settings,
) -> dict[str, np.ndarray]:
    """Return milliseconds of a step, one number a round; in a round everybody has one turn."""
    ready = {name: turns.Work(work) for name, work in works.items()}
    _, clock = machine.CLOCKS[settings.device]
    times = turns.measure(ready, load.steps, settings.pace, clock)
    return {name: np.array(milliseconds) for name, (milliseconds, _) in times.items()}


class Entrants(NamedTuple):
    """Those who are timed on a workload.

    absent  the reason why a peer is not among them
    apart   relative difference of a peer's first loss from our model's
    """

    ours: Trainer
    others: Mapping[str, Trainer]
    absent: Mapping[str, str]
    apart: Mapping[str, float]


def measure(load: Workload, settings: Settings) -> Result:
    """Time our step, every peer that can be timed, and the products alone."""
    start = peers.given(load)
    entrants = entered(load, start, settings)
    return timed(load, entrants, workloads.products(load), settings)


def entered(load: Workload, start: Given, settings: Settings) -> Entrants:
    """Make everybody's trainer, and compare the first losses; each takes a call, which also warms up."""
    others = {}
    absent = {}
    for name in peers.names(settings.device, settings.peers):
        peer = peers.PEERS[name]
        reason = peer.absent(load.cell, settings.device)
        if reason is None:
            others[name] = peer.make(load, start, settings.device)
        else:
            absent[name] = reason

    return of_same_loss(peers.ours(load, start), peers.first_loss(load, start), others, absent)


def of_same_loss(
    ours: Trainer,
    expected: float,
    others: Mapping[str, Trainer],
    absent: Mapping[str, str],
) -> Entrants:
    """Leave out the trainers whose first loss is not the `expected` one, ours: they compute something else."""
    absent = dict(absent)
    apart = {}
    for name, trainer in others.items():
        # Only the first loss is before any step: a library that has a bias twice learns it twice as fast.
        first_loss = trainer.work()[0]
        apart[name] = float(abs(first_loss / expected - 1))
        # Negated, because NaN compares false with everything.
        if not apart[name] <= SAME_LOSS:
            absent[name] = f"its first loss is {first_loss:.4g}, not {expected:.4g}"
    same = {name: trainer for name, trainer in others.items() if name not in absent}
    return Entrants(ours, same, absent, apart)


def timed(
    load: Workload,
    entrants: Entrants,
    products: Sequence[Product],
    settings: Settings,
) -> Result:
    """Time the entrants and the products in turn."""
    works: dict[str, Callable[[], object]] = {OURS: entrants.ours.work}
    for name, trainer in entrants.others.items():
        works[name] = trainer.work
    for library in matmuls.libraries(settings.device):
        works[PRODUCTS + library] = matmuls.MAKERS[library](products, load.steps)

    times = in_turn(works, load, settings)
    # Round by round, so that a drift of the machine's speed, which all entrants share, divides out.
    ratios = {name: times[name] / times[OURS] for name in entrants.others}
    above = times[OURS] / times[PRODUCTS + "XLA"]
    figures = _figures(load, entrants.ours, times, ratios)
    # The products have a part of their own in the results.
    product_ms = {}
    for name in list(figures["ms"]):
        if name.startswith(PRODUCTS):
            product_ms[name.removeprefix(PRODUCTS)] = figures["ms"].pop(name)
    flops = sum(product.flops for product in products)
    return Result(
        **figures,
        absent=dict(entrants.absent),
        apart=dict(entrants.apart),
        products=product_ms,
        products_gflops={name: flops / ms / 1e6 for name, ms in product_ms.items()},
        above_products=float(np.median(above)),
        above_products_range=[float(above.min()), float(above.max())],
    )


def measure_normalised(load: Workload, settings: Settings) -> Figures:
    """Time a normalised cell's step and the plain cell's; the ratio is normalised / plain."""
    # None of the libraries has such a cell, and one that we wrote for it would be no measurement of the library.
    plain = load._replace(norm="")
    trainer = peers.ours(load, peers.given(load))
    plain_trainer = peers.ours(plain, peers.given(plain))
    works = {OURS: trainer.work, PLAIN: plain_trainer.work}
    times = in_turn(works, load, settings)
    return _figures(load, trainer, times, {PLAIN: times[OURS] / times[PLAIN]})


def _figures(
    load: Workload,
    trainer: Trainer,
    times: Mapping[str, np.ndarray],
    ratios: Mapping[str, np.ndarray],
) -> Figures:
    return Figures(
        workload=load._asdict(),
        parameters=trainer.parameters,
        **spreads(times, ratios),
        compile_s=trainer.compile_s,
        memory_mib=trainer.memory / 2**20,
    )


def spreads(
    times: Mapping[str, np.ndarray],
    ratios: Mapping[str, np.ndarray],
) -> Spreads:
    """Return medians and ranges of milliseconds and ratios, arrays of one number a round."""
    return Spreads(
        rounds=len(times[OURS]),
        ms=medians(times),
        ms_range=ranges(times),
        ratio=medians(ratios),
        ratio_range=ranges(ratios),
    )


def medians(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the median of each array."""
    return {name: float(np.median(array)) for name, array in arrays.items()}


def ranges(arrays: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Return the least and the most of each array."""
    return {name: [float(array.min()), float(array.max())] for name, array in arrays.items()}
