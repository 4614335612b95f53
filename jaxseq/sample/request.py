"""First stage: options become a request, with the restored model and the given notes, checked before composing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple, TypeVar

from jaxseq.common.errors import UsageError
from jaxseq.data.download import FetchError
from jaxseq.music import sound
from jaxseq.music.bars import with_upbeat
from jaxseq.music.midi.read import Melody
from jaxseq.music.notes import BPM, HOLD, clock
from jaxseq.music.piece import BAR, Piece, PieceSplits, Reading
from jaxseq.sample import given, sources, told, usual
from jaxseq.sample.given import Given
from jaxseq.sample.options import FASTEST, NO_KEY, NO_PRIME, SLOWEST, SampleOptions
from jaxseq.sample.told import Told
from jaxseq.train.domains import chorales
from jaxseq.train.domains.chorales import Composer


class Request(NamedTuple):
    """A request for pieces that can be met.

    options   of the command: number of pieces, seed, how notes are drawn, where files go
    composer  the restored model
    parts     pieces of the data set that the model was trained on; None where they cannot be loaded
    given     notes that are given in every piece
    bpm       tempo, in quarter notes a minute: that of the options, of the given file, or the usual one
    remarks   on the data and on the given notes, a sentence each
    told      key of each piece, and what the model is told of it
    """

    options: SampleOptions
    composer: Composer
    parts: PieceSplits | None
    given: Given
    bpm: float
    remarks: tuple[str, ...]
    told: Told


def read_request(options: SampleOptions) -> Request:
    """Restore the model, load its data and read the given notes.

    Raises `UsageError` for a run that cannot compose, a folder that cannot be written, options that exclude each other,
    and given notes that are unreadable or too long.
    """
    composer = chorales.restore(options.run, options.epoch)
    # Checked before the data are loaded, which may be a download.
    options.destination.check()
    loaded = _pieces(composer, options.data_path)

    _check_combination(options)
    _check_model(options, composer)
    given_notes = told.with_fermatas(_given(options, loaded), options.fermatas)
    # Sound is made at the end: music that is too long for it is refused before it is composed.
    bpm = _tempo(options, given_notes)
    _check_length(given_notes.pattern, bpm)
    has_data = not isinstance(loaded, UsageError)
    decided = usual.decided(options, composer, given_notes, has_data)
    request = Request(
        options=decided,
        composer=composer,
        parts=None,
        given=given_notes,
        bpm=bpm,
        remarks=given_notes.notes,
        told=told.tell(decided, composer, None if isinstance(loaded, UsageError) else loaded, given_notes),
    )
    # The notes need no data, which the judgement of them does.
    if isinstance(loaded, UsageError):
        # Nor do the options, but one.
        if options.ranges == "keep":
            raise UsageError(
                f"the ranges of the voices are those of the run's data, which cannot be read: {loaded}",
                where="--ranges",
                got=options.ranges,
                needed="free, or the data by --data.path",
            )
        remark = f"no figures beside Bach's, since the run's data cannot be read: {loaded}"
        return request._replace(remarks=(remark, *given_notes.notes))
    return request._replace(parts=loaded)


def _pieces(composer: Composer, path: Path | None = None) -> PieceSplits | UsageError:
    """Load the data of a run, from another path if it is given; return the error where the run's own path fails.

    A model composes without its data. Raises `UsageError` where the given path fails.
    """
    data = composer.experiment.data
    # A path that the user names is no accident.
    if path is not None:
        return dataclasses.replace(data, path=str(path)).load()
    try:
        return data.load()
    except FetchError as error:
        if error.file is None:
            return error
        return UsageError(f"{error.reason}: put it at {error.file}, or name it by --data.path")
    except UsageError as error:
        return error


def _check_combination(options: SampleOptions) -> None:
    """Raise `UsageError` for options that exclude each other."""
    is_primed = options.prime != NO_PRIME
    if options.melody is not None and (is_primed or _changes(options)):
        raise UsageError(
            "cannot be combined with --prime, --keep or --redo",
            where="--melody",
            got=options.melody,
        )
    if options.key_strength and options.key == NO_KEY:
        raise UsageError("no key to lean towards", where="--key-strength", got=options.key_strength, needed="a --key")
    if options.transpose != 0 and options.melody is None and not is_primed:
        raise UsageError(
            "no notes to move",
            where="--transpose",
            got=options.transpose,
            needed="a file, named by --prime or --melody",
        )
    if _changes(options) and not is_primed:
        raise UsageError("no piece to change", where=_change_option(options), needed="a piece, named by --prime")
    if options.bars is not None and (options.melody is not None or _changes(options)):
        raise UsageError(
            "the length is that of the given piece",
            where="--bars",
            got=options.bars,
            needed="no --bars beside --melody, --keep or --redo",
        )
    composes_from_nothing = options.melody is None and not is_primed
    # A given piece has its own metre.
    if composes_from_nothing and options.upbeat is not None and options.upbeat >= BAR:
        raise UsageError("a bar or more", where="--upbeat", got=options.upbeat, needed=f"0 to {BAR - 1} sixteenths")


def _check_model(options: SampleOptions, composer: Composer) -> None:
    """Raise `UsageError` for options that the model cannot follow."""
    told.check(options, composer)
    if options.key_strength and options.key is None and "key" not in told.conditions_of(composer):
        raise UsageError("no key to lean towards", where="--key-strength", got=options.key_strength, needed="a --key")
    experiment = composer.experiment
    # Models that compose forward know nothing of the notes that follow a gap.
    if _changes(options) and not composer.fills:
        filling = "fill"
        if experiment.data.name == "jsb":
            filling = "jsb-fill"
        raise UsageError(
            f"the model of {options.run} cannot fill gaps",
            where=_change_option(options),
            got=f"a run of {experiment.name}",
            needed=f"a run of python -m jaxseq.train {filling}",
        )
    # A model that fills gaps draws a note together with the one before it.
    for option, value, possible in (
        ("--note-temperature", options.note_temperature, 1.0),
        ("--ending", options.ending, "free"),
    ):
        if composer.fills and value not in (possible, None):
            raise UsageError(
                f"the model of {options.run} draws all steps at once",
                where=option,
                got=value,
                needed=f"{possible}, or a run of a model that composes forward",
            )
    # A model that fills gaps draws all voices at once, so that none is drawn below another.
    if options.parallels == "avoid" and composer.fills:
        raise UsageError(
            f"the model of {options.run} draws all voices at once",
            where="--parallels",
            got=options.parallels,
            needed="allow, or a run of a model that composes forward",
        )


def _changes(options: SampleOptions) -> bool:
    return options.keep is not None or options.redo is not None


def _change_option(options: SampleOptions) -> str:
    if options.keep is not None:
        return "--keep"
    return "--redo"


def _tempo(options: SampleOptions, notes: Given) -> float:
    """Return the tempo of the options, or that of the given file if it is one that is played, or the usual one."""
    if options.bpm is not None:
        return options.bpm
    if notes.bpm is not None and SLOWEST <= notes.bpm <= FASTEST:
        return notes.bpm
    return BPM


def _check_length(pattern: Piece, bpm: float) -> None:
    """Raise `UsageError` for more music than sound is made of, its fermatas held as there."""
    steps = len(pattern.notes)
    seconds = float(clock(pattern, bpm, HOLD).sum())
    if seconds > sound.LONGEST:
        raise UsageError(
            f"too slow for {steps} sixteenths, which last {seconds:.0f} seconds",
            where="--bpm",
            got=f"{bpm:g}",
            needed=f"a tempo by which they last {sound.LONGEST:.0f} seconds at most",
        )


def _given(options: SampleOptions, parts: PieceSplits | UsageError) -> Given:
    """Read the given notes that the options name; `parts` may be the error that the run's data gave."""
    if options.melody is not None:
        melody = sources.find_melody(options.melody, parts, options.transpose)
        if isinstance(melody, Reading):
            return given.harmonised(melody._replace(piece=_barred(melody.piece, options.upbeat)))
        return given.harmonised(_barred(melody, options.upbeat))
    if options.prime == NO_PRIME:
        return given.from_nothing(options.bars, options.upbeat or 0)

    reading = sources.find_piece(options.prime, parts, options.transpose)
    piece = _barred(reading.piece, options.upbeat)
    if _changes(options):
        from_prime = given.changed(piece, options.keep, options.redo)
    else:
        from_prime = given.continued(piece, options.prime_bars, options.bars)
    return from_prime._replace(notes=(*reading.said, *from_prime.notes), bpm=reading.bpm)


Barred = TypeVar("Barred", Piece, Melody)
"""Notes with their positions."""


def _barred(notes: Barred, upbeat: int | None) -> Barred:
    """Return notes with the upbeat of the options, if they have one. Raises `UsageError` where it does not fit."""
    if upbeat is None:
        return notes
    try:
        return notes._replace(positions=with_upbeat(notes.positions, upbeat))
    except UsageError as error:
        raise UsageError(f"{notes.name}: {error}", where="--upbeat") from error
