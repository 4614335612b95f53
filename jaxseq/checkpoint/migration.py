"""Checkpoints of older formats, read as states of the current one.

    before 4  the optimiser's state is that of optax's rule. Since then that lies below ``opt/rule``, and beside it the
              optimiser's numbers, ``opt/numbers``, which whoever restores the state takes from the recipe of the run

Parameters and running moments have the same paths in all formats.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxseq.checkpoint.records import Leaf

NUMBERS_SINCE = 4
"""First format in which an optimiser's numbers are leaves of its state."""
OPTIMISER, RULE, NUMBERS = "opt/", "opt/rule/", "opt/numbers/"


def migrated(number: int, saved: Mapping[str, Leaf], expected: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the leaves of a checkpoint of format `number` by their path in a state of today.

    saved     the leaves by the path that the checkpoint has them at, which stays their `path`
    expected  the leaves of a state of today; one that the checkpoint cannot have is returned as it is
    """
    numbers = {path: leaf for path, leaf in expected.items() if path.startswith(NUMBERS)}
    # The state of an optimiser that is not of `jaxseq.train.optimiser` has no numbers, and has not moved.
    if number >= NUMBERS_SINCE or not numbers:
        return dict(saved)

    leaves = dict(numbers)
    for path, leaf in saved.items():
        inside = path.removeprefix(OPTIMISER)
        leaves[path if inside == path else RULE + inside] = leaf
    return leaves
