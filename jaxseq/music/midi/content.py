"""The bytes of a MIDI file: read within bounds, and mended where other programs leave what mido refuses."""

from __future__ import annotations

import io
import re
import stat
from pathlib import Path
from typing import NamedTuple

import mido

from jaxseq.common.errors import UsageError

MOST_BYTES = 500_000
"""A chorale has about ten thousand."""
LONGEST_WAIT = 2**28 - 1
"""Ticks between two messages that the format allows."""
NO_END = re.compile(rb"[\x80-\xff]{1000}")
"""A number that goes on and on: each byte says that another follows."""
KEY_SIGNATURE = re.compile(rb"\xff\x59\x02(..)", re.DOTALL)
"""The message of a key: sharps as a signed byte, then 0 for major and 1 for minor."""
PADDING = bytes(4)
"""Name of a chunk in the zeros that some programs write after the last track."""
MOST_REMARKS = 3
"""Remarks on parts, and on keys, that are left out."""
HEADER = 8
"""Bytes of a chunk before its content: a name of four letters and a length."""


class Content(NamedTuple):
    """A file as mido has it, and what was left out of it: a sentence each."""

    file: mido.MidiFile
    said: tuple[str, ...]


def read(path: Path) -> Content:
    """Read a MIDI file of format 0 or 1. Raises `UsageError`, naming the file, for anything else."""
    content, said = _mended(_bytes(path))
    if NO_END.search(content):
        raise UsageError(f"{path}: damaged: a number of more than 1000 bytes")

    try:
        file = _decoded(content, path, clip=False)
    except UsageError as error:
        # Seldom: a velocity or a controller above 127.
        if "data byte" not in str(error):
            raise
        file = _decoded(content, path, clip=True)
        said.append("values above 127 taken as 127")
    _check(file, path)
    return Content(file, tuple(said))


def _bytes(path: Path) -> bytes:
    try:
        if not (path.is_dir() or stat.S_ISREG(path.stat().st_mode)):  # a pipe may never end
            raise OSError(0, "no regular file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not content:
        raise UsageError(f"{path}: the file is empty")
    if not content.startswith(b"MThd"):
        raise UsageError(f"{path}: no MIDI file: it begins with {content[:4]!r}, and not with {b'MThd'!r}")
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path}: more than {MOST_BYTES} bytes; that is no chorale")
    return content


def _mended(content: bytes) -> tuple[bytes, list[str]]:
    """Leave out chunks that the format does not know, as it asks readers to, and key signatures that are none."""
    kinds = []
    chunks = []
    place = 0
    while place + HEADER <= len(content):
        name = content[place : place + 4]
        length = int.from_bytes(content[place + 4 : place + HEADER], "big")
        end = place + HEADER + length
        # What is cut short, or no chunk at all, is damage: mido says which. Zeros after the last track are harmless.
        if end > len(content) or not name.isascii() or name == PADDING:
            break
        if name in (b"MThd", b"MTrk"):
            chunks.append(content[place:end])
        else:
            kinds.append(f"left out: a part of the kind {name.decode()!r}")
        place = end
    chunks.append(content[place:])

    keys = []

    def checked(key: re.Match[bytes]) -> bytes:
        sharps = int.from_bytes(key[1][:1], "big", signed=True)
        if abs(sharps) <= 7 and key[1][1] <= 1:
            return key[0]
        keys.append(f"left out: a key signature of {sharps} sharps and mode {key[1][1]}")
        # A text of two letters takes its place, so that all else stays where it is.
        return b"\xff\x01\x02??"

    mended = KEY_SIGNATURE.sub(checked, b"".join(chunks))
    return mended, [*_few(kinds, "other kinds of parts"), *_few(keys, "other key signatures")]


def _few(remarks: list[str], others: str) -> list[str]:
    """Return each remark once, and the number of those after the first `MOST_REMARKS`."""
    different = list(dict.fromkeys(remarks))
    further = len(different) - MOST_REMARKS
    if further <= 0:
        return different
    return [*different[:MOST_REMARKS], f"left out: {further:,} {others}"]


def _decoded(content: bytes, path: Path, clip: bool) -> mido.MidiFile:
    try:
        return mido.MidiFile(file=io.BytesIO(content), clip=clip)
    except EOFError as error:
        raise UsageError(f"{path}: damaged: the file ends within a track ({len(content)} bytes)") from error
    except Exception as error:  # mido promises no kind of exception for a file that breaks the format
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: damaged: {reason}") from error


def _check(file: mido.MidiFile, path: Path) -> None:
    """Raise `UsageError` for a format or a resolution that cannot be read, and for times beyond the format's."""
    if file.type not in (0, 1):
        raise UsageError(f"{path}: MIDI format {file.type}; formats 0 and 1 can be read")
    if file.ticks_per_beat < 0:
        raise UsageError(
            f"{path}: times are SMPTE frames and not beats; save it with a resolution in ticks per quarter"
        )
    if file.ticks_per_beat == 0:
        raise UsageError(f"{path}: damaged: 0 ticks per quarter note, at least 1 is needed")
    for number, track in enumerate(file.tracks, start=1):
        wait = max((message.time for message in track), default=0)
        if wait > LONGEST_WAIT:
            much = f"{wait} ticks" if wait < 10**12 else "more than 10^12 ticks"
            raise UsageError(f"{path}: damaged: track {number} waits {much} for a message, {LONGEST_WAIT} at most")
