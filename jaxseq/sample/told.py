"""Conditions of the pieces to compose, for a model that reads them: length, phrases, key and metre."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.music import conditions
from jaxseq.music.bars import bars
from jaxseq.music.cadences import CADENCES, LAST_TONIC, TONIC, Place
from jaxseq.music.conditions import Known
from jaxseq.music.piece import BEAT, Piece, PieceSplits
from jaxseq.music.sampling import FREE
from jaxseq.music.tokens import decode
from jaxseq.music.transposition import Key, key_named
from jaxseq.sample.given import Given
from jaxseq.sample.options import NO_KEY, SampleOptions
from jaxseq.train.domains.chorales import Composer

HELD = 2 * BEAT
"""Steps at the end of a bar that stand under a fermata; all of a shorter bar."""


class Told(NamedTuple):
    """Conditions of each of b pieces.

    keys      of the pieces; None where it is left to the model
    columns   those of `music.conditions`; None for a model that does not read them
    cadences  in the key of each piece; then it has one
    """

    keys: tuple[Key | None, ...]
    columns: Int[np.ndarray, "b t 7"] | None = None
    cadences: tuple[Place, ...] = ()


def check(options: SampleOptions, composer: Composer) -> None:
    """Raise `UsageError` for fermatas that the model of a run does not read, and cadences that it cannot draw."""
    # A model that fills gaps draws all steps at once, so that none is held.
    if options.cadences is not None and composer.fills:
        raise UsageError(
            f"the model of {options.run} draws all steps at once",
            where="--cadences",
            got=options.cadences,
            needed="a run of a model that composes forward",
        )
    # With cadences, they are the places of these.
    is_read = "phrase" in conditions_of(composer) or options.cadences is not None
    if options.fermatas is not None and not is_read:
        raise UsageError(
            f"the model of {options.run} does not read them, or its edition has none",
            where="--fermatas",
            got=options.fermatas,
            needed="a run of python -m jaxseq.train chords, or --cadences beside them",
        )


def with_fermatas(given: Given, fermatas: str | None) -> Given:
    """Return given notes with fermatas at the ends of the bars that the option names, besides those of the given notes.

    Raises `UsageError` for a bar that the piece does not have.
    """
    if fermatas is None:
        return given
    pattern = given.pattern
    # Those of given notes stay, such as those of a piece that is continued.
    are_given = (given.forced != FREE).any(axis=1)
    under = pattern.fermatas & are_given
    for start, end in _phrase_ends(pattern, fermatas):
        under[start:end] = True
    return given._replace(pattern=pattern._replace(fermatas=under))


def _phrase_ends(pattern: Piece, fermatas: str) -> list[tuple[int, int]]:
    """Return first step and end of each fermata that the option names. Raises `UsageError` for a bar that is none."""
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for bar in bars(pattern.positions):
        # Parts of a bar have one number; the fermata stands in all of them.
        starts.setdefault(bar.number, bar.start)
        ends[bar.number] = bar.end
    places = []
    for number in (int(word) for word in fermatas.split(",")):
        if number not in ends:
            raise UsageError("no such bar", where="--fermatas", got=number, needed=f"1 to {max(ends)}")
        places.append((max(starts[number], ends[number] - HELD), ends[number]))
    return places


def tell(options: SampleOptions, composer: Composer, parts: PieceSplits | None, given: Given) -> Told:
    """Return the key of each piece, and what a model with conditions is told of it.

    A key that neither the options nor the given notes decide is that of a training piece, drawn evenly: keys are then as
    frequent as Bach's. Without the training pieces it is unknown, and to a model without conditions unless it is asked for.
    Raises `UsageError` for cadences in no key.
    """
    told = _conditions(options, composer, parts, given)
    if options.cadences is None or options.fermatas is None:
        return told
    if None in told.keys:
        raise UsageError(
            "no key to have their chords in",
            where="--cadences",
            got=options.cadences,
            needed="a --key, such as G major",
        )
    places = []
    ends = _phrase_ends(given.pattern, options.fermatas)
    for name, (start, end) in zip(options.cadence_names, ends, strict=True):
        cadence = CADENCES[name]
        # Of several endings one with a single third is taken.
        if cadence.chord is TONIC and end == len(given.forced) and options.ending == "cadence":
            cadence = cadence._replace(chord=LAST_TONIC)
        places.append(Place(cadence, start, end))
    return told._replace(cadences=tuple(places))


def _conditions(options: SampleOptions, composer: Composer, parts: PieceSplits | None, given: Given) -> Told:
    """Return the keys and the columns of all pieces."""
    names = conditions_of(composer)
    if not names:
        key = None
        if options.key not in (None, NO_KEY):
            key = key_named(options.key)
        return Told((key,) * options.count)

    keys = _keys(options, parts, given)
    columns = np.array([conditions.columns(_known(given.pattern, key), names) for key in keys])
    # Of bars that are to be composed nobody has said where a phrase ends, unless it is by --fermatas.
    continues_piece = (given.forced[0] != FREE).any() and (given.forced[-1] == FREE).all()
    if continues_piece and options.fermatas is None:
        columns[..., conditions.COLUMNS["phrase"]] = conditions.UNKNOWN
    return Told(tuple(keys), columns)


def conditions_of(composer: Composer) -> tuple[conditions.ConditionName, ...]:
    """Return the conditions that a model reads and its data tell."""
    experiment = composer.experiment
    if not experiment.model.conditions:
        return ()
    return experiment.data.tells


def _known(pattern: Piece, key: Key | None) -> Known:
    fermatas: Bool[np.ndarray, "t"] = pattern.fermatas
    return Known(len(pattern.notes), pattern.positions, fermatas, key)


def _keys(options: SampleOptions, parts: PieceSplits | None, given: Given) -> list[Key | None]:
    """Return the key of each piece."""
    if options.key == NO_KEY:
        return [None] * options.count
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
