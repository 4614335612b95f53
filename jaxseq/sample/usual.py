"""Usual values of the options that are left open: by the model, its data, and the notes that are given."""

from __future__ import annotations

import dataclasses

from jaxseq.music.piece import BEAT
from jaxseq.music.sampling import FREE
from jaxseq.sample.given import Given
from jaxseq.sample.options import NO_KEY, SampleOptions
from jaxseq.sample.told import conditions_of
from jaxseq.train.domains.chorales import Composer

NOTE_TEMPERATURE = 0.5
"""Divisor of the logits of the notes that a voice can move to."""
KEY_STRENGTH = 2.0
"""Log-odds against notes outside the key that is asked for, for a model that does not read keys."""
STRENGTH_BESIDE_READING = 0.5
"""Log-odds against notes outside the key, for a model that reads it."""


def decided(options: SampleOptions, composer: Composer, given: Given, has_data: bool) -> SampleOptions:
    """Return the options with a value for each that was left open.

    has_data  whether the data of the run can be read, which tell the ranges of the voices
    """
    usual: dict[str, float | str] = {
        "note_temperature": 1.0,
        "parallels": "allow",
        "ranges": "free",
        "ending": "free",
        "key_strength": _key_strength(options, composer),
    }
    if has_data:
        usual["ranges"] = "keep"
    # A model that fills gaps draws all steps and voices at once.
    if not composer.fills:
        usual["note_temperature"] = NOTE_TEMPERATURE
        usual["parallels"] = "avoid"
    end_is_free = (given.forced[-BEAT:] == FREE).all()
    if not composer.fills and end_is_free:
        usual["ending"] = "cadence"

    left_open = {name: value for name, value in usual.items() if getattr(options, name) is None}
    return dataclasses.replace(options, **left_open)  # pyrefly: ignore[bad-argument-type]


def _key_strength(options: SampleOptions, composer: Composer) -> float:
    """Return the log-odds against notes outside a piece's key; 0 where there is none to lean towards."""
    if options.key == NO_KEY:
        return 0.0
    if options.key is None:
        return strength_unasked(composer)
    if "key" in conditions_of(composer):
        return STRENGTH_BESIDE_READING
    return KEY_STRENGTH


def strength_unasked(composer: Composer) -> float:
    """Return the log-odds against notes outside a key that nobody asked for: 0 for a model that does not read keys."""
    if "key" in conditions_of(composer):
        return STRENGTH_BESIDE_READING
    return 0.0
