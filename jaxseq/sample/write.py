"""Compositions judged beside Bach, and written: the files of each piece, the table of coherence, the report."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.common import figures
from jaxseq.common import files as common_files
from jaxseq.common.errors import UsageError
from jaxseq.music import plots, sound
from jaxseq.music.evaluation import coherence, memorisation
from jaxseq.music.evaluation.coherence import Coherence
from jaxseq.music.midi import write as midi
from jaxseq.music.notation import engrave, musicxml, spelling
from jaxseq.music.piece import Piece
from jaxseq.sample.judge import BACH, DRAWS, HIGH, LOW, OURS, Judgement

SAMPLES = "samples.json"
TABLE = "coherence.csv"
REPORT = "report.md"
NUMBERED = "samples"


class Composition(NamedTuple):
    """What was composed, and how: `settings` go into every file that says so.

    log_probability  of each note, NaN where it was given
    """

    pieces: list[Piece]
    log_probability: Float[np.ndarray, "b t 4"]
    settings: dict[str, Any]
    said: tuple[str, ...]


def check_out(run: Path, out: Path | None) -> None:
    """Raise `UsageError` for a folder that is not empty or cannot be written, before any work is done."""
    try:
        if out is not None and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
            raise UsageError(f"--out {out} is not empty: name another folder")
        there = _nearest((out or run / NUMBERED).absolute())
        if not there.is_dir():
            raise UsageError(f"cannot write into {out or run}: {there} is no folder that you may write to")
        with tempfile.TemporaryDirectory(prefix=".samples-", dir=there):
            pass  # to know it now, and not after all the work
    except OSError as error:
        raise UsageError(f"cannot write into {out or run}: {error.strerror or error}") from error


def _nearest(path: Path) -> Path:
    """The nearest folder above that is there already."""
    return next(above for above in path.parents if above.exists())


def write(
    run: Path,
    out: Path | None,
    composition: Composition,
    found: Judgement,
    bpm: float,
    with_score: bool,
    progress: Callable[[int, int], None],
) -> tuple[Path, tuple[str, ...]]:
    """Write everything into `out`, or into the next number in the run's folder; returns the folder and what could not be
    engraved. The folder appears when all is in it, or not at all. Raises `UsageError` if it cannot be written."""
    complaints: tuple[str, ...] = ()
    try:
        with _scratch(_nearest((out or run / NUMBERED).absolute())) as scratch:
            listed = []
            for number, piece in enumerate(composition.pieces):
                files, complaint = _write_piece(scratch, piece, bpm, with_score)
                with_score = with_score and not complaint
                complaints = complaints or complaint
                listed.append(files)
                progress(number + 1, len(composition.pieces))
            common_files.write_json(scratch / SAMPLES, _plain(_summary(composition, found, listed)))
            common_files.write_text(scratch / TABLE, table_csv(found.columns))
            common_files.write_text(scratch / REPORT, report(composition, found, listed))
            return _publish(scratch, run, out), complaints
    except OSError as error:
        raise UsageError(f"cannot write into {out or run}: {error.strerror or error}") from error


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, unless it was moved away."""
    hidden = Path(tempfile.mkdtemp(prefix=".samples-", dir=parent))
    try:
        folder = hidden / NUMBERED
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _publish(scratch: Path, run: Path, out: Path | None) -> Path:
    """Move the finished folder to where it belongs."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        os.rename(scratch, out)
        return out
    folder = common_files.numbered_folder(run, NUMBERED)
    os.rename(scratch, folder)
    return folder


def _write_piece(folder: Path, piece: Piece, bpm: float, with_score: bool) -> tuple[list[str], tuple[str, ...]]:
    """The names of a piece's files, and why it was not engraved."""
    xml = musicxml.musicxml(piece)
    files: dict[str, bytes] = {
        ".mid": midi.midi(piece, bpm),
        ".musicxml": xml.encode(),
        ".wav": sound.wav(sound.sound(piece, bpm)),
    }
    complaint: tuple[str, ...] = ()
    if with_score:
        try:
            files |= _engraved(xml)
        except UsageError as error:
            complaint = (str(error),)
    for ending, content in files.items():
        (folder / f"{piece.name}{ending}").write_bytes(content)
    figures.save(plots.piano_roll(piece, piece.name), folder / f"{piece.name}.png")
    return [f"{piece.name}{ending}" for ending in (".mid", ".musicxml", ".wav", ".png", *list(files)[3:])], complaint


def _engraved(xml: str) -> dict[str, bytes]:
    """The pages of a score, each as SVG and as PNG."""
    files = {}
    for number, page in enumerate(engrave.svg(xml), 1):
        name = "-score" if number == 1 else f"-score-{number}"
        files |= {f"{name}.svg": page.encode(), f"{name}.png": engrave.png(page)}
    return files


def key_of(piece: Piece) -> str:
    """The key of a piece in words: D major."""
    name = midi.key_name(*spelling.signed(piece))
    return f"{name.removesuffix('m')} {'minor' if name.endswith('m') else 'major'}"


def nats(log_probability: Float[np.ndarray, "t 4"]) -> tuple[float, int]:
    """-log p of a note, on average over those that were composed, and how many they are; NaN if there are none."""
    scored = log_probability[~np.isnan(log_probability)]
    return (-float(scored.mean(dtype=np.float64)) if scored.size else math.nan), scored.size


def _summary(composition: Composition, found: Judgement, files: list[list[str]]) -> dict[str, Any]:
    """What `samples.json` says."""
    samples = []
    for number, piece in enumerate(composition.pieces):
        mean, notes = nats(composition.log_probability[number])
        memorised = found.by_piece[number]
        samples.append(
            {
                "name": piece.name,
                "seed": composition.settings["seed"],
                "log_likelihood_per_note": -mean,
                "notes_composed": notes,
                "key": key_of(piece),
                "coherence": found.each[number]._asdict(),
                "memorised_share": memorised.share,
                "longest_memorised_steps": memorised.longest[0],
                "files": files[number],
            }
        )
    memorised = {
        name: {"share": m.share, "windows": m.windows, "longest_steps": max(m.longest, default=0)}
        for name, m in ((OURS, found.memorised), (BACH, found.bach))
    }
    columns = {name: column._asdict() for name, column in found.columns.items()}
    return {
        "settings": composition.settings,
        "said": composition.said,
        "coherence": columns,
        "memorised": memorised,
        "samples": samples,
    }


def _plain(value: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_csv(columns: Mapping[str, Coherence]) -> str:
    """The table of coherence as CSV, a row for each measure; what could not be measured is empty."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["measure", *columns])
    for name, (label, _) in coherence.LABELS.items():
        values = [getattr(column, name) for column in columns.values()]
        lines.writerow([label, *("" if math.isnan(value) else f"{value:.7g}" for value in values)])
    return text.getvalue()


def memorised_words(found: Judgement) -> str:
    """What of the samples stands in the training part, in a sentence."""
    if not found.memorised.windows:
        return f"no sample has {memorisation.WINDOW} sixteenths, so memorisation was not measured"
    longest, bach = max(found.memorised.longest), max(found.bach.longest, default=0)
    return (
        f"memorised: {found.memorised.share:.1%} of all stretches of {memorisation.WINDOW} sixteenths stand in the "
        f"training part in some key, of Bach's test part {found.bach.share:.1%}; the longest stretch has {longest} "
        f"sixteenths, of the test part {bach}"
    )


def report(composition: Composition, found: Judgement, files: list[list[str]]) -> str:
    """The report in Markdown."""
    settings = composition.settings
    rows = ["| piece | nats a note | key | memorised | longest, sixteenths | files |", "|---|---:|---|---:|---:|---|"]
    for number, piece in enumerate(composition.pieces):
        (mean, _), memorised = nats(composition.log_probability[number]), found.by_piece[number]
        links = " ".join(f"[{name.removeprefix(piece.name).lstrip('.-')}]({name})" for name in files[number])
        numbers = f"{mean:.3f} | {key_of(piece)} | {memorised.share:.1%} | {memorised.longest[0]}"
        rows.append(f"| {piece.name} | {numbers} | {links} |")
    asked = ", ".join(
        f"{name} {value}" for name, value in settings.items() if value not in (None, settings["likelihood"])
    )
    said = "".join(f"{text}.\n\n" for text in composition.said)
    listing = "\n".join(rows)
    return f"""# {len(composition.pieces)} pieces by {settings["run"]}

{asked}.

{said}{coherence.table(found.columns)}

Bach's own test part is the yardstick, not 0 or 1; of {DRAWS} draws of as many stretches from it, no longer than these, nine
in ten lie from "{LOW}" to "{HIGH}": so far chance alone takes his own music. The 5-gram was counted on the training part; a
frozen chord is a training piece's first, held. Pieces are averaged, however long; the divergences are from the training
part. As numbers: `{TABLE}`.

{memorised_words(found)}.

{listing}

{settings["likelihood"]}. All of it is in `{SAMPLES}`.
"""
