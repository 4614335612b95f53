"""The scan in which a network that reads the past draws: read the last row, choose what is next, remember it."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Tree
from jaxseq.music.sampling.choose import Chosen


@runtime_checkable
class Step(Protocol):
    """Inputs of one step of the scan; arrays have a leading axis of steps outside of it."""

    @property
    def number(self) -> Int[Array, "*t"]:
        """Number of the step, from 0."""
        ...


Recent = TypeVar("Recent")
StepInputs = TypeVar("StepInputs", bound=Step, contravariant=True)


@runtime_checkable
class Drawer(Protocol[Recent, StepInputs]):
    """A network and how it draws. `Recent` is what it knows of the notes so far, beside the network's own states."""

    def row(self, recent: Recent, now: StepInputs) -> Int[Array, "b _"]:
        """Return the row that the network reads before the step's notes are drawn."""
        ...

    def read(
        self,
        x: Int[Array, "b 1 _"],
        carries: Tree,
        first: Int[Array, ""] | int,
    ) -> tuple[Tree, Float[Array, "b 1 _"]]:
        """Read a row on carried states, None before the first; return the states after it, and the output."""
        ...

    def choose(self, output: Float[Array, "b _"], recent: Recent, now: StepInputs) -> Chosen:
        """Choose the step's notes by what the network gives of the row."""
        ...

    def remember(self, recent: Recent, chosen: Chosen, now: StepInputs) -> Recent:
        """Return what is known of the notes after the step."""
        ...


def draw_in_turn(drawer: Drawer[Recent, StepInputs], recent: Recent, steps: StepInputs) -> Chosen:
    """Draw all steps, one after the other, in one scan; the results have a leading axis of steps."""

    def step(state: tuple[Tree, Recent], now: StepInputs) -> tuple[tuple[Tree, Recent], Chosen]:
        carries, recent = state
        row = drawer.row(recent, now)
        carries, output = drawer.read(row[:, None], carries, now.number)
        chosen = drawer.choose(output[:, 0], recent, now)
        return (carries, drawer.remember(recent, chosen, now)), chosen

    start = (_zero_carries(drawer, recent, steps), recent)
    _, chosen = jax.lax.scan(step, start, steps)
    return chosen


def _zero_carries(drawer: Drawer[Recent, StepInputs], recent: Recent, steps: StepInputs) -> Tree:
    """Return the network's states before the first step, of which its first reading tells the shapes."""

    def read_first(recent: Recent, now: StepInputs) -> Tree:
        carries, _ = drawer.read(drawer.row(recent, now)[:, None], None, 0)
        return carries

    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), steps)
    shapes = jax.eval_shape(read_first, recent, first)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
