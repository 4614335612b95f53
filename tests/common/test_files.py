"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from jaxseq.common import figures, files
from jaxseq.common.errors import UsageError


def test_a_file_replaces_an_older_one_and_everybody_may_read_it(tmp_path):
    path = tmp_path / "report.md"
    for text in ("old", "new"):
        files.write_text(path, text)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.md"
    files.write_text(path, "old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageError, match="No space left on device"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_is_known_by_its_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.extend(path.name for path in tmp_path.iterdir()))
    files.write_text(tmp_path / "config.json", "{}")
    assert len(seen) == 1 and files.TEMPORARY.fullmatch(seen[0])
    assert not files.TEMPORARY.fullmatch("config.json") and not files.TEMPORARY.fullmatch(".lock")


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(pipe, "text")
    assert os.read(reader, 10) == b"text" and pipe.is_fifo()
    os.close(reader)


@pytest.mark.parametrize("content", ["[]", "{", "", "[" * 100_000])
def test_a_file_without_an_object_is_refused_by_name(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"config\.json"):
        files.read_json(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_JSON", 5)
    files.write_json(tmp_path / "config.json", {"epochs": 3})
    with pytest.raises(UsageError, match="at most 5 are read"):
        files.read_json(tmp_path / "config.json")


def test_a_figure_has_the_format_of_its_suffix(tmp_path):
    for name, start in {"loss.png": b"\x89PNG", "loss.svg": b"<?xml"}.items():
        figures.save(Figure(), tmp_path / name)
        assert Path(tmp_path / name).read_bytes().startswith(start)
