"""Attacks that chance does not find: small files that ask for much, built to the known weak places of each format.

`python tests/support/planted.py FOLDER [NAME ...]` reads them with 2 GiB of memory, and prints what came of each.
"""

import functools
import gzip
import io
import json
import os
import random
import resource
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from hostile import FULL, NOTES, READERS, Reader, attempt, check_table, confine, put, sealed_prices, tgz, zipped
from scores import attributes, compressed, note, score

from jaxseq.data.tables import read
from jaxseq.music.midi.read import read_melody


def plain_table(suffix, content, folder, chance):
    path = put(folder, f"any{suffix}", content)
    check_table(read.read(path, read.Options(series="store" if content.startswith(b"store,") else None)))


def melody(content, folder, chance):
    read_melody(put(folder, "any.mid", content))


PLAIN = {
    name: READERS[name]._replace(read=functools.partial(plain_table, f".{name}"))
    for name in ("csv", "csv.gz", "parquet")
}
PLAIN |= {"midi": READERS["midi"]._replace(read=melody)}
KNOWN: dict[str, Reader] = {**READERS, **PLAIN}


class Planted(NamedTuple):
    """What reads it, what it should say ("" if it is to be read), and how it is made."""

    reader: str
    said: str
    make: object


def xml(head="", body="", root=b"<score-partwise>"):
    return score([FULL], head=head).replace(root, root + body.encode(), 1)


def finer():
    """Durations whose common denominator gets longer with every note."""
    each = "".join(
        f"<attributes><divisions>{prime}</divisions></attributes>" + note("C4", 1)
        for prime in range(100_003, 108_003, 2)
    )
    return score([attributes() + each])


def dense():
    """Every other note begins a step later, or they would be one chord."""
    back, on = (f"<{way}><duration>{steps}</duration></{way}>" for way, steps in (("backup", 100_000), ("forward", 1)))
    return score([attributes() + (note("C4", 100_000) + back + on + note("C4", 99_999) + back) * 4_000])


def alike(pieces, steps):
    long = score([attributes() + note("C4", 16) * (steps // 16)])
    return zipped({f"bach/new{number}.xml": long for number in range(pieces)})


def many_entries(count=400_000):
    entry = b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(entry) * count, 0, 0)
    return entry * count + end


def large_dictionary():
    """LZMA that announces a dictionary of 4 GiB."""
    content = bytearray(zipped({"a": b"a" * 999}, zipfile.ZIP_LZMA))
    content[content.index(b"\x5d") + 1 : content.index(b"\x5d") + 5] = b"\xff\xff\xff\xff"
    return bytes(content)


def tar_header(kind, size, name="x"):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.USTAR_FORMAT)


def blocks(content):
    return content + bytes(-len(content) % 512)


def headers_of_headers():
    return gzip.compress((tar_header(b"L", 5) + blocks(b"name\0")) * 3_000 + tar_header(b"0", 0))


def digits(size=8 * 2**20):
    return gzip.compress(tar_header(b"x", size) + b"1" * size + tar_header(b"0", 0))


def sparse():
    body = b"22 GNU.sparse.major=1\n"
    return gzip.compress(tar_header(b"x", len(body)) + blocks(body) + tar_header(b"0", 0) + bytes(1024))


def record_of_no_length():
    body = b"0 path=a\n"
    return gzip.compress(tar_header(b"x", len(body)) + blocks(body) + tar_header(b"0", 0) + bytes(1024))


def mat(*elements):
    head = b"MATLAB".ljust(124) + struct.pack("<H2s", 0x100, b"IM")
    return head + b"".join(struct.pack("<II", kind, len(body)) + body for kind, body in elements)


def matrix(kind, shape, name, *parts):
    body = struct.pack("<IIII", 6, 8, kind, 0) + struct.pack("<II", 5, 4 * len(shape))
    body += struct.pack(f"<{len(shape)}i", *shape) + bytes(-4 * len(shape) % 8)
    body += struct.pack("<II", 1, len(name)) + name + bytes(-len(name) % 8)
    return body + b"".join(parts)


def packed_matrix(*arguments):
    body = matrix(*arguments)
    return mat((15, zlib.compress(struct.pack("<II", 14, len(body)) + body)))


def cell_of(body):
    cell = struct.pack("<II", 14, len(body)) + body
    return mat((14, matrix(1, (1, 1), b"traindata", cell)))


def huge_array():
    head = (
        b"\x93NUMPY\1\0"
        + struct.pack("<H", 70)
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,)}".ljust(70)
    )
    return zipped({"names.npy": head})


def wide(columns, rows):
    head = ",".join(f"c{number}" for number in range(columns)) + "\n"
    return gzip.compress((head + ("1" + ",1" * (columns - 1) + "\n") * rows).encode(), 1)


def long_rows(rows):
    """Few bytes that unpack to rows of 8 kB each."""
    return gzip.compress(b"date,sales,text\n" + (b"1,2," + b"x" * 8_000 + b"\n") * rows, 1)


def many_series(count):
    rows = "".join(f"a{number},1\n" for number in range(count))
    return ("store,sales\n" + rows).encode()


def one_word(rows, size):
    """A column of one long word, told apart from numbers only when it is read."""
    import pyarrow as pa
    from pyarrow import parquet

    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * size]))
    stream = io.BytesIO()
    parquet.write_table(pa.table({"sales": column}), stream, compression="zstd", store_schema=False)
    return stream.getvalue()


def constant(rows):
    stream = io.BytesIO()
    pd.DataFrame({"sales": np.ones(rows, np.int8)}).to_parquet(stream)
    return stream.getvalue()


def tune(body, length=None):
    head = b"MThd" + struct.pack(">IHHH", 6, 1, 1, 480)
    return head + b"MTrk" + struct.pack(">I", len(body) if length is None else length) + body


def config(path, value):
    from hostile import configs

    found = json.loads(next(content for content, _ in configs() if b'"experiment": "aapl"' in content))
    *rooms, last = path.split(".")
    room = found
    for name in rooms:
        room = room[name]
    room[last] = value
    return json.dumps(found).encode()


TYPED = '<!DOCTYPE s [<!ATTLIST a b CDATA "' + "x" * 100_000 + '">]>'
OUTSIDE = '<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
HIDDEN = '<!-- <!DOCTYPE s> --><!DOCTYPE s SYSTEM "<" [<!ENTITY % x SYSTEM "http://127.0.0.1:9/"> %x;]>'
DEEP = b"[" * 100_000 + b"]" * 100_000
P = functools.partial
PLANTED = {
    "an entity of another file": Planted("musicxml", "declares entities", P(xml, OUTSIDE)),
    "a parameter entity behind a comment": Planted("musicxml", "declares entities", P(xml, HIDDEN)),
    "an attribute by default": Planted("musicxml", "declares entities", P(xml, TYPED, "<a/>" * 100_000)),
    "a million document types": Planted("musicxml", "is no XML", P(xml, "<!DOCTYPE" * 1_000_000)),
    "a long namespace in every name": Planted(
        "musicxml",
        "namespace of 100 letters",
        lambda: b'<s xmlns="' + b"u" * 500_000 + b'">' + b"".join(b"<a%d/>" % n for n in range(50_000)) + b"</s>",
    ),
    "a namespace behind spaces": Planted(
        "musicxml",
        "namespace of 100 letters",
        lambda: b"<s \n xmlns:" + b"p" * 5000 + b" \n = \n '" + b"u" * 500_000 + b"'><a/></s>",
    ),
    "namespaces without an end": Planted("musicxml", "is no XML", lambda: b"<s " + b"xmlns:" * 2_000_000),
    "a score of 17 MiB": Planted("musicxml", "16,777,216", P(xml, "", " " * 17 * 2**20)),
    "two million elements": Planted("musicxml", "", P(xml, "", '<a b=""/>' * 1_800_000)),
    "a million levels": Planted("musicxml", "is no XML", lambda: b"<a>" * 1_000_000),
    "ever finer times": Planted("musicxml", "are the finest", finer),
    "notes over notes": Planted("musicxml", "the notes of a voice last", dense),
    "a million bars": Planted(
        "musicxml",
        "more than 10,000 bars",
        lambda: score([FULL]).replace(b"</part>", b"<measure/>" * 300_000 + b"</part>"),
    ),
    "a zip bomb": Planted("mxl", "unpacks to more than 16,777,216", lambda: compressed(bytes(20 * 2**20))),
    "400,000 members": Planted("zip", "lists 400,000 members", many_entries),
    "a dictionary of 4 GiB": Planted("zip", "compression of kind 14", large_dictionary),
    "two long pieces alike": Planted("wheel", "too many to look for twins", P(alike, 2, 60_000)),
    "thirty long pieces": Planted("wheel", "the most that is read of all", P(alike, 30, 90_000)),
    "an array of 80 GB": Planted("corpus-cache", "read again", huge_array),
    "a gzip bomb": Planted("tgz", "unpacks to more than 67,108,864", lambda: gzip.compress(bytes(70 * 2**20), 1)),
    "headers of headers": Planted("tgz", "no train/", headers_of_headers),
    "a header of digits": Planted("tgz", "a header of 8,388,608 bytes", digits),
    "a record of no length": Planted("tgz", "a record of 0 bytes in a header", record_of_no_length),
    "a sparse file": Planted("tgz", "a header of a sparse file", sparse),
    "three million rows of notes": Planted("tgz", "too many rows; got ", lambda: tgz(NOTES + b"1,2,3,4\n" * 2_500_000)),
    "a million empty cells": Planted(
        "mat",
        "elements in one",
        P(packed_matrix, 1, (1, 1_000_000), b"traindata", struct.pack("<II", 14, 0) * 1_000_000),
    ),
    "a million axes": Planted(
        "mat", "an array of 1,000,000 axes", P(packed_matrix, 1, (2**31 - 1,) * 1_000_000, b"traindata")
    ),
    "no number in huge axes": Planted(
        "mat",
        "is damaged: it says it is",
        lambda: cell_of(matrix(6, (0, 2**31 - 1, 2**31 - 1, 2**31 - 1), b"", struct.pack("<II", 9, 0))),
    ),
    "a name of two lines": Planted("mat", "any.mat: a", lambda: mat((14, matrix(1, (1, 2), b"a\nb")))),
    "a line of 100 MB": Planted("csv", "row 2: more than 100,000 bytes", lambda: b"date,sales\n" + b"1" * 100_000_000),
    "a quoted line of 100 MB": Planted("csv", "row 2", lambda: b'date,sales\n"' + b"1" * 10_000_000),
    "a header of 100 MB": Planted("csv", "row 1", lambda: b"a" * 10_000_000),
    "13,000 columns": Planted("csv.gz", "there are 13,000 columns", P(wide, 13_000, 2)),
    "8,000 columns of 4,000 rows": Planted("csv.gz", "columns may hold the values", P(wide, 8_000, 4_000)),
    "600,000 series": Planted("csv", "more than 500,000 series", P(many_series, 600_000)),
    "a word of a megabyte in each of 100,000 rows": Planted("parquet", "is not a number", P(one_word, 100_000, 2**20)),
    "forty million numbers in a kilobyte": Planted("parquet", "are the most", P(constant, 40_000_000)),
    "a length of 2^31": Planted("midi", "ends within a track", P(tune, b"\0\x90\x40\x40", 2**31)),
    "a message of 2^28 bytes": Planted("midi", "damaged", P(tune, b"\0\xf0\xff\xff\xff\x7f")),
    "10^9 ticks": Planted(
        "midi", "sixteenths; 100000 at most", P(tune, b"\0\x90\x40\x40" + b"\xff\xff\xff\x7f\x80\x40\x40" * 4)
    ),
    "a note that never ends": Planted("midi", "", P(tune, b"\0\x90\x40\x40\x83\x60\xff\x2f\0")),
    "as many messages as there is room for": Planted(
        "midi", "not one note in it that lasts", P(tune, b"\0\x90\x40\x40" + b"\x00\x40\x40" * 160_000)
    ),
    "a record of 100,000 lists": Planted("prices", "is damaged", lambda: b'# {"a": ' + DEEP + b"}\n"),
    "prices of nobody knows when": Planted(
        "prices", "is damaged", P(sealed_prices, b"date,close,adj_close\n99999999999-01-01,1,1\n")
    ),
    "100,000 lists": Planted("config", "cannot be read", lambda: DEEP),
    "a recipe within 100,000 lists": Planted("config", "cannot be read", lambda: b'{"experiment": ' + DEEP + b"}"),
    "a rate of 1e400": Planted(
        "config", "lr: not a positive number", lambda: config("lr", 0).replace(b'"lr": 0', b'"lr": 1e400')
    ),
    "a rate of NaN": Planted("config", "lr: not a positive number", P(config, "lr", float("nan"))),
    "a number of 4,000 digits": Planted(
        "config", "epochs: does not fit into 64 bits", P(config, "epochs", int("9" * 4000))
    ),
    "an experiment of 5,000 letters": Planted("config", "unknown experiment", P(config, "experiment", "a" * 5_000)),
    "a format of 4,000 digits": Planted("config", "changed since it was written", P(config, "format", int("9" * 4000))),
    "metrics of 100,000 lists": Planted("metrics", "line 1", lambda: DEEP + b"\n"),
}
SLOW = {
    "100,000 rows of 8 kB": Planted("csv.gz", "1 is in row 2 too", P(long_rows, 100_000)),
    "sixteen million rows": Planted("csv", "", lambda: b"sales\n" + b"1\n" * 16_000_000),
}


def main(place, *names):
    folder = Path(place)
    attacks = [{**PLANTED, **SLOW}[name] for name in names]
    if not os.fork():  # what an attack takes to be made is not its reader's
        for number, attack in enumerate(attacks):
            (folder / f"{number}.planted").write_bytes(attack.make())
        os._exit(0)
    for one in dict.fromkeys(attack.reader for attack in attacks):
        attempt(KNOWN[one], KNOWN[one].seeds()[0][0], folder, random.Random(0))
    assert os.wait()[1] == 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    confine(folder)
    for number, (name, attack) in enumerate(zip(names, attacks, strict=True)):
        content, begun = (folder / f"{number}.planted").read_bytes(), time.process_time()
        try:
            came = attempt(KNOWN[attack.reader], content, folder, random.Random(4))
        except Exception as error:
            came = f"{type(error).__name__}: {str(error)[:300]}"
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print(json.dumps([name, came, round(time.process_time() - begun, 2), peak]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
