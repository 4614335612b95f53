"""Logs of JSON objects, one a line, each of which carries a sha256 of itself and of the seal of the line before.

A line that was changed, added, removed or moved is noticed, also while the log still grows. Lines that are missing at the
end are not: the log is then as it was left earlier. The seals are no signature, as in `sealed`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxseq.common import sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import SEAL, DamagedError


def lines(records: Iterable[Mapping[str, object]], seal_before: str | None) -> bytes:
    """Return records as the lines behind one with `seal_before`; behind a line without a seal, they have none either.

    Before the first line of a log stands a seal of the caller's choice.
    """
    texts = []
    for record in records:
        # JSON turns keys into texts, and the seal has to be that of what is read again.
        as_read = json.loads(json.dumps(record))
        if seal_before is not None:
            seal_before = _seal(as_read, seal_before)
            as_read[SEAL] = seal_before
        texts.append(json.dumps(as_read, separators=(",", ":")) + "\n")
    return "".join(texts).encode()


def last_seal(content: bytes, path: Path) -> str | None:
    """Return the seal of the last line of a log that has a line; None if the line has no seal.

    Raises `UsageError`, which names the file, for a line that is no record.
    """
    texts = whole(content).split(b"\n")[:-1]
    seal = _record(texts[-1], f"{path}, last line").get(SEAL)
    return None if seal is None else str(seal)


def whole(content: bytes) -> bytes:
    """Return the content of a log without an unfinished last line, which a kill may leave."""
    return content[: content.rfind(b"\n") + 1]


def check(content: bytes, path: Path, start: str) -> None:
    """Raise `UsageError`, which names the file and the line, unless the lines of a log are those that were written.

    start  the seal before the first line

    An unfinished last line is passed over. If the first line has no seal, as in the logs of earlier versions, no line may
    have one.
    """
    seal_before: str | None = start
    for number, text in enumerate(whole(content).split(b"\n")[:-1], 1):
        place = f"{path}, line {number}"
        record = _record(text, place)
        seal = record.pop(SEAL, None)
        if number == 1 and seal is None:
            seal_before = None
        elif seal_before is not None:
            seal_before = _seal(record, seal_before)
        if seal != seal_before:
            raise DamagedError(place, ["it was changed, or another line stood before it"])


def _seal(record: Mapping[str, object], seal_before: str) -> str:
    return sealed.digest({"before": seal_before, "record": record})


def _record(text: bytes, place: str) -> dict[str, object]:
    """Return the object in a line. Raises `UsageError` for anything else."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot be read: {error}", where=place) from error
    if not isinstance(record, dict):
        raise UsageError("not a JSON object", where=place, got=type(record).__name__, needed="an object")
    return record
