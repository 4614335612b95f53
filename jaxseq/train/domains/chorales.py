"""A model of chorales: scored note by note on the test part, beside copying and a 5-gram."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from jaxseq.common import figures, files
from jaxseq.common.arrays import Batch, Splits
from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.corpora import chorales, jsb
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.evaluation import ngram
from jaxseq.music.evaluation import scores as protocol
from jaxseq.music.evaluation.scores import Scores, Sums
from jaxseq.music.networks import inputs
from jaxseq.music.piece import Piece
from jaxseq.train import devices, experiments, plots, run_folder
from jaxseq.train import epoch as fit
from jaxseq.train.domains import Member, measured
from jaxseq.train.experiments.chorales import ChoraleExperiment, Fills
from jaxseq.train.job import Job, build_job, restore_best, restore_epoch

DUPLICATES = {
    Jsb.name: frozenset(jsb.NEAR_DUPLICATES),
    Chorales.name: frozenset(chorales.NEAR_DUPLICATES),
}
"""Test pieces of each edition that are almost training pieces."""
COPY, GRAM = "copy the last note", "5-gram"


class Score(NamedTuple):
    """What a row of the table says: whose predictions of what, and what is left out."""

    name: str
    scores: Scores


class Stretch(NamedTuple):
    """Symbols to predict: a whole piece, or a window of one, which begins cold."""

    name: str
    symbols: Int[np.ndarray, "t 4"]
    positions: Int[np.ndarray, "t"]


def prepare(experiment: ChoraleExperiment) -> Job:
    """Load the pieces and lay them out as rows. Raises `UsageError` where something does not fit."""
    parts = experiment.data.load()
    stretches = Splits(*(_stretches(part, experiment.protocol) for part in parts))
    batches = Splits(*(_batch(experiment, part, number) for number, part in enumerate(stretches)))
    notes = experiment.data.notes() if hasattr(experiment.data, "notes") else ()
    return build_job(experiment, batches, parts, notes)


def _stretches(pieces: Sequence[Piece], scoring: str) -> list[Stretch]:
    """Whole pieces, or the book's windows of them."""
    whole = [Stretch(p.name, tokens.encode(p.notes, p.name), p.positions) for p in pieces]
    if scoring == "pieces":
        return whole
    length, shift = protocol.WINDOW, protocol.SHIFT
    found = [
        Stretch(piece.name, piece.symbols[first : first + length], piece.positions[first : first + length])
        for piece in whole
        for first in range(0, len(piece.symbols) - length + 1, shift)
    ]
    if not found:
        longest = max(len(piece.symbols) for piece in whole)
        raise UsageError(
            f"{whole[0].name} to {whole[-1].name}: the longest piece has {longest} sixteenths, a window of the book has "
            f"{length}: take --protocol pieces"
        )
    return found


def _batch(experiment: ChoraleExperiment, part: list[Stretch], number: int) -> Batch:
    """The rows of a part, 0 to train on. Of a model that fills gaps, those of the others have theirs once and for all."""
    training = number == 0
    rows = [experiment.model.rows(p.symbols, p.positions, not experiment.started) for p in part]
    if training and experiment.started:
        steps = experiment.model.per_step
        sizes = experiment.stretch * steps, experiment.hop * steps
        rows = [stretch for row in rows for stretch in inputs.cut(row, *sizes)]
    if not training and _fills(experiment):
        rng = np.random.default_rng(number)
        rows = [inputs.hide(row, rng) for row in rows]
    return Batch(*inputs.pad(rows))


def _fills(experiment: Any) -> bool:
    return isinstance(experiment.model, Fills)


def judge(job: Job, folder: Path, console: Console, classical: bool = False) -> None:
    """Score the best epoch on the test part beside the baselines, on the screen and in the folder."""
    experiment, metric = job.experiment, f"valid_{job.setup.objective.select}"
    rows = run_folder.read_metrics(folder)
    best, state = restore_best(job, folder)
    name = f"{experiment.model.cell} (epoch {best})"
    found = compare(job, state, name)
    frame = pd.DataFrame([{"predictions": row.name, **row.scores._asdict()} for row in found.rows])
    files.write_table(folder / run_folder.SCORES, frame)
    files.write_table(folder / run_folder.PREDICTIONS, found.pieces)
    figures.save(plots.loss(rows, metric, best, None, f"{experiment.data.name}: {name}"), folder / run_folder.LOSS_PLOT)
    files.write_text(folder / run_folder.REPORT, report(job, found, best, rows))
    console.print(_table(found.rows, f"{experiment.data.name}, test part, {found.protocol}"))
    console.print(found.verdict, style="bold", highlight=False, markup=False)
    console.print(
        f"{folder}: {run_folder.REPORT}, {run_folder.SCORES}, {run_folder.LOSS_PLOT}, checkpoints", highlight=False
    )


class Comparison(NamedTuple):
    """What the test part allows to be said.

    pieces   a row for each test piece: nats and accuracy of the model and of the 5-gram
    """

    rows: list[Score]
    verdict: str
    protocol: str
    pieces: pd.DataFrame


def compare(job: Job, state: fit.TrainState, name: str) -> Comparison:
    """The model, copying, and a 5-gram that saw the training part, all scored by one function."""
    experiment, parts = job.experiment, job.material
    test = _stretches(parts.test, experiment.protocol)
    gram = ngram.fit([tokens.encode(piece.notes, piece.name) for piece in parts.train])
    masks = _scored(experiment, job.batches.test, test)

    def by_gram(symbols: Int[np.ndarray, "t 4"]) -> tuple[Any, Any]:
        return ngram.log_probabilities(gram, symbols), ngram.predictions(gram, symbols)

    model = iter(_predict(job, state, job.batches.test, test))
    ways: dict[str, Callable[[Any], tuple[Any, Any]]] = {
        COPY: lambda symbols: (None, ngram.copy_last(symbols)),
        GRAM: by_gram,
        name: lambda symbols: next(model),
    }
    sums: dict[str, list[tuple[str, Sums]]] = {way: [] for way in ways}
    for way, find in ways.items():
        for one, mask in zip(test, masks, strict=True):
            log_p, predicted = find(one.symbols)
            sums[way].append((one.name, protocol.score(log_p, predicted, one.symbols, mask)))
    by_piece = {way: _by_name(each) for way, each in sums.items()}
    rows = [Score(way, protocol.average(each)) for way, each in by_piece.items()]
    twins = DUPLICATES.get(experiment.data.name, frozenset()) & by_piece[name].keys()
    if twins:
        rows.append(Score(f"{name}, without {len(twins)} near-duplicates", protocol.average(by_piece[name], twins)))
    started = "hidden notes" if _fills(experiment) else "whole pieces"
    words = started if experiment.started else "windows of 33 chords"
    return Comparison(rows, _verdict(name, by_piece), words, _frame(name, by_piece))


def _predict(
    job: Job, state: fit.TrainState, batch: Batch, part: Sequence[Stretch]
) -> list[tuple[Float[np.ndarray, "t 4"], Int[np.ndarray, "t 4"]]]:
    """log p of every symbol and the likeliest one, stretch by stretch; what a cold start is given is NaN and -1."""
    x = devices.replicate(job.mesh, batch.x)
    logits = fit.predict(job.setup, state.params, state.stats, x, job.experiment.batch)
    log_p = jax.nn.log_softmax(logits)
    likeliest = np.asarray(log_p.argmax(-1)).reshape(len(part), -1)
    of_target = np.take_along_axis(np.asarray(log_p), np.maximum(batch.y, 0)[..., None], -1).reshape(len(part), -1)
    found = []
    for number, stretch in enumerate(part):
        size, given = stretch.symbols.size, 0
        if likeliest.shape[1] < size:  # a network of notes puts out nothing for the first note of a cold start
            given = 1
        mine, best = (
            np.concatenate([np.full(given, fill), row[: size - given]]).reshape(-1, 4)
            for fill, row in ((np.nan, of_target[number]), (-1, likeliest[number]))
        )
        found.append((mine, best))
    return found


def _scored(experiment: Any, batch: Batch, part: Sequence[Stretch]) -> list[Any]:
    """The targets of each stretch; None: all of its notes."""
    if _fills(experiment):
        return [np.asarray(y[: len(stretch.symbols)]) >= 0 for y, stretch in zip(batch.y, part, strict=True)]
    return [None if experiment.started else protocol.all_but_the_first(stretch.symbols) for stretch in part]


def _by_name(each: Sequence[tuple[str, Sums]]) -> dict[str, Sums]:
    """Sums piece by piece, its windows added up."""
    found: dict[str, Sums] = {}
    for name, sums in each:
        before = found.get(name, Sums(0.0, 0, 0, 0, 0))
        found[name] = Sums(before.nats + sums.nats, *(int(a + b) for a, b in zip(before[1:], sums[1:], strict=True)))
    return found


def _verdict(name: str, by_piece: Mapping[str, Mapping[str, Sums]], draws: int = 10_000) -> str:
    """One sentence: nats a note against the 5-gram, with the interval of a bootstrap over the pieces."""
    gram, mine = (np.array([(s.nats, s.notes) for s in by_piece[way].values()]) for way in (GRAM, name))
    weights = np.random.default_rng(0).multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=draws)
    differences = (weights @ (gram[:, 0] - mine[:, 0])) / (weights @ mine[:, 1])
    low, high = np.quantile(differences, [0.025, 0.975])
    middle = (gram[:, 0].sum() - mine[:, 0].sum()) / mine[:, 1].sum()
    better = "improves on the 5-gram by" if low > 0 else "no evidence of improvement over the 5-gram:"
    return f"{name}: {better} {middle:.3f} nats a note (95 % interval over pieces {low:.3f} to {high:.3f})"


def _frame(name: str, by_piece: Mapping[str, Mapping[str, Sums]]) -> pd.DataFrame:
    rows = []
    for piece, sums in by_piece[name].items():
        mine, gram = (protocol.average([one]) for one in (sums, by_piece[GRAM][piece]))
        row = {"piece": piece, "notes": mine.notes, "nats": mine.nats, "accuracy": mine.accuracy}
        rows.append(row | {"changed_accuracy": mine.changed_accuracy, "nats_5_gram": gram.nats})
    return pd.DataFrame(rows)


def _numbers(scores: Scores) -> list[str]:
    nats = "\N{EN DASH}" if np.isnan(scores.nats) else f"{scores.nats:.4f}"
    return [nats, f"{scores.accuracy:.4f}", f"{scores.changed_accuracy:.4f}", f"{scores.notes:,}"]


HEADINGS = ("nats a note", "accuracy", "of changed notes", "notes")


def _table(rows: Sequence[Score], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("predictions", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *_numbers(row.scores))
    return table


HIDDEN = """

Of each piece a share of the notes is hidden, drawn evenly from 0 to 1, and they alone are counted. The model knows what is
left on both sides; copying and the 5-gram know all that came before, and nothing that comes after."""


def report(job: Job, found: Comparison, best: int, rows: list[run_folder.Row]) -> str:
    """The run's report in Markdown."""
    experiment = job.experiment
    lines = [f"| predictions | {' | '.join(HEADINGS)} |", "|---|" + "---:|" * len(HEADINGS)]
    lines += [f"| {row.name} | {' | '.join(_numbers(row.scores))} |" for row in found.rows]
    table, said = "\n".join(lines), "\n".join(f"{text}.\n" for text in job.notes)
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    title = f"{experiment.data.name}, {experiment.model.cell}, {experiment.model.hidden} units, {found.protocol}"
    return f"""# {experiment.name}: {title}

{found.verdict}.

{table}

{said}
Every note of the test part counts alike. Copying holds each voice's last note on; the 5-gram (Witten-Bell) was counted
on the training part. Epoch {best} of {len(rows)} was chosen on the validation part; the test part was used once, for this
table. Piece by piece: `{run_folder.PREDICTIONS}`.{HIDDEN if _fills(experiment) else ""}

![Loss by epoch]({run_folder.LOSS_PLOT})

Rows: {parts}. The recipe is in `{run_folder.CONFIG}`, the versions are in `{run_folder.ENVIRONMENT}`. See the weights with
`python -m jaxseq.checkpoint show RUN`. Compose with `python -m jaxseq.sample RUN`.
"""


def check(experiment: ChoraleExperiment) -> None:
    """Raise `UsageError` for data that no run could be made of."""
    experiment.data.load()


def row(member: Member) -> dict[str, Any]:
    """A run's nats and accuracy on the test part, and its validation."""
    scores = pd.read_csv(member.folder / run_folder.SCORES)
    model = scores[~scores["predictions"].isin([COPY, GRAM])].iloc[0]
    metrics = run_folder.read_metrics(member.folder)
    best = run_folder.best_row(metrics, f"valid_{member.experiment.objective().select}")
    return (
        {"epoch": best["epoch"], "epochs": len(metrics)}
        | {name: best[name] for name in ("valid_nats", "valid_accuracy")}
        | {name: model[name] for name in ("nats", "accuracy", "changed_accuracy")}
        | {"seconds": sum(row["seconds"] for row in metrics)}
    )


def summary(experiment: ChoraleExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """The study in Markdown: the baselines first, then the mean over the seeds and the spread."""
    scores = pd.read_csv(runs[0].folder / run_folder.SCORES).set_index("predictions")
    names = ("nats", "accuracy", "changed_accuracy")
    lines = [f"| predictions | {' | '.join(HEADINGS[:-1])} |", "|---|" + "---:|" * len(names)]
    for label in (COPY, GRAM):
        lines.append(f"| {label} | {' | '.join(measured(float(scores[name][label])) for name in names)} |")
    spread = [measured(table[name].mean(), table[name].std(ddof=1)) for name in names]
    lines.append(f"| {experiment.model.cell}, mean over {len(runs)} seeds | {' | '.join(spread)} |")
    valid = measured(table["valid_nats"].mean(), table["valid_nats"].std(ddof=1))
    body = "\n".join(lines)
    return f"""# {experiment.name}: {experiment.data.name}, {experiment.model.cell}, {len(runs)} runs

{body}

Test part, protocol: {experiment.protocol}. ± is the standard deviation over the seeds. Validation: {valid} nats a note.
One row a run: `study.csv`.
"""


class Composer(NamedTuple):
    """A model of chorales, restored from a run."""

    experiment: ChoraleExperiment
    epoch: int
    model: Any
    state: fit.TrainState


def restore(folder: str | Path, epoch: int | None = None) -> Composer:
    """The best epoch of a run (or the one named), verified; it needs no pieces.

    Raises `UsageError` if there is no such run or epoch, or it is none of chorales, `records.DamagedError` if it is
    damaged.
    """
    folder = Path(folder)
    experiment = experiments.from_config(run_folder.read_config(folder), str(folder / run_folder.CONFIG))
    if not isinstance(experiment, ChoraleExperiment):
        raise UsageError(
            f"{folder} is a run of {experiment.name}, which composes nothing: train chorales, say jsb-chords"
        )
    steps = experiment.stretch if experiment.started else protocol.WINDOW
    nothing, net = np.zeros((steps, 4), np.int64), experiment.model
    x = net.rows(nothing, np.arange(steps), not experiment.started).x
    row = jax.ShapeDtypeStruct((1, *x.shape), np.int32)
    epoch, setup, state = restore_epoch(folder, experiment, row, epoch)
    return Composer(experiment, epoch, setup.model, state)
