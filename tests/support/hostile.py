"""Hostile files: for every reader small sound ones, made here, and what damage and malice make of them.

`python tests/support/hostile.py READER INPUTS SECONDS SEED FOLDER` tries one reader in a process of its own, with 2 GiB of
memory, and prints what came of it as JSON.
"""

import functools
import gzip
import io
import json
import os
import random
import re
import resource
import signal
import struct
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from scores import attributes, compressed, note, score

from jaxseq.common.errors import UsageError
from jaxseq.data import archive
from jaxseq.data.tables import read
from jaxseq.data.yahoo import quotes
from jaxseq.music.corpora import chorale_cache, jsb, music21_corpus, musicxml, pianoroll
from jaxseq.music.midi import read as midi_read
from jaxseq.music.midi.write import midi
from jaxseq.music.piece import from_notes

LONGEST_MESSAGE, LONGEST_SECONDS, MEMORY = 2000, 10, 2 * 2**30
WEIRD = [
    -1,
    0,
    2**31,
    2**63,
    -(2**70),
    10**400,
    0.1,
    1e400,
    float("nan"),
    1e-320,
    "",
    "\n",
    "\ud800",
    "../../x",
    "/etc",
]
WEIRD += ["x" * 1500, "a\0b", None, True, [], {}, [1], [[]], {"a": 1}, ["a\nb", 2], "none", "gru", "\x1b[31m"]


class Reader(NamedTuple):
    """What is read, and what may be made of it.

    read   takes bytes, a folder and a source of chance; asserts that what it returns can be
    seeds  sound content, each with how it is packed after it was damaged
    words  what the format is made of
    more   another way to make an input, if damage and words do not reach everything
    """

    read: Callable[[bytes, Path, random.Random], object]
    seeds: Callable[[], list[tuple[bytes, Callable[[bytes], bytes]]]]
    words: tuple[bytes, ...] = ()
    more: Callable[[random.Random], bytes] | None = None


class Hang(BaseException):
    """An input takes longer than `LONGEST_SECONDS`."""


def as_it_is(content):
    return content


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


# Tables

CSV = b"date,store,sales,price\n" + b"".join(
    b"2020-01-%02d,%s,%d.5,%d\n" % (day, store, day, 7 * day) for store in (b"a", b"b") for day in range(1, 9)
)
ODD = b"\xef\xbb\xbfDatum;Wert\r\n" + b"".join(b'%02d.01.2020;"%d,25"\r\n' % (day, day) for day in range(1, 20))
WORDS = (
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b'"',
    b"nan",
    b"inf",
    b"-1e400",
    b"2020-13-01",
    b"9999-12-31",
    b"2020-01-01T00Z",
)
WORDS += (
    b"0",
    b"1,000",
    b" ",
    b"\0",
    b"\xff",
    b"\x85",
    "٣".encode(),
    b"sales",
    b"date",
    b"a" * 300,
    b"1" * 400,
    b"NaT",
)


def read_table(suffix, content, folder, chance):
    path = put(folder, f"any{suffix}", content)
    options = {"missing": chance.choice(read.MISSING), "series": chance.choice([None, "store"])}
    options |= {"column": chance.choice([None, "sales"]), "time": chance.choice([None, "rows", "date"])}
    check_table(read.read(path, read.Options(**options)))


def check_table(found):
    for times, values in found.series:
        assert len(times) == len(values) > 0 and np.isfinite(values).all() and (times[1:] > times[:-1]).all()


def text_tables():
    return [(CSV, as_it_is), (ODD, as_it_is), (CSV.replace(b",", b"\t"), as_it_is)]


def packed_tables():
    return [(gzip.compress(CSV, mtime=0), as_it_is), (CSV, PRESS)]


def parquet_tables():
    import pyarrow  # noqa: F401

    frame = pd.read_csv(io.BytesIO(CSV))
    frames = [frame, frame.assign(date=pd.to_datetime(frame["date"])), frame.assign(sales=frame["sales"].astype(str))]
    made = [
        frame.to_parquet(compression=kind, row_group_size=size)
        for frame in frames
        for kind, size in (("snappy", 100), ("gzip", 5), (None, 100))
    ]
    return [(content, as_it_is) for content in made]


# Music

FULL = attributes() + note("C4", 8) + note("D#4", 8)
TIED = attributes(divisions=2) + note("C5", 4, '<tie type="start"/><notations><fermata/></notations>') + note(None, 4)
SCORE = score([FULL, note("E4", 16), TIED + '<barline><repeat direction="backward"/></barline>'])
XML = (
    b"<note>",
    b"</note>",
    b"<backup><duration>9</duration></backup>",
    b"<duration>",
    b"1e9",
    b"999999999",
    b"0.000001",
)
XML += (
    b"<!ENTITY a 'b'>",
    b"&a;",
    b"&#0;",
    b"<!DOCTYPE",
    b"[",
    b"]>",
    b"<![CDATA[",
    b"<!--",
    b' xmlns="u"',
    b"\xff\xfe",
    b"<a>",
)
XML += (
    b'<?xml version="1.0" encoding="utf-16"?>',
    b"<measure>",
    b"</measure>",
    b"<grace/>",
    b"<chord/>",
    b"<divisions>0</divisions>",
)


def check_piece(piece):
    assert ((piece.notes >= 0) & (piece.notes <= 127)).all() and piece.notes.shape == piece.onsets.shape
    assert len(piece.positions) == len(piece.fermatas) == len(piece.notes) > 0


def read_score(content, folder, chance):
    chorale = musicxml.read_chorale(content, "any", "any.mxl")
    if chorale is not None:
        check_piece(chorale.piece)


def zipped(files, kind=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content, kind)
    return stream.getvalue()


def wheel(content=SCORE):
    return zipped(
        {"music21/corpus/bach/bwv1.xml": content, "music21/corpus/bach/bwv2.mxl": compressed(SCORE), "a/b": b""}
    )


def read_wheel(content, folder, chance):
    found = music21_corpus.load(str(put(folder, "any.whl", content)), {"bwv1": "test"}, folder / "cache")
    for chorale in found.chorales:
        check_piece(chorale.piece)


@functools.cache
def read_cache():
    scores = music21_corpus.Scores("any", "", lambda: [("bwv1.xml", SCORE), ("bwv2.xml", score([FULL]))])
    return chorale_cache.to_bytes(music21_corpus.read(scores, {"bwv1": "test"}))


def other_array(name, chance):
    """What is kept, with one array of another kind, shape or content."""
    with np.load(io.BytesIO(read_cache())) as stored:
        arrays = dict(stored)
    old = arrays[name]
    new = chance.choice(
        [old[:-1], old[:0], -old if old.dtype.kind in "iu" else old[None], old.astype("U9"), np.array(7)]
    )
    stream = io.BytesIO()
    np.savez(stream, **{**arrays, name: new, chance.choice(["notes", "extra"]): old})
    return stream.getvalue()


def read_kept(content, folder, chance):
    found = chorale_cache.read_cache(put(folder, "any.npz", content))
    if found is None:
        raise UsageError("any.npz: read again")
    for chorale, part in zip(found.chorales, found.parts, strict=True):
        check_piece(chorale.piece)
        assert part in ("train", "valid", "test") and chorale.piece.notes[chorale.played].shape[1] == 4


NOTES = b"note0,note1,note2,note3\n74,70,65,58\n74,70,65,58\n0,70,64,58\n"


PRESS = functools.partial(gzip.compress, mtime=0)


def tgz(content=NOTES, pack=PRESS, format=tarfile.PAX_FORMAT, prefix="jsb/"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for part in ("train", "valid", "test"):
            member = tarfile.TarInfo(f"{prefix}{part}/chorale_{len(part)}.csv")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return pack(stream.getvalue())


def read_tgz(content, folder, chance):
    for part in jsb.parse(content, "any.tgz"):
        for piece in part:
            check_piece(piece)


def tars():
    long = "d" * 120 + "/"
    plain = [tgz(pack=as_it_is, format=kind, prefix=long) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    return [(NOTES, tgz), (tgz(), as_it_is), *((content, PRESS) for content in plain), (tgz(pack=as_it_is), PRESS)]


def read_zip(content, folder, chance):
    for name, body in archive.zip_members(content, "any.zip", 2**20):
        assert not name.startswith("/") and ".." not in name.split("/") and len(body) <= 2**20


def zips():
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [(zipped({"a.xml": b"a" * 300, "b/c": b"\0" * 50}, kind), as_it_is) for kind in kinds]


def rolls(compression=True):
    from scipy.io import savemat

    cell = np.empty((1, 2), object)
    cell[0, :] = [np.eye(3, 88, dtype=np.uint8), np.eye(2, 88)]
    stream = io.BytesIO()
    savemat(stream, dict.fromkeys(("traindata", "validdata", "testdata"), cell), do_compression=compression)
    return stream.getvalue()


def read_mat(content, folder, chance):
    for part in pianoroll.parse(content, "any.mat"):
        assert all(roll.shape[1] == 88 and np.isin(roll, (0, 1)).all() for roll in part)


NUMBERS = tuple(
    struct.pack(f"<{kind}", value) for kind, value in (("I", 2**31 - 1), ("I", 2**32 - 1), ("I", 0), ("q", -1))
)


def tune(**changes):
    piece = from_notes("any", np.array([[72, 67, 64, 48]] * 8 + [[74, 67, 0, 43]] * 8))
    return midi(piece._replace(**changes))


def read_midi(content, folder, chance):
    path = put(folder, "any.mid", content)
    if chance.random() < 0.5:
        check_piece(midi_read.read(path).piece)
    else:
        found = midi_read.read_melody(path)
        assert ((found.notes >= 0) & (found.notes <= 127)).all() and len(found.notes) == len(found.positions)


# What was downloaded, and runs

REQUEST = quotes.Request("ABC", date(2020, 1, 1), None, date(2020, 2, 1))
PRICES = b"date,close,adj_close\n2020-01-02,1.5,1.25\n2020-01-03,2.5,1e-05\n"
RECORD = {"format": 1, **REQUEST.identity, "fetched": "2020-02-01", "currency": "USD", "dropped": 0, "yfinance": "1"}


def sealed_prices(body, record=RECORD):
    head = {**record, "sha256": quotes.digest(record, body)}
    return b"# " + json.dumps(head).encode() + b"\n" + body


def odd_prices(chance):
    record = {**RECORD, chance.choice(list(RECORD)): chance.choice(WEIRD)}
    return sealed_prices(damaged(PRICES, chance, WORDS) if chance.random() < 0.5 else PRICES, record)


def read_prices(content, folder, chance):
    found, damage = quotes.read(put(folder, "any.csv", content), REQUEST)
    if found is None:
        raise UsageError(damage)
    assert np.isfinite(found.series().values).all() and found.dropped >= 0 and found.currency.isprintable()


def answer(chance):
    """What Yahoo says, with something odd in it."""
    from fake_yahoo import chart, trading_days

    found = chart("ABC", trading_days(count=5))
    return json.dumps(odd_within(found if isinstance(found, dict) else json.loads(found), chance)).encode()


@functools.cache
def answers():
    from fake_yahoo import chart, trading_days

    found = chart("ABC", trading_days(count=5))
    return [(json.dumps(found).encode() if isinstance(found, dict) else found.encode(), as_it_is)]


def read_answer(content, folder, chance):
    from curl_cffi import requests

    from jaxseq.data.yahoo import client

    class Session(requests.Session):
        def request(self, method, url, **options):
            response = requests.Response()
            response.url, response.status_code, response.content = url, chance.choice([200, 200, 200, 404]), content
            return response

    ticker = f"T{chance.randrange(10**9)}"
    connection = client.Connection(Session(), attempt=float(LONGEST_SECONDS), pause=0.0)
    found = client.fetch(
        ticker, "2024-01-01", "2024-02-01", connection=connection, cache=folder / "cache", today=date(2024, 6, 3)
    )
    (folder / "cache" / f"{ticker}_2024-01-01_2024-02-01.csv").unlink()
    assert np.isfinite(found.close).all() and found.currency.isprintable() and len(found.dates)


def odd_within(value, chance):
    """A value with another one somewhere in it."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        fate = chance.random()
        if fate < 0.05:
            return {name: value[name] for name in value if name != key}
        if fate < 0.1:
            return {**value, chance.choice(["a\nb", "x" * 1500, "", "\ud800"]): 1}
        return {**value, key: odd_within(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], odd_within(value[at], chance), *value[at + 1 :]]
    weird = chance.choice(WEIRD)
    return int("9" * 4000) if weird == 10**400 and chance.random() < 0.2 else weird


@functools.cache
def configs():
    from jaxseq.train.experiments import EXPERIMENTS, to_config

    return [(json.dumps({"format": 1, **to_config(one)}).encode(), as_it_is) for one in EXPERIMENTS.values()]


def odd_config(chance):
    config = json.loads(chance.choice(configs())[0])
    for _ in range(chance.choice([1, 1, 2])):
        config = odd_within(config, chance)
    return json.dumps(config).encode()


def read_config(content, folder, chance):
    from jaxseq.checkpoint import run_seal
    from jaxseq.train import run_folder
    from jaxseq.train.experiments import from_config, to_config
    from jaxseq.train.experiments.config import BESIDE_THE_FIELDS

    path = put(folder, run_seal.CONFIG, content)
    found = run_folder.read_config(folder)
    recipe = to_config(from_config(found, str(path)))

    def same(mine, theirs):
        if isinstance(theirs, dict) and isinstance(mine, dict):
            return all(same(mine[name], value) for name, value in theirs.items() if name not in BESIDE_THE_FIELDS)
        return mine == theirs or json.dumps(mine) == json.dumps(theirs)

    assert same(recipe, found)


def metrics():
    rows = [{"epoch": number, "train": 1 / number, "valid": float("nan"), "seconds": 1} for number in (1, 2, 3)]
    return [("".join(json.dumps(row) + "\n" for row in rows).encode(), as_it_is)]


def read_metrics(content, folder, chance):
    from jaxseq.checkpoint import run_seal
    from jaxseq.train import run_folder

    put(folder, run_seal.METRICS, content)
    for row in run_folder.read_metrics(folder):
        assert type(row["epoch"]) is int and all(type(value) in (int, float) for value in row.values())


def records_file():
    from jaxseq.common import sealed

    record = sealed.seal(metrics={"valid": 0.5}, best="valid", leaves=[["params/a", [1, 2], "float32", "0" * 64]])
    return [(json.dumps({"custom_metadata": record, "metrics": {}}).encode(), as_it_is)]


def odd_record(chance):
    from jaxseq.common import sealed

    ((content, _),) = records_file()
    record = json.loads(content)["custom_metadata"]
    del record["sha256"]
    made = odd_within(record, chance)
    made = made if isinstance(made, dict) else {}
    return json.dumps({"custom_metadata": {**made, "sha256": sealed.digest(made)}}).encode()


def read_record(content, folder, chance):
    from jaxseq.checkpoint import records

    epoch = folder / "checkpoints" / "1"
    epoch.mkdir(parents=True, exist_ok=True)
    put(epoch, "_CHECKPOINT_METADATA", content)
    record = records.record_of(epoch.parent, 1)
    assert isinstance(record, dict)


JSON = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"1e400",
    b"NaN",
    b"-Infinity",
    b"null",
    b"1" * 5000,
    b"\\ud800",
    b"[" * 5000,
)

READERS = {
    "csv": Reader(functools.partial(read_table, ".csv"), text_tables, WORDS),
    "csv.gz": Reader(functools.partial(read_table, ".csv.gz"), packed_tables, WORDS),
    "parquet": Reader(functools.partial(read_table, ".parquet"), parquet_tables, NUMBERS),
    "musicxml": Reader(read_score, lambda: [(SCORE, as_it_is)], XML),
    "mxl": Reader(read_score, lambda: [(compressed(SCORE), as_it_is), (SCORE, compressed)], XML),
    "wheel": Reader(read_wheel, lambda: [(wheel(), as_it_is), (SCORE, wheel)], XML),
    "corpus-cache": Reader(
        read_kept,
        lambda: [(read_cache(), as_it_is)],
        NUMBERS,
        lambda chance: other_array(chance.choice(sorted(chorale_cache.KINDS)), chance),
    ),
    "zip": Reader(read_zip, zips, (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"../", b"/", *NUMBERS)),
    "tgz": Reader(
        read_tgz, tars, (b"\n", b",", b"128", b"\0" * 512, b"../", b"30 path=/etc/x\n", b"x", b"L", *NUMBERS)
    ),
    "mat": Reader(read_mat, lambda: [(rolls(), as_it_is), (rolls(False), as_it_is)], NUMBERS),
    "midi": Reader(
        read_midi,
        lambda: [(tune(), as_it_is), (tune(fifths=-3, minor=True), as_it_is)],
        (
            b"MTrk",
            b"MThd",
            b"\xff\x58\4\xff\xff\0\0",
            b"\xff\x51\3\0\0\0",
            b"\x7f\xff\xff\xff",
            b"\x90\x40\x40",
            b"\xf0",
        ),
    ),
    "prices": Reader(
        read_prices, lambda: [(sealed_prices(PRICES), as_it_is), (PRICES, sealed_prices)], WORDS, odd_prices
    ),
    "yahoo": Reader(read_answer, answers, JSON, answer),
    "config": Reader(read_config, configs, JSON, odd_config),
    "metrics": Reader(read_metrics, metrics, JSON),
    "record": Reader(read_record, records_file, JSON, odd_record),
}


# Damage


def damaged(content, chance, words, other=b""):
    """The content with one to four faults: bits and bytes changed, pieces lost, doubled, moved, or put in."""
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        size = len(content)
        at, to = sorted((chance.randrange(size + 1), chance.randrange(size + 1)))
        to = min(to, at + chance.choice([1, 2, 8, 60, size]))
        kind = chance.randrange(8)
        if kind <= 1 and at < size:
            new = content[at] ^ (1 << chance.randrange(8)) if kind else chance.choice([0, 1, 127, 128, 255])
            content = content[:at] + bytes([new]) + content[at + 1 :]
        elif kind == 2:
            content = content[:at] if chance.random() < 0.5 else content[:at] + content[to:]
        elif kind == 3:
            content = content[:to] + content[at:to] * chance.choice([1, 1, 3]) + content[to:]
        elif kind == 4:
            begin = chance.randrange(len(other) + 1)
            content = content[:at] + other[begin : begin + chance.choice([4, 40, 400])] + content[to:]
        elif kind == 5 and words:
            content = content[:at] + chance.choice(words) + content[at if chance.random() < 0.5 else to :]
        elif kind == 6 and (found := list(re.finditer(rb"[0-9]+", content))):
            number, digits = (
                chance.choice(found).span(),
                chance.choice([b"0", b"-1", b"2147483648", b"99999999999999999999"]),
            )
            content = content[: number[0]] + digits + content[number[1] :]
        elif kind == 7:
            content = content[:at] + chance.randbytes(to - at) + content[to:]
    return content


def made(reader, chance):
    """One input."""
    if reader.more is not None and chance.random() < 0.4:
        return reader.more(chance)
    seeds = reader.seeds()
    content, pack = chance.choice(seeds)
    return pack(damaged(content, chance, reader.words, chance.choice(seeds)[0]))


def attempt(reader, content, folder, chance):
    """ "" if it was read, what was said if it was refused, or an exception: that which came, or an `AssertionError`."""
    try:
        reader.read(content, folder, chance)
    except UsageError as error:
        said = str(error)
        assert said.isprintable(), f"not one line: {said[:300]!r}"
        assert len(said) <= LONGEST_MESSAGE, f"{len(said)} letters: {said[:300]}"
        assert "any" in said or str(folder) in said or re.search(r"\bT\d+", said), f"which file? {said[:300]}"
        return said
    return ""


def attack(name, inputs, seconds, seed, folder):
    """Try a reader: so many inputs, or until the time is up. The number of each outcome, and the faults found."""
    reader, chance, begun = READERS[name], random.Random(f"{name} {seed}"), time.monotonic()
    reader = reader._replace(seeds=functools.cache(reader.seeds))
    outcomes = {"read": 0, "refused": 0, "failed": 0}
    faults: dict[str, tuple[int, str]] = {}

    def once(content):
        signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
        try:
            outcomes["refused" if attempt(reader, content, folder, chance) else "read"] += 1
        except (Exception, Hang) as error:
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            what = (
                f"{type(error).__name__} at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}: {error}"[
                    :400
                ]
            )
            key = what.split(": ")[0]
            outcomes["failed"] += 1
            faults[key] = (faults.get(key, (0, ""))[0] + 1, f"{what} from {content[:3000]!r}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def hang(*_):
        raise Hang(f"more than {LONGEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    pieces = st.binary(max_size=8) | st.sampled_from([*reader.words, *(content for content, _ in reader.seeds())])

    @settings(
        max_examples=inputs // 10,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=200) | st.lists(pieces, max_size=12).map(b"".join))
    def generated(content):
        if time.monotonic() - begun < seconds:
            once(content)

    try:
        generated()
        while sum(outcomes.values()) < inputs and time.monotonic() - begun < seconds:
            once(made(reader, chance))
    finally:
        signal.signal(signal.SIGALRM, before)
    return {"reader": name, "tried": sum(outcomes.values()), **outcomes, "faults": faults}


def confine(folder):
    """2 GiB of memory beyond what is taken now, and no file written but below `folder`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    def watch(event, arguments):
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "shutil.move")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            mode, flags = arguments[1], arguments[2]
            changes = bool(mode and set(mode) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and not str(os.path.abspath(os.fsdecode(arguments[0]))).startswith((str(folder), os.devnull)):
            raise AssertionError(f"{event} of {arguments[0]!r}")

    sys.addaudithook(watch)


def main(name, inputs, seconds, seed, place):
    folder = Path(place)
    attack(name, 20, 20, "warm", folder)  # what is imported late is not the inputs'
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    confine(folder)
    found = attack(name, int(inputs), float(seconds), seed, folder)
    found["seconds"] = round(time.monotonic() - begun, 1)
    found["MiB"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
