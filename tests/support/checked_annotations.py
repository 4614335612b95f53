"""The check of annotations in tests: beartype, which generates a checker at the first call and once for each signature.

Many functions of the package are never called in a worker, and one within another is defined at each call of the outer
one; beartype takes a millisecond for each.
"""

from collections.abc import Callable, Hashable
from typing import Any

from beartype import beartype

_CHECKERS: dict[Hashable, Callable[..., Any]] = {}


def checked(stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks its arguments, and what is returned, by the annotations of a stub of jaxtyping."""
    checker: Callable[..., Any] | None = None

    def check(*arguments: object, **options: object) -> object:
        nonlocal checker
        if checker is None:
            checker = _checker(stub)
        return checker(*arguments, **options)

    return check


def _checker(stub: Callable[..., Any]) -> Callable[..., Any]:
    # The stub's body is empty, or returns its last argument: all that it does is in its signature.
    code = stub.__code__
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    key = (stub.__module__, stub.__qualname__, counts, code.co_varnames, tuple(stub.__annotations__.items()))
    try:
        known = _CHECKERS.get(key)
    except TypeError:  # an annotation that cannot be hashed
        return beartype(stub)
    if known is None:
        known = _CHECKERS[key] = beartype(stub)
    return known
