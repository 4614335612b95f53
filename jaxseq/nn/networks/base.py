"""The interface of a kind of network, and the refusals that several kinds share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jaxseq.common.errors import UsageError
from jaxseq.nn.forecaster import Forecaster

OPTION = "--model.kind"


class Use(NamedTuple):
    """The options that a kind may rule out, with their values.

    task      strategy of the forecast, such as "direct"
    norm      name of the normalisation
    stateful  whether the state is carried from window to window
    draws     whether the head has a distribution to draw from
    recurrent_dropout  share of the state that is dropped from step to step
    """

    task: str
    layers: int = 1
    bidirectional: bool = False
    skip: bool = False
    norm: str = "none"
    stateful: bool = False
    draws: bool = False
    recurrent_dropout: float = 0.0


Check: TypeAlias = Callable[[Use], None]
"""A function that raises `UsageError` for a use that has no meaning for a kind."""


class Kind(NamedTuple):
    """A network around the cells; its fields `cell`, `hidden`, `layers`, `outputs` and so on are those of `Forecaster`.

    network         the Flax module
    check           raises `UsageError` for options that do not go together with it
    decodes         whether it has a field `steps`, the number of time steps of the horizon, each of which has the same head
    teacher_forced  whether an iterated forecast is trained at every time step of the window, not at the last alone
    reads_cell      whether its layers are recurrent ones of the cell
    """

    name: str
    network: type[Forecaster]
    check: Check
    decodes: bool = False
    teacher_forced: bool = False
    reads_cell: bool = True


def any_use(use: Use) -> None:
    """Accept every use."""


def needs_layers(name: str, use: Use) -> None:
    """Raise `UsageError` for a single layer, which would be a plain one."""
    if use.layers == 1:
        raise UsageError(
            "differs from a single layer by the second",
            where=OPTION,
            got=name,
            needed="--model.layers 2",
        )


def reads_forwards(name: str, use: Use) -> None:
    """Raise `UsageError` for layers that are scanned both ways."""
    if use.bidirectional:
        raise UsageError(
            "reads forwards alone",
            where=OPTION,
            got=name,
            needed="no --model.bidirectional",
        )


def needs_task(task: str, reason: str, use: Use) -> None:
    """Raise `UsageError`, with the reason, for another way to the horizon."""
    if use.task != task:
        raise UsageError(reason, where=OPTION, got=f"--task {use.task}", needed=f"--task {task}")


def needs_window(name: str, use: Use) -> None:
    """Raise `UsageError` for forecasts that go on from a state, which has not the inputs that a convolution reads."""
    if use.stateful or use.task == "iterated":
        got = "--data.stateful" if use.stateful else f"--task {use.task}"
        raise UsageError(
            f"the kind {name} reads whole windows", where=OPTION, got=got, needed="--task direct or every-step"
        )
