"""Interface of a cell: a constant of pure functions, of one of three families. `docs/cells.md` is its page.

A step cell computes a whole step from the input projection. Its derivative is autodiff's:

    z_t = x_t W + b                                   input projection, independent of the state
    carry_t = step(params, z_t, h_{t-1}, carry_{t-1})

A gated cell leaves the products to the layer, and is elementwise. It takes normalisation, and may have an adjoint:

    u_t = h_{t-1} R  (+ b_R)                          recurrent projection, the only matrix product of the recursion
    carry_t, saved_t = gates(z_t, u_t, carry_{t-1})   elementwise

A linear cell has steps that may be computed in parallel:

    s_t = a_t ∘ s_{t-1} + b_t                         a_t and b_t do not depend on the state

`jaxseq.cells.recurrence` owns the scan of all cells, and the products and the adjoint of the gated ones. `docs/adjoint.md`
derives the adjoint in these symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Literal, NamedTuple, Protocol, SupportsIndex, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform, orthogonal
from jaxtyping import Array, Float, Inexact, Shaped

from jaxseq.cells.norm import GateSlots, Slots, SlotValues, Transposes
from jaxseq.common import checks
from jaxseq.common.arrays import DType, Key, Tree


@runtime_checkable
class Carry(Protocol):
    """A cell's NamedTuple of states, each ``*b h``; the first field is `h`, the cell's output."""

    @property
    def h(self) -> Float[Array, "*b h"]:
        """The output."""
        ...

    def __len__(self) -> int:
        """Return the number of states."""
        ...

    def __iter__(self) -> Iterator[Array]:
        """Iterate over the states."""
        ...

    def __getitem__(self, index: SupportsIndex, /) -> Array:
        """Return the state of an index."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


Saved: TypeAlias = Any
"""A cell's NamedTuple of values that its derivative needs of a step; the last field is `slots`. No other cell reads it."""

Local: TypeAlias = Any
"""A cell's NamedTuple of local derivatives of a step; the last field is `slots`, as in `Saved`."""

# The parameters and the carry of one cell: a function of a cell takes those that its other functions return.
Params_ = TypeVar("Params_")
Params_co = TypeVar("Params_co", covariant=True)
Params_contra = TypeVar("Params_contra", contravariant=True)
Carry_ = TypeVar("Carry_", bound=Carry)
Carry_co = TypeVar("Carry_co", bound=Carry, covariant=True)
Carry_contra = TypeVar("Carry_contra", bound=Carry, contravariant=True)


def with_output(carry: Carry_, h: Float[Array, "*b h"]) -> Carry_:
    """Return a carry with another output."""
    # Every carry has it, but each with the names of its states.
    states: Any = carry
    return states._replace(h=h)


class InputParams(NamedTuple):
    """The weights of a cell that multiplies no state."""

    input_kernel: Float[Array, "d g"]
    bias: Float[Array, "g"]


class Params(NamedTuple):
    """The weights of a cell whose two projections share one bias (RNN, LSTM)."""

    input_kernel: Float[Array, "d g"]
    recurrent_kernel: Float[Array, "h g"]
    bias: Float[Array, "g"]


class StepGradient(NamedTuple):
    """Cotangents of a step's inputs, given that of its next carry.

    z      of z_t, "*b g"
    u      of u_t, "*b g"; the same object as `z` where both are equal
    carry  of carry_{t-1}, without the part that passes through u_t
    slots  gradient of the slots' weights from each row, `jaxseq.cells.norm.Transposes`
    """

    z: Float[Array, "*b g"]
    u: Float[Array, "*b g"]
    carry: Carry
    slots: SlotValues


@runtime_checkable
class Gates(Protocol[Carry_]):
    """One step of a cell, elementwise over rows and units: the next carry, and what the derivative needs."""

    def __call__(
        self,
        z: Float[Array, "*b g"],
        u: Float[Array, "*b g"],
        carry: Carry_,
        slots: Slots = ...,
    ) -> tuple[Carry_, Saved]:
        """Return the next carry and the saved values; sums and memory pass through `slots`."""
        ...


@runtime_checkable
class Pointwise(Protocol[Carry_]):
    """The same step as `Gates` with an array for each gate, as kernels hold it; its derivative is autodiff's."""

    def __call__(
        self,
        z: tuple[Float[Array, "*b h"], ...],
        u: tuple[Float[Array, "*b h"], ...],
        carry: Carry_,
        slots: GateSlots = ...,
    ) -> Carry_:
        """Return the next carry; sums and memory pass through `slots`."""
        ...


@runtime_checkable
class Linearise(Protocol):
    """Local derivatives of any number of steps at once, none of which depends on a cotangent."""

    def __call__(
        self,
        saved: Saved,
        h_before: Float[Array, "*b h"],
        h: Float[Array, "*b h"],
    ) -> Local:
        """Return the local derivatives of steps that led from `h_before` to `h`."""
        ...


@runtime_checkable
class Adjoint(Protocol[Carry_contra]):
    """The transpose of a linearised step."""

    def __call__(
        self,
        local: Local,
        cotangent: Carry_contra,
        transposes: Transposes = ...,
    ) -> StepGradient:
        """Return the cotangents of a step's inputs, given that of its next carry."""
        ...


@runtime_checkable
class Start(Protocol[Carry_co]):
    """The carry before the first step."""

    def __call__(self, shape: tuple[int, ...], dtype: DType = ...) -> Carry_co:
        """Return zeros; `shape` is that of h, say (b, h)."""
        ...


@runtime_checkable
class Init(Protocol[Params_co]):
    """The parameters before training."""

    def __call__(
        self,
        key: Key,
        d: int,
        h: int,
        dtype: DType = ...,
    ) -> Params_co:
        """Return parameters for d features and h units."""
        ...


@runtime_checkable
class Project(Protocol[Params_contra]):
    """The input projection of any number of steps and rows, which does not depend on the state."""

    def __call__(self, params: Params_contra, x: Float[Array, "*b d"]) -> Tree:
        """Return an array, or a tree of arrays, with the leading axes of x."""
        ...


@runtime_checkable
class Step(Protocol[Params_contra, Carry_]):
    """One whole step of a cell that computes its recurrent products itself."""

    def __call__(
        self,
        params: Params_contra,
        z: Tree,
        h: Float[Array, "b h"],
        carry: Carry_,
    ) -> Carry_:
        """Return the next carry; `h` is ``carry.h`` after recurrent dropout, for products with the state."""
        ...


class Coefficients(NamedTuple):
    """Coefficients of s_t = a_t ∘ s_{t-1} + b_t, real or complex."""

    a: Inexact[Array, "*b n"]
    b: Inexact[Array, "*b n"]


@runtime_checkable
class FindCoefficients(Protocol[Params_contra]):
    """The coefficients of any number of steps, which do not depend on the state."""

    def __call__(self, params: Params_contra, x: Float[Array, "*b d"]) -> Coefficients:
        """Return a_t and b_t of every step."""
        ...


@runtime_checkable
class ReadState(Protocol[Carry_contra]):
    """The state s that a carry holds."""

    def __call__(self, carry: Carry_contra) -> Inexact[Array, "*b n"]:
        """Return s."""
        ...


@runtime_checkable
class MakeCarry(Protocol[Params_contra, Carry_co]):
    """The carries, and with them the outputs, of any number of steps."""

    def __call__(
        self,
        params: Params_contra,
        s: Inexact[Array, "*b n"],
        x: Float[Array, "*b d"],
    ) -> Carry_co:
        """Return the carries of steps with the states s and the features x."""
        ...


class Linear(NamedTuple, Generic[Params_, Carry_]):
    """The functions of a linear cell; `state` of `carry` gives s back."""

    coefficients: FindCoefficients[Params_]
    state: ReadState[Carry_]
    carry: MakeCarry[Params_, Carry_]


Bounds: TypeAlias = Literal["always", "from the start", "no"]
"""Whether outputs stay within ±1: always, if the initial h does (otherwise within the two), or not."""


class About(NamedTuple):
    """Description of a cell: words for help and reports, and properties that tests may assume.

    title       name in a text
    source      where it was published
    oracle      implementation of others that tests compare it with
    orthogonal  whether the recurrent kernel of each gate starts orthogonal
    bounded     how far outputs can go
    """

    title: str = ""
    source: str = ""
    oracle: str = ""
    orthogonal: bool = False
    bounded: Bounds = "no"


class Cell(NamedTuple, Generic[Params_, Carry_]):
    """A recurrent cell as a constant: it hashes, pickles and never retraces; sizes live in the parameters' shapes.

    name            name on the command line
    start           carry before the first step, a NamedTuple of states with a leading axis b; the first is `h`, the output
    init            parameters before training, a NamedTuple of arrays

    One of these three makes the family:

    step            a whole step, with the products that it needs
    gates           an elementwise step, given both projections
    linear          coefficients of a linear recurrence, whose steps may be computed in parallel

    All others have defaults:

    gate_count      g = gate_count · h, the width of the input projection
    project         input projection of a step cell; None is x W + b of the parameters `input_kernel` and `bias`
    recurrent_bias  whether the recurrent projection of `gates` has a separate bias, `recurrent_bias` in the parameters
    groups          number of gates in each group whose sums z + u are formed together; layer norm takes its moments
                    over a group; () is one group of all gates
    linearise       local derivatives of `gates`, and
    adjoint         their transpose; None takes autodiff of the same scan, at 1.1 to 1.5 times the time
    pointwise       `gates` with an array for each gate, for `jaxseq.cells.persistent`; None leaves the cell to the scan
    about           title, source, and what tests may assume

    Every module of a cell defines those that it has of `Params`, `Carry`, `Saved`, `Local`, `start`, `init`, `gates`,
    `pointwise`, `linearise`, `adjoint`, `step`, `coefficients`, `state`, `carry` and `CELL`, in this order.
    """

    name: str
    start: Start[Carry_]
    init: Init[Params_]
    gates: Gates[Carry_] | None = None
    step: Step[Params_, Carry_] | None = None
    linear: Linear[Params_, Carry_] | None = None
    gate_count: int = 1
    project: Project[Params_] | None = None
    recurrent_bias: bool = False
    groups: tuple[int, ...] = ()
    linearise: Linearise | None = None
    adjoint: Adjoint[Carry_] | None = None
    pointwise: Pointwise[Carry_] | None = None
    about: About = About()


# beartype takes the bases of a generic NamedTuple for types that it does not know, and refuses to check any function
# that takes one. Without them it checks for the class.
del Cell.__orig_bases__
del Linear.__orig_bases__

AnyCell: TypeAlias = "Cell[Any, Any]"
"""A cell where nothing depends on which one it is."""


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the logistic function as ½ tanh(½ x) + ½."""
    # One transcendental function for all gates, so that XLA fuses them into one loop.
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def sigmoid_slope(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the derivative of the logistic function from its value y: y (1 - y)."""
    return y * (1 - y)


def tanh_slope(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute the derivative of tanh from its value y: 1 - y²."""
    return 1 - y * y


class Kernels(NamedTuple):
    """Both kernels of a cell, the gates side by side on the last axis."""

    input: Float[Array, "d g"]
    recurrent: Float[Array, "h g"]


def init_kernels(
    key: Key,
    gate_count: int,
    d: int,
    h: int,
    dtype: DType,
) -> Kernels:
    """Draw a Glorot-uniform input kernel (Glorot & Bengio 2010) and an orthogonal recurrent kernel (Saxe et al. 2014).

    Each gate is drawn separately, as in Keras and flax: the limits and the orthogonality are those of one gate.

    Raises `UsageError` for sizes that are no integers of at least 1.
    """
    checks.count(d=d, h=h)
    input_key, recurrent_key = jax.random.split(key)
    input_keys = jax.random.split(input_key, gate_count)
    recurrent_keys = jax.random.split(recurrent_key, gate_count)

    # A draw over all gates at once would take g for the fan-out and make only the whole kernel orthogonal.
    input_kernels = _glorot_gates(input_keys, d, h, dtype)
    recurrent_kernels = [orthogonal_kernel(gate_key, h, h, dtype) for gate_key in recurrent_keys]
    return Kernels(input=jnp.concatenate(input_kernels, axis=1), recurrent=jnp.concatenate(recurrent_kernels, axis=1))


def orthogonal_kernel(
    key: Key,
    rows: int,
    columns: int,
    dtype: DType,
) -> Float[Array, "r c"]:
    """Draw an orthogonal kernel; one of 16 bits is rounded, for their matrices have no decomposition."""
    drawn_dtype = dtype
    if jnp.finfo(dtype).bits < 32:
        drawn_dtype = jnp.float32
    return orthogonal()(key, (rows, columns), drawn_dtype).astype(dtype)


def init_input_kernel(
    key: Key,
    gate_count: int,
    d: int,
    h: int,
    dtype: DType,
) -> Float[Array, "d g"]:
    """Draw a Glorot-uniform input kernel, each gate separately, for a cell that multiplies no state.

    Raises `UsageError` for sizes that are no integers of at least 1.
    """
    checks.count(d=d, h=h)
    return jnp.concatenate(_glorot_gates(jax.random.split(key, gate_count), d, h, dtype), axis=1)


def _glorot_gates(
    keys: Shaped[Array, "n"],
    d: int,
    h: int,
    dtype: DType,
) -> list[Float[Array, "d h"]]:
    glorot = glorot_uniform()
    return [glorot(gate_key, (d, h), dtype) for gate_key in keys]
