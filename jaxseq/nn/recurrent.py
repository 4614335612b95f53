"""Flax layers around the recurrence: `Recurrent` and `Bidirectional`."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseq.cells import contract, normalised, padding, recurrence
from jaxseq.cells import norm as norms
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.kernels import Kernel
from jaxseq.cells.norm import Norm
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.common import checks
from jaxseq.common.arrays import Key, Tree
from jaxseq.nn import fields

STATS = "batch_stats"
"""Flax's name for the collection of running moments."""


class Recurrent(nn.Module):
    """Recurrent layer: `hidden` units of `cell`, scanned over a batch of sequences.

    cell               the cell, say `jaxseq.cells.CELLS["lstm"]`, or one of your own (`docs/cells.md`)
    hidden             h, the number of units
    norm               normalisation inside the cell; None leaves the plain cell
    reverse            scan each row backwards within its length
    recurrent_dropout  dropout rate of h on its way into the recurrent product, with one mask a sequence (Gal &
                       Ghahramani 2016); training then needs an rng named "dropout"
    learn_start        make the initial state a parameter
    truncate           time steps after which gradients are stopped (truncated back-propagation through time: Williams &
                       Peng 1990); None keeps them whole
    kernel             program that computes the recurrence, `jaxseq.cells.kernels`; "auto" is the fastest

    The batch may be divided over devices, by `jax.shard_map` or a mesh (`jaxseq.cells.spread`). In `jax.shard_map` each
    device draws dropout for its own rows.

    Parameters are "cell" and, where used, "norm" and "start", each a dict with the fields of the cell's or norm's
    NamedTuple (`jaxseq.nn.fields`). The running moments of batch norm are the variable "moments" of the collection
    `STATS`, which has to be mutable in training.
    """

    cell: Cell
    hidden: int
    norm: Norm | None = None
    reverse: bool = False
    recurrent_dropout: float = 0.0
    learn_start: bool = False
    truncate: int | None = None
    kernel: Kernel = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        carry: Carry | None = None,
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        first: int | Integer[Array, ""] = 0,
        resets: Bool[Array, "b t"] | None = None,
    ) -> tuple[Carry, Float[Array, "b t h"]]:
        """Return the last carry, each state "b h", and the output of every time step.

        carry    state before the first time step; None starts from the learnt state or from zeros
        lengths  valid time steps of each row; padding beyond them changes nothing, and outputs there are zero
        train    draw dropout, and normalise by the moments of this batch
        first    number of time steps that `carry` has seen, by which batch norm finds its running moments
        resets   time steps before which a row starts anew, from the learnt state or from zeros, as if its pieces were
                 rows; at the first time step `carry` is then not read. Recurrent dropout keeps a row's mask

        Raises `ValueError`, which names the argument, if a shape or dtype does not fit, and `UsageError` for a cell that
        does not keep its contract, or ignores the norm or the recurrent dropout.
        """
        # Before the parameters are made, for which a bad cell would have no words.
        contract.check_cell(self.cell)
        padding.check_is_array("x", x)
        if x.ndim != 3:
            raise ValueError(f"x has the shape {x.shape}; expected (rows, steps, features)")

        params = self._cell_params(x)
        restart = None
        # The learnt start is a parameter only where it is read.
        if carry is None or resets is not None:
            restart = self._initial_carry(x)
        if carry is None:
            carry = restart

        drop = None
        if train and self.recurrent_dropout:
            drop = self._dropout_mask(x)

        # The recurrence scans over the leading axis; Flax's convention is batch first.
        steps = jnp.swapaxes(x, 0, 1)
        rows = Rows(lengths, drop)
        if resets is not None:
            padding.check_is_array("resets", resets)
            rows = rows._replace(resets=jnp.swapaxes(resets, 0, 1), restart=restart)
        if self.norm is None:
            traversal = Traversal(self.reverse, self.truncate, self.kernel)
            last, outputs = recurrence.scan(self.cell, params, steps, carry, rows=rows, traversal=traversal)
        else:
            last, outputs = self._normalised_scan(params, steps, carry, rows, train=train, first=first)
        return last, jnp.swapaxes(outputs, 0, 1)

    def _cell_params(self, x: Float[Array, "b t d"]) -> Tree:
        features = x.shape[-1]

        def init(key: Key) -> Tree:
            return fields.nested(self.cell.init(key, features, self.hidden, x.dtype))

        return fields.cell_params(self.cell, self.param("cell", init), features, self.hidden)

    def _initial_carry(self, x: Float[Array, "b t d"]) -> Carry:
        zeros = self.cell.start((x.shape[0], self.hidden), x.dtype)
        if not self.learn_start:
            return zeros

        # One state, broadcast: every row starts from it, and its gradient is the sum over rows.
        learnt = self.param("start", lambda _: fields.nested(self.cell.start((self.hidden,), x.dtype)))
        return jax.tree.map(jnp.add, zeros, fields.typed(learnt, zeros))

    def _dropout_mask(self, x: Float[Array, "b t d"]) -> Float[Array, "b h"]:
        """Factors 0 or 1 / keep, one mask for all time steps of a row."""
        checks.share(recurrent_dropout=self.recurrent_dropout)
        keep = 1 - self.recurrent_dropout
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0], self.hidden))
        return mask.astype(x.dtype) / keep

    def _normalised_scan(
        self,
        params: Tree,
        steps: Float[Array, "t b d"],
        carry: Carry,
        rows: Rows,
        train: bool,
        first: int | Integer[Array, ""],
    ) -> tuple[Carry, Float[Array, "t b h"]]:
        # A local name, which the type checker can narrow inside the initialisers too.
        norm = self.norm
        assert norm is not None
        gate_count = self.cell.gate_count
        has_memory = len(carry) > 1

        def make_gains() -> norms.Weights:
            return norms.init(
                norm,
                gate_count,
                has_memory,
                self.hidden,
                steps.dtype,
            )

        def make_moments() -> norms.Running:
            return norms.init_running(
                gate_count,
                has_memory,
                steps.shape[0],
                self.hidden,
                steps.dtype,
            )

        gains = self.param("norm", lambda _: fields.nested(make_gains()))
        moments = None
        running = None
        if norm.by_batch:
            moments = self.variable(STATS, "moments", lambda: fields.nested(make_moments()))
            running = fields.typed(moments.value, jax.eval_shape(make_moments))

        normalisation = normalised.Normalisation(
            norm,
            fields.typed(gains, jax.eval_shape(make_gains)),
            running=running,
            # Parameters may be initialised from a single row, which has no variance.
            train=train and not self.is_initializing(),
            first=first,
        )
        last, outputs, new_moments = normalised.scan(
            self.cell,
            normalisation,
            params,
            steps,
            carry,
            rows=rows,
            traversal=Traversal(self.reverse, self.truncate, self.kernel),
        )

        # Flax refuses to write to a collection that the caller has not made mutable.
        follows = train and self.is_mutable_collection(STATS)
        if moments is not None and new_moments is not None and follows:
            moments.value = fields.nested(new_moments)
        return last, outputs


class Bidirectional(nn.Module):
    """Two recurrent layers over the same rows, the second scanning backwards within each row's length.

    `layer` is the pattern of both. Outputs are concatenated forward, then backward, "b t 2*h", as torch and Keras do.
    Last carries are concatenated field by field; the backward one is the state at each row's first time step.
    """

    layer: Recurrent

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        resets: Bool[Array, "b t"] | None = None,
    ) -> tuple[Carry, Float[Array, "b t _"]]:
        """Return the last carries, each state "b 2*h", and the outputs of every time step, "b t 2*h".

        A reset parts a row into pieces that do not see each other, in both directions.

        Raises `ValueError`, which names the argument, if a shape or dtype does not fit.
        """
        # Clones, because a layer that is called twice would share its parameters.
        forward = self.layer.clone(parent=self, name="forward")
        backward = self.layer.clone(parent=self, name="backward", reverse=True)

        forward_carry, forward_outputs = forward(x, lengths=lengths, train=train, resets=resets)
        backward_carry, backward_outputs = backward(x, lengths=lengths, train=train, resets=resets)

        def join(*states: Float[Array, "*b h"]) -> Float[Array, "*b _"]:
            return jnp.concatenate(states, axis=-1)

        return jax.tree.map(join, forward_carry, backward_carry), join(forward_outputs, backward_outputs)
