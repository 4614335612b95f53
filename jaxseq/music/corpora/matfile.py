"""Cells of numeric arrays out of a MATLAB file of version 5 (or 7, which compresses), and nothing else of it.

scipy's reader knows the whole format, but a damaged file can end the process. The format: MathWorks, MAT-File Format.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable, size_of
from jaxseq.data.archive import LARGEST

HEADER = 128
MOST, MOST_AXES = 100_000, 32
"""Elements that stand one after the other, and axes of an array; a set of pieces has some hundreds, of two."""
MATRIX, COMPRESSED = 14, 15
CELL, NUMBERS = 1, range(6, 16)
"""Classes of arrays: cells, and all kinds of numbers."""
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How numbers are stored."""
_COMPLEX = 0x0800


class _Matrix(NamedTuple):
    name: str
    kind: int
    shape: tuple[int, ...]
    parts: list[tuple[int, bytes]]
    """The content: the cells, or the numbers."""


def read_cells(content: bytes, source: str) -> dict[str, list[Shaped[np.ndarray, "..."]]]:
    """The arrays in every variable that is an array of cells, column by column; other variables are left out.

    Raises `UsageError`, which opens with `source`, for a damaged file, and one that unpacks to too much.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or content.startswith(b"\x89HDF"):
        raise UsageError(f"{source} is no MATLAB file of version 5 or 7")
    found, left = {}, LARGEST
    try:
        for kind, body in _elements(content[HEADER:], order):
            if kind == COMPRESSED:
                kind, body, left = _unpacked(body, order, left, source)
            if kind == MATRIX and (matrix := _matrix(body, order)).kind == CELL:
                found[matrix.name] = _cells(matrix, order, f"{source}: {printable(matrix.name[:60])}")
    except (struct.error, zlib.error, UnicodeDecodeError, IndexError) as error:
        raise UsageError(f"{source} is a damaged MATLAB file ({error}): get it again") from error
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of all elements that stand one after the other."""
    place, number = 0, 0
    while place < len(data):
        if (number := number + 1) > MOST:
            raise struct.error(f"more than {MOST:,} elements in one")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start, step = place + 8, size if kind == COMPRESSED else size + -size % 8
        if kind >> 16:  # a short one: its size and content are in the same eight bytes
            kind, size, start, step = kind & 0xFFFF, kind >> 16, place + 4, 4
        if start + size > len(data):
            raise struct.error(f"an element of {size:,} bytes where {max(len(data) - start, 0):,} are left")
        yield kind, data[start : start + size]
        place = start + step


def _unpacked(body: bytes, order: str, left: int, source: str) -> tuple[int, bytes, int]:
    """The element within a compressed one, and how many bytes may still be unpacked."""
    unpacking = zlib.decompressobj()
    plain = unpacking.decompress(body, left + 1)
    if len(plain) > left:
        raise UsageError(f"{source} unpacks to more than {size_of(LARGEST)}, the most that is read")
    if not unpacking.eof:
        raise zlib.error("a compressed element breaks off")
    kind, inner = next(_elements(plain, order), (0, b""))
    return kind, inner, left - len(plain)


def _matrix(body: bytes, order: str) -> _Matrix:
    parts = list(_elements(body, order))
    if not parts:  # how an empty array is stored within cells
        return _Matrix("", NUMBERS[0], (0, 0), [])
    (_, flags), (_, sizes), (_, name) = parts[0], parts[1], parts[2]
    (word,) = struct.unpack_from(f"{order}I", flags)
    if len(sizes) > 4 * MOST_AXES:
        raise struct.error(f"an array of {len(sizes) // 4:,} axes")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind = -1 if word & _COMPLEX else word & 0xFF
    return _Matrix(name.decode("ascii"), kind, shape, parts[3:])


def _cells(matrix: _Matrix, order: str, source: str) -> list[Shaped[np.ndarray, "..."]]:
    if min(matrix.shape, default=0) < 0 or len(matrix.parts) != math.prod(matrix.shape):
        raise UsageError(f"{source} has {len(matrix.parts)} cells, but says it is {_by(matrix.shape)}")
    return [
        _numbers(_matrix(body, order) if kind == MATRIX else _Matrix("", -1, (), []), order, f"{source}, cell {number}")
        for number, (kind, body) in enumerate(matrix.parts, 1)
    ]


def _numbers(matrix: _Matrix, order: str, source: str) -> Shaped[np.ndarray, "..."]:
    if matrix.kind not in NUMBERS:
        raise UsageError(f"{source} is no array of real numbers")
    if not matrix.parts:
        return np.zeros((0, 0))
    kind, body = matrix.parts[0]
    if kind not in TYPES or min(matrix.shape, default=-1) < 0:
        raise UsageError(f"{source} is damaged: numbers of kind {kind} in {_by(matrix.shape)}")
    stored = np.dtype(order + TYPES[kind])
    if len(body) != math.prod(matrix.shape) * stored.itemsize:
        raise UsageError(f"{source} has {len(body):,} bytes of {stored}, but says it is {_by(matrix.shape)}")
    try:
        return np.frombuffer(body, stored).reshape(matrix.shape, order="F")
    except ValueError as error:  # axes of 0 beside others whose product is beyond all numbers
        raise UsageError(f"{source} is damaged: it says it is {_by(matrix.shape)}") from error


def _by(shape: Sequence[int]) -> str:
    return " by ".join(map(str, shape))
