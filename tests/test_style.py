"""Code stays readable: every room keeps below its ceilings, and ceilings only come down.

`python tests/support/counters.py` prints the counts. A room is finished when it is held to `FINISHED`.
"""

import counters
import pytest
from counters import Counts

FINISHED = Counts(
    tokens_a_line=9.2,
    conditional_expressions=15,
    tuple_assignments=8,
    comments=40,
    silent_names=0.015,
    walrus=7.5,
    nested_conditionals=0,
    what_docstrings=0,
    long_signatures=0,
    positional_calls=0,
)
CEILINGS = {
    "benchmark": FINISHED,
    "cells": FINISHED,
    "checkpoint": FINISHED,
    "common": FINISHED,
    "data": FINISHED,
    "estimator": FINISHED,
    "export": FINISHED,
    "forecast": FINISHED,
    "forecasting": FINISHED,
    "music": Counts(10.2, 5.4, 4.4, 30.5, 0.0136, 1.4, 0, 1, 1, 3),
    "nn": FINISHED,
    "report": Counts(10.1, 23.6, 8.8, 8.7, 0.05, 3.4, 1, 6, 0, 8),
    "sample": FINISHED,
    "score": FINISHED,
    "sweep": FINISHED,
    "train": FINISHED,
}
MOST_ANY = {
    "benchmark": 0,
    "cells": 57,
    "checkpoint": 27,
    "common": 13,
    "data": 15,
    "estimator": 4,
    "export": 0,
    "forecast": 1,
    "forecasting": 4,
    "music": 15,
    "nn": 11,
    "report": 8,
    "sample": 0,
    "score": 1,
    "sweep": 4,
    "train": 23,
}
"""Most uses of `Any` in a room. An extension point has a `Protocol` or a type variable, what is checked is an `object`."""


@pytest.mark.parametrize("room", CEILINGS)
def test_a_room_keeps_below_its_ceilings(room):
    counts = counters.count(counters.rooms()[room])
    ceilings = CEILINGS[room]
    assert counts.comments >= ceilings.comments, f"{room}: {counts.comments:.1f} comments in 1,000 code lines"
    for name, value, most in zip(Counts._fields, counts, ceilings, strict=True):
        assert name == "comments" or value <= most, f"{room}: {name} is {value:.3g}, at most {most} is allowed"


@pytest.mark.parametrize("room", MOST_ANY)
def test_a_room_has_no_more_of_any_than_before(room):
    assert counters.count_any(counters.rooms()[room]) <= MOST_ANY[room]


def test_every_room_has_ceilings():
    assert set(CEILINGS) == set(MOST_ANY) == set(counters.rooms())


def test_the_counters_count(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        '"""What is counted."""\n'
        "# why\n"
        "found, kept = 1, 2\n"
        "x = 1 if found else 2 if kept else 3\n"
        "f(1, 2, 3, 4, 5, 6)\n"
        "def g(a: Any, b, c, d, e, f, g, h): return (y := 1)\n"
    )
    assert counters.count_any([module]) == 1
    assert counters.count([module]) == Counts(
        tokens_a_line=15,
        conditional_expressions=500,
        tuple_assignments=250,
        comments=250,
        silent_names=0.5,
        walrus=250,
        nested_conditionals=1,
        what_docstrings=1,
        long_signatures=1,
        positional_calls=1,
    )
