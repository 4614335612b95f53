"""The benchmark's chorales: the real archive where it is at hand, archives made here otherwise."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from bach import ARCHIVE
from hypothesis import given
from hypothesis import strategies as st
from served import Server

from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.data import archive
from jaxseq.data.archive import tar_members, zip_members
from jaxseq.data.download import FetchError
from jaxseq.music.corpora.jsb import NEAR_DUPLICATES, Jsb, parse
from jaxseq.music.tokens import encode
from jaxseq.sample import request
from jaxseq.train.domains.chorales import Composer
from jaxseq.train.experiments import named

HEADER = "note0,note1,note2,note3\n"
ROWS = HEADER + "74,70,65,58\n74,70,65,58\n0,70,64,58\n"
needs_archive = pytest.mark.skipif(not ARCHIVE.exists(), reason=f"needs {ARCHIVE}")


def packed(files, kinds=None):
    """A .tgz of {path: text}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.type = (kinds or {}).get(path, tarfile.REGTYPE)
            member.linkname = "/etc/passwd"
            body = text.encode() if isinstance(text, str) else text
            member.size = len(body) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(body))
    return stream.getvalue()


def three(text=ROWS, **files):
    parts = {"train/chorale_000.csv": ROWS, "valid/chorale_001.csv": text, "test/chorale_002.csv": ROWS}
    return packed({f"jsb/{path}": body for path, body in {**parts, **files}.items()})


def refusal(content, source="my.tgz"):
    with pytest.raises(UsageError) as caught:
        parse(content, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_archive
def test_the_benchmark_has_229_76_and_77_pieces_in_its_order():
    splits = Jsb(str(ARCHIVE)).load()
    assert [len(part) for part in splits] == [229, 76, 77]
    names = [piece.name for part in splits for piece in part]
    assert names == [f"chorale_{number:03}" for number in range(382)]


@needs_archive
def test_every_note_of_the_benchmark_is_in_the_vocabulary():
    splits = Jsb(str(ARCHIVE)).load()
    every = np.concatenate([piece.notes for part in splits for piece in part])
    assert every.shape == (92_536, 4)
    assert encode(every).max() == 46


@needs_archive
def test_the_first_rows_are_those_of_the_file():
    first = Jsb(str(ARCHIVE)).load().train[0]
    with tarfile.open(ARCHIVE) as tar:
        table = np.loadtxt(tar.extractfile("train/chorale_000.csv"), delimiter=",", skiprows=1, dtype=int)
    np.testing.assert_array_equal(first.notes, table)


@needs_archive
def test_near_duplicates_are_pieces_that_are_not_trained_on():
    splits = Jsb(str(ARCHIVE)).load()
    found = [{piece.name for piece in part} & set(NEAR_DUPLICATES) for part in splits]
    assert found == [set(), {"chorale_287", "chorale_303"}, {"chorale_374"}]


def test_a_piece_is_struck_where_its_pitch_changes():
    piece = parse(three(), "a").train[0]
    assert piece.notes.tolist() == [[74, 70, 65, 58], [74, 70, 65, 58], [0, 70, 64, 58]]
    assert piece.onsets.tolist() == [[True] * 4, [False] * 4, [False, False, True, False]]
    assert (piece.fifths, piece.minor, piece.positions.tolist()) == (None, None, [0, 1, 2])


def test_the_arrays_cannot_be_changed_by_one_user_for_all_others():
    piece = parse(three(), "a").train[0]
    for array in (piece.notes, piece.onsets, piece.positions, piece.fermatas):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("text", [ROWS.replace("\n", "\r\n"), ROWS.rstrip("\n"), ROWS.replace("65", "065")])
def test_line_ends_and_leading_zeros_are_all_the_same(text):
    np.testing.assert_array_equal(parse(three(text), "a").valid[0].notes, parse(three(), "a").valid[0].notes)


@pytest.mark.parametrize(
    ("text", "place", "got"),
    [
        ("", ", row 1", ""),
        (HEADER, "", ABSENT),
        ("s,a,t,b\n1,2,3,4\n", ", row 1", "s,a,t,b"),
        (HEADER + "1,2,3,4\n1,2,3\n", ", row 3", 3),
        (HEADER + "1,2,3,4\n\n", ", row 3", 1),
        (HEADER + "1,2,3,4\n1,2,x,4\n", ", row 3, column note2", "x"),
        (HEADER + "1,2,-3,4\n", ", row 2, column note2", "-3"),
        (HEADER + "1,2,60.0,4\n", ", row 2, column note2", "60.0"),
        (HEADER + "1,2,3, 4\n", ", row 2, column note3", " 4"),
        (HEADER + "1,2,3,4\n1,128,3,4\n", ", row 3, column note1", 128),
        (HEADER + "1,2,3,9999999999999999999999\n", ", row 2, column note3", "9999999999999999999999"),
        (HEADER + "1,2,3,4\x0c5,6,7,8\n", ", row 2", 7),
        (HEADER + "1,2,3,٤\n", "", ABSENT),
        (b"\x00\xff\x00", "", ABSENT),
        ("a\x1b[31m,b\n", ", row 1", "a\x1b[31m,b"),
    ],
)
def test_a_file_that_is_not_four_columns_of_notes_is_refused_by_member_row_and_column(text, place, got):
    with pytest.raises(UsageError) as caught:
        parse(three(text), "my.tgz")
    assert caught.value.where == f"my.tgz: jsb/valid/chorale_001.csv{place}"
    assert caught.value.got == got
    assert str(caught.value).isprintable()


def test_a_byte_that_is_no_text_is_named():
    assert "byte 2 is no text" in refusal(three(b"\x00\xff\x00"))


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_an_archive_without_a_part_is_refused(part):
    files = {f"{other}/a.csv": ROWS for other in ("train", "valid", "test") if other != part}
    assert f"my.tgz: no {part}/*.csv" in refusal(packed(files))


@pytest.mark.parametrize("name", ["/etc/a.csv", "../a.csv", "train/../../a.csv", "..\\a.csv", "c:/a.csv"])
def test_a_member_outside_of_the_archive_is_refused(name):
    assert f"member {name!r} points outside of the archive" in refusal(packed({name: ROWS}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_is_refused(kind):
    assert "member 'train/a.csv' is a link, a device" in refusal(packed({"train/a.csv": ""}, {"train/a.csv": kind}))


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 100_000)
    bomb = gzip.compress(bytes(200_000))
    assert len(bomb) < 1000
    assert "unpacks to more than 100,000 bytes" in refusal(bomb)


def test_an_archive_with_too_many_members_is_refused(monkeypatch):
    monkeypatch.setattr(archive, "MOST", 3)
    assert "has more than 3 members" in refusal(packed({f"train/{number}.csv": ROWS for number in range(4)}))


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", three()[:-20], gzip.compress(b"no tar" * 200), gzip.compress(b"")],
    ids=["empty", "no gzip", "cut off", "no tar", "empty gzip"],
)
def test_what_is_no_archive_is_refused(content):
    assert refusal(content).startswith(("my.tgz ", "my.tgz: no train"))


def test_a_path_that_cannot_be_read_is_refused_by_its_name(tmp_path):
    for path, said in [
        (tmp_path, "is a folder"),
        (tmp_path / "none.tgz", "does not exist"),
        ("a\0b", "cannot be read"),
    ]:
        with pytest.raises(UsageError, match=said) as caught:
            Jsb(str(path)).load()
        assert "give the archive jsb_chorales.tgz" in str(caught.value)
    with pytest.raises(UsageError, match="path is empty"):
        Jsb(" ")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 100)
    (tmp_path / "big.tgz").write_bytes(bytes(101))
    with pytest.raises(UsageError, match="has more than 100 bytes"):
        Jsb(str(tmp_path / "big.tgz")).load()


@needs_archive
def test_without_a_path_the_archive_is_downloaded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(ARCHIVE.read_bytes()) as server:
        monkeypatch.setenv("JAXSEQ_MIRROR", server.root)
        first = Jsb().load()
        assert server.asked == ["/jsb_chorales.tgz"]
    assert Jsb().load() is first
    assert [piece.name for piece in first.test[:1]] == ["chorale_305"]


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 300))
def test_damage_anywhere_is_a_usage_error_or_a_right_reading(noise, place, cut):
    sound = three()
    for content in (noise, sound[:place] + noise + sound[place + cut :], gzip.compress(noise)):
        try:
            splits = parse(content, "a")
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert all(((piece.notes >= 0) & (piece.notes <= 127)).all() for part in splits for piece in part)


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 300))
def test_damage_below_the_compression_is_a_usage_error_or_a_right_reading(noise, place, cut):
    sound = gzip.decompress(three())
    damaged = sound[:place] + noise + sound[place + cut :]
    try:
        list(tar_members(gzip.compress(damaged), "a"))
    except UsageError as error:
        assert "\n" not in str(error)
    try:
        list(zip_members(damaged, "a"))
    except UsageError as error:
        assert "\n" not in str(error)


def test_the_benchmarks_chorales_name_the_other_edition_and_sampling_the_place_of_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path / "cache"))
    # Nothing listens on the discard port.
    monkeypatch.setenv("JAXSEQ_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"--data\.path.*chorales, chords and fill .*music21"):
        Jsb().load()
    # A model composes without its data.
    error = request._pieces(Composer(named("jsb"), epoch=1, setup=None, state=None))
    assert f"put it at {tmp_path / 'cache' / 'jsb_chorales.tgz'}" in str(error)
    assert "or name it by --data.path" in str(error)


@needs_archive
def test_sampling_finds_data_that_have_moved(tmp_path):
    moved = Composer(named("jsb", data=Jsb(str(tmp_path / "gone.tgz"))), epoch=1, setup=None, state=None)
    missing = request._pieces(moved)
    assert isinstance(missing, UsageError) and "gone.tgz" in str(missing)
    assert len(request._pieces(moved, ARCHIVE).train) == 229
