"""Models of chorales, trained on pieces or windows of them; `chorale_scores` scores them on the test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, figures, files, row_counts
from jaxseq.common.arrays import Batch, Key, Splits, Tree
from jaxseq.common.errors import UsageError
from jaxseq.music import sampling, tokens
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.evaluation import scores
from jaxseq.music.evaluation.ngram import COPY, GRAM
from jaxseq.music.evaluation.scores import Scores
from jaxseq.music.networks import inputs
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.piece import REST, VOICES
from jaxseq.music.sampling import UNGUIDED, Drawn, Guide, SamplingOptions
from jaxseq.train import run_folder
from jaxseq.train.domains.base import NO_EXTRAS, Extras, Member, RunRow, measured, one_line
from jaxseq.train.domains.chorale_scores import ChoraleJob, Comparison, Score, Stretch, compare, rows_of, stretches
from jaxseq.train.epoch import Setup, TrainState, predict
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.feed import RowSplits
from jaxseq.train.job import build_job, restore_best, restore_epoch
from jaxseq.train.notebook import page_of_run
from jaxseq.train.plots import loss_figure
from jaxseq.train.saved_experiment import saved_experiment_of

HEADINGS = ("nats a note", "accuracy", "of changed notes", "notes")
HIDDEN = """

Of each piece a share of the notes is hidden, drawn evenly from 0 to 1, and they alone are counted. The model knows what is
left on both sides; copying and the 5-gram know all that came before, and nothing that comes after."""


class Composer(NamedTuple):
    """A model of chorales, restored from a run: `draw` composes with it."""

    experiment: ChoraleExperiment
    epoch: int
    setup: Setup
    state: TrainState
    folder: Path | None = None

    def __repr__(self) -> str:
        """Return experiment, epoch and network in one line."""
        return one_line(self)

    def _repr_html_(self) -> str:
        """Return the run as a small page, for notebooks."""
        return page_of_run(self)

    @property
    def model(self) -> NoteNet | ChordNet | FillNet:
        """The Flax module; equal to that of `setup`, whose type says less."""
        return self.experiment.build()

    @property
    def variables(self) -> Tree:
        """Parameters and statistics, as the module's `apply` takes them."""
        return {"params": self.state.params, **self.state.stats}

    @property
    def fills(self) -> bool:
        """Whether the model knows the notes on both sides of a gap, and so can fill it."""
        return isinstance(self.model, FillNet)

    def predict(
        self, notes: Int[np.ndarray, "*n t 4"], positions: Int[np.ndarray, "*#n t"]
    ) -> Float[np.ndarray, "*n t 4 v"]:
        """Return the log-probability of every symbol in the place of each note.

        A model that fills gaps is given all notes that are not hidden; the others are given all notes before the place,
        the voices above among them. NaN for the first note of a model of windows, which is given. Symbol 0 is a rest, the
        others are the notes from `tokens.LOWEST` on.

        notes      MIDI numbers; 0 is a rest, and for a model that fills gaps -1 (`sampling.FREE`) a hidden note
        positions  sixteenths since the bar line

        Numbers of pieces that are close share a compiled program. Raises `UsageError` for notes that are no integers or out
        of range, and for positions that are negative, no whole numbers, or of another number of sixteenths.
        """
        notes = np.asarray(notes)
        # A cast would cut fractions off.
        if notes.dtype.kind not in "iu":
            raise UsageError("no MIDI numbers", where="notes", got=f"{notes.dtype}", needed="an integer dtype")
        if notes.ndim not in (2, 3) or notes.shape[-1] != len(VOICES) or not notes.size:
            raise UsageError("not pieces of four voices", where="notes", got=notes.shape, needed="(..., sixteenths, 4)")
        pieces = notes.reshape(-1, *notes.shape[-2:])
        places = _positions_of(notes, positions).reshape(pieces.shape[:-1])
        rows = []
        for number, (piece, piece_positions) in enumerate(zip(pieces, places, strict=True), start=1):
            source = f"piece {number}" if notes.ndim == 3 else "notes"
            rows.append(self._row(piece, piece_positions, source))
        x = np.stack(rows)

        batch = self.experiment.batch

        def log_probabilities(rows: Int[np.ndarray, "m _ d"]) -> Array:
            logits = predict(self.setup, self.state.params, self.state.stats, jnp.asarray(rows), batch)
            return jax.nn.log_softmax(logits)

        log_p = row_counts.computed(log_probabilities, x, batch)

        # A network of notes has no output for the first note of a window, and one of chords has not learnt any.
        by_note = log_p.reshape(len(x), -1, tokens.VOCABULARY)
        by_note = np.pad(by_note, ((0, 0), (pieces[0].size - by_note.shape[1], 0), (0, 0)))
        if not self.experiment.started:
            by_note[:, 0] = np.nan
        return by_note.reshape(*notes.shape, -1)

    def _row(
        self, notes: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], source: str
    ) -> Int[np.ndarray, "_ d"]:
        """Return a piece as an input row of the network; `source` opens the message on a note out of range."""
        hidden = np.zeros(notes.shape, bool)
        if self.fills:
            hidden = notes == sampling.FREE
        symbols = np.where(hidden, tokens.MASKED, tokens.encode(np.where(hidden, REST, notes), source))
        rows = self.experiment.model.rows(symbols, positions, not self.experiment.started)
        return np.asarray(rows.x, np.int32)

    def draw(
        self,
        key: Key,
        forced: Int[np.ndarray, "b t 4"],
        positions: Int[np.ndarray, "t"],
        options: SamplingOptions = sampling.UNCHANGED,
        guide: Guide = UNGUIDED,
    ) -> Drawn:
        """Draw the symbols that are `sampling.FREE` in `forced`, by the kind of sampling that the model allows.

        See `sampling.gibbs` and `sampling.ancestral`.
        """
        model = self.model
        # Ancestral sampling reads the past only, and would leave out what such a model knows of the notes that follow.
        if isinstance(model, FillNet):
            return sampling.gibbs(
                model,
                self.variables,
                key,
                forced=forced,
                positions=positions,
                options=options,
                guide=guide,
            )
        return sampling.ancestral(
            model,
            self.variables,
            key,
            forced=forced,
            positions=positions,
            options=options,
            started=self.experiment.started,
            guide=guide,
        )


def _positions_of(notes: Int[np.ndarray, "*n t 4"], given: ArrayLike) -> Int[np.ndarray, "*n t"]:
    """Return the position of every sixteenth of the pieces. Raises `UsageError` for what is no position."""
    positions = np.asarray(given)
    steps = notes.shape[:-1]
    # Those of one piece may serve for all.
    of_one_piece = (1,) * (len(steps) - 1) + steps[-1:]
    if positions.shape not in (steps, steps[-1:], of_one_piece):
        raise UsageError(
            "other positions than the notes have", where="positions", got=positions.shape, needed=f"the shape {steps}"
        )
    if positions.dtype.kind not in "iu" or np.any(positions < 0):
        # A network that adds voice and position to one number would take them for those of another voice.
        raise UsageError(
            "not sixteenths since the bar line",
            where="positions",
            got=f"{positions.min()} of dtype {positions.dtype}",
            needed="whole numbers from 0",
        )
    return np.broadcast_to(positions, steps)


def prepare(experiment: ChoraleExperiment) -> ChoraleJob:
    """Load the pieces and lay them out as rows. Raises `UsageError` where data and experiment do not fit."""
    parts = experiment.data.load()
    pieces = Splits(*(stretches(part, experiment) for part in parts))
    batches = RowSplits(
        train=_training_rows(experiment, pieces.train),
        valid=_scored_rows(experiment, pieces.valid, seed=1),
        test=_scored_rows(experiment, pieces.test, seed=2),
    )
    # The benchmark edition is one file, with nothing to remark.
    notes = ()
    if isinstance(experiment.data, Chorales):
        notes = experiment.data.notes()
    return build_job(experiment, batches, parts, notes, judged_by=("nats", "accuracy"))


def _training_rows(experiment: ChoraleExperiment, part: Sequence[Stretch]) -> Batch:
    """Lay out the training part; whole pieces are cut into overlapping stretches."""
    # Training hides conditions itself, in other rows of each step.
    rows = rows_of(experiment, part, with_conditions=True)
    # Windows are short as they are.
    if experiment.started:
        per_step = experiment.model.per_step
        length = experiment.stretch * per_step
        hop = experiment.hop * per_step
        rows = [stretch for row in rows for stretch in inputs.cut(row, length, hop)]
    return Batch(*inputs.pad(rows))


def _scored_rows(experiment: ChoraleExperiment, part: Sequence[Stretch], seed: int) -> Batch:
    """Lay out the validation or test part, of whose pieces nothing is known but their notes."""
    rows = rows_of(experiment, part, with_conditions=False)
    # Every epoch and every model is scored on the same hidden notes; training hides others in each step.
    if experiment.model.whole_pieces_only:
        rng = np.random.default_rng(seed)
        rows = [inputs.hide(row, rng) for row in rows]
    return Batch(*inputs.pad(rows))


def restore(folder: str | Path, epoch: int | None = None, experiment: Experiment | None = None) -> Composer:
    """Restore a model of chorales; see `jaxseq.train.restore.restore`."""
    folder = files.user_path(folder)
    hint = "which composes nothing: train chorales, say jsb-chords"
    saved = saved_experiment_of(folder, ChoraleExperiment, hint, experiment)
    steps = scores.WINDOW
    if saved.started:
        steps = saved.stretch
    # The shape of a row depends on the network, not on the pieces, which need not be there.
    silence = np.zeros((steps, 4), np.int64)
    x = saved.model.rows(silence, np.arange(steps), not saved.started).x

    row_shape = jax.ShapeDtypeStruct((1, *x.shape), np.int32)
    restored = restore_epoch(folder, saved, row_shape, epoch)
    return Composer(saved, restored.epoch, restored.setup, restored.state, folder)


def judge(job: ChoraleJob, folder: Path, console: Console, extras: Extras = NO_EXTRAS) -> RunRow:
    """Score the best epoch on the test part beside the baselines, on the console and in the folder."""
    experiment = job.experiment
    metrics = run_folder.read_metrics(folder)
    best_epoch, state = restore_best(job, folder)
    name = f"{experiment.model.cell} (epoch {best_epoch})"
    comparison = compare(job, state, name)

    score_rows = [{"predictions": row.name, **row.scores._asdict()} for row in comparison.rows]
    csv_tables.write(folder / run_seal.SCORES, pd.DataFrame(score_rows))
    csv_tables.write(folder / run_seal.PREDICTIONS, comparison.pieces)
    metric = f"valid_{job.setup.objective.select}"
    # A baseline has no loss by epoch to compare with.
    curve = loss_figure(metrics, metric, best_epoch, None, f"{experiment.data.name}: {name}")
    figures.save(curve, folder / run_seal.LOSS_PLOT)
    files.write_text(folder / run_seal.REPORT, report(job, comparison, best_epoch, metrics))

    console.print(_table(comparison.rows, f"{experiment.data.name}, test part, {comparison.protocol}"))
    console.print(comparison.verdict, style="bold", highlight=False, markup=False)
    written = ", ".join((run_seal.REPORT, run_seal.SCORES, run_seal.LOSS_PLOT))
    console.print(f"{folder}: {written}, checkpoints", highlight=False)
    return _row(experiment, folder)


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
for this table. Piece by piece: `{run_seal.PREDICTIONS}`.{hidden}

![Loss by epoch]({run_seal.LOSS_PLOT})

Rows: {parts}. The experiment is in `{run_seal.CONFIG}`, the versions are in `{run_seal.ENVIRONMENT}`. See the weights
with `python -m jaxseq.checkpoint show RUN`. Compose with `python -m jaxseq.sample RUN`.
"""


def check(experiment: ChoraleExperiment) -> None:
    """Raise `UsageError` for pieces that cannot be used."""
    experiment.data.load()


def _row(experiment: ChoraleExperiment, folder: Path) -> RunRow:
    """Return a run's nats and accuracy on the test part, and its validation."""
    table = csv_tables.read(folder / run_seal.SCORES)
    # The first row after the baselines; a second one leaves out near-duplicates.
    is_baseline = table["predictions"].isin([COPY, GRAM])
    model = table[~is_baseline].iloc[0]
    metrics = run_folder.read_metrics(folder)
    best = run_folder.best_row(metrics, f"valid_{experiment.objective().select}")
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
    # Baselines have no seed: they are the same in every run.
    baselines = csv_tables.read(runs[0].folder / run_seal.SCORES).set_index("predictions")
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
