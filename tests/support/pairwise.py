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
