"""The benchmark's piano rolls: the real file where it is at hand, files made here otherwise."""

import io
import struct
import zlib

import numpy as np
import pytest
from bach import ARCHIVE
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from served import Server

from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.music.corpora import matfile
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.corpora.pianoroll import LITERATURE, PianoRoll, parse

ROLLS = ARCHIVE.parent / "JSB_Chorales.mat"
needs_rolls = pytest.mark.skipif(not ROLLS.exists(), reason=f"needs {ROLLS}")


def cells(*rolls):
    array = np.empty((1, len(rolls)), object)
    array[0, :] = rolls
    return array


def some(frames=3, dtype=np.uint8):
    roll = np.zeros((frames, 88), dtype)
    roll[:, 39] = 1
    return roll


def stored(compressed=True, **variables):
    rolls = cells(some(), some(2))
    stream = io.BytesIO()
    parts = {"traindata": rolls, "validdata": rolls, "testdata": rolls, **variables}
    savemat(stream, {name: part for name, part in parts.items() if part is not None}, do_compression=compressed)
    return stream.getvalue()


@needs_rolls
def test_the_rolls_are_those_that_scipy_reads():
    theirs = loadmat(ROLLS)
    for name, part in zip(("traindata", "validdata", "testdata"), PianoRoll(str(ROLLS)).load(), strict=True):
        for roll, other in zip(part, theirs[name][0], strict=True):
            np.testing.assert_array_equal(roll, other)


def test_a_file_of_a_machine_with_the_other_order_of_bytes_is_the_same():
    flags, sizes, name = struct.pack(">IIII", 6, 8, 6, 0), struct.pack(">IIii", 5, 8, 2, 88), struct.pack(">II", 1, 0)
    numbers = np.eye(2, 88, dtype=">f8")
    cell = flags + sizes + name + struct.pack(">II", 9, numbers.nbytes) + numbers.tobytes("F")
    content = b"MATLAB".ljust(124) + b"\x01\x00MI"
    for variable in (b"traindata", b"validdata", b"testdata"):
        whole = struct.pack(">IIII", 6, 8, 1, 0) + struct.pack(">IIii", 5, 8, 1, 1)
        whole += (
            struct.pack(">II", 1, len(variable))
            + variable
            + bytes(-len(variable) % 8)
            + struct.pack(">II", 14, len(cell))
            + cell
        )
        content += struct.pack(">II", 14, len(whole)) + whole
    np.testing.assert_array_equal(parse(content, "a").valid[0], np.eye(2, 88))


def refusal(content):
    with pytest.raises(UsageError) as caught:
        parse(content, "my.mat")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_rolls
def test_the_benchmark_has_229_76_and_77_rolls():
    splits = PianoRoll(str(ROLLS)).load()
    assert [len(part) for part in splits] == [229, 76, 77]
    assert [sum(map(len, part)) for part in splits] == [13_807, 4_602, 4_725]
    assert {roll.shape[1] for part in splits for roll in part} == {88}


@needs_rolls
def test_published_results_stand_beside_the_benchmark_s_file_alone(tmp_path):
    other = tmp_path / "Nottingham.mat"
    other.write_bytes(stored())
    assert PianoRoll(str(ROLLS)).literature == PianoRoll().literature == LITERATURE
    assert PianoRoll(str(other)).literature is None


@needs_rolls
def test_keys_that_know_only_how_often_they_sound_reach_the_published_floor():
    splits = PianoRoll(str(ROLLS)).load()
    train, test = np.concatenate(splits.train), np.concatenate(splits.test)
    sounding = (train.sum(axis=0, dtype=np.float64) + 1) / (len(train) + 2)
    nats = -np.where(test == 1, np.log(sounding), np.log1p(-sounding)).sum(axis=1).mean()
    assert round(nats, 2) == 11.06


@needs_rolls
@pytest.mark.skipif(not ARCHIVE.exists(), reason=f"needs {ARCHIVE}")
def test_the_pieces_are_those_of_the_sixteenth_grid_in_another_order():
    for rolls, pieces in zip(PianoRoll(str(ROLLS)).load(), Jsb(str(ARCHIVE)).load(), strict=True):
        difference = np.subtract(sorted(map(len, rolls)), sorted(len(piece.notes) // 4 for piece in pieces))
        assert np.mean(difference == 0) > 0.8


@needs_rolls
def test_without_a_path_the_file_is_downloaded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(ROLLS.read_bytes()) as server:
        monkeypatch.setenv("JAXSEQ_MIRROR", server.root)
        first = PianoRoll().load()
        assert server.asked == ["/JSB_Chorales.mat"]
    assert PianoRoll().load() is first


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32])
def test_rolls_of_any_number_type_are_float32_and_read_only(compressed, dtype):
    splits = parse(stored(compressed, validdata=cells(some(4, dtype))), "a")
    np.testing.assert_array_equal(splits.valid[0], some(4).astype(np.float32), strict=True)
    with pytest.raises(ValueError, match="read-only"):
        splits.valid[0][0, 0] = 1


@pytest.mark.parametrize(
    ("part", "place", "got"),
    [
        (None, "my.mat", ABSENT),
        (cells(some(), np.zeros((5, 87))), "my.mat: validdata, piece 2", (5, 87)),
        (cells(np.zeros((0, 88)), some()), "my.mat: validdata, piece 1", (0, 88)),
        (cells(some(3), some(3) * 2), "my.mat: validdata, piece 2, frame 1, key 40", 2),
        (cells(some(3, float) / 2, some()), "my.mat: validdata, piece 1, frame 1, key 40", 0.5),
        (some(), "my.mat", ABSENT),
        (np.empty((1, 0), object), "my.mat: validdata", ABSENT),
    ],
)
def test_what_is_no_roll_is_refused_by_variable_piece_frame_and_key(part, place, got):
    with pytest.raises(UsageError) as caught:
        parse(stored(validdata=part), "my.mat")
    assert caught.value.where == place
    assert caught.value.got == got


def test_a_key_that_is_no_number_is_refused_by_its_place():
    assert "validdata, piece 1, frame 1, key 1: " in refusal(stored(validdata=cells(some(3, float) * np.nan, some())))


@pytest.mark.parametrize(("part", "cell"), [(cells(some(), "chorale"), 2), (cells(some() * 1j, some()), 1)])
def test_a_cell_without_real_numbers_is_refused_by_its_place(part, cell):
    assert f"my.mat: validdata, cell {cell} is no array of real numbers" in refusal(stored(validdata=part))


@pytest.mark.parametrize("content", [b"", b"no mat", stored()[:-300], b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_what_is_no_mat_file_is_refused(content):
    assert refusal(content).startswith(("my.mat is no MATLAB file of version 5", "my.mat is a damaged MATLAB file ("))


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_does(monkeypatch):
    monkeypatch.setattr(matfile, "LARGEST", 100_000)
    packed = zlib.compress(bytes(200_000))
    bomb = b"MATLAB".ljust(124) + struct.pack("<H2sII", 0x100, b"IM", 15, len(packed)) + packed
    assert refusal(bomb) == "my.mat unpacks to more than 100,000 bytes, the most that is read"


def test_a_path_that_cannot_be_read_is_refused_by_its_name(tmp_path):
    with pytest.raises(UsageError, match=r"does not exist: give a \.mat file with traindata, validdata and testdata"):
        PianoRoll(str(tmp_path / "none.mat")).load()
    with pytest.raises(UsageError, match="path is empty"):
        PianoRoll("")


@given(st.booleans(), st.binary(max_size=40), st.integers(0, 2000), st.integers(0, 60))
def test_damage_anywhere_is_a_usage_error_or_rolls(compressed, noise, place, cut):
    sound = stored(compressed)
    place %= len(sound)
    try:
        splits = parse(sound[:place] + noise + sound[place + cut :], "a")
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isin(roll, (0, 1)).all() for part in splits for roll in part)
