"""The paper's five claims: the comparisons that test each, and its verdict.

Every comparison is of two rows by seed (`report.paired`), or of CPU times by round. The thresholds for slow, flat, stable
and alike were fixed before any run was looked at, and stand here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from jaxseq.report import learning_curves, paired
from jaxseq.report.evidence import RowRuns
from jaxseq.report.learning_curves import Reached
from jaxseq.report.paired import Paired, Verdict
from jaxseq.report.plan import CELL, LEVEL, NORM

STILL_FALLING = 0.005
"""A curve is flat if its loss falls by less than this share an epoch over the last fifth of them."""
ALIKE = 0.04
"""Two losses are alike if they differ by less than this share of the LSTM's: as much as the paper's own 0.25 and 0.26."""
LOSSES = {"train_loss": "last training loss", "nats": "test loss"}
"""The losses compared on Bach: their names by column of the runs."""

Rows: TypeAlias = Mapping[tuple[str, str], RowRuns]
"""Finished rows by group and label."""


class Part(NamedTuple):
    """One comparison of a claim: its subject, its unit, the difference, and its verdict on the claim."""

    subject: str
    unit: str
    comparison: Paired
    verdict: Verdict


class Claim(NamedTuple):
    """A claim of the paper, its verdict, the comparisons behind it, and the reason in a sentence."""

    number: int
    statement: str
    verdict: Verdict
    parts: list[Part]
    sentence: str


def judge(rows: Rows, times: Mapping[str, Float[np.ndarray, " _"]]) -> list[Claim]:
    """Judge those of the five claims whose tables are there.

    times  CPU seconds of an epoch on Bach by cell, one a round
    """
    groups = {group for group, _ in rows}
    judged = []
    if LEVEL in groups:
        judged.append(_rnn_converges_slowly(rows))
    if NORM in groups:
        judged += [_norms_converge_faster(rows), _batch_beats_layer(rows)]
    if CELL in groups:
        judged += [_gates_beat_rnn(rows), _gru_is_as_good(rows, times)]
    return judged


def _rnn_converges_slowly(rows: Rows) -> Claim:
    rnn = rows[LEVEL, "RNN"]
    # A run that ends at its plateau is flat at its end by the rule that ended it.
    if rnn.row.recipe.min_gain is not None:
        flattening = _without_plateau(rnn)
    else:
        flattening = _still_falling(rnn)
    parts = [
        _compare_speed(rows[LEVEL, "LSTM"], rnn, "share price"),
        _compare_speed(rows[LEVEL, "GRU"], rnn, "share price"),
        flattening,
    ]
    return _claim(1, "The plain RNN converges slowly and does not flatten", parts)


def _still_falling(row: RowRuns) -> Part:
    """Test that a row's training loss still falls at its end."""
    slopes = learning_curves.flattened(row.epochs["train_loss"])
    comparison = _compare(100 * slopes, np.full(len(slopes), -100 * STILL_FALLING))
    subject = f"{row.row.label}'s training loss still falls by more than {100 * STILL_FALLING:g} % an epoch at its end"
    return Part(subject, "% an epoch", comparison, paired.less(comparison))


def _without_plateau(row: RowRuns) -> Part:
    """Test that no seed of a row reached the plateau at which training ends before the last epoch that it was allowed."""
    allowed = row.row.recipe.epochs
    ends = learning_curves.ends(row.epochs["train_loss"])
    comparison = _compare(ends.astype(np.float64), np.full(len(ends), float(allowed)))
    at_plateau = int(np.count_nonzero(ends < allowed))

    verdict = paired.NOT_DECIDED
    if len(ends) > 1 and at_plateau == 0:
        verdict = paired.HOLDS
    if len(ends) > 1 and at_plateau == len(ends):
        verdict = paired.DOES_NOT_HOLD
    subject = f"{row.row.label} reaches no plateau within {allowed} epochs ({at_plateau} of {len(ends)} seeds do)"
    return Part(subject, "epochs", comparison, verdict)


def _norms_converge_faster(rows: Rows) -> Claim:
    plain = rows[NORM, "no normalisation"]
    normalised = [rows[NORM, "batch norm"], rows[NORM, "layer norm"]]
    parts = [_compare_speed(row, plain, "Bach") for row in normalised]

    plain_roughness = learning_curves.roughness(plain.epochs[plain.metric])
    for row in normalised:
        roughness = learning_curves.roughness(row.epochs[row.metric])
        comparison = _compare(100 * roughness, 100 * plain_roughness)
        subject = f"{row.row.label} has a smoother validation loss than no normalisation"
        parts.append(Part(subject, "% of the loss", comparison, paired.less(comparison)))
    return _claim(2, "Batch and layer norm converge faster and more stably", parts)


def _batch_beats_layer(rows: Rows) -> Claim:
    batch = rows[NORM, "batch norm"]
    layer = rows[NORM, "layer norm"]
    parts = [_compare_loss(batch, layer, column) for column in LOSSES]
    return _claim(3, "Batch norm marginally beats layer norm", parts)


def _gates_beat_rnn(rows: Rows) -> Claim:
    rnn = rows[CELL, "RNN"]
    parts = [_compare_loss(rows[CELL, cell], rnn, column) for cell in ("LSTM", "GRU") for column in LOSSES]
    return _claim(4, "LSTM and GRU beat the RNN on loss", parts)


def _gru_is_as_good(rows: Rows, times: Mapping[str, Float[np.ndarray, " _"]]) -> Claim:
    parts = []
    for column, words in LOSSES.items():
        gru = _column(rows[CELL, "GRU"], column)
        lstm = _column(rows[CELL, "LSTM"], column)
        comparison = _compare(gru, lstm)
        margin = ALIKE * float(np.mean(lstm))
        subject = f"GRU and LSTM differ by less than {margin:.3f} in {words}"
        parts.append(Part(subject, "nats a note", comparison, paired.alike(comparison, margin)))

    comparison = _compare(np.asarray(times["GRU"]), np.asarray(times["LSTM"]))
    subject = "GRU's epoch takes less CPU time than the LSTM's"
    parts.append(Part(subject, "s", comparison, paired.less(comparison)))
    return _claim(5, "The GRU is about as good as the LSTM and takes less time", parts)


def _compare(first: Float[np.ndarray, " s"], second: Float[np.ndarray, " s"]) -> Paired:
    """Compare seed by seed, by `paired.paired`."""
    # A curve that is too short to be measured is NaN, and decides nothing.
    if np.isnan(first).any() or np.isnan(second).any():
        nan = math.nan
        return Paired(len(first), mean=nan, low=nan, high=nan, effect=nan, p=nan)
    return paired.paired(first, second)


def _column(row: RowRuns, column: str) -> Float[np.ndarray, " s"]:
    return row.runs[column].to_numpy(np.float64)


def _compare_loss(lower: RowRuns, higher: RowRuns, column: str) -> Part:
    """Test that a row's loss is below another's."""
    comparison = _compare(_column(lower, column), _column(higher, column))
    subject = f"{lower.row.label} has a lower {LOSSES[column]} than {higher.row.label}"
    return Part(subject, "nats a note", comparison, paired.less(comparison))


def _compare_speed(faster: RowRuns, slower: RowRuns, data: str) -> Part:
    """Test that a row reaches the last training loss of a slower one sooner than that one did, seed by seed."""
    target = learning_curves.last_losses(slower.epochs["train_loss"])
    reached = learning_curves.epochs_to_reach(faster.epochs["train_loss"], target)
    reached_slower = learning_curves.epochs_to_reach(slower.epochs["train_loss"], target)
    comparison = _compare(reached.censored(reached_slower.last), reached_slower.censored(reached.last))

    verdict = paired.less(comparison)
    complete = reached.seeds == len(reached.epochs)
    # A seed that never got there is counted as one epoch more than either was trained, which is too kind to it.
    if verdict == paired.HOLDS and not complete:
        verdict = paired.NOT_DECIDED
    subject = f"{faster.row.label} reaches {slower.row.label}'s last training loss in fewer epochs, {data}"
    return Part(subject + _incomplete(reached), "epochs", comparison, verdict)


def _incomplete(reached: Reached) -> str:
    if reached.seeds == len(reached.epochs):
        return ""
    return f" ({reached.seeds} of {len(reached.epochs)} seeds do)"


def _claim(number: int, statement: str, parts: list[Part]) -> Claim:
    verdict = paired.together([part.verdict for part in parts])
    return Claim(number, statement, verdict, parts, _reason(verdict, parts))


def _reason(verdict: Verdict, parts: list[Part]) -> str:
    """The reason for a claim's verdict, as a sentence."""
    seeds = parts[0].comparison.n
    if seeds < 2:
        return "One seed has no spread, so nothing can be decided."
    if verdict == paired.HOLDS:
        return f"All {len(parts)} comparisons over {seeds} seeds say so."

    deciding = [part for part in parts if part.verdict == verdict]
    first = deciding[0].subject
    if verdict == paired.DOES_NOT_HOLD:
        verb = "says" if len(deciding) == 1 else "say"
        return f"{len(deciding)} of {len(parts)} comparisons over {seeds} seeds {verb} the opposite, first: {first}."
    supporting = sum(part.verdict == paired.HOLDS for part in parts)
    return f"{supporting} of {len(parts)} comparisons over {seeds} seeds say so, none the opposite; open is: {first}."


def undecided(claim: Claim, reason: str) -> Claim:
    """Leave a claim undecided on which these runs have no say."""
    parts = [part._replace(verdict=paired.NOT_DECIDED) for part in claim.parts]
    return claim._replace(verdict=paired.NOT_DECIDED, sentence=reason, parts=parts)
