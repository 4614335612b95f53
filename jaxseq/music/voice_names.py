"""Names by which choirs of several countries call their voices, and programs a melody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "soprano": ("soprano", "sopran", "sop", "s", "cantus", "canto", "discant", "diskant", "treble", "dessus"),
        "alto": ("alto", "alt", "altus", "contralto", "a"),
        "tenor": ("tenor", "tenore", "ténor", "ten", "t"),
        "bass": ("bass", "basso", "bassus", "basse", "bajo", "b"),
    }
)
"""Names of the voices, in lower case."""
MELODIES = (
    *NAMES["soprano"][:3],
    "melody",
    "melodie",
    "mélodie",
    "melodia",
    "melodía",
    "tune",
    "lead",
    "cantus firmus",
)
SINGERS = ("voice", "voices", "vocal", "vocals", "gesang", "stimme", "voix", "chant", "voce", "voz", "song")
"""Names of a melody: those of `MELODIES` come first."""
NUMBER = re.compile(r"[\s._-]*(\d+|i{1,3})?\.?$")
"""What may follow a voice's name: Soprano 1, Alto II, S."""
LONGEST = 40
"""Letters of a name that are looked at."""


def voice_of(name: str) -> str | None:
    """Return the voice that a name means, "Sopran", "Alto 2" or "T."; None if it is no voice's."""
    word = _word(name)
    return next((voice for voice, names in NAMES.items() if word in names), None)


def likeness(name: str) -> int:
    """Return how surely a name is that of a melody: 2, 1, or 0 for any other."""
    word = _word(name)
    return 2 * (word in MELODIES) or int(word in SINGERS)


def _word(name: str) -> str:
    """Return a name in lower case, without the number of a voice."""
    # Bounded, since the time of the search grows with the square of the length.
    return NUMBER.sub("", name.strip()[:LONGEST].casefold())
