"""The paper's five claims, each with what is measured for it, what was fixed beforehand, and its verdict.

Every comparison is of two rows by seed (`forecasting.paired`), or of CPU times by round. What counts as slow, flat, stable
or alike was fixed before any run was looked at, and stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.report import learning_curves, paired
from jaxseq.report.evidence import Found
from jaxseq.report.paired import Paired, Verdict
from jaxseq.report.plan import CELL, LEVEL, NORM

STILL_FALLING = 0.005
"""A curve is flat if its loss falls by less than this share an epoch over the last fifth of them."""
ALIKE = 0.04
"""Two losses are alike if they differ by less than this share of the LSTM's: as much as the paper's own 0.25 and 0.26."""

Rows = Mapping[tuple[str, str], Found]


class Part(NamedTuple):
    """One comparison: what it is, in which unit, the difference, and what it says of the claim."""

    what: str
    unit: str
    found: Paired
    verdict: Verdict


class Claim(NamedTuple):
    """A claim of the paper: what it says, what became of it, and the comparisons that say so."""

    number: int
    says: str
    verdict: Verdict
    parts: list[Part]
    sentence: str


def judge(rows: Rows, times: Mapping[str, Float[np.ndarray, " _"]]) -> list[Claim]:
    """The five claims; `times` are CPU seconds of an epoch by cell on Bach, one a round."""
    return [_slow(rows), _norms_faster(rows), _batch_beats_layer(rows), _gates_beat(rows), _gru(rows, times)]


def _slow(rows: Rows) -> Claim:
    rnn, lstm, gru = (rows[LEVEL, cell] for cell in ("RNN", "LSTM", "GRU"))
    falling = _paired(learning_curves.flattened(rnn.epochs["train_loss"]), np.full(len(rnn.runs), -STILL_FALLING))
    parts = [
        *(_sooner(other, rnn, "share price") for other in (lstm, gru)),
        Part(
            "RNN still falling at the end", f"share an epoch, beyond -{STILL_FALLING:g}", falling, paired.less(falling)
        ),
    ]
    return _claim(1, "The plain RNN converges slowly and does not flatten", parts)


def _norms_faster(rows: Rows) -> Claim:
    plain = rows[NORM, "no normalisation"]
    normed = [rows[NORM, name] for name in ("batch norm", "layer norm")]
    parts = [_sooner(other, plain, "Bach") for other in normed]
    rough = learning_curves.roughness(plain.epochs[plain.metric])
    for other in normed:
        found = _paired(learning_curves.roughness(other.epochs[other.metric]), rough)
        what = f"{other.row.label} smoother on validation than none"
        parts.append(Part(what, "roughness, share of the loss", found, paired.less(found)))
    return _claim(2, "Batch and layer norm converge faster and more stably", parts)


def _batch_beats_layer(rows: Rows) -> Claim:
    batch, layer = rows[NORM, "batch norm"], rows[NORM, "layer norm"]
    return _claim(
        3, "Batch norm marginally beats layer norm", [_lower(batch, layer, which) for which in ("train_loss", "nats")]
    )


def _gates_beat(rows: Rows) -> Claim:
    rnn = rows[CELL, "RNN"]
    parts = [_lower(rows[CELL, cell], rnn, which) for cell in ("LSTM", "GRU") for which in ("train_loss", "nats")]
    return _claim(4, "LSTM and GRU beat the RNN on loss", parts)


def _gru(rows: Rows, times: Mapping[str, Float[np.ndarray, " _"]]) -> Claim:
    lstm, gru = rows[CELL, "LSTM"], rows[CELL, "GRU"]
    parts = []
    for which, words in LOSSES.items():
        found = _paired(_of(gru, which), _of(lstm, which))
        margin = ALIKE * float(np.mean(_of(lstm, which)))
        what = f"GRU and LSTM alike in {words}, within {margin:.3f}"
        parts.append(Part(what, "nats a note", found, paired.alike(found, margin)))
    found = _paired(np.asarray(times["GRU"]), np.asarray(times["LSTM"]))
    parts.append(Part("GRU's epoch takes less CPU time than the LSTM's", "seconds, in turn", found, paired.less(found)))
    return _claim(5, "The GRU is about as good as the LSTM and takes less time", parts)


def _paired(ours: Float[np.ndarray, " s"], theirs: Float[np.ndarray, " s"]) -> Paired:
    """`paired.paired`; NaN, which decides nothing, where curves are too short to be measured."""
    if np.isnan(ours).any() or np.isnan(theirs).any():
        return Paired(len(ours), *[float("nan")] * 5)
    return paired.paired(ours, theirs)


LOSSES = {"train_loss": "last training loss", "nats": "test loss"}
"""By name in a run's line, what is compared on Bach."""


def _of(found: Found, which: str) -> Float[np.ndarray, " s"]:
    return found.runs[which].to_numpy(np.float64)


def _lower(ours: Found, theirs: Found, which: str) -> Part:
    found = _paired(_of(ours, which), _of(theirs, which))
    return Part(f"{ours.row.label} below {theirs.row.label}, {LOSSES[which]}", "nats a note", found, paired.less(found))


def sooner(ours: Found, theirs: Found) -> tuple[learning_curves.Reached, learning_curves.Reached]:
    """Epochs that either took to the training loss that the other one, `theirs`, had at its end, seed by seed."""
    target = theirs.epochs["train_loss"][:, -1]
    return tuple(learning_curves.epochs_to_reach(one.epochs["train_loss"], target) for one in (ours, theirs))  # type: ignore


def _sooner(ours: Found, theirs: Found, where: str) -> Part:
    """Whether `ours` reaches sooner what `theirs` reached. It can only hold if every seed of ours did reach it."""
    mine, other = sooner(ours, theirs)
    found = _paired(mine.censored, other.censored)
    verdict = paired.less(found)
    if verdict == paired.HOLDS and mine.seeds < len(mine.epochs):
        verdict = paired.NOT_DECIDED
    what = f"{ours.row.label} sooner than {theirs.row.label} at the latter's last training loss, {where}"
    if mine.seeds < len(mine.epochs):
        what += f" ({mine.seeds} of {len(mine.epochs)} seeds got there)"
    return Part(what, "epochs", found, verdict)


def _claim(number: int, says: str, parts: list[Part]) -> Claim:
    verdict = paired.together([part.verdict for part in parts])
    return Claim(number, says, verdict, parts, _sentence(verdict, parts))


def _sentence(verdict: Verdict, parts: list[Part]) -> str:
    """Why, in a sentence."""
    if parts[0].found.n < 2:
        return "One seed has no spread, so nothing can be decided."
    counts = {way: sum(part.verdict == way for part in parts) for way in (paired.HOLDS, paired.DOES_NOT_HOLD)}
    if verdict == paired.HOLDS:
        return f"All {len(parts)} comparisons say so."
    if verdict == paired.DOES_NOT_HOLD:
        first = next(part.what for part in parts if part.verdict == verdict)
        says = "says" if counts[verdict] == 1 else "say"
        return f"{counts[verdict]} of {len(parts)} comparisons {says} the opposite, first: {first}."
    first = next(part.what for part in parts if part.verdict == verdict)
    return f"{counts[paired.HOLDS]} of {len(parts)} comparisons say so, none the opposite; open is: {first}."


def undecided(claim: Claim, why: str) -> Claim:
    """A claim on which these runs have no say."""
    parts = [part._replace(verdict=paired.NOT_DECIDED) for part in claim.parts]
    return claim._replace(verdict=paired.NOT_DECIDED, sentence=why, parts=parts)


def evidence(claim: Claim) -> str:
    """The comparisons in short: what, the mean difference, and whether it holds."""
    return "; ".join(
        f"{part.what}: {'not measured' if np.isnan(part.found.mean) else f'{part.found.mean:+.3g} {part.unit}'}"
        for part in claim.parts
    )
