"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from jaxseq.common import figures, files, written
from jaxseq.common.errors import UsageError


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002, 0o077])
def test_a_file_replaces_an_older_one_and_has_the_permissions_of_new_files(tmp_path, umask):
    path = tmp_path / "report.md"
    former = os.umask(umask)
    try:
        for text in ("old", "new"):
            files.write_text(path, text)
    finally:
        os.umask(former)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o666 & ~umask
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
    for name in ("config.json", ".lock", ".config.personal", ".env.testing1", ".config.json.abcdefgh"):
        assert not files.TEMPORARY.fullmatch(name)


def test_a_name_as_long_as_a_file_system_allows_is_written(tmp_path):
    for name in ("n" * 250 + ".csv", "\N{GREEK SMALL LETTER ALPHA}" * 125 + ".csv"):
        files.write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_replaced_and_what_it_points_to_is_not_touched(tmp_path, exists):
    target = tmp_path / "target"
    if exists:
        target.write_text("canary")
    link = tmp_path / "report.md"
    link.symlink_to(target)
    files.write_text(link, "text")
    assert not link.is_symlink() and link.read_text() == "text"
    assert target.exists() is exists
    assert not exists or target.read_text() == "canary"


def test_a_pipe_is_replaced_and_not_written_to(tmp_path):
    """Opened, it would wait for a reader for ever."""
    pipe = tmp_path / "loss.png"
    os.mkfifo(pipe)
    files.write_text(pipe, "text")
    assert pipe.is_file() and pipe.read_text() == "text"


def test_the_home_folder_is_put_in_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert files.user_path("~/a") == files.user_path(Path("~/a")) == tmp_path / "home" / "a"
    assert files.user_path("~") == tmp_path / "home"
    assert files.user_path("runs/~/a") == Path("runs/~/a") and files.user_path("a~") == Path("a~")
    literal = files.user_path("./~/a")
    assert literal == tmp_path / "~" / "a" and files.user_path(literal) == literal


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "~nobody\0/x", "~nobody-of-that-name"])
def test_the_home_of_nobody_is_refused(path):
    with pytest.raises(UsageError) as caught:
        files.user_path(path)
    assert str(caught.value).isprintable()


def test_home_folders_are_looked_up_in_one_place():
    package = Path(files.__file__).parents[1]
    places = [path.relative_to(package) for path in package.rglob("*.py") if "expanduser" in path.read_text()]
    assert places == [Path("common/files.py")]


def refusal(path, overwrite=False, inputs=()):
    """The rule by which an output is refused, None if it is not."""
    try:
        files.check_output(path, "--out", overwrite, inputs)
    except UsageError as error:
        assert str(path) in error.where
        return error.rule
    return None


def test_an_existing_output_is_replaced_only_on_demand(tmp_path):
    file = tmp_path / "data.csv"
    assert refusal(file) is None and not file.exists()
    file.write_text("data")
    assert refusal(file) == "exists" and refusal(file, overwrite=True) is None
    for number, target in enumerate((file, tmp_path / "nothing")):
        link = tmp_path / f"link{number}.csv"
        link.symlink_to(target)
        assert refusal(link) == "exists" and refusal(link, overwrite=True) is None
    assert file.read_text() == "data" and len(list(tmp_path.iterdir())) == 3


def test_an_output_is_no_input_no_folder_and_no_device(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("data")
    same = tmp_path / "same.csv"
    same.hardlink_to(file)
    for path in (file, same, tmp_path / "." / "data.csv"):
        assert refusal(path, overwrite=True, inputs=[file]) == "is read here and would be overwritten"
    assert refusal(tmp_path, overwrite=True) == "is a folder"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/full")):
        assert refusal(path, overwrite=True) == "is no plain file"
    for path in (tmp_path / "nowhere" / "a.csv", file / "a.csv", tmp_path / ("a" * 300)):
        assert refusal(path, overwrite=True).startswith("cannot be written")


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


@pytest.mark.usefixtures("drawn")
def test_a_figure_has_the_format_of_its_suffix(tmp_path):
    for name, start in {"loss.png": b"\x89PNG", "loss.svg": b"<?xml"}.items():
        figures.save(Figure(), tmp_path / name)
        assert Path(tmp_path / name).read_bytes().startswith(start)


def test_what_a_killed_process_left_of_a_file_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    left = files.temporary_name("a.csv")
    others = {files.temporary_name("b.csv"), ".a.csv.other-01234567", ".a.csv"}
    for name in (left, *others):
        (tmp_path / name).write_bytes(b"half")
    written.write(tmp_path / "a.json", {"a.csv": b"whole"})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "a.csv", *others}
