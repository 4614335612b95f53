"""Checks of fields: each raises `UsageError` with the field's name and value."""

from __future__ import annotations

from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown


def check_at_least(least: int, source: str, **fields: int | float) -> None:
    """Raises `UsageError` for the first field whose value is below `least`."""
    for name, value in fields.items():
        if value < least:
            raise UsageError(f"{source}: {name} is {value}; it must be at least {least}")


def check_choice(choices: tuple[str, ...], source: str, **fields: str) -> None:
    """Raises `UsageError` for the first field whose value is none of `choices`."""
    for name, value in fields.items():
        if value not in choices:
            raise UsageError(f"{source}: {name} {value!r} is unknown; choose one of {', '.join(choices)}")


MOST = 2**31 - 1
"""Of any whole number in a recipe: XLA counts so far."""


def at_least(least: int, **fields: int) -> None:
    """Raise `UsageError` for a field below the least, or above what anything here is counted to."""
    for name, value in fields.items():
        if value < least:
            raise UsageError(f"{name} must be at least {least}; it is {shown(value)}")
        if value > MOST and name != "seed":
            raise UsageError(f"{name} must be at most {MOST}; it is {shown(value)}")


def share(**fields: float) -> None:
    """Raise `UsageError` for a field that is no share of a whole below 1."""
    for name, value in fields.items():
        if not 0 <= value < 1:
            raise UsageError(f"{name} must be at least 0 and below 1; it is {value:g}")


def one_of(choices: tuple[str, ...], **fields: str) -> None:
    """Raise `UsageError`, which lists the choices, for a field that is none of them."""
    for name, value in fields.items():
        if value not in choices:
            raise UsageError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")
