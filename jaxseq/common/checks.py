"""Checks of fields; each raises `UsageError` for the first field that fails.

Fields are keywords, ``at_least(1, where="waves", window=0)``. The error's `where` is the field's name, after the
place if one is given: "waves: window".
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.common.errors import UsageError

MOST = 2**31 - 1
"""The largest count that XLA's 32-bit integers hold."""

MOST_RUNS = 10_000
"""Maximum number of runs of a study, a sweep or a row of a report."""
MOST_WORKERS = 1000
"""Maximum number of worker processes."""


def at_least(least: int, where: str | None = None, most: int | float = MOST, **fields: int | float) -> None:
    """Raise `UsageError` for a field below `least` or above `most`, and for NaN."""
    for name, value in fields.items():
        # NaN compares false with everything, so that it fails the first test.
        if not value >= least:
            raise UsageError("too small", where=_place(where, name), got=value, needed=f"at least {least}")
        if value > most:
            raise UsageError("too large", where=_place(where, name), got=value, needed=f"at most {most}")


def count(least: int = 1, where: str | None = None, most: int = MOST, **fields: int) -> None:
    """Raise `UsageError` for a field that is no integer, such as 1.0 or True, or is below `least` or above `most`."""
    for name, value in fields.items():
        if not is_integer(value):
            raise UsageError("not an integer", where=_place(where, name), got=value, needed=f"at least {least}")
        # A bound may lie beyond the narrow integers of JAX, with which it would be compared.
        at_least(least, where=where, most=most, **{name: operator.index(value)})


def is_integer(value: object) -> bool:
    """Return whether a value is an integer, of Python or numpy; a truth value and 1.0 are none."""
    # A truth value counts as 0 or 1 in Python, but nobody means it so.
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)  # pyrefly: ignore[bad-argument-type]
    except TypeError:
        return False
    return True


def plain(value: object) -> object:
    """Return a value with numbers of numpy as those of Python, in tuples and in the fields of dataclasses, too.

    They may be too narrow for a sum or a product, and JSON has none of them.
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is tuple and any(isinstance(part, np.generic) for part in value):
        return tuple(map(plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = changed_fields(value)
        return dataclasses.replace(value, **changes) if changes else value
    return value


def changed_fields(options: object) -> dict[str, object]:
    """Return the fields of a dataclass that `plain` changes, by name."""
    names = [field.name for field in dataclasses.fields(options) if field.init]  # pyrefly: ignore[bad-argument-type]
    fields = {name: getattr(options, name) for name in names}
    plain_fields = {name: plain(value) for name, value in fields.items()}
    return {name: value for name, value in plain_fields.items() if value is not fields[name]}


def share(where: str | None = None, **fields: int | float) -> None:
    """Raise `UsageError` for a field outside of [0, 1)."""
    for name, value in fields.items():
        if not 0 <= value < 1:
            place = _place(where, name)
            raise UsageError("not a share of a whole", where=place, got=value, needed="at least 0 and below 1")


def one_of(choices: Iterable[str], where: str | None = None, **fields: str) -> None:
    """Raise `UsageError`, which lists the choices, for a field that is none of them."""
    known = tuple(choices)
    for name, value in fields.items():
        if value not in known:
            raise UsageError("unknown", where=_place(where, name), got=value, needed=f"one of {', '.join(known)}")


def _place(where: str | None, field: str) -> str:
    if where is None:
        return field
    return f"{where}: {field}"


def none_refused(
    values: Float[np.ndarray, "..."],
    refused: Bool[np.ndarray, "..."],
    *,
    rule: str,
    way_out: str,
    source: str = "",
    times: np.ndarray | None = None,
) -> None:
    """Raise `UsageError` if any value is `refused`: with `source`, the rule, both counts, the first place and a way out.

    times  of the rows; None counts them from 1
    """
    if not np.any(refused):
        return
    row = int(np.argmax(refused.reshape(len(values), -1).any(axis=1)))
    place = f"in row {row + 1}"
    if times is not None:
        place = f"at {times[row]}"
    raise UsageError(
        f"{source}{rule}; {np.count_nonzero(refused)} of {values.size} are not, the first {place} "
        f"({values[refused][0]:g}); {way_out}"
    )
