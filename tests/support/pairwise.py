"""Fewer combinations of parameters for each change: every pair of values once, and the full product under `slow`."""

import itertools

import pytest


def pairs_of(row):
    """The pairs of values in a combination, each value with its axis."""
    return set(itertools.combinations(enumerate(row), 2))


def choose(axes):
    """Combinations of indices that hold every pair of values of every two axes: greedy, and always the same ones."""
    product = list(itertools.product(*(range(len(axis)) for axis in axes)))
    missing = set().union(*map(pairs_of, product))
    chosen = []
    while missing:
        row = max(product, key=lambda row: len(pairs_of(row) & missing))
        chosen.append(row)
        missing -= pairs_of(row)
    return chosen


def slow_except(quick, cases, ids=None):
    """Mark every case `slow` but those in `quick`; a case is a tuple of a test's parameters, or its only one."""
    names = [None] * len(cases) if ids is None else ids
    params = []
    for case, name in zip(cases, names, strict=True):
        values = case if isinstance(case, tuple) else (case,)
        is_quick = (case if name is None else name) in quick
        params.append(pytest.param(*values, id=name, marks=[] if is_quick else [pytest.mark.slow]))
    return params


def grid(**axes):
    """Parametrise a test by the product of axes, each {id: value}; what no pair needs is `slow`."""
    chosen = set(choose([list(axis) for axis in axes.values()]))
    cases = []
    for row in itertools.product(*(range(len(axis)) for axis in axes.values())):
        items = [list(axis.items())[place] for axis, place in zip(axes.values(), row, strict=True)]
        name = "-".join(name for name, _ in items)
        marks = [] if row in chosen else [pytest.mark.slow]
        cases.append(pytest.param(*(value for _, value in items), id=name, marks=marks))
    return pytest.mark.parametrize(list(axes), cases)
