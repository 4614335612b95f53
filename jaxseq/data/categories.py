"""Covariates that are texts, such as a region or a kind of promotion: a column of the network's input for each text.

Such columns (one-hot) before a dense or recurrent layer are an embedding that is trained with it: the weights of a column
are the vector of its text. The texts are those of the training rows. Any other text is read as the mean of them all, which
after the scaling is 0 in each column: a vector of its own would never have been trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown

MOST = 50
"""Most texts of a column: each is a column of its own, in every time step."""
LONGEST = 200
"""Letters of a text."""


class Texts(NamedTuple):
    """A column whose numbers are the places of its texts, from 0."""

    name: str
    texts: tuple[str, ...]


class Categories(NamedTuple):
    """Texts that a network has learnt, those of one column after another.

    columns  name of the column of each
    texts    of the training rows
    shares   of the training rows that have it
    """

    columns: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    def of(self, name: str) -> dict[str, float]:
        """Return the shares of a column's texts; empty where it has numbers."""
        return {
            text: share
            for column, text, share in zip(self.columns, self.texts, self.shares, strict=True)
            if column == name
        }


NO_CATEGORIES = Categories()
"""Covariates that are all numbers."""


class Encoded(NamedTuple):
    """Columns for the network, with their names, and notes on texts that are not known.

    sources  number of the column of the table that each one is from
    """

    names: tuple[str, ...]
    rows: tuple[Float[np.ndarray, "_ c"], ...]
    sources: Int[np.ndarray, " c"]
    notes: tuple[str, ...]


def learn(columns: Sequence[tuple[Texts, Float[np.ndarray, "_"]]], source: str) -> Categories:
    """Return the texts of training rows, in alphabetical order, with their shares.

    columns  each with its numbers in the training rows of all series; NaN where one is missing

    Raises `UsageError`, which opens with `source`, for more than `MOST` texts in a column, and for a very long one.
    """
    names: list[str] = []
    texts: list[str] = []
    shares: list[float] = []
    for column, numbers in columns:
        known_numbers = numbers[np.isfinite(numbers)]
        occurrences = known_numbers.astype(np.int64)
        counts = np.bincount(occurrences, minlength=len(column.texts))
        occurring = [column.texts[place] for place in np.flatnonzero(counts)]
        # Another order of the rows gives the same columns.
        occurring.sort()
        longest = max(occurring, key=len, default="")
        if len(longest) > LONGEST:
            raise UsageError(
                "too long a text for a covariate",
                where=f"{source}: column {shown(column.name)}",
                got=longest,
                needed=f"at most {LONGEST} letters",
            )
        if len(occurring) > MOST:
            raise UsageError(
                "too many different texts for a covariate; gather rare ones",
                where=f"{source}: column {shown(column.name)}",
                got=len(occurring),
                needed=f"at most {MOST} in the training rows",
            )
        names += [column.name] * len(occurring)
        texts += occurring
        for text in occurring:
            count = counts[column.texts.index(text)]
            shares.append(float(count / len(occurrences)))
    return Categories(tuple(names), tuple(texts), tuple(shares))


def encode(
    names: Sequence[str],
    rows: Sequence[Float[np.ndarray, "_ c"]],
    texts: Sequence[Texts],
    learnt: Categories,
) -> Encoded:
    """Return columns in which those with texts are replaced by one for each text that was learnt.

    names  of the columns
    rows   of each series
    texts  of the columns that have some

    Raises `UsageError` for texts where the training had numbers, and the reverse.
    """
    texts_of = {column.name: column.texts for column in texts}
    own_names: list[str] = []
    sources: list[int] = []
    # Of a column with texts a row for each of them; None of one that stays as it is.
    tables: list[Float[np.ndarray, "_ l"] | None] = []
    notes = []
    for number, name in enumerate(names):
        own_texts = learnt.of(name)
        _check_kind(name, has_texts=name in texts_of, had_texts=bool(own_texts))
        if not own_texts:
            own_names.append(name)
            sources.append(number)
            tables.append(None)
            continue

        own_names += [encoded_name(name, text) for text in own_texts]
        sources += [number] * len(own_texts)
        tables.append(_rows_of_texts(texts_of[name], own_texts))
        numbers = [of_series[:, number] for of_series in rows]
        notes += _unknown_notes(name, texts_of[name], own_texts, numbers)

    expanded = []
    for of_series in rows:
        # A series without any column has none afterwards, either.
        columns = [np.zeros((len(of_series), 0))]
        for number, table in enumerate(tables):
            columns.append(_expanded(of_series[:, number], table))
        expanded.append(np.concatenate(columns, axis=1))
    return Encoded(tuple(own_names), tuple(expanded), np.array(sources, int), tuple(notes))


def encoded_name(column: str, text: str) -> str:
    """Return the name of the column of a text."""
    return f"{column}={text}"


def _check_kind(name: str, *, has_texts: bool, had_texts: bool) -> None:
    """Raise `UsageError` for a column of texts that were numbers in the training, or the reverse."""
    if has_texts == had_texts:
        return
    kinds = ("numbers", "texts")
    raise UsageError(
        "a covariate is of another kind than in the training",
        where=f"column {shown(name)}",
        got=kinds[has_texts],
        needed=kinds[had_texts],
    )


def _rows_of_texts(texts: Sequence[str], learnt: Mapping[str, float]) -> Float[np.ndarray, "n l"]:
    """Return the columns of each text: 1 in that of its own, or the shares of all where it has none."""
    places = {text: place for place, text in enumerate(learnt)}
    rows = np.zeros((len(texts), len(learnt)))
    for number, text in enumerate(texts):
        if text in places:
            rows[number, places[text]] = 1
        else:
            rows[number] = list(learnt.values())
    return rows


def _expanded(numbers: Float[np.ndarray, " n"], codes: Float[np.ndarray, "_ l"] | None) -> Float[np.ndarray, "n c"]:
    if codes is None:
        return numbers[:, None]
    # A missing text is missing in all of its columns.
    is_known = np.isfinite(numbers)
    places = np.where(is_known, numbers, 0).astype(np.int64)
    columns = codes[places]
    return np.where(is_known[:, None], columns, np.nan)


def _unknown_notes(
    name: str, texts: Sequence[str], learnt: Collection[str], numbers: Sequence[Float[np.ndarray, "_"]]
) -> list[str]:
    """Say which texts of some rows were not learnt, and in how many rows they stand."""
    is_learnt = np.array([text in learnt for text in texts])
    all_rows = np.concatenate([np.zeros(0), *numbers])
    known_rows = all_rows[np.isfinite(all_rows)]
    occurrences = known_rows.astype(np.int64)
    places, counts = np.unique(occurrences, return_counts=True)
    is_unknown = ~is_learnt[places]
    if not np.any(is_unknown):
        return []
    unknown = [texts[place] for place in places[is_unknown]]
    listed = ", ".join(shown(text, 40) for text in unknown[:5])
    if len(unknown) > 5:
        listed = f"{listed}, …"
    count = counted(int(counts[is_unknown].sum()), "row")
    return [f"{shown(name)} has texts in {count} that the training rows lack, read as the mean of theirs: {listed}"]


def merge(
    first: Sequence[Texts], second: Sequence[Texts]
) -> tuple[tuple[Texts, ...], dict[str, Float[np.ndarray, " _"]]]:
    """Return the texts of two tables by column, and the new place of each text of the second one."""
    texts = {column.name: list(column.texts) for column in first}
    places = {}
    for column in second:
        of_column = texts.setdefault(column.name, [])
        # New texts come last, so that those of the first table keep their places.
        of_column += [text for text in column.texts if text not in of_column]
        own_places = [of_column.index(text) for text in column.texts]
        places[column.name] = np.array(own_places, float)
    merged = tuple(Texts(name, tuple(of_column)) for name, of_column in texts.items())
    return merged, places
