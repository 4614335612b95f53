"""The runs of a study of chorales as one model: the mean of their probabilities, also over transpositions of a piece.

The mean is taken note by note: the probability of a note, given all notes before it, is the mean of those by each run and,
where the runs were trained on transposed pieces, each transposition. It needs no look-ahead, as a transposition that takes
a note out of the range of symbols gives this note a probability of 0, and has no part in the notes after it. Its
probabilities of the notes that have a counterpart in the piece's own key are divided by their sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.table import Table

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.music.evaluation import scores
from jaxseq.music.evaluation.scores import Scores
from jaxseq.music.networks import inputs
from jaxseq.music.tokens import VOCABULARY
from jaxseq.train.domains import chorales
from jaxseq.train.domains.base import measured
from jaxseq.train.domains.chorale_scores import (
    ChoraleJob,
    Stretch,
    log_probabilities_by_length,
    prediction_of,
    rows_of,
    score_pieces,
    stretches,
    targets_of,
)
from jaxseq.train.epoch import TrainState
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.job import restore_best
from jaxseq.train.options import ENSEMBLE

HEADINGS = ("validation, nats a note", "test, nats a note", "accuracy", "of changed notes")


class Member(NamedTuple):
    """A run with the state that was judged."""

    name: str
    state: TrainState


class Mixture(NamedTuple):
    """Distributions of the notes of a stretch, added up.

    total  sum of the probabilities of each symbol
    count  of the distributions that have a part in each note
    """

    total: Float[np.ndarray, "t 4 v"]
    count: Int[np.ndarray, "t 4"]

    @property
    def log_mean(self) -> Float[np.ndarray, "t 4 v"]:
        """Logarithm of the mean probability of each symbol."""
        # No transposition may reach the lowest and the highest notes but the piece's own key.
        with np.errstate(divide="ignore"):
            return np.log(self.total / self.count[..., None])


def no_distribution(symbols: Int[np.ndarray, "t 4"]) -> Mixture:
    """Return the mixture of no distributions."""
    return Mixture(np.zeros((*symbols.shape, VOCABULARY)), np.zeros(symbols.shape, np.int64))


def added(
    mixture: Mixture, log_p: Float[np.ndarray, "t 4 v"], symbols: Int[np.ndarray, "t 4"], shift: int = 0
) -> Mixture:
    """Add the distributions of a stretch that was read `shift` semitones higher; `symbols` are its own."""
    has_part = _has_part(symbols, shift)
    # What one run takes for impossible, another may have: single precision ends at e^-103.
    probabilities = np.exp(log_p.astype(np.float64))
    in_own_key = np.zeros_like(probabilities)
    # Rests stay rests.
    in_own_key[..., 0] = probabilities[..., 0]
    pitches = np.arange(max(1, 1 - shift), min(VOCABULARY, VOCABULARY - shift))
    in_own_key[..., pitches] = probabilities[..., pitches + shift]
    # Notes beyond the range of the piece's own key give their probability to those within it.
    total = in_own_key.sum(axis=-1, keepdims=True)
    in_own_key = np.divide(in_own_key, total, out=in_own_key, where=total > 0)
    return Mixture(mixture.total + np.where(has_part[..., None], in_own_key, 0), mixture.count + has_part)


def transposed(symbols: Int[np.ndarray, "t 4"], shift: int) -> Int[np.ndarray, "t 4"]:
    """Return symbols `shift` semitones higher; a note that leaves the range becomes the last one in it."""
    return np.where(symbols > 0, np.clip(symbols + shift, 1, VOCABULARY - 1), symbols)


def _has_part(symbols: Int[np.ndarray, "t 4"], shift: int) -> Bool[np.ndarray, "t 4"]:
    """Return for each note whether all notes before it are in range, `shift` semitones higher."""
    moved = symbols + shift
    is_out = (symbols > 0) & ((moved < 1) | (moved >= VOCABULARY))
    out_so_far = np.logical_or.accumulate(is_out.ravel())
    return ~np.concatenate([[False], out_so_far[:-1]]).reshape(symbols.shape)


def judged(
    runs: Sequence[Path], experiments: Sequence[ChoraleExperiment], combination: str, console: Console
) -> dict[str, bytes]:
    """Score the runs, each alone and all as one, on the validation and the test part; print the table, return the files.

    Raises `UsageError` for a median, which is no distribution.
    """
    if combination != "mean":
        raise UsageError("no mixture of distributions", where=ENSEMBLE, got=combination, needed="mean")
    job = chorales.prepare(experiments[0])
    members = []
    for run, experiment in zip(runs, experiments, strict=True):
        epoch, state = restore_best(job, run)
        members.append(Member(f"{experiment.model.cell}, seed {experiment.seed} (epoch {epoch})", state))

    valid = _scores(job, members, job.batches.valid, stretches(job.material.valid, job.experiment))
    test = _scores(job, members, job.batches.test, stretches(job.material.test, job.experiment))
    rows = []
    for name, of_test in test.items():
        rows.append({"predictions": name, "valid_nats": valid[name].nats, **of_test._asdict()})
    table = pd.DataFrame(rows)
    console.print(_screen_table(table, job.experiment))
    return {run_seal.SCORES: csv_tables.content(table), run_seal.REPORT: _report(table, job.experiment).encode()}


def _scores(job: ChoraleJob, members: Sequence[Member], batch: object, part: Sequence[Stretch]) -> dict[str, Scores]:
    """Return the scores of each row of the table on one part."""
    assert isinstance(batch, Batch), "pieces are rows, and no course through a series"
    targets = targets_of(job.experiment, batch, part)
    return {name: _score(mixtures, part, targets) for name, mixtures in _mixtures(job, members, batch, part)}


def _score(
    mixtures: Sequence[Mixture], part: Sequence[Stretch], targets: Sequence[Bool[np.ndarray, "_ 4"] | None]
) -> Scores:
    """Score a part by its mixtures, which are in its order."""
    predictions = iter(
        [prediction_of(mixture.log_mean, stretch.symbols) for mixture, stretch in zip(mixtures, part, strict=True)]
    )
    return scores.average(score_pieces(lambda _: next(predictions), part, targets))


def _mixtures(
    job: ChoraleJob, members: Sequence[Member], batch: Batch, part: Sequence[Stretch]
) -> Iterator[tuple[str, list[Mixture]]]:
    """Yield the rows of the table: each run, its mean over transpositions, and the means over the runs."""
    shifts = shifts_of(job.experiment)
    nothing = [no_distribution(stretch.symbols) for stretch in part]
    of_all = nothing
    of_all_shifts = nothing
    for member in members:
        of_shifts = nothing
        for shift in shifts:
            log_p = _read(job, member.state, batch, part, shift)
            of_shifts = _each_added(of_shifts, log_p, part, shift)
            of_all_shifts = _each_added(of_all_shifts, log_p, part, shift)
            if shift == 0:
                of_all = _each_added(of_all, log_p, part, shift)
                yield member.name, _each_added(nothing, log_p, part, shift)
        if len(shifts) > 1:
            yield f"{member.name}, {len(shifts)} transpositions", of_shifts

    yield f"mean of {len(members)} seeds", of_all
    if len(shifts) > 1:
        yield f"mean of {len(members)} seeds, {len(shifts)} transpositions", of_all_shifts


def shifts_of(experiment: ChoraleExperiment) -> list[int]:
    """Return the transpositions in semitones that a run was trained on; a run that fills gaps reads its own key alone."""
    # A gap's notes are no past that tells which transpositions have a part.
    if experiment.model.whole_pieces_only:
        return [0]
    return list(range(-experiment.transpose, experiment.transpose + 1))


def _each_added(
    mixtures: Sequence[Mixture], log_p: Sequence[Float[np.ndarray, "_ 4 v"]], part: Sequence[Stretch], shift: int
) -> list[Mixture]:
    return [
        added(mixture, of_stretch, stretch.symbols, shift)
        for mixture, of_stretch, stretch in zip(mixtures, log_p, part, strict=True)
    ]


def _read(
    job: ChoraleJob, state: TrainState, batch: Batch, part: Sequence[Stretch], shift: int
) -> list[Float[np.ndarray, "_ 4 v"]]:
    """Return a run's distributions of all stretches, read `shift` semitones higher."""
    moved = [stretch._replace(symbols=transposed(stretch.symbols, shift)) for stretch in part]
    rows = rows_of(job.experiment, moved, with_conditions=False)
    if job.experiment.model.whole_pieces_only:
        # With the notes hidden that are hidden for every model.
        rows = [inputs.Rows(x[: len(row.x)], y[: len(row.y)]) for x, y, row in zip(batch.x, batch.y, rows, strict=True)]

    return log_probabilities_by_length(job, state, rows, moved)


def _cells(row: pd.Series) -> list[str]:
    """Format a row of the table in the order of `HEADINGS`."""
    nats = [measured(float(row[name])) for name in ("valid_nats", "nats")]
    return [*nats, *(f"{row[name]:.4f}" for name in ("accuracy", "changed_accuracy"))]


def _screen_table(table: pd.DataFrame, experiment: ChoraleExperiment) -> Table:
    screen = Table(title=f"{experiment.data.name}, runs as one", title_justify="left", box=None, padding=(0, 1))
    screen.add_column("predictions")
    for heading in HEADINGS:
        screen.add_column(heading, justify="right")
    for _, row in table.iterrows():
        screen.add_row(row["predictions"], *_cells(row))
    return screen


def _report(table: pd.DataFrame, experiment: ChoraleExperiment) -> str:
    """Write the report in Markdown."""
    lines = [f"| predictions | {' | '.join(HEADINGS)} |", "|---|" + "---:|" * len(HEADINGS)]
    lines += [f"| {row['predictions']} | {' | '.join(_cells(row))} |" for _, row in table.iterrows()]
    body = "\n".join(lines)
    return f"""# {experiment.name}: {experiment.data.name}, the runs as one

{body}

The probability of a note, given all before it, is the mean of its probabilities by all runs or, in the rows that say so, by
each of them on each transposition of the piece that it was trained on. A transposition that takes a note out of range gives
it a probability of 0, and has no part in the notes after it; its probabilities are divided by the sum of those that have a
counterpart in the piece's own key. Nothing is known of the pieces but their notes. The epochs of
the runs were chosen on the validation part.
"""
