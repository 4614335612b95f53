"""What stands in the report, in its order: the claims first, then the tables and figures, and what was composed."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxseq import __version__
from jaxseq.checkpoint import folder_seal
from jaxseq.common import csv_tables
from jaxseq.common.markdown import escaped
from jaxseq.common.written import Outputs
from jaxseq.report import claims, figures, tables
from jaxseq.report.claims import Claim
from jaxseq.report.document import Figure, Finding, Page, Section, Sound, Table, Text, Verdicts
from jaxseq.report.evidence import RowRuns
from jaxseq.report.plan import BOOK, BUDGETS, CELL, CHANGE, EDITIONS, LEVEL, NORM, ONE, TEN

SHOWN = 4
"""Pieces that the page plays, at the most."""
LEAD = (
    '**Which claims of Saberi 2024 ("Time Series Forecasting and Music Generation Using Recurrent Neural Networks") hold '
    "over several seeds, on parts of the data that were not trained on, and beside baselines that need no training?** The "
    "paper gives one number a row, without split, seed or spread.\n\n{words}"
)


def page(
    budget: str,
    outputs: Outputs,
    found: Sequence[RowRuns],
    gradients: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    times: Mapping[str, Sequence[float]],
    samples: Path,
) -> Page:
    """The report. The pictures, and the numbers of every table and figure, are written on the way."""
    rows = {(one.row.group, one.row.label): one for one in found}
    groups = {
        name: [one for one in found if one.row.group == name] for name in (LEVEL, CHANGE, CELL, NORM, ONE, TEN, BOOK)
    }
    judged = claims.judge(rows, {name: np.asarray(each) for name, each in times.items()})
    if budget == "quick":
        judged = [claims.undecided(claim, "A smoke run decides nothing.") for claim in judged]
    there = {
        "all": tables.comparisons(judged),
        "prices": tables.prices([*groups[LEVEL], *groups[CHANGE]]),
        **{name: tables.bach(name, groups[name], times, tables.CAPTIONS[name]) for name in (NORM, CELL, BOOK)},
        **{name: tables.book(name, groups[name], tables.CAPTIONS[name]) for name in (ONE, TEN)},
    }
    for both in there.values():
        outputs.write(f"{both.name}.csv", csv_tables.content(both.numbers))
    shown = {name: both.table for name, both in there.items()}
    norm = figures.bach(
        outputs, "figure-norms", groups[NORM], "Figures 2 and 3 of the paper: an LSTM on Bach, by normalisation."
    )
    cell = figures.bach(outputs, "figure-cells", groups[CELL], "The cells on Bach.")
    sections = [
        Section("Which claims hold", [_verdicts(judged), shown["all"]]),
        Section("The share price", [figures.losses(outputs, groups), shown["prices"]]),
        Section("Vanishing gradients", [figures.back_in_time(outputs, gradients)]),
        Section("Normalisation on Bach", [norm, shown[NORM]]),
        Section("Cells on Bach", [cell, shown[CELL]]),
        Section("The book's waves", [shown[ONE], shown[TEN]]),
        Section(
            "Chorales by the paper's network", [_trained(groups[BOOK][0]), shown[BOOK], *_composed(outputs, samples)]
        ),
    ]
    return Page(
        "Recurrent networks, reproduced", LEAD.format(words=BUDGETS[budget].words), sections, _provenance(budget, found)
    )


def _verdicts(judged: Sequence[Claim]) -> Verdicts:
    rows = [
        Finding(f"{claim.number}. {claim.statement}", claims.evidence(claim), claim.verdict, escaped(claim.sentence))
        for claim in judged
    ]
    note = (
        "What counts as slow, flat, stable or alike was fixed before any run was looked at; every comparison, with its "
        "interval, is in the table below."
    )
    return Verdicts("The paper's claims", rows, note)


def _trained(found: RowRuns) -> Text:
    """How far the network with convolutions was trained, beside the paper's 600 epochs."""
    epochs, best = found.row.recipe.epochs, int(found.runs["epoch"][0])
    units = found.row.recipe.model.hidden
    said = f"Convolutions, batch norm, an LSTM of {units} units and a softmax, one seed, {epochs} epochs (paper: 600)."
    if best < epochs:
        said += (
            f" Validation was best after epoch {best}, which composed what follows; the training loss went on to "
            f"{found.runs['train_loss'][0]:.3f}."
        )
    return Text(said)


def _composed(outputs: Outputs, samples: Path) -> list[Table | Figure | Sound]:
    """The table of coherence, and the first pieces: sound, score, roll."""
    # The seal of every file is checked before any of them is read.
    said = folder_seal.read(samples / folder_seal.SAMPLES)
    frame = csv_tables.read(samples / "coherence.csv")
    outputs.write("table-coherence.csv", csv_tables.content(frame, digits=None))
    body = [
        [str(line.iloc[0]), *("\N{EN DASH}" if np.isnan(value) else f"{value:.4g}" for value in line.iloc[1:])]
        for _, line in frame.iterrows()
    ]
    memorised = said["memorised"]["samples"]
    note = (
        f"Bach's own test part is the yardstick, not 0 or 1. Of all stretches of 32 sixteenths, "
        f"{memorised['share'] or 0:.1%} stand in the training part in some key; the longest "
        f"that does has {memorised['longest_steps']}."
    )
    table = Table(f"{len(said['samples'])} pieces, drawn at temperature 1", ["", *frame.columns[1:]], body, note)
    parts: list[Table | Figure | Sound] = [table]
    for one in said["samples"][:SHOWN]:
        name = one["name"]
        links = []
        for words, ending in (("MIDI", ".mid"), ("MusicXML", ".musicxml")):
            made = samples / f"{name}{ending}"
            if made.is_file():
                links.append((words, outputs.write(made.name, made.read_bytes())))
        score = samples / f"{name}-score.png"
        picture = score if score.is_file() else samples / f"{name}.png"
        here = outputs.write(f"{name}.png", picture.read_bytes())
        parts.append(Sound(f"{name}, {one['key']}", samples / f"{name}.wav", links))
        parts.append(
            Figure(
                here, f"{name}, {one['key']}: {-one['log_likelihood_per_note']:.2f} nats a note", f"The notes of {name}"
            )
        )
    return parts


def _provenance(budget: str, found: Sequence[RowRuns]) -> list[str]:
    """Where the numbers come from."""
    commits = sorted(
        {f"{one}"[:10] + ("+" if f"{one}".endswith("+") else "") for row in found for one in row.runs.attrs["commits"]}
    )
    edition = EDITIONS[found[-1].row.recipe.data.name]
    versions = sorted({one for row in found for one in row.runs.attrs["versions"]})
    return [
        f"python -m jaxseq.report --budget {budget}; jaxseq {__version__}, source {', '.join(commits)}.",
        f"{'; '.join(versions)}; {platform.machine()}. A + after the source: the checkout held changes.",
        "The key of a row is a hash of its recipe, of all the rows that it was trained and judged on, and of the "
        "version of jaxseq; its runs stand in a folder of that name.",
        "Data: AAPL, 2000 to 2013, adjusted close (in the package, public domain); waves after Géron 2019; Bach's "
        f"chorales in {edition}.",
    ]
