"""Checks of fields name the field, the value and what would do."""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.common.checks import MOST, at_least, count, one_of, plain, share
from jaxseq.common.errors import UsageError


def refusal(check, *arguments, **fields):
    with pytest.raises(UsageError) as error:
        check(*arguments, **fields)
    return error.value.where, error.value.got, error.value.needed


def test_fields_within_their_bounds_pass():
    at_least(2, window=2, horizon=MOST)
    at_least(0, most=2**32 - 1, seed=2**32 - 1)
    share(dropout=0, decay=0.999)
    one_of(("a", "b"), norm="a", head="b")


def test_the_first_field_that_fails_is_named():
    assert refusal(at_least, 2, horizon=2, window=1, folds=0) == ("window", 1, "at least 2")
    assert refusal(one_of, ("a", "b"), norm="a", head="c") == ("head", "c", "one of a, b")
    assert refusal(share, dropout=0.5, decay=1) == ("decay", 1, "at least 0 and below 1")


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("value", [1.0, True, np.True_, "1", None, np.float32(1)])
def test_a_count_is_an_integer(value):
    count(units=1, layers=np.int8(127))
    assert refusal(count, units=1, layers=value) == ("layers", value, "at least 1")
    assert refusal(count, 0, where="onnx", direction=value) == ("onnx: direction", value, "at least 0")
    assert refusal(count, layers=0) == ("layers", 0, "at least 1")
    assert refusal(count, layers=MOST + 1) == ("layers", MOST + 1, f"at most {MOST}")


def test_the_place_stands_before_the_field():
    assert refusal(at_least, 2, where="waves", window=1)[0] == "waves: window"
    assert refusal(one_of, ("a",), where="waves", head="c")[0] == "waves: head"
    assert refusal(share, where="waves", decay=-0.1)[0] == "waves: decay"


def test_counts_above_32_bits_and_infinity_are_too_large():
    assert refusal(at_least, 1, epochs=MOST + 1) == ("epochs", MOST + 1, f"at most {MOST}")
    assert refusal(at_least, 0, noise=math.inf)[1:] == (math.inf, f"at most {MOST}")


@pytest.mark.parametrize("check", [lambda **fields: at_least(0, **fields), share])
def test_nan_is_refused(check):
    with pytest.raises(UsageError) as error:
        check(noise=math.nan)
    assert math.isnan(error.value.got)


@dataclasses.dataclass(frozen=True)
class Options:
    size: int
    rates: tuple[float, ...] = ()
    inner: "Options | None" = None


@pytest.mark.usefixtures("unannotated")
def test_numbers_of_numpy_become_those_of_python():
    options = Options(np.int8(100), (np.float32(0.5), 1.0), Options(np.uint64(3)))
    changed = plain(options)
    assert changed == options and json.dumps(dataclasses.asdict(changed))
    assert type(changed.size) is type(changed.inner.size) is int
    # What has none of them stays the same object.
    assert plain(changed) is changed


@pytest.mark.usefixtures("unannotated")
def test_narrow_integers_of_jax_are_compared_with_their_bounds():
    count(layers=jnp.int8(3))
    assert refusal(count, 4, layers=jnp.int8(3)) == ("layers", 3, "at least 4")
