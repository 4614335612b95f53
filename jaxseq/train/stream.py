"""Training over batches from outside: a loader, a generator or any function that makes them, for data that do not fit
into memory.

    def batches(epoch):                              # numbers from 1
        order = np.random.default_rng(epoch).permutation(len(x))
        for rows in np.array_split(order, 100):
            yield x[rows], y[rows]

A batch is read while the one before it computes, because JAX returns before it has computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.nn import plain_model
from jaxseq.train import epoch
from jaxseq.train.epoch import Epoch, Setup, StepLog, TrainState
from jaxseq.train.feed import Judged

MOST_AHEAD = 2
"""Batches that may wait on the device while an earlier one computes."""


@runtime_checkable
class Source(Protocol):
    """The batches of each epoch, by its number from 1; equal numbers give equal batches."""

    def __call__(self, number: int, /) -> Iterable[tuple[ArrayLike, ArrayLike]]:
        """Return pairs of rows x "b *d" and targets y "b *k"."""
        ...


Batches: TypeAlias = Source | Iterable[tuple[ArrayLike, ArrayLike]]
"""A `Source`, or an iterable of pairs of rows and targets."""


class Repeated:
    """An iterable, such as a loader, that is iterated once in each epoch.

    A resumed run iterates the earlier epochs without training, so that a loader with a random order of its own goes on
    where it stopped.
    """

    def __init__(self, batches: Iterable[tuple[ArrayLike, ArrayLike]]) -> None:
        self._batches = batches
        self._finished = 0

    def __call__(self, number: int) -> Iterable[tuple[ArrayLike, ArrayLike]]:
        """Return the batches of an epoch that has not been iterated yet."""
        while self._finished < number - 1:
            _exhaust(self._batches)
            self._finished += 1
        self._finished += 1
        return self._batches


class Endless:
    """An iterator, such as a generator, of which each epoch takes the next `steps` batches.

    A resumed run reads the batches of the earlier epochs without training.
    """

    def __init__(self, batches: Iterator[tuple[ArrayLike, ArrayLike]], steps: int) -> None:
        self._batches = batches
        self._steps = steps
        self._finished = 0

    def __call__(self, number: int) -> Iterable[tuple[ArrayLike, ArrayLike]]:
        """Return the batches of an epoch that has not been iterated yet."""
        _exhaust(itertools.islice(self._batches, (number - 1 - self._finished) * self._steps))
        self._finished = number
        return itertools.islice(self._batches, self._steps)


def _exhaust(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


class Opened(NamedTuple):
    """A source, and its first batch, by which the model is built."""

    source: Source
    first: Batch


def opened(batches: Batches, steps: int | None) -> Opened:
    """Return a source of the batches, and the first of them.

    steps  batches in an epoch of an iterator that goes on for ever; None for every other source

    Raises `UsageError` if there is no batch, or if `steps` does not fit the kind of batches.
    """
    if isinstance(batches, Iterator):
        if steps is None:
            raise UsageError(
                "an iterator has no end of an epoch", where="steps_per_epoch", needed="a number of batches"
            )
        # The first batch is looked at, and trained all the same.
        first, batches = _peeked(batches)
        return Opened(Endless(batches, steps), first)
    if steps is not None:
        raise UsageError("only an iterator takes it", where="steps_per_epoch", got=steps, needed="None")

    source = batches if callable(batches) else Repeated(batches)
    looked_at = source(1) if callable(batches) else batches
    first, _ = _peeked(iter(looked_at))
    return Opened(source, first)


def _peeked(batches: Iterator[tuple[ArrayLike, ArrayLike]]) -> tuple[Batch, Iterator[tuple[ArrayLike, ArrayLike]]]:
    """Return the first batch, and an iterator over all of them."""
    try:
        first = next(batches)
    except StopIteration:
        raise UsageError("there is no batch", where="rows", needed="at least 1") from None
    return _as_batch(first), itertools.chain([first], batches)


def _as_batch(pair: object) -> Batch:
    """Return a pair of arrays as a batch. Raises `UsageError` for anything else."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UsageError("not a pair of rows and targets", where="a batch", got=type(pair).__name__, needed="(x, y)")
    x, y = (np.asarray(part) for part in pair)
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        raise UsageError("rows and targets differ in number", where="a batch", got=f"{x.shape} and {y.shape}")
    return Batch(x, y)


# Training -------------------------------------------------------------------------------------------------------------


def epochs(
    setup: Setup,
    state: TrainState,
    source: Source,
    valid: Judged,
    batch: int,
    numbers: Iterable[int],
    put: Callable[[Batch], Batch] = jax.device_put,
) -> Iterator[Epoch]:
    """Train the epochs in `numbers` on the batches of a source, and yield after each one, as `epoch.epochs` does.

    batch  rows of every batch; a smaller one is filled up with rows of weight zero
    put    puts a batch on the devices

    Raises `UsageError`, which names epoch and batch, for batches that do not fit the first one.
    """
    needs_whole_batches = plain_model.counts_padding(setup.model, state.stats)
    for number in numbers:
        losses = []
        norms = []
        rows = 0
        for index, pair in enumerate(source(number), 1):
            where = f"epoch {number}, batch {index}"
            filled, weight, count = _filled_up(_as_batch(pair), batch, where)
            if needs_whole_batches and count < batch:
                raise UsageError("running moments need batches of one size", where=where, got=count, needed=batch)
            state, log = epoch.step(setup, state, put(filled), weight)
            losses.append(log.loss)
            norms.append(log.gradient_norm)
            rows += count
            # Without a bound, batches would pile up on the device faster than they are computed.
            if index > MOST_AHEAD:
                jax.block_until_ready(losses[-1 - MOST_AHEAD])
        if not losses:
            raise UsageError("there is no batch", where=f"epoch {number}", needed="at least 1")

        steps = StepLog(jnp.stack(losses), jnp.stack(norms))
        state, metric_values = epoch.validated(setup, state, valid, batch)
        yield Epoch(number, state, steps, metric_values, rows)


def _filled_up(pair: Batch, batch: int, where: str) -> tuple[Batch, Float[np.ndarray, "b"], int]:
    """Return a batch of exactly `batch` rows, the weight of each, and the number of rows that were there."""
    count = len(pair.x)
    if count > batch:
        raise UsageError("more rows than in the first batch", where=where, got=count, needed=f"at most {batch}")
    weight = np.ones(batch, np.float32)
    weight[count:] = 0
    # The first row again: zeros might be outside of what the model can compute.
    index = np.pad(np.arange(count), (0, batch - count))
    return Batch(pair.x[index], pair.y[index]), weight, count
