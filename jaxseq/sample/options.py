"""Options of `python -m jaxseq.sample`."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from jaxseq.common import command_line
from jaxseq.common.errors import UsageError
from jaxseq.common.new_folder import NewFolder
from jaxseq.music.cadences import CadenceName
from jaxseq.music.instruments import InstrumentName
from jaxseq.music.transposition import key_named

PROGRAM = "python -m jaxseq.sample"
FOLDER = "samples"
"""Name of the numbered folders."""
NO_PRIME = "none"
"""Value of `SampleOptions.prime` that composes from the start."""
NO_KEY = "free"
"""Value of `SampleOptions.key` that leaves the key to the model."""
DATA_PATH = "data.path"
"""Name of the option that has a dot."""
DEFAULT_BARS = 16
"""Bars of a piece where neither the options nor the given notes decide."""

MOST_SAMPLES = 1000
MOST_BARS = 200
MOST_UPBEAT = 23
"""Sixteenths before the first bar, less than a bar of six quarters."""
MOST_SWEEPS = 10_000
MOST_CANDIDATES = 64
STRONGEST = 50
MOST_SEMITONES = 60
BARS = re.compile(r"\d{1,3}(,\d{1,3})*", re.ASCII)
"""A list of bars."""
SLOWEST = 10
FASTEST = 1000
"""Bounds of the tempo in quarter notes a minute."""

DESCRIPTION = """Compose chorales with a trained run, and compare them with Bach's.

Each piece is written as MIDI, MusicXML, sound and pictures, beside a report.

  Compose 16 pieces of 16 bars:
    python -m jaxseq.sample runs/jsb-chords-0001
  Continue the first 4 bars of a piece:
    python -m jaxseq.sample RUN --prime chorale_305 --prime-bars 4
  Compose 8 bars that begin with a quarter before the first bar:
    python -m jaxseq.sample RUN --bars 8 --upbeat 4
  In G major, with phrases of four bars (fermatas need a run of chords):
    python -m jaxseq.sample RUN --key "G major" --fermatas 4,8,12,16
  The same with a cadence for each phrase, which any run can have that composes forward:
    python -m jaxseq.sample RUN --key "G major" --fermatas 4,8,12,16 --cadences half,authentic,deceptive,authentic
  Harmonise a melody in 4 ways:
    python -m jaxseq.sample RUN --melody tune.mid --count 4
  Recompose alto and tenor, or bars 5 to 8 (needs a run of fill or jsb-fill):
    python -m jaxseq.sample RUN --prime chorale_305 --keep soprano,bass
    python -m jaxseq.sample RUN --prime piece.mid --redo 5-8"""


@dataclass(frozen=True)
class SampleOptions:
    """Options of the command. Raises `UsageError` for a value out of range."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of chorales."""
    count: int = 16
    """Number of pieces to compose."""
    bars: int | None = None
    """Number of bars of each piece, including those of --prime. None takes 16, or the length of the piece that --melody,
    --keep or --redo names."""
    upbeat: int | None = None
    """Sixteenths before the first bar: 4 is a quarter. The last bar of a composed piece is shorter by them; a given piece
    gets other bar lines. None takes the upbeat of the given piece, or none."""
    key: str | None = None
    """Key of all pieces, such as "G major" or "f# minor"; free leaves it to the model. A run that reads keys takes that of
    --prime or --melody, or those of training pieces, drawn evenly, where there is no --key. Any other run leans towards it,
    by --key-strength."""
    fermatas: str | None = None
    """Bars that end under a fermata, separated by commas: 4,8,12,16. For a run of chords, or with --cadences."""
    cadences: str | None = None
    """Cadence at each of the fermatas, separated by commas: authentic, half, plagal or deceptive. Its chord, in the key of
    the piece, is held under the fermata; the last eighth before it has the dominant, or the subdominant of a plagal one."""
    temperature: float = 1.0
    """Divides the logits: below 1 favours likely notes, above 1 unlikely ones."""
    note_temperature: float | None = None
    """Divides the logits of the notes that a voice can move to once more; how likely it moves stays as it is, so that the
    rhythm does not freeze. None takes 0.5, and 1 for a run that fills gaps."""
    top_k: int | None = None
    """Draw only from this number of most likely notes; None draws from all."""
    top_p: float = 1.0
    """Draw only from the smallest set of most likely notes whose probabilities reach p (nucleus sampling)."""
    parallels: Literal["allow", "avoid"] | None = None
    """avoid draws no note that makes parallel fifths, octaves or unisons with a voice above, unless all notes of a cadence
    or of the voice's range do. None avoids them, unless the run fills gaps."""
    ranges: Literal["free", "keep"] | None = None
    """keep draws no note outside the range that its voice has in the training part, if one is left. None keeps to it where
    the run's data can be read."""
    key_strength: float | None = None
    """Log-odds by which notes outside the scale of a piece's key are less likely and, in the first chord, those outside its
    tonic's triad. None takes 2 for a --key, and 0.5 for a run that reads it."""
    ending: Literal["free", "cadence"] | None = None
    """cadence composes the last bar of each piece several times, to end on a held triad of the tonic of its key in root
    position, and takes the likeliest. None does so where the last quarter is free, unless the run fills gaps."""
    best_of: int = 1
    """Number of pieces that are composed for each one that is taken: the one with the largest sum of key clarity, 1 for an
    end on a held triad in root position and 1 for one on the tonic."""
    seed: int = 0
    """Seed of every random draw; equal seeds give equal pieces."""
    prime: str = NO_PRIME
    """Piece to continue, or to change by --keep and --redo: a name in the run's data, or a file (MIDI, MusicXML).
    none composes from the start."""
    prime_bars: int = 2
    """Number of bars of --prime to continue from."""
    melody: str | None = None
    """Soprano to harmonise: a MIDI file, a score in MusicXML, or the name of a piece in the run's data. A file's melody is
    the track or part that is named so, or the highest track or first part; tune.mid:3 takes its third one."""
    transpose: int | Literal["auto"] = 0
    """Semitones by which the notes of a MIDI file or a score are moved; auto takes the octaves that bring them into the
    range."""
    keep: str | None = None
    """Voices of --prime to keep, separated by commas: soprano,bass. The others are recomposed."""
    redo: str | None = None
    """Bars of --prime to recompose, counted from 1: 5-8, or 5 for one bar. The others are kept."""
    sweeps: int = 128
    """Sweeps of Gibbs sampling over a piece, if the run fills gaps."""
    bpm: float | None = None
    """Tempo in quarter notes a minute; None takes that of the given MIDI file or score, or 84."""
    instrument: InstrumentName = "organ"
    """Instrument of MIDI, MusicXML and sound."""
    score: bool = True
    """Engrave a score of each piece as SVG and PNG (needs jaxseq[score])."""
    data_path: Annotated[Path | None, tyro.conf.arg(name=DATA_PATH)] = None
    """Where the run's data are now, if they have moved since the training."""
    epoch: int | None = None
    """Saved epoch to compose with; None takes the one that was judged, or the best one so far."""
    out: Path | None = None
    """Folder to write. None takes the next number in the run's folder, for example RUN/samples-0001."""

    def __post_init__(self) -> None:
        _check_range("--count", self.count, 1, MOST_SAMPLES)
        _check_range("--bars", self.bars, 1, MOST_BARS)
        _check_range("--upbeat", self.upbeat, 0, MOST_UPBEAT)
        _check_range("--prime-bars", self.prime_bars, 1, MOST_BARS)
        _check_range("--sweeps", self.sweeps, 1, MOST_SWEEPS)
        _check_range("--bpm", self.bpm, SLOWEST, FASTEST)
        if self.transpose != "auto":
            _check_range("--transpose", self.transpose, -MOST_SEMITONES, MOST_SEMITONES)
        # Seeds of NumPy and of JAX alike.
        _check_range("--seed", self.seed, 0, 2**32 - 1)

        _check_range("--best-of", self.best_of, 1, MOST_CANDIDATES)
        _check_range("--key-strength", self.key_strength, 0, STRONGEST)
        _check_temperature("--temperature", self.temperature)
        if self.note_temperature is not None:
            _check_temperature("--note-temperature", self.note_temperature)
        if self.key is not None and self.key != NO_KEY:
            key_named(self.key)
        if self.fermatas is not None and not BARS.fullmatch(self.fermatas):
            raise UsageError("no list of bars", where="--fermatas", got=self.fermatas, needed="numbers such as 4,8")
        if self.cadences is not None:
            self._check_cadences()
        if self.top_k is not None and self.top_k < 1:
            raise UsageError("too few notes", where="--top-k", got=self.top_k, needed="at least 1")
        if not 0 < self.top_p <= 1:
            raise UsageError("no probability", where="--top-p", got=self.top_p, needed="above 0 and at most 1")

    @property
    def cadence_names(self) -> tuple[CadenceName, ...]:
        """Names of the cadences, one for each fermata. Raises `UsageError` for one that there is not."""
        names: list[CadenceName] = []
        for word in (self.cadences or "").split(","):
            name = next((known for known in get_args(CadenceName) if known == word.strip()), None)
            if name is None:
                known_names = ", ".join(get_args(CadenceName))
                raise UsageError("no such cadence", where="--cadences", got=word, needed=f"some of {known_names}")
            names.append(name)
        return tuple(names)

    def _check_cadences(self) -> None:
        """Raise `UsageError` for unknown cadences, and unless there is one for each bar with a fermata."""
        cadences = len(self.cadence_names)
        if self.fermatas is None:
            raise UsageError("no fermatas to stand at", where="--cadences", got=self.cadences, needed="--fermatas")
        fermatas = self.fermatas.split(",")
        if len(set(map(int, fermatas))) < len(fermatas):
            raise UsageError("a bar has one cadence", where="--fermatas", got=self.fermatas, needed="each bar once")
        if cadences != len(fermatas):
            raise UsageError(
                "one for each fermata", where="--cadences", got=f"{cadences}", needed=f"{len(fermatas)}, as --fermatas"
            )

    @property
    def destination(self) -> NewFolder:
        """The folder of the pieces."""
        return NewFolder(self.run, FOLDER, self.out)


def _check_range(option: str, value: int | float | None, least: int, most: int) -> None:
    """Raise `UsageError` for a value out of range; None is in every range."""
    # Not `value < least or ...`, which NaN would pass.
    if value is not None and not least <= value <= most:
        raise UsageError("out of range", where=option, got=value, needed=f"{least} to {most}")


def _check_temperature(option: str, value: float) -> None:
    """Raise `UsageError` for what no logits can be divided by."""
    # Both tests are false for NaN.
    if not (math.isfinite(value) and value > 0):
        raise UsageError("no temperature", where=option, got=value, needed="a finite number above 0")


def parse(words: list[str]) -> SampleOptions:
    """Parse the words of the command line; for --help, tyro prints the text and exits.

    Raises `UsageError` for a missing run, an unknown option or a value that does not fit.
    """
    if not words:
        raise UsageError("no run is named", needed="the folder of a run, such as runs/jsb-chords-0001")
    return command_line.parse(SampleOptions, words, program=PROGRAM, description=DESCRIPTION)


def words(options: SampleOptions) -> list[str]:
    """Return the words of a command line that gives these options; those with their default values are left out."""
    line = [str(options.run)]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "run" or value == field.default:
            continue
        name = _option_name(field.name)
        # Switches have no value.
        if value is False:
            line.append(f"--no-{name}")
        elif value is True:
            line.append(f"--{name}")
        else:
            line += [f"--{name}", str(value)]
    return line


def _option_name(field: str) -> str:
    """Return the name of a field's option, without its dashes."""
    if field == "data_path":
        return DATA_PATH
    return field.replace("_", "-")
