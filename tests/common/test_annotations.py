"""Annotations of the package are checked in tests, at each call, by a checker for each signature."""

from typing import Any

import numpy as np
import pytest
from checked_annotations import checked
from jaxtyping import Float, TypeCheckError, jaxtyped

from jaxseq.common import text


def same(kind: Any) -> Any:
    """A function within a function, whose annotations differ from call to call."""

    @jaxtyped(typechecker=checked)
    def same(value: kind, result: Any = None) -> kind:
        return value if result is None else result

    return same


def test_a_function_of_the_package_refuses_another_type() -> None:
    with pytest.raises(TypeCheckError, match="count"):
        text.plural("row", "2")


def test_functions_of_one_name_are_checked_by_their_own_annotations() -> None:
    for _ in range(2):
        assert same(int)(1) == 1
        assert same(str)("1") == "1"
        with pytest.raises(TypeCheckError, match="value"):
            same(str)(1)
        with pytest.raises(TypeCheckError, match="return value"):
            same(int)(1, "1")


def test_axes_are_compared_between_arguments_and_the_result() -> None:
    square = same(Float[np.ndarray, "n n"])
    square(np.ones((2, 2)))
    with pytest.raises(TypeCheckError):
        square(np.ones((2, 3)))
    with pytest.raises(TypeCheckError, match="return value"):
        square(np.ones((2, 2)), np.ones((3, 3)))
