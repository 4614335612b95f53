"""Logs whose lines are sealed: what is noticed, and what is not."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from jaxseq.common import sealed_lines
from jaxseq.common.errors import UsageError

PATH = Path("some.log")
START = "some log"
RECORDS = [
    {"step": step, "value": value, "of": {"1": None}} for step, value in enumerate((0.1, float("inf"), -0.0, 1e-9))
]
LINES = sealed_lines.lines(RECORDS, START).splitlines(keepends=True)


def first_fault(lines: list[bytes]) -> int | None:
    """Return the number of the line that is refused; None if none is."""
    try:
        sealed_lines.check(b"".join(lines), PATH, START)
    except UsageError as error:
        place, number = str(error.where).split(", line ")
        assert place == "some.log"
        return int(number)
    return None


def test_lines_are_read_back_and_may_be_fewer() -> None:
    for count in range(len(LINES) + 1):
        assert first_fault(LINES[:count]) is None
        assert first_fault([*LINES[:count], b'{"step"']) is None
        seal = sealed_lines.last_seal(b"".join(LINES[:count]), PATH) if count else START
        assert sealed_lines.lines(RECORDS[count:], seal) == b"".join(LINES[count:])
    for line, record in zip(LINES, RECORDS, strict=True):
        assert json.loads(line) == {**record, "sha256": json.loads(line)["sha256"]}


def test_lines_that_are_added_removed_or_moved_are_refused() -> None:
    for place in range(len(LINES)):
        for other in range(len(LINES) + 1):
            # Of two that are alike, the first one is in its place.
            index = place + 1 if other == place else other
            assert first_fault([*LINES[:other], LINES[place], *LINES[other:]]) == index + 1
    for place in range(len(LINES) - 1):
        assert first_fault(LINES[:place] + LINES[place + 1 :]) == place + 1
    for first, second in combinations(range(len(LINES)), 2):
        exchanged = list(LINES)
        exchanged[first], exchanged[second] = LINES[second], LINES[first]
        assert first_fault(exchanged) == first + 1


def test_every_character_of_a_line_counts() -> None:
    for number, line in enumerate(LINES, 1):
        for place in range(len(line) - 1):
            changed = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
            assert first_fault([*LINES[: number - 1], changed, *LINES[number:]]) in (number, number + 1)


@pytest.mark.parametrize("line", [b"1\n", b"[" * 100_000 + b"\n", b"\n", b"\xff\xfe\n", b"{}{}\n"])
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    assert first_fault([*LINES, line]) == len(LINES) + 1
    with pytest.raises(UsageError, match=r"some\.log, last line"):
        sealed_lines.last_seal(line, PATH)


def test_a_log_without_seals_stays_without_them() -> None:
    plain = [json.dumps(record).encode() + b"\n" for record in RECORDS]
    assert first_fault(plain) is None
    assert sealed_lines.last_seal(b"".join(plain), PATH) is None
    assert b"sha256" not in sealed_lines.lines(RECORDS, None)
    assert first_fault([*plain, LINES[0]]) == len(plain) + 1
    assert first_fault([*LINES, plain[0]]) == len(LINES) + 1


def test_a_log_is_known_by_its_start() -> None:
    assert first_fault(sealed_lines.lines(RECORDS, "another log").splitlines(keepends=True)) == 1
