"""Conditions of the pieces to compose, for a model that reads them: length, phrases, key and metre."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.music import conditions
from jaxseq.music.bars import bars
from jaxseq.music.conditions import Known
from jaxseq.music.piece import BEAT, Piece, PieceSplits
from jaxseq.music.sampling import FREE
from jaxseq.music.tokens import decode
from jaxseq.music.transposition import Key, key_named
from jaxseq.sample.given import Given
from jaxseq.sample.options import SampleOptions
from jaxseq.train.domains.chorales import Composer

CADENCE = 2 * BEAT
"""Steps at the end of a bar that stand under a fermata."""
STRENGTH = 2.0
"""Log-odds against notes outside the key, for a model that does not read keys."""


class Told(NamedTuple):
    """Conditions of each of b pieces.

    columns  those of `music.conditions`
    keys     of the pieces; None where it is unknown
    """

    columns: Int[np.ndarray, "b t 7"]
    keys: tuple[Key | None, ...]


def check(options: SampleOptions, composer: Composer) -> None:
    """Raise `UsageError` for fermatas that the model of a run does not read."""
    if options.fermatas is not None and "phrase" not in _conditions(composer):
        raise UsageError(
            f"the model of {options.run} was trained without them",
            where="--fermatas",
            got=options.fermatas,
            needed="a run of python -m jaxseq.train chords --model.conditions",
        )


def key_strength(options: SampleOptions, composer: Composer) -> float:
    """Return the log-odds against notes outside the key that the options name: none for a model that reads keys."""
    if options.key_strength is not None:
        return options.key_strength
    if "key" in _conditions(composer):
        return 0.0
    return STRENGTH


def with_fermatas(given: Given, fermatas: str | None) -> Given:
    """Return given notes with fermatas at the ends of the bars that the option names, besides those of the given notes.

    Raises `UsageError` for a bar that the piece does not have.
    """
    if fermatas is None:
        return given
    pattern = given.pattern
    ends = {bar.number: bar.end for bar in bars(pattern.positions)}
    # Those of given notes stay, such as those of a piece that is continued.
    are_given = (given.forced != FREE).any(axis=1)
    under = pattern.fermatas & are_given
    for number in (int(word) for word in fermatas.split(",")):
        if number not in ends:
            raise UsageError("no such bar", where="--fermatas", got=number, needed=f"1 to {max(ends)}")
        under[max(0, ends[number] - CADENCE) : ends[number]] = True
    return given._replace(pattern=pattern._replace(fermatas=under))


def tell(options: SampleOptions, composer: Composer, parts: PieceSplits | None, given: Given) -> Told | None:
    """Return what a model is told of each piece; None for a model without conditions.

    A key that neither the options nor the given notes decide is that of a training piece, drawn evenly: keys are then as
    frequent as Bach's. Without the training pieces it is unknown.
    """
    names = _conditions(composer)
    if not names:
        return None

    keys = _keys(options, parts, given)
    # Of bars that are to be composed nobody has said where a phrase ends, unless it is by --fermatas.
    columns = np.array([conditions.columns(_known(given.pattern, key), names) for key in keys])
    continues_piece = (given.forced[0] != FREE).any() and (given.forced[-1] == FREE).all()
    if continues_piece and options.fermatas is None:
        columns[..., conditions.COLUMNS["phrase"]] = conditions.UNKNOWN
    return Told(columns, tuple(keys))


def _conditions(composer: Composer) -> tuple[conditions.ConditionName, ...]:
    experiment = composer.experiment
    if not experiment.model.conditions:
        return ()
    return experiment.data.tells


def _known(pattern: Piece, key: Key | None) -> Known:
    fermatas: Bool[np.ndarray, "t"] = pattern.fermatas
    return Known(len(pattern.notes), pattern.positions, fermatas, key)


def _keys(options: SampleOptions, parts: PieceSplits | None, given: Given) -> list[Key | None]:
    """Return the key of each piece."""
    if options.key is not None:
        return [key_named(options.key)] * options.count

    # Notes that are given decide before those of the training part.
    are_given = given.forced != FREE
    if are_given.any():
        pattern = given.pattern
        notes = np.where(are_given, decode(np.where(are_given, given.forced, 0)), 0)
        heard = pattern._replace(notes=notes)
        if not given.has_key:
            heard = heard._replace(fifths=None, minor=None)
        return [conditions.key_of(heard)] * options.count

    # A model composes without its data, too.
    if parts is None:
        return [None] * options.count
    # Of another stream than the first notes that windows begin with.
    rng = np.random.default_rng([options.seed, 1])
    numbers = rng.integers(len(parts.train), size=options.count)
    return [conditions.key_of(parts.train[number]) for number in numbers]
