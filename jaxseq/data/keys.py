"""Keys of series that several columns of a table name together, as --data.series store,item."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Keys(NamedTuple):
    """The parts of each series' name; empty unless several columns name a series.

    columns    names of the columns
    of_series  of each series, a text for each column
    """

    columns: tuple[str, ...] = ()
    of_series: tuple[tuple[str, ...], ...] = ()

    def select(self, numbers: Sequence[int]) -> Keys:
        """Return the keys of some of the series, in the order of `numbers`."""
        if not self.columns:
            return self
        return self._replace(of_series=tuple(self.of_series[number] for number in numbers))

    def as_columns(self, taken: Collection[str]) -> dict[str, list[str]]:
        """Return the texts of all series by column, to be joined with the user's own tables.

        A column whose name is among those that are `taken` by the table which it enters is called "key NAME".
        """
        columns = {}
        for place, name in enumerate(self.columns):
            own_name = f"key {name}" if name in taken else name
            columns[own_name] = [parts[place] for parts in self.of_series]
        return columns


NO_KEYS = Keys()
"""Series that are not named by several columns."""
