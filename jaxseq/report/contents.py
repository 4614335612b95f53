"""What stands in the report, in its order: the claims first, then the tables and figures, and what was composed."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

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
from jaxseq.report.plan import BOOK, BUDGETS, CELL, CHANGE, EDITIONS, LEVEL, NORM, ONE, TEN, Rates
from jaxseq.report.rates import Choice
from jaxseq.report.tables import Both

SHOWN = 4
"""Pieces that the page plays, at the most."""
LEAD = (
    '**Which claims of Saberi 2024 ("Time Series Forecasting and Music Generation Using Recurrent Neural Networks") hold '
    "over several seeds, on parts of the data that were not trained on, and beside baselines that need no training?** The "
    "paper gives one number a row, without split, seed or spread.\n\n{words}"
)


class Evidence(NamedTuple):
    """Everything that a report shows.

    found      the rows with their finished runs, those of the shared rate and those of their own
    choices    the rates that were tried, by table and row
    gradients  norms back in time by set-up, moment and cell
    times      CPU seconds of an epoch on Bach by row, one a round
    samples    the folder of the composed pieces; None if there are none
    """

    found: Sequence[RowRuns]
    choices: Mapping[tuple[str, str], Choice]
    gradients: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]
    times: Mapping[str, Sequence[float]]
    samples: Path | None


def page(budget: str, outputs: Outputs, shown: Evidence) -> Page:
    """The report. The pictures, and the numbers of every table and figure, are written on the way."""
    judged = _judged(budget, shown)
    sections = [
        Section("Which claims hold", [*_verdicts(judged), _table(outputs, tables.comparisons(judged))]),
        *_sections(outputs, shown),
        Section("Hyperparameters", [_table(outputs, tables.hyperparameters(shown.found))]),
    ]
    # A smoke run has no verdict to explain, and a report that is not finished yet may lack tables.
    title = "Recurrent networks, reproduced"
    lead = LEAD.format(words=BUDGETS[budget].words)
    return Page(title, lead, [section for section in sections if section.parts], _provenance(budget, shown.found))


def _judged(budget: str, shown: Evidence) -> dict[Rates, list[Claim]]:
    """The claims by the rates of the rows that they are judged on."""
    times = {name: np.asarray(each) for name, each in shown.times.items()}
    judged: dict[Rates, list[Claim]] = {}
    for row_runs in shown.found:
        judged.setdefault(row_runs.row.rates, [])
    for rates in judged:
        rows = {(each.row.group, each.row.label): each for each in shown.found if each.row.rates == rates}
        judged[rates] = claims.judge(rows, times)
        if budget == "quick":
            judged[rates] = [claims.undecided(claim, "A smoke run decides nothing.") for claim in judged[rates]]
    return judged


def _verdicts(judged: Mapping[Rates, Sequence[Claim]]) -> list[Verdicts]:
    captions: dict[Rates, str] = {
        "shared": "The paper's claims, with one learning rate for all rows",
        "own": "The paper's claims, with each row's own best learning rate",
    }
    note = (
        "What counts as slow, flat, stable or alike was fixed before any run was looked at; every comparison, with its "
        "interval, is in the table below."
    )
    return [
        Verdicts(
            captions[rates],
            [
                Finding(f"{claim.number}. {claim.statement}", claim.verdict, escaped(claim.sentence))
                for claim in of_these_rates
            ],
            note,
        )
        for rates, of_these_rates in judged.items()
    ]


def _table(outputs: Outputs, both: Both) -> Table:
    """Write the numbers of a table, and return the table."""
    outputs.write(f"{both.name}.csv", csv_tables.content(both.numbers))
    return both.table


def _sections(outputs: Outputs, shown: Evidence) -> list[Section]:
    """The sections behind the verdicts, each with the tables and figures that are there."""

    def rows(*groups: str, rates: Rates = "shared") -> list[RowRuns]:
        return [each for each in shown.found if each.row.group in groups and each.row.rates == rates]

    price, norm, cell, network = [], [], [], []
    if rows(LEVEL) and rows(CHANGE):
        price.append(figures.losses(outputs, {LEVEL: rows(LEVEL), CHANGE: rows(CHANGE)}))
    for rates, words in OF_RATES.items():
        levels = rows(LEVEL, CHANGE, rates=rates)
        if levels:
            price.append(_table(outputs, tables.prices(levels, f"AAPL, one day ahead{words}")))

    for parts, group, name, caption in (
        (norm, NORM, "figure-norms", "Figures 2 and 3 of the paper: an LSTM on Bach, by normalisation."),
        (cell, CELL, "figure-cells", "The cells on Bach."),
    ):
        if rows(group):
            parts.append(figures.bach(outputs, name, rows(group), caption))
        for rates, words in OF_RATES.items():
            of_group = rows(group, rates=rates)
            if of_group:
                parts.append(_table(outputs, tables.bach(group, of_group, shown.times, tables.CAPTIONS[group] + words)))

    if rows(BOOK):
        network += [_trained(rows(BOOK)[0]), _table(outputs, tables.bach(BOOK, rows(BOOK), {}, tables.CAPTIONS[BOOK]))]
        if shown.samples is not None:
            network += _composed(outputs, shown.samples)
    waves = [
        _table(outputs, tables.book(group, rows(group), tables.CAPTIONS[group])) for group in (ONE, TEN) if rows(group)
    ]
    return [
        Section("The share price", price),
        Section("Vanishing gradients", [figures.back_in_time(outputs, shown.gradients)] if shown.gradients else []),
        Section("Normalisation on Bach", norm),
        Section("Cells on Bach", cell),
        Section("Learning rates", [_table(outputs, tables.rates(shown.choices))] if shown.choices else []),
        Section("The book's waves", waves),
        Section("Chorales by the paper's network", network),
    ]


OF_RATES: Mapping[Rates, str] = MappingProxyType({"shared": "", "own": ", each with its own best learning rate"})
"""End of a caption by the learning rates of its table."""


def _trained(found: RowRuns) -> Text:
    """How far the network with convolutions was trained, beside the paper's 600 epochs."""
    epochs = int(found.runs["epochs"][0])
    best = int(found.runs["epoch"][0])
    units = found.row.recipe.model.hidden
    seed = "one seed" if len(found.runs) == 1 else "the first seed"
    said = f"Convolutions, batch norm, an LSTM of {units} units and a softmax, {seed}, {epochs} epochs (paper: 600)."
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
    data = {row.row.recipe.data.name for row in found}
    chorales = [f"Bach's chorales in {edition}" for name, edition in EDITIONS.items() if name in data]
    versions = sorted({one for row in found for one in row.runs.attrs["versions"]})
    return [
        f"python -m jaxseq.report --budget {budget}; jaxseq {__version__}, source {', '.join(commits)}.",
        f"{'; '.join(versions)}; {platform.machine()}. A + after the source: the checkout held changes.",
        "The key of a row, in the CSV files, is a hash of its recipe and of all rows of data that it was trained and "
        "judged on; its runs stand in a folder of that name.",
        "Data: "
        + "; ".join(
            ["AAPL, 2000 to 2013, adjusted close (in the package, public domain)", "waves after Géron 2019", *chorales]
        )
        + ".",
    ]
