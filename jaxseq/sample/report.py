"""The text about composed pieces: their report in Markdown, the table of coherence, and the lines on the screen.

Their record as JSON is in `record`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from rich.table import Table

from jaxseq.checkpoint import folder_seal
from jaxseq.common import csv_tables
from jaxseq.common.markdown import escaped
from jaxseq.music.evaluation import coherence, discriminator, memorisation
from jaxseq.music.evaluation.coherence import Coherence
from jaxseq.music.midi import write as midi
from jaxseq.music.notation import spelling
from jaxseq.music.piece import Piece
from jaxseq.sample.compose import Composed
from jaxseq.sample.judge import DRAWS, HIGH, LOW, Judgement
from jaxseq.sample.options import NO_PRIME, words
from jaxseq.sample.request import Request

SUMMARY_FILE = folder_seal.SAMPLES
TABLE_FILE = folder_seal.TABLE
REPORT_FILE = "report.md"

IN_ORDER = (
    "Nats are -log p of the notes that were composed, each given all before it, by the model as it is (temperature 1)"
)
IN_ANY_ORDER = "Nats are -log p of each note when it was last drawn, given those that were not drawn with it"
"""Meaning of the log-probabilities: of a model that composes forward, and of one that fills gaps."""

Setting: TypeAlias = str | int | float | Path | None


class Nats(NamedTuple):
    """Mean of -log p over the composed notes of a piece, and their number; NaN if there is none."""

    mean: float
    notes: int


def duration(composed: Composed) -> str:
    """Return number and length of the pieces, and the time that composing took, as a line."""
    steps = len(composed.pieces[0].notes)
    return f"{len(composed.pieces)} pieces of {steps} sixteenths in {composed.seconds:.1f} s"


def screen_table(judgement: Judgement) -> Table:
    """Return the table of coherence for the screen."""
    headings, *rows = coherence.rows(judgement.columns)
    table = Table(
        title="coherence; Bach's test part is the yardstick",
        title_justify="left",
        box=None,
        padding=(0, 1),
    )
    measure, *columns = headings
    table.add_column(measure)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def table_csv(columns: Mapping[str, Coherence]) -> str:
    """Return the table of coherence as CSV with a row for each measure; a value that is NaN is empty."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["measure", *map(csv_tables.guarded, columns)])
    # To seven digits, as all tables; the screen and the report round by measure.
    for field, (label, _) in coherence.LABELS.items():
        values = [getattr(column, field) for column in columns.values()]
        lines.writerow([label, *("" if math.isnan(value) else f"{value:.7g}" for value in values)])
    return text.getvalue()


def memorised_sentence(judgement: Judgement) -> str:
    """Return the share and the longest stretch of the samples that occur in the training part, as a sentence."""
    samples = judgement.memorised
    bach = judgement.bach_memorised
    # Shorter pieces have no window to look up.
    if not samples.windows:
        return f"no sample has {memorisation.WINDOW} sixteenths, so memorisation was not measured"
    return (
        f"memorised: {samples.share:.1%} of all stretches of {memorisation.WINDOW} sixteenths stand in the training "
        f"part in some key, of Bach's test part {bach.share:.1%}; the longest stretch has {max(samples.longest)} "
        f"sixteenths, of the test part {max(bach.longest, default=0)}"
    )


def told_apart_sentence(judgement: Judgement) -> str:
    """Return how well samples are told from Bach's stretches, and by what, as a sentence."""
    told_apart = judgement.told_apart
    if math.isnan(told_apart.auc):
        return f"fewer than {discriminator.FEWEST} samples: whether they are told from Bach's was not measured"
    measures = ", ".join(label for label, _ in told_apart.strongest)
    return (
        f"told from as long stretches of Bach's test part with an AUC of {told_apart.auc:.3f} ± {told_apart.error:.3f} "
        f"(0.5: not at all, 1: always) by a logistic regression on these measures of a piece, first of all by {measures}"
    )


def settings(request: Request) -> dict[str, Setting]:
    """Return the run and the options that decided the pieces, in the order of the report."""
    options = request.options
    # The run is named first, and where files lie decides nothing about the pieces.
    unused = {"run", "out", "score", "data_path"}
    if not request.composer.fills:
        unused.add("sweeps")
    if options.prime == NO_PRIME:
        unused.add("prime_bars")
    if options.transpose == 0:
        unused.add("transpose")
    if not options.key_strength:
        unused.add("key_strength")

    values: dict[str, Setting] = {
        "run": str(options.run),
        "experiment": request.composer.experiment.name,
        "epoch": request.composer.epoch,
    }
    for name, value in dataclasses.asdict(options).items():
        if name not in unused:
            values[name] = value
    values["bpm"] = request.bpm
    values["likelihood"] = _likelihood(request)
    return values


def again(request: Request) -> list[str]:
    """Return the words of a command line that composes the same pieces, into another folder."""
    options = dataclasses.replace(request.options, out=None, epoch=request.composer.epoch)
    return words(options)


def _likelihood(request: Request) -> str:
    if request.composer.fills:
        return IN_ANY_ORDER
    return IN_ORDER


def remarks(request: Request, composed: Composed) -> tuple[str, ...]:
    """Return the remarks on the data, on the given notes and on the composed ones, a sentence each."""
    return (*request.remarks, *composed.notes)


def key_name(piece: Piece) -> str:
    """Return the key of a piece in words, such as D major."""
    tonic = midi.key_name(*spelling.signed(piece))
    if tonic.endswith("m"):
        return f"{tonic.removesuffix('m')} minor"
    return f"{tonic} major"


def nats(log_probability: Float[np.ndarray, "t 4"]) -> Nats:
    """Return the mean of -log p over the composed notes; given notes are NaN and do not count."""
    composed = log_probability[~np.isnan(log_probability)]
    if not composed.size:
        return Nats(math.nan, 0)
    return Nats(-float(composed.mean(dtype=np.float64)), composed.size)


def markdown(request: Request, composed: Composed, judgement: Judgement | None, files: Sequence[Sequence[str]]) -> str:
    """Return the report in Markdown; `files` has the names of each piece's files, `judgement` lacks without data."""
    likelihood = _likelihood(request)
    options = []
    for name, value in settings(request).items():
        # Options that are not set decide nothing, and the likelihood has a place further down.
        if value is not None and value != likelihood:
            options.append(f"{name} {value}")
    remark_lines = "".join(f"{escaped(text)}.\n\n" for text in remarks(request, composed))
    beside_bach = ""
    # Without the run's data nothing was measured.
    if judgement is not None:
        beside_bach = _beside_bach(judgement)

    return f"""# {len(composed.pieces)} pieces by {escaped(str(request.options.run))}

{escaped(", ".join(options))}.

{remark_lines}{beside_bach}## Pieces

{_listing(composed, judgement, files)}

{likelihood}. All of it is in `{SUMMARY_FILE}`.
"""


def _beside_bach(judgement: Judgement) -> str:
    """Return the figures beside Bach's, a section."""
    return f"""## Beside Bach's pieces

{coherence.table(judgement.columns)}

Bach's own test part is the yardstick, not 0 or 1; of {DRAWS} draws of as many stretches from it, no longer than these, nine
in ten lie from "{LOW}" to "{HIGH}": so far chance alone takes his own music. Ends are those of whole pieces. The 5-gram was
counted on the training part; a frozen chord is a training piece's first, held. Pieces are averaged, however long; the
divergences are from the training part. As numbers: `{TABLE_FILE}`.

{memorised_sentence(judgement)}.

{told_apart_sentence(judgement)}.

"""


def _listing(composed: Composed, judgement: Judgement | None, files: Sequence[Sequence[str]]) -> str:
    """Return the table of the pieces, with what is memorised of each where that was looked up."""
    headings = ["piece", "nats a note", "key"]
    alignments = ["---", "---:", "---"]
    if judgement is not None:
        headings += ["memorised", "longest, sixteenths"]
        alignments += ["---:", "---:"]
    rows = [[*headings, "files"], [*alignments, "---"]]
    for number, piece in enumerate(composed.pieces):
        piece_nats = nats(composed.log_probability[number])
        cells = [piece.name, f"{piece_nats.mean:.3f}", key_name(piece)]
        if judgement is not None:
            memorised = judgement.memorised_by_piece[number]
            # The only piece that was looked up here.
            cells += [f"{memorised.share:.1%}", f"{memorised.longest[0]}"]
        rows.append([*cells, _links(piece, files[number])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _links(piece: Piece, names: Sequence[str]) -> str:
    """Return links to a piece's files, each called by what distinguishes it."""
    links = []
    for name in names:
        ending = name.removeprefix(piece.name).lstrip(".-")
        links.append(f"[{ending}]({name})")
    return " ".join(links)
