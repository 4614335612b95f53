"""Several trainings of one shape in one compiled epoch: pure functions, as those of `epoch`.

Each training has a lane: `jax.vmap` over the states, whose rows all lanes share. A lane draws the order of its rows and its
dropout from its own key, as its training alone does, and sees no value of another lane. Its sums may run in another order:
its parameters differ from those of the training alone in the last bits, and so they do for another number of lanes. The
same lanes give the same bits. A long training enlarges the difference as it does one of the initial weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import Tree
from jaxseq.train import feed
from jaxseq.train.epoch import EVALUATION_BATCHES, Epoch, Setup, StepLog, TrainState, evaluate
from jaxseq.train.epoch import epoch as epoch_alone
from jaxseq.train.feed import Judged, Training
from jaxseq.train.optimiser import after_epoch, weights

States: TypeAlias = tuple[TrainState, ...]
"""The state of each lane, as its training alone has it."""


# Donated, so that the new states take the memory of the old ones.
@partial(jax.jit, static_argnames=("setup", "batch"), donate_argnames="states")
def epoch(
    setup: Setup,
    states: States,
    data: Training,
    batch: int,
) -> tuple[States, tuple[StepLog, ...]]:
    """Train each lane once on every row of `data`, as `epoch.epoch` trains one. `states` are donated."""
    train_one = partial(epoch_alone, setup, data=data, batch=batch)
    after, steps = jax.vmap(train_one)(_stacked(states))
    return _lanes(after, len(states)), _lanes(steps, len(states))


@partial(jax.jit, static_argnames=("setup", "batch"))
def metrics(
    setup: Setup,
    states: States,
    data: Judged,
    batch: int,
) -> tuple[dict[str, Float[Array, ""]], ...]:
    """Return the metrics of `epoch.evaluate` for each lane."""
    evaluate_one = partial(evaluate, setup, data=data, batch=batch)
    params = _stacked([weights(state.opt, state.params) for state in states])
    stats = _stacked([state.stats for state in states])
    return _lanes(jax.vmap(evaluate_one)(params, stats), len(states))


def epochs(
    setup: Setup,
    states: States,
    train: Training,
    valid: Judged,
    batch: int,
    numbers: Sequence[int],
) -> Iterator[tuple[Epoch, ...]]:
    """Train without end, and yield the finished epoch of each lane; `numbers` are those of their first ones.

    Lanes need not have trained as many epochs before: the state of each says where it is. Each yielded state is donated
    to the next epoch.
    """
    for trained in itertools.count():
        states, steps = epoch(setup, states, train, batch)

        values = metrics(setup, states, valid, EVALUATION_BATCHES * batch)
        states = tuple(
            state._replace(opt=after_epoch(state.opt, values[lane][setup.objective.select]))
            for lane, state in enumerate(states)
        )

        yield tuple(
            Epoch(
                number=numbers[lane] + trained,
                state=state,
                steps=steps[lane],
                # Reading the numbers waits, so that a caller's clock measures the epoch.
                valid={name: float(value) for name, value in values[lane].items()},
                rows=feed.feed_of(train).rows,
            )
            for lane, state in enumerate(states)
        )


def _stacked(trees: Sequence[Tree]) -> Tree:
    """Return one tree whose leaves "s ..." hold those of all trees."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _lanes(stacked: Tree, count: int) -> tuple[Tree, ...]:
    """Return the tree of each lane; `_stacked` in reverse."""
    return tuple(jax.tree.map(itemgetter(lane), stacked) for lane in range(count))
