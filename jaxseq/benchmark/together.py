"""Seeds of one recipe in one compiled epoch (`train --together`) against one after the other, on the rows of `aapl`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxseq.benchmark import machine, tables
from jaxseq.common.arrays import Tree
from jaxseq.train import domains, epoch, lanes
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import Job, initial_state

SEEDS = 5
EPOCHS = 3
"""Epochs of a turn."""


class Size(NamedTuple):
    """A network of one layer."""

    cell: str
    hidden: int


class Timing(NamedTuple):
    """A network's seconds of an epoch of all seeds, medians of the rounds.

    ratio       alone / together, with the smallest and the largest of a round
    epochs      that were trained in both ways
    difference  largest absolute difference of a parameter after them
    """

    cell: str
    hidden: int
    seeds: int
    alone: float
    together: float
    ratio: float
    least: float
    most: float
    epochs: int
    difference: float


def sizes(quick: bool) -> tuple[Size, ...]:
    """Return the networks to time."""
    units = (20,) if quick else (8, 20, 64)
    return tuple(Size(cell, hidden) for cell in ("rnn", "lstm", "gru") for hidden in units)


def measure(size: Size, rounds: int, device: str) -> Timing:
    """Time an epoch of all seeds in both ways, in turn, from equal states."""
    experiment = named("aapl", model=Model(cell=size.cell, hidden=size.hidden))
    job = domains.of(experiment).prepare(experiment)
    # A seed draws weights and orders of rows; the rows themselves are those of one job.
    jobs = []
    for seed in range(SEEDS):
        seed_experiment = dataclasses.replace(experiment, seed=seed)
        jobs.append(dataclasses.replace(job, experiment=seed_experiment))
    # Drawn for each, as training overwrites its states.
    alone = _Alone(job, [initial_state(seed_job) for seed_job in jobs])
    together = _Together(job, tuple(initial_state(seed_job) for seed_job in jobs))
    works: dict[str, Callable[[], None]] = {"alone": alone.work, "together": together.work}

    # The first turn compiles.
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        # A turn each, so that a drift of the machine's speed meets both.
        for name, work in works.items():
            seconds[name].append(machine.milliseconds(work, EPOCHS, device) / 1e3)

    # Round by round, as the turns of a round met the same speed.
    ratio = np.divide(seconds["alone"], seconds["together"])
    return Timing(
        cell=size.cell,
        hidden=size.hidden,
        seeds=SEEDS,
        alone=float(np.median(seconds["alone"])),
        together=float(np.median(seconds["together"])),
        ratio=float(np.median(ratio)),
        least=float(ratio.min()),
        most=float(ratio.max()),
        # With those of the turn that compiles.
        epochs=(rounds + 1) * EPOCHS,
        difference=_difference(alone.states, together.states),
    )


class _Alone:
    """Seeds that are trained one after the other."""

    def __init__(self, job: Job, states: list[epoch.TrainState]) -> None:
        self.job = job
        self.states = states

    def work(self) -> None:
        job = self.job
        for seed, state in enumerate(self.states):
            finished = epoch.epochs(
                job.setup,
                state,
                train=job.data.train,
                valid=job.data.valid,
                batch=job.experiment.batch,
                numbers=range(EPOCHS),
            )
            # Each state is overwritten by the next epoch.
            for last in finished:
                self.states[seed] = last.state
        jax.block_until_ready(self.states)


class _Together:
    """Seeds that are trained in one program."""

    def __init__(self, job: Job, states: lanes.States) -> None:
        self.job = job
        self.states = states

    def work(self) -> None:
        job = self.job
        finished = lanes.epochs(
            job.setup,
            self.states,
            train=job.data.train,
            valid=job.data.valid,
            batch=job.experiment.batch,
            # A number only names the epoch; every seed is at its first one.
            numbers=[0] * SEEDS,
        )
        # Lanes train without end.
        for _ in range(EPOCHS):
            last = next(finished)
            self.states = tuple(lane.state for lane in last)
        jax.block_until_ready(self.states)


def _difference(alone: list[epoch.TrainState], together: lanes.States) -> float:
    """Return the largest absolute difference of a parameter."""

    def difference(expected: jax.Array, array: jax.Array) -> float:
        return float(abs(expected - array).max())

    largest = 0.0
    for expected, state in zip(alone, together, strict=True):
        differences: Tree = jax.tree.map(difference, expected.params, state.params)
        largest = max(largest, *jax.tree.leaves(differences))
    return largest


def table(results: Sequence[Timing]) -> str:
    """Return the table of the measurements."""
    titles = ["network", "one after the other, s", "together, s", "alone / together", "epochs", "difference"]
    rows = []
    for result in results:
        rows.append(
            [
                f"{result.cell} {result.hidden}, {result.seeds} seeds",
                f"{result.alone:.3f}",
                f"{result.together:.3f}",
                f"{result.ratio:.2f} ({result.least:.2f}-{result.most:.2f})",
                f"{result.epochs}",
                f"{result.difference:.1e}",
            ]
        )
    return tables.markdown(titles, rows)
