"""Models of chorales, scored note by note on the test part beside copying and a 5-gram."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.table import Table

from jaxseq.common import figures, files
from jaxseq.common.arrays import Batch, Splits
from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.corpora import chorales, jsb
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.evaluation import ngram, scores
from jaxseq.music.evaluation.scores import Scores, Sums
from jaxseq.music.networks import inputs
from jaxseq.music.piece import Piece
from jaxseq.train import devices, run_folder
from jaxseq.train.domains import Member, measured
from jaxseq.train.epoch import Setup, TrainState, predict
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.job import Job, build_job, restore_best, restore_epoch
from jaxseq.train.plots import loss_figure
from jaxseq.train.restore import saved_experiment_of

DUPLICATES = {
    Jsb.name: frozenset(jsb.NEAR_DUPLICATES),
    Chorales.name: frozenset(chorales.NEAR_DUPLICATES),
}
"""Test pieces of each edition that are almost training pieces."""
COPY = "copy the last note"
GRAM = "5-gram"
HEADINGS = ("nats a note", "accuracy", "of changed notes", "notes")
BOOTSTRAP_DRAWS = 10_000
HIDDEN = """

Of each piece a share of the notes is hidden, drawn evenly from 0 to 1, and they alone are counted. The model knows what is
left on both sides; copying and the 5-gram know all that came before, and nothing that comes after."""

ChoraleJob: TypeAlias = Job[ChoraleExperiment, Splits]
"""An experiment with the pieces of its three parts."""
Predictor: TypeAlias = Callable[
    [Int[np.ndarray, "t 4"]], tuple[Float[np.ndarray, "t 4"] | None, Int[np.ndarray, "t 4"]]
]
"""Log-probabilities of the symbols (None if there are none), and the likeliest ones."""


class Composer(NamedTuple):
    """A model of chorales, restored from a run."""

    experiment: ChoraleExperiment
    epoch: int
    setup: Setup
    state: TrainState

    @property
    def model(self) -> Any:
        """The Flax module."""
        return self.setup.model


class Score(NamedTuple):
    """A row of the table: predictions and their scores."""

    name: str
    scores: Scores


class Comparison(NamedTuple):
    """The model beside the baselines on the test part.

    protocol  the targets, in words
    pieces    a row for each test piece: nats and accuracy of the model, nats of the 5-gram
    """

    rows: list[Score]
    verdict: str
    protocol: str
    pieces: pd.DataFrame


class Stretch(NamedTuple):
    """Symbols to predict: a whole piece, or a window of one, which begins cold."""

    name: str
    symbols: Int[np.ndarray, "t 4"]
    positions: Int[np.ndarray, "t"]


def prepare(experiment: ChoraleExperiment) -> ChoraleJob:
    """Load the pieces and lay them out as rows. Raises `UsageError` where data and experiment do not fit."""
    parts = experiment.data.load()
    stretches = Splits(*(_stretches(part, experiment) for part in parts))
    batches = Splits(
        train=_training_rows(experiment, stretches.train),
        valid=_scored_rows(experiment, stretches.valid, seed=1),
        test=_scored_rows(experiment, stretches.test, seed=2),
    )
    # The benchmark edition is one file, with nothing to remark.
    notes = ()
    if isinstance(experiment.data, Chorales):
        notes = experiment.data.notes()
    return build_job(experiment, batches, parts, notes)


def _stretches(pieces: Sequence[Piece], experiment: ChoraleExperiment) -> list[Stretch]:
    """Return whole pieces, or the book's windows of them, as the protocol says."""
    whole_pieces = [Stretch(p.name, tokens.encode(p.notes, p.name), p.positions) for p in pieces]
    if experiment.protocol == "pieces":
        return whole_pieces

    windows = []
    for piece in whole_pieces:
        for first in range(0, len(piece.symbols) - scores.WINDOW + 1, scores.SHIFT):
            rows = slice(first, first + scores.WINDOW)
            windows.append(Stretch(piece.name, piece.symbols[rows], piece.positions[rows]))
    if not windows:
        longest = max(len(piece.symbols) for piece in whole_pieces)
        raise UsageError(
            "no piece is as long as a window of the book; take --protocol pieces",
            where=f"{whole_pieces[0].name} to {whole_pieces[-1].name}",
            got=f"{longest} sixteenths",
            needed=f"at least {scores.WINDOW}",
        )
    return windows


def _training_rows(experiment: ChoraleExperiment, part: Sequence[Stretch]) -> Batch:
    """Lay out the training part; whole pieces are cut into overlapping stretches."""
    rows = [experiment.model.rows(p.symbols, p.positions, not experiment.started) for p in part]
    if experiment.started:
        per_step = experiment.model.per_step
        length = experiment.stretch * per_step
        hop = experiment.hop * per_step
        rows = [stretch for row in rows for stretch in inputs.cut(row, length, hop)]
    return Batch(*inputs.pad(rows))


def _scored_rows(experiment: ChoraleExperiment, part: Sequence[Stretch], seed: int) -> Batch:
    """Lay out the validation or test part."""
    rows = [experiment.model.rows(p.symbols, p.positions, not experiment.started) for p in part]
    # Every epoch and every model is scored on the same hidden notes; training hides others in each step.
    if experiment.model.whole_pieces_only:
        rng = np.random.default_rng(seed)
        rows = [inputs.hide(row, rng) for row in rows]
    return Batch(*inputs.pad(rows))


def restore(folder: str | Path, epoch: int | None = None) -> Composer:
    """Restore a model of chorales; see `jaxseq.train.restore.restore`."""
    folder = Path(folder)
    hint = "which composes nothing: train chorales, say jsb-chords"
    experiment = saved_experiment_of(folder, ChoraleExperiment, hint)
    steps = scores.WINDOW
    if experiment.started:
        steps = experiment.stretch
    silence = np.zeros((steps, 4), np.int64)
    x = experiment.model.rows(silence, np.arange(steps), not experiment.started).x

    restored = restore_epoch(folder, experiment, jax.ShapeDtypeStruct((1, *x.shape), np.int32), epoch)
    return Composer(experiment, restored.epoch, restored.setup, restored.state)


def judge(job: ChoraleJob, folder: Path, console: Console, classical: bool = False) -> None:
    """Score the best epoch on the test part beside the baselines, on the console and in the folder."""
    experiment = job.experiment
    metrics = run_folder.read_metrics(folder)
    best_epoch, state = restore_best(job, folder)
    name = f"{experiment.model.cell} (epoch {best_epoch})"
    comparison = compare(job, state, name)

    table = pd.DataFrame([{"predictions": row.name, **row.scores._asdict()} for row in comparison.rows])
    files.write_table(folder / run_folder.SCORES, table)
    files.write_table(folder / run_folder.PREDICTIONS, comparison.pieces)
    metric = f"valid_{job.setup.objective.select}"
    curve = loss_figure(metrics, metric, best_epoch, None, f"{experiment.data.name}: {name}")
    figures.save(curve, folder / run_folder.LOSS_PLOT)
    files.write_text(folder / run_folder.REPORT, report(job, comparison, best_epoch, metrics))

    console.print(_table(comparison.rows, f"{experiment.data.name}, test part, {comparison.protocol}"))
    console.print(comparison.verdict, style="bold", highlight=False, markup=False)
    written = ", ".join((run_folder.REPORT, run_folder.SCORES, run_folder.LOSS_PLOT))
    console.print(f"{folder}: {written}, checkpoints", highlight=False)


def compare(job: ChoraleJob, state: TrainState, name: str) -> Comparison:
    """Score the model, copying, and a 5-gram of the training part by one function."""
    experiment = job.experiment
    test = _stretches(job.material.test, experiment)
    targets = _targets(experiment, job.batches.test, test)
    gram = ngram.fit([tokens.encode(piece.notes, piece.name) for piece in job.material.train])
    model = iter(_predict(job, state, job.batches.test, test))

    predictors: dict[str, Predictor] = {
        COPY: lambda symbols: (None, ngram.copy_last(symbols)),
        GRAM: lambda symbols: (ngram.log_probabilities(gram, symbols), ngram.predictions(gram, symbols)),
        # The model has predicted all stretches at once, in their order.
        name: lambda symbols: next(model),
    }
    by_piece = {label: _score_pieces(predictor, test, targets) for label, predictor in predictors.items()}

    rows = [Score(label, scores.average(pieces)) for label, pieces in by_piece.items()]
    duplicates = DUPLICATES.get(experiment.data.name, frozenset()) & by_piece[name].keys()
    if duplicates:
        label = f"{name}, without {len(duplicates)} near-duplicates"
        rows.append(Score(label, scores.average(by_piece[name], duplicates)))
    return Comparison(
        rows=rows,
        verdict=_verdict(name, by_piece),
        protocol=_protocol_words(experiment),
        pieces=_piece_table(by_piece[name], by_piece[GRAM]),
    )


def _protocol_words(experiment: ChoraleExperiment) -> str:
    if experiment.model.whole_pieces_only:
        return "hidden notes"
    if experiment.started:
        return "whole pieces"
    return "windows of 33 chords"


def _predict(
    job: ChoraleJob, state: TrainState, batch: Batch, part: Sequence[Stretch]
) -> list[tuple[Float[np.ndarray, "t 4"], Int[np.ndarray, "t 4"]]]:
    """Return log p of every symbol and the likeliest symbol, for each stretch; NaN and -1 for a note that is given."""
    x = devices.replicate(job.mesh, batch.x)
    logits = predict(job.setup, state.params, state.stats, x, job.experiment.batch)
    all_log_p = jax.nn.log_softmax(logits)
    likeliest = np.asarray(all_log_p.argmax(-1)).reshape(len(part), -1)
    target = np.maximum(batch.y, 0)[..., None]
    log_p = np.take_along_axis(np.asarray(all_log_p), target, -1).reshape(len(part), -1)

    predictions = []
    for number, stretch in enumerate(part):
        size = stretch.symbols.size
        # A network of notes has no output for the first note of a cold start, which is given.
        given = 1 if likeliest.shape[1] < size else 0
        stretch_log_p = np.concatenate([np.full(given, np.nan), log_p[number, : size - given]])
        stretch_likeliest = np.concatenate([np.full(given, -1), likeliest[number, : size - given]])
        predictions.append((stretch_log_p.reshape(-1, 4), stretch_likeliest.reshape(-1, 4)))
    return predictions


def _targets(
    experiment: ChoraleExperiment, batch: Batch, part: Sequence[Stretch]
) -> list[Bool[np.ndarray, "t 4"] | None]:
    """Return which notes of each stretch are scored; None stands for all of them."""
    if experiment.model.whole_pieces_only:
        return [np.asarray(y[: len(stretch.symbols)]) >= 0 for y, stretch in zip(batch.y, part, strict=True)]
    if experiment.started:
        return [None] * len(part)
    return [scores.all_but_the_first(stretch.symbols) for stretch in part]


def _score_pieces(
    predictor: Predictor, part: Sequence[Stretch], targets: Iterable[Bool[np.ndarray, "t 4"] | None]
) -> dict[str, Sums]:
    """Score each stretch, and add the windows of a piece up."""
    by_piece: dict[str, Sums] = {}
    for stretch, mask in zip(part, targets, strict=True):
        log_p, predicted = predictor(stretch.symbols)
        sums = scores.score(log_p, predicted, stretch.symbols, mask)
        before = by_piece.get(stretch.name, Sums(0.0, 0, 0, 0, 0))
        by_piece[stretch.name] = Sums(
            nats=before.nats + sums.nats,
            notes=before.notes + sums.notes,
            right=before.right + sums.right,
            changed=before.changed + sums.changed,
            changed_right=before.changed_right + sums.changed_right,
        )
    return by_piece


def _verdict(name: str, by_piece: Mapping[str, Mapping[str, Sums]]) -> str:
    """Compare nats a note with the 5-gram in a sentence, with a bootstrap interval over the pieces."""
    gram = np.array([(sums.nats, sums.notes) for sums in by_piece[GRAM].values()])
    model = np.array([(sums.nats, sums.notes) for sums in by_piece[name].values()])
    gain = gram[:, 0] - model[:, 0]
    notes = model[:, 1]

    pieces = len(model)
    weights = np.random.default_rng(0).multinomial(pieces, np.full(pieces, 1 / pieces), size=BOOTSTRAP_DRAWS)
    low, high = np.quantile((weights @ gain) / (weights @ notes), [0.025, 0.975])
    mean_gain = (gram[:, 0].sum() - model[:, 0].sum()) / notes.sum()

    words = "no evidence of improvement over the 5-gram:"
    if low > 0:
        words = "improves on the 5-gram by"
    return f"{name}: {words} {mean_gain:.3f} nats a note (95 % interval over pieces {low:.3f} to {high:.3f})"


def _piece_table(model: Mapping[str, Sums], gram: Mapping[str, Sums]) -> pd.DataFrame:
    rows = []
    for piece, sums in model.items():
        model_scores = scores.average([sums])
        rows.append(
            {
                "piece": piece,
                "notes": model_scores.notes,
                "nats": model_scores.nats,
                "accuracy": model_scores.accuracy,
                "changed_accuracy": model_scores.changed_accuracy,
                "nats_5_gram": scores.average([gram[piece]]).nats,
            }
        )
    return pd.DataFrame(rows)


def _cells(row: Scores) -> list[str]:
    """Format the scores of a row in the order of `HEADINGS`."""
    return [measured(row.nats), f"{row.accuracy:.4f}", f"{row.changed_accuracy:.4f}", f"{row.notes:,}"]


def _table(rows: Sequence[Score], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("predictions", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *_cells(row.scores))
    return table


def report(job: ChoraleJob, comparison: Comparison, best_epoch: int, metrics: list[run_folder.Row]) -> str:
    """Write the run's report in Markdown."""
    experiment = job.experiment
    lines = [f"| predictions | {' | '.join(HEADINGS)} |", "|---|" + "---:|" * len(HEADINGS)]
    lines += [f"| {row.name} | {' | '.join(_cells(row.scores))} |" for row in comparison.rows]
    table = "\n".join(lines)
    remarks = "\n".join(f"{text}.\n" for text in job.notes)
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    title = f"{experiment.data.name}, {experiment.model.cell}, {experiment.model.hidden} units, {comparison.protocol}"
    hidden = ""
    if experiment.model.whole_pieces_only:
        hidden = HIDDEN
    return f"""# {experiment.name}: {title}

{comparison.verdict}.

{table}

{remarks}
Every note of the test part counts alike. Copying holds each voice's last note on; the 5-gram (Witten-Bell) was counted
on the training part. Epoch {best_epoch} of {len(metrics)} was chosen on the validation part; the test part was used once,
for this table. Piece by piece: `{run_folder.PREDICTIONS}`.{hidden}

![Loss by epoch]({run_folder.LOSS_PLOT})

Rows: {parts}. The experiment is in `{run_folder.CONFIG}`, the versions are in `{run_folder.ENVIRONMENT}`. See the weights
with `python -m jaxseq.checkpoint show RUN`. Compose with `python -m jaxseq.sample RUN`.
"""


def check(experiment: ChoraleExperiment) -> None:
    """Raise `UsageError` for pieces that cannot be used."""
    experiment.data.load()


def row(member: Member) -> dict[str, Any]:
    """Return a run's nats and accuracy on the test part, and its validation."""
    table = pd.read_csv(member.folder / run_folder.SCORES)
    model = table[~table["predictions"].isin([COPY, GRAM])].iloc[0]
    metrics = run_folder.read_metrics(member.folder)
    best = run_folder.best_row(metrics, f"valid_{member.experiment.objective().select}")
    return {
        "epoch": best["epoch"],
        "epochs": len(metrics),
        "valid_nats": best["valid_nats"],
        "valid_accuracy": best["valid_accuracy"],
        "nats": model["nats"],
        "accuracy": model["accuracy"],
        "changed_accuracy": model["changed_accuracy"],
        "seconds": sum(metric["seconds"] for metric in metrics),
    }


def summary(experiment: ChoraleExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """Summarise a study: the baselines first, then the mean over the seeds and the spread."""
    baselines = pd.read_csv(runs[0].folder / run_folder.SCORES).set_index("predictions")
    names = ("nats", "accuracy", "changed_accuracy")
    lines = [f"| predictions | {' | '.join(HEADINGS[:-1])} |", "|---|" + "---:|" * len(names)]
    for label in (COPY, GRAM):
        lines.append(f"| {label} | {' | '.join(measured(float(baselines[name][label])) for name in names)} |")
    spread = [measured(table[name].mean(), table[name].std(ddof=1)) for name in names]
    lines.append(f"| {experiment.model.cell}, mean over {len(runs)} seeds | {' | '.join(spread)} |")

    valid = measured(table["valid_nats"].mean(), table["valid_nats"].std(ddof=1))
    body = "\n".join(lines)
    return f"""# {experiment.name}: {experiment.data.name}, {experiment.model.cell}, {len(runs)} runs

{body}

Test part, protocol: {experiment.protocol}. ± is the standard deviation over the seeds. Validation: {valid} nats a note.
One row a run: `study.csv`.
"""
