"""Compositions judged beside Bach, and written: the files of each piece, the table of coherence, the report."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common import figures
from jaxseq.common.errors import UsageError
from jaxseq.music import plots as music_plots
from jaxseq.music import sound, tokens
from jaxseq.music.corpora.jsb import PieceSplits
from jaxseq.music.evaluation import coherence, ngram
from jaxseq.music.evaluation import memorisation as memory
from jaxseq.music.evaluation.coherence import Coherence
from jaxseq.music.evaluation.divergence import Reference, fit_reference
from jaxseq.music.evaluation.memorisation import Memorised
from jaxseq.music.midi import write as midi
from jaxseq.music.notation import engrave, spelling
from jaxseq.music.notation import musicxml as score
from jaxseq.music.piece import BAR, Piece
from jaxseq.train import run_folder as runlog

SAMPLES, TABLE, REPORT = "samples.json", "coherence.csv", "report.md"
NUMBERED = "samples"
OURS, BACH, GRAM, FROZEN = "samples", "Bach, test part", "5-gram", "frozen chord"
LOW, HIGH = "Bach, as few: 5 %", "95 %"
DRAWS = 60
"""Times that as many stretches as there are samples are drawn from Bach's test part."""
YARDSTICKS, YARDSTICK_STEPS = 16, 512
"""Pieces by the 5-gram and of one chord each, at the most, and their sixteenths."""


class Judgement(NamedTuple):
    """How pieces compare with Bach's.

    columns    coherence by name: ours; the test part; between which two nine in ten lie of as many stretches of it, as long
               as ours; a 5-gram of the training part; chords that never move
    each       coherence of each piece by itself
    memorised  what of ours stands in the training part; `bach` is the same of the test part, `by_piece` of each of ours
    """

    columns: dict[str, Coherence]
    each: list[Coherence]
    memorised: Memorised
    bach: Memorised
    by_piece: list[Memorised]


class Composition(NamedTuple):
    """What was composed, and how: `settings` go into every file that says so.

    log_probability  of each note, NaN where it was given
    """

    pieces: list[Piece]
    log_probability: Float[np.ndarray, "b t 4"]
    settings: dict[str, Any]
    said: tuple[str, ...]


def judge(pieces: Sequence[Piece], parts: PieceSplits, seed: int) -> Judgement:
    """Coherence and memorisation of pieces, by the parts of the data set that their composer was trained on."""
    train, test = ([piece.notes for piece in part] for part in (parts.train, parts.test))
    reference, known = fit_reference(train), memory.remember(train)
    ours = [piece.notes for piece in pieces]
    columns = {OURS: ours, BACH: test, **_yardsticks(train, min(len(ours), YARDSTICKS), len(ours[0]), seed)}
    found = {name: coherence.coherence(notes, reference) for name, notes in columns.items()}
    low, high = _range(test, len(ours), max(map(len, ours)), reference, seed)
    return Judgement(
        {OURS: found.pop(OURS), BACH: found.pop(BACH), LOW: low, HIGH: high, **found},
        [_one(notes, reference) for notes in ours],
        memory.memorised(known, ours),
        memory.memorised(known, test),
        [memory.memorised(known, [notes]) for notes in ours],
    )


def _range(
    test: list[np.ndarray], count: int, steps: int, reference: Reference, seed: int
) -> tuple[Coherence, Coherence]:
    """The 5 % and 95 % quantiles of each measure over draws of so many stretches of the test part, each begun on a beat of
    its bar: few short pieces differ from the whole by chance, Bach's own too."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        some = rng.choice(len(test), min(count, len(test)), replace=False)
        firsts = [BAR * int(rng.integers(max(1, (len(test[i]) - steps) // BAR + 1))) for i in some]
        stretches = [test[i][first : first + steps] for i, first in zip(some, firsts, strict=True)]
        drawn.append(coherence.coherence(stretches, reference))
    measured = [values[~np.isnan(values)] for values in np.array(drawn).T]
    low, high = (
        Coherence(*(float(np.quantile(values, share)) if len(values) else math.nan for values in measured))
        for share in (0.05, 0.95)
    )
    return low, high


def _yardsticks(train: list[np.ndarray], count: int, steps: int, seed: int) -> dict[str, list[np.ndarray]]:
    """As many pieces by a 5-gram, and first chords of training pieces that are held."""
    rng, steps = np.random.default_rng(seed), min(steps, YARDSTICK_STEPS)
    gram = ngram.fit([tokens.encode(notes) for notes in train])
    composed = [tokens.decode(ngram.sample(gram, steps, rng)) for _ in range(count)]
    held = [np.repeat(train[i][:1], steps, axis=0) for i in rng.integers(len(train), size=count)]
    return {GRAM: composed, FROZEN: held}


def _one(notes: Int[np.ndarray, "t 4"], reference: Reference) -> Coherence:
    return coherence.coherence([notes], reference)


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
    said: tuple[str, ...] = ()
    try:
        with _scratch(_nearest((out or run / NUMBERED).absolute())) as scratch:
            listed = []
            for number, piece in enumerate(composition.pieces):
                files, complaint = _write_piece(scratch, piece, bpm, with_score)
                with_score, said = with_score and not complaint, said or complaint
                listed.append(files)
                progress(number + 1, len(composition.pieces))
            runlog.write_json(scratch / SAMPLES, _plain(_summary(composition, found, listed)))
            runlog.write_text(scratch / TABLE, table_csv(found.columns))
            runlog.write_text(scratch / REPORT, report(composition, found, listed))
            return _publish(scratch, run, out), said
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
    taken = [int(match[1]) for path in run.iterdir() if (match := re.fullmatch(rf"{NUMBERED}-(\d+)", path.name))]
    number = max(taken, default=0) + 1
    while (folder := run / f"{NUMBERED}-{number:04d}").exists():
        number += 1
    os.rename(scratch, folder)
    return folder


def _write_piece(folder: Path, piece: Piece, bpm: float, with_score: bool) -> tuple[list[str], tuple[str, ...]]:
    """The names of a piece's files, and why it was not engraved."""
    xml = score.musicxml(piece)
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
    figures.save(music_plots.piano_roll(piece, piece.name), folder / f"{piece.name}.png")
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
        return f"no sample has {memory.WINDOW} sixteenths, so memorisation was not measured"
    longest, bach = max(found.memorised.longest), max(found.bach.longest, default=0)
    return (
        f"memorised: {found.memorised.share:.1%} of all stretches of {memory.WINDOW} sixteenths stand in the training "
        f"part in some key, of Bach's test part {found.bach.share:.1%}; the longest stretch has {longest} sixteenths, of "
        f"the test part {bach}"
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
