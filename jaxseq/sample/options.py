"""The options of `python -m jaxseq.sample`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from jaxseq.common import command_line
from jaxseq.common.errors import UsageError

PROGRAM = "python -m jaxseq.sample"

MOST_SAMPLES = 1000
MOST_BARS = 200
MOST_SWEEPS = 10_000


SLOWEST = 10
FASTEST = 1000
"""Quarter notes a minute."""


SAMPLE_DESCRIPTION = """Compose with a run of chorales: MIDI, MusicXML, sound and pictures of each piece, beside Bach's own.

  python -m jaxseq.sample runs/jsb-chords-0001                              sixteen pieces of sixteen bars
  python -m jaxseq.sample RUN --prime chorale_305 --prime-bars 4            go on after the first bars of a piece
  python -m jaxseq.sample RUN --melody tune.mid --count 4                   harmonise a soprano
  python -m jaxseq.sample RUN --prime chorale_305 --keep soprano,bass       inner voices; RUN is one of fill or jsb-fill
  python -m jaxseq.sample RUN --prime piece.mid --redo 5-8                  four bars anew; RUN likewise"""


@dataclass(frozen=True)
class AskedSample:
    """What the user asked for."""

    run: tyro.conf.Positional[Path]
    """The folder of a run of chorales."""
    count: int = 16
    """Pieces to compose."""
    bars: int | None = None
    """Bars of each piece, a prime's among them; None for 16, or for those of what is given by --melody, --keep, --redo."""
    temperature: float = 1.0
    """Divides the logits: below 1 likelier notes come more often, above 1 less often."""
    top_k: int | None = None
    """Draw from the k likeliest notes alone."""
    top_p: float = 1.0
    """Draw from the fewest likeliest notes whose probabilities reach p (nucleus sampling)."""
    parallels: Literal["allow", "avoid"] = "allow"
    """avoid: never draw a note that makes parallel fifths, octaves or unisons with a voice above."""
    seed: int = 0
    """The same seed gives the same music."""
    prime: str = "none"
    """A piece of the run's data by name, or a MIDI file of four voices: what is gone on with, or what --keep and --redo
    change. none begins from nothing."""
    prime_bars: int = 2
    """Bars of --prime that are given."""
    melody: str | None = None
    """A soprano to harmonise: a MIDI file, or a piece of the run's data."""
    keep: str | None = None
    """Voices of --prime that stay, with commas: soprano,bass. The others are composed anew."""
    redo: str | None = None
    """Bars of --prime to compose anew, as 5-8 or 5; the rest stays."""
    sweeps: int = 128
    """Times that a model that fills gaps goes over its notes."""
    bpm: float = 84.0
    """Quarter notes a minute, for MIDI and sound."""
    score: bool = True
    """Engrave a score (needs jaxseq[score])."""
    out: Path | None = None
    """The folder; None for the next number in the run's folder, say RUN/samples-0001."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("count", self.count, MOST_SAMPLES),
            ("bars", self.bars, MOST_BARS),
            ("prime-bars", self.prime_bars, MOST_BARS),
            ("sweeps", self.sweeps, MOST_SWEEPS),
        ):
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"--{name} must be from 1 to {most}; it is {value}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"--temperature must be a finite number above 0; it is {self.temperature:g}")
        if not SLOWEST <= self.bpm <= FASTEST:
            raise UsageError(f"--bpm must be from {SLOWEST} to {FASTEST}; it is {self.bpm:g}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"--top-k must be at least 1; it is {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p must be above 0 and at most 1; it is {self.top_p:g}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to {2**32 - 1}; it is {self.seed}")


def parse_sample(words: list[str]) -> AskedSample:
    """What the words of `python -m jaxseq.sample` ask for; for --help, tyro prints it and exits.

    Raises `UsageError` for an unknown field or a value that cannot be.
    """
    if not words:
        raise UsageError(f"name the folder of a run: {PROGRAM} runs/jsb-chords-0001")
    return command_line.parse(AskedSample, words, program=PROGRAM, description=SAMPLE_DESCRIPTION)
