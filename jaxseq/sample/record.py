"""The record of composed pieces as JSON: how they were composed, and the figures of each and of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from jaxseq.sample import report
from jaxseq.sample.compose import Composed
from jaxseq.sample.judge import BACH, SAMPLES, Judgement
from jaxseq.sample.request import Request


def record(
    request: Request, composed: Composed, judgement: Judgement | None, files: Sequence[Sequence[str]]
) -> dict[str, object]:
    """Return everything that is known of the pieces; `files` has the names of each piece's files.

    Figures of a judgement lack where it is None.
    """
    samples = []
    for number, piece in enumerate(composed.pieces):
        piece_nats = report.nats(composed.log_probability[number])
        sample: dict[str, object] = {
            "name": piece.name,
            "seed": request.options.seed,
            "log_likelihood_per_note": -piece_nats.mean,
            "notes_composed": piece_nats.notes,
            "key": report.key_name(piece),
            "files": files[number],
        }
        if judgement is not None:
            sample |= _figures_of_piece(judgement, number)
        samples.append(sample)

    values: dict[str, object] = {
        "settings": report.settings(request),
        "said": report.remarks(request, composed),
        "samples": samples,
    }
    if judgement is not None:
        values |= _figures(judgement)
    return {name: _without_nan(value) for name, value in values.items()}


def _figures_of_piece(judgement: Judgement, number: int) -> dict[str, object]:
    memorised = judgement.memorised_by_piece[number]
    return {
        "coherence": judgement.by_piece[number]._asdict(),
        "memorised_share": memorised.share,
        # The only piece that was looked up here.
        "longest_memorised_steps": memorised.longest[0],
    }


def _figures(judgement: Judgement) -> dict[str, object]:
    """Return the figures of all pieces together."""
    memorised_by_column = {}
    for name, memorised in ((SAMPLES, judgement.memorised), (BACH, judgement.bach_memorised)):
        memorised_by_column[name] = {
            "share": memorised.share,
            "windows": memorised.windows,
            "longest_steps": max(memorised.longest, default=0),
        }
    return {
        "coherence": {name: column._asdict() for name, column in judgement.columns.items()},
        "told_apart": {
            "auc": judgement.told_apart.auc,
            "standard_error": judgement.told_apart.error,
            "strongest": dict(judgement.told_apart.strongest),
        },
        "memorised": memorised_by_column,
    }


def _without_nan(value: object) -> object:
    """Return a value for JSON, which has no NaN: null takes its place."""
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    # A measure is NaN where a piece has nothing to measure.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
