"""Flax layers around the recurrence: `Recurrent` and `Bidirectional`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Bool, Float, Integer, Shaped

from jaxseq.cells import contract, normalised, padding, recurrence
from jaxseq.cells import norm as norms
from jaxseq.cells.adjoint import Outputs
from jaxseq.cells.base import Carry_, Cell
from jaxseq.cells.chunks import Chunk
from jaxseq.cells.kernels import Kernel
from jaxseq.cells.norm import Norm
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.common import checks
from jaxseq.common.arrays import DType, Key, Tree
from jaxseq.common.errors import UsageError
from jaxseq.nn import fields, initialise
from jaxseq.nn.initialise import Initialisers

STATS = "batch_stats"
"""Flax's name for the collection of running moments."""


@contextmanager
def _naming_forward_mode() -> Iterator[None]:
    """Add the option that has a forward mode to JAX's refusal of one."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" in str(error):
            error.add_note("Recurrent(..., forward_mode=True) computes without the hand-written adjoint, and has one")
        raise


class Recurrent(nn.Module, Generic[Carry_]):
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
    chunk              time steps that the derivative computes again at once, which takes less memory and gives the same
                       gradients; None keeps what it needs of all steps, "auto" decides by the bytes
    kernel             program that computes the recurrence, `jaxseq.cells.kernels`; "auto" is the fastest
    dtype              dtype that the layer computes in, and of its outputs; None is that of x
    param_dtype        dtype of parameters and states, which are cast to `dtype`; None is that of x
    kernel_init        initialiser of each gate's input kernel; None is the cell's own
    recurrent_init     initialiser of each gate's recurrent kernel; None is the cell's own
    bias_init          initialiser of each gate's biases; None is the cell's own
    time_major         whether x, resets and outputs have the time axis first, "t b d"
    return_carries     return the carry of every time step in the place of its output, as an LSTM's c; by autodiff
    forward_mode       compute without the hand-written adjoint, for `jax.jvp` and `jax.jacfwd`, which JAX otherwise
                       refuses: "can't apply forward-mode autodiff (jvp) to a custom_vjp function", with a note on this

    The batch may be divided over devices, by `jax.shard_map` or a mesh (`jaxseq.cells.spread`). In `jax.shard_map` each
    device draws dropout for its own rows.

    Parameters are "cell" and, where used, "norm" and "start", each a dict with the fields of the cell's or norm's
    NamedTuple (`jaxseq.nn.fields`). The running moments of batch norm are the variable "moments" of the collection
    `STATS`, which has to be mutable in training.
    """

    cell: Cell[Any, Carry_]
    hidden: int
    norm: Norm | None = None
    reverse: bool = False
    recurrent_dropout: float = 0.0
    learn_start: bool = False
    truncate: int | None = None
    chunk: Chunk = "auto"
    kernel: Kernel = "auto"
    dtype: DType | None = None
    param_dtype: DType | None = None
    kernel_init: Initializer | None = None
    recurrent_init: Initializer | None = None
    bias_init: Initializer | None = None
    time_major: bool = False
    return_carries: bool = False
    forward_mode: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "i j d"],
        carry: Carry_ | None = None,
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        first: int | Integer[Array, ""] = 0,
        resets: Bool[Array, "i j"] | None = None,
    ) -> tuple[Carry_, Outputs]:
        """Return the last carry, each state "b h", and the output of every time step, "i j h".

        x        features; its axes i and j are b and t, or t and b with `time_major`
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
        padding.check_is_floating("x", x)
        if x.ndim != 3:
            raise ValueError(f"x has the shape {x.shape}; expected (rows, steps, features)")

        params = self._cell_params(x)
        restart = None
        # The learnt start is a parameter only where it is read.
        if carry is None or resets is not None:
            restart = self._initial_carry(x)
        if carry is None:
            carry = restart

        rows = Rows(lengths)
        if train and self.recurrent_dropout:
            rows = rows._replace(drop=self._dropout_mask(x))
        # The recurrence scans over the leading axis; Flax's convention is batch first.
        steps = self._swapped(x)
        if resets is not None:
            padding.check_is_array("resets", resets)
            if resets.ndim != 2:
                raise ValueError(f"resets has the shape {resets.shape}; expected two axes, as those of x")
            rows = rows._replace(resets=self._swapped(resets), restart=restart)

        steps, params, carry, rows = self._computed((steps, params, carry, rows))
        with _naming_forward_mode():
            if self.norm is None:
                scan = recurrence.scan_by_autodiff if self.forward_mode else recurrence.scan
                last, outputs = scan(self.cell, params, steps, carry, rows=rows, traversal=self._traversal())
            else:
                last, outputs = self._normalised_scan(params, steps, carry, rows, train=train, first=first)
        if self._casts():
            last = jax.tree.map(lambda state: state.astype(self._stored_dtype(x)), last)
        return last, jax.tree.map(self._swapped, outputs)

    def _swapped(self, array: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Swap the axes of rows and steps, unless the caller has the recurrence's own."""
        if self.time_major:
            return array
        return jnp.swapaxes(array, 0, 1)

    def _traversal(self) -> Traversal:
        if self.forward_mode and self.kernel not in ("auto", "scan"):
            raise UsageError("has no forward mode", where="kernel", got=self.kernel, needed="'auto' or 'scan'")
        return Traversal(self.reverse, self.truncate, self.kernel, self.return_carries, self.chunk)

    def _casts(self) -> bool:
        return self.dtype is not None or self.param_dtype is not None

    def _stored_dtype(self, x: Float[Array, "..."]) -> DType:
        """Return the dtype of parameters and states."""
        return x.dtype if self.param_dtype is None else jnp.dtype(self.param_dtype)

    def _computed(self, tree: Tree) -> Tree:
        """Cast numbers to the dtype that the layer computes in."""
        # Without these options a mixture of dtypes is a mistake, which the recurrence names.
        if not self._casts():
            return tree
        steps = tree[0]
        dtype = steps.dtype if self.dtype is None else self.dtype

        def cast(array: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
            if jnp.issubdtype(array.dtype, jnp.floating):
                return array.astype(dtype)
            # Lengths and resets are no numbers to compute with.
            return array

        return jax.tree.map(cast, tree)

    def _row_count(self, x: Float[Array, "i j d"]) -> int:
        if self.time_major:
            return x.shape[1]
        return x.shape[0]

    def _cell_params(self, x: Float[Array, "i j d"]) -> Tree:
        features = x.shape[-1]
        dtype = self._stored_dtype(x)
        initialisers = Initialisers(self.kernel_init, self.recurrent_init, self.bias_init)

        def init(key: Key) -> Tree:
            params = initialise.cell_params(self.cell, key, features, self.hidden, dtype, initialisers=initialisers)
            return fields.nested(params)

        return fields.cell_params(self.cell, self.param("cell", init), features, self.hidden)

    def _initial_carry(self, x: Float[Array, "i j d"]) -> Carry_:
        dtype = self._stored_dtype(x)
        zeros = self.cell.start((self._row_count(x), self.hidden), dtype)
        if not self.learn_start:
            return zeros

        # One state, broadcast: every row starts from it, and its gradient is the sum over rows.
        learnt = self.param("start", lambda _: fields.nested(self.cell.start((self.hidden,), dtype)))
        return jax.tree.map(jnp.add, zeros, fields.typed(learnt, zeros))

    def _dropout_mask(self, x: Float[Array, "i j d"]) -> Float[Array, "b h"]:
        """Factors 0 or 1 / keep, one mask for all time steps of a row."""
        checks.share(recurrent_dropout=self.recurrent_dropout)
        keep = 1 - self.recurrent_dropout
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, (self._row_count(x), self.hidden))
        return mask.astype(x.dtype) / keep

    def _normalised_scan(
        self,
        params: Tree,
        steps: Float[Array, "t b d"],
        carry: Carry_,
        rows: Rows,
        train: bool,
        first: int | Integer[Array, ""],
    ) -> tuple[Carry_, Outputs]:
        # A local name, which the type checker can narrow inside the initialisers too.
        norm = self.norm
        assert norm is not None
        gate_count = self.cell.gate_count
        has_memory = len(carry) > 1
        dtype = self._stored_dtype(steps)
        if norm.by_batch and jnp.finfo(steps.dtype).bits < initialise.SINGLE:
            raise UsageError("moments of a batch need more bits", where="dtype", got=steps.dtype, needed="float32")

        def make_gains() -> norms.Weights:
            return norms.init(
                norm,
                gate_count,
                has_memory,
                self.hidden,
                dtype,
            )

        def make_moments() -> norms.Running:
            return norms.init_running(
                gate_count,
                has_memory,
                steps.shape[0],
                self.hidden,
                dtype,
            )

        gains = self.param("norm", lambda _: fields.nested(make_gains()))
        moments = None
        running = None
        if norm.by_batch:
            moments = self.variable(STATS, "moments", lambda: fields.nested(make_moments()))
            running = fields.typed(moments.value, jax.eval_shape(make_moments))

        normalisation = normalised.Normalisation(
            norm,
            self._computed((steps, fields.typed(gains, jax.eval_shape(make_gains))))[1],
            running=running,
            # Parameters may be initialised from a single row, which has no variance.
            train=train and not self.is_initializing(),
            first=first,
        )
        scan = normalised.scan_by_autodiff if self.forward_mode else normalised.scan
        last, outputs, new_moments = scan(
            self.cell,
            normalisation,
            params,
            steps,
            carry,
            rows=rows,
            traversal=self._traversal(),
        )

        # Flax refuses to write to a collection that the caller has not made mutable.
        follows = train and self.is_mutable_collection(STATS)
        if moments is not None and new_moments is not None and follows:
            moments.value = fields.nested(new_moments)
        return last, outputs


class Bidirectional(nn.Module, Generic[Carry_]):
    """Two recurrent layers over the same rows, the second scanning backwards within each row's length.

    `layer` is the pattern of both. Outputs are concatenated forward, then backward, "b t 2*h", as torch and Keras do.
    Last carries are concatenated field by field; the backward one is the state at each row's first time step.
    """

    layer: Recurrent[Carry_]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "i j d"],
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        resets: Bool[Array, "i j"] | None = None,
        carry: Carry_ | None = None,
    ) -> tuple[Carry_, Outputs]:
        """Return the last carries, each state "b 2*h", and the outputs of every time step, "b t 2*h".

        `carry` has the states before the first and after the last time step of each row, side by side as in the result. A
        reset parts a row into pieces that do not see each other, in both directions.

        Raises `ValueError`, which names the argument, if a shape or dtype does not fit.
        """
        # Clones, because a layer that is called twice would share its parameters.
        forward = self.layer.clone(parent=self, name="forward")
        backward = self.layer.clone(parent=self, name="backward", reverse=True)

        starts = [None, None]
        if carry is not None:
            halves = [jnp.split(state, 2, axis=-1) for state in carry]
            starts = [type(carry)(*states) for states in zip(*halves, strict=True)]

        of_forward = forward(x, starts[0], lengths=lengths, train=train, resets=resets)
        of_backward = backward(x, starts[1], lengths=lengths, train=train, resets=resets)

        def join(*states: Float[Array, "*b h"]) -> Float[Array, "*b _"]:
            return jnp.concatenate(states, axis=-1)

        return jax.tree.map(join, of_forward, of_backward)
