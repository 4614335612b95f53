"""Files that a command writes again: killed before any write and repeated, it ends as one that was left alone."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from jaxseq.common import files, written

OLD = {"table.csv": b"1,2", "figure.png": b"pixels", "kept.csv": b"3"}
NEW = {"table.csv": b"1,3", "figure.png": b"pixel", "kept.csv": b"3"}
Write = Callable[[Path, Mapping[str, bytes]], None]


class KilledError(BaseException):
    """End of the process before a write."""


def at_once(folder: Path, contents: Mapping[str, bytes]) -> None:
    written.write(folder / "record.json", contents, epoch=3)


def one_by_one(folder: Path, contents: Mapping[str, bytes]) -> None:
    outputs = written.Outputs(folder, pytest.fail)
    outputs.begin()
    for name, content in contents.items():
        outputs.write(name, content)


def killed_before(number: int, patch: pytest.MonkeyPatch) -> None:
    """Raise `KilledError` before a write of a whole file, counted from 0."""
    write_whole = files.write_whole
    count = iter(range(10**6))

    def write(path: Path, content: bytes, *options: object) -> None:
        if next(count) == number:
            raise KilledError
        write_whole(path, content, *options)

    patch.setattr(files, "write_whole", write)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("write", [at_once, one_by_one])
@pytest.mark.parametrize("earlier", [{}, OLD, NEW], ids=["absent", "changed", "equal"])
def test_a_call_that_is_killed_before_any_write_and_repeated_leaves_the_files_of_one_that_was_not(
    write: Write, earlier: Mapping[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if earlier:
            write(folder, earlier)
        return folder

    undisturbed = begun("undisturbed")
    write(undisturbed, NEW)
    # All of the three files and their record, at least.
    number = 0
    was_killed = True
    while was_killed:
        folder = begun(str(number))
        was_killed = False
        with monkeypatch.context() as patch:
            killed_before(number, patch)
            try:
                write(folder, NEW)
            except KilledError:
                was_killed = True
        write(folder, NEW)
        assert contents_of(folder) == contents_of(undisturbed)
        number += was_killed
    assert number > len(NEW)
