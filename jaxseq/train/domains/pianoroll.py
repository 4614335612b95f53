"""Models of piano rolls, judged by nats a frame beside each key's frequency and a Markov chain of each key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float
from rich.console import Console
from rich.table import Table

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, figures, files, row_counts
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.data import buckets
from jaxseq.data.buckets import Buckets
from jaxseq.music.corpora.pianoroll import KEYS, RollSplits
from jaxseq.music.networks.inputs import PADDING
from jaxseq.train import run_folder
from jaxseq.train.domains.base import NO_EXTRAS, Extras, Member, RunRow, measured, one_line
from jaxseq.train.epoch import Setup, TrainState, evaluate, predict
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.pianoroll import PianorollExperiment
from jaxseq.train.feed import RowSplits
from jaxseq.train.job import Job, build_job, restore_best, restore_epoch
from jaxseq.train.notebook import page_of_run
from jaxseq.train.plots import loss_figure
from jaxseq.train.saved_experiment import saved_experiment_of

FREQUENCY = "each key's frequency"
CHAIN = "each key by itself, given its last state"

PianorollJob: TypeAlias = Job[PianorollExperiment, RollSplits]
"""An experiment with its piano rolls."""


class RollModel(NamedTuple):
    """A model of piano rolls, restored from a run."""

    experiment: PianorollExperiment
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

    def predict(self, frames: Float[np.ndarray, "*n t 88"]) -> Float[np.ndarray, "*n t 88"]:
        """Return the log-odds that each key sounds in the frame after each one: log p / (1 - p).

        frames  1 where a key sounds, else 0: one piece, or several of equal length

        Numbers of pieces that are close share a compiled program. Raises `UsageError` for frames of another shape,
        and for none.
        """
        frames = np.asarray(frames, np.float32)
        if frames.ndim not in (2, 3) or frames.shape[-1] != KEYS or not frames.size:
            raise UsageError("not piano rolls", where="frames", got=frames.shape, needed=f"(..., frames, {KEYS})")

        x = frames.reshape(-1, *frames.shape[-2:])
        batch = self.experiment.batch

        def log_odds(rows: Float[np.ndarray, "m t 88"]) -> Array:
            return predict(self.setup, self.state.params, self.state.stats, jnp.asarray(rows), batch)

        return row_counts.computed(log_odds, x, batch).reshape(frames.shape)


class Score(NamedTuple):
    """Nats a frame of one set of predictions."""

    name: str
    nats: float


def prepare(experiment: PianorollExperiment) -> PianorollJob:
    """Load the rolls and lay them out as rows of frames and their successors. Raises `UsageError` as the data do."""
    parts = experiment.data.load()
    batches = RowSplits(*(_rows(rolls, experiment) for rolls in parts))
    return build_job(experiment, batches, parts, judged_by=("nats",))


def _rows(rolls: Sequence[Float[np.ndarray, "_ d"]], experiment: PianorollExperiment) -> Batch | Buckets:
    """Lay out pieces, all as long as the longest one or in buckets of similar length."""
    if experiment.buckets == 1:
        return _padded(rolls)
    # A piece of one frame has no successor to learn; its row is padding.
    lengths = [max(1, len(roll) - 1) for roll in rolls]
    divided = buckets.divided(lengths, most=experiment.buckets, batch=experiment.batch)
    return Buckets(tuple(_padded([rolls[number] for number in numbers]) for numbers in divided))


def _padded(rolls: Sequence[Float[np.ndarray, "_ d"]]) -> Batch:
    """Lay out frames 1 to T-1 of every piece and their successors, padded to the longest piece."""
    longest = max(1, *(len(roll) - 1 for roll in rolls))
    x = np.full((len(rolls), longest, KEYS), PADDING, np.float32)
    y = x.copy()
    for number, roll in enumerate(rolls):
        # The last frame has no successor.
        steps = len(roll) - 1
        x[number, :steps] = roll[:-1]
        y[number, :steps] = roll[1:]
    return Batch(x, y)


def restore(folder: str | Path, epoch: int | None = None, experiment: Experiment | None = None) -> RollModel:
    """Restore a model of piano rolls; see `jaxseq.train.restore.restore`."""
    folder = files.user_path(folder)
    saved = saved_experiment_of(folder, PianorollExperiment, "which has no piano rolls", experiment)
    # No parameter depends on the number of frames.
    row = jax.ShapeDtypeStruct((1, 2, KEYS), np.float32)
    restored = restore_epoch(folder, saved, row, epoch)
    return RollModel(saved, restored.epoch, restored.setup, restored.state, folder)


def judge(job: PianorollJob, folder: Path, console: Console, extras: Extras = NO_EXTRAS) -> RunRow:
    """Score the best epoch on the test part beside the baselines, on the console and in the folder."""
    experiment = job.experiment
    metrics = run_folder.read_metrics(folder)
    best_epoch, state = restore_best(job, folder)
    name = f"{_network_words(experiment)} (epoch {best_epoch})"
    test = evaluate(
        job.setup,
        state.params,
        state.stats,
        data=job.batches.test,
        batch=experiment.batch,
    )
    model = Score(name, float(test["nats"]))
    scores = [*baselines(job.material.train, job.material.test), model]

    table = pd.DataFrame(scores, columns=["predictions", "nats"])
    csv_tables.write(folder / run_seal.SCORES, table)
    metric = f"valid_{job.setup.objective.select}"
    title = f"{experiment.data.name}: {name}"
    # A copy of the last frame is certain of every key: one mistake costs infinitely many nats.
    curve = loss_figure(metrics, metric, best_epoch, naive=None, title=title)
    figures.save(curve, folder / run_seal.LOSS_PLOT)
    files.write_text(folder / run_seal.REPORT, report(job, scores, best_epoch, len(metrics)))

    console.print(_score_table(scores, f"{experiment.data.name}, test part"))
    literature = experiment.data.literature
    if literature is not None:
        console.print(literature, highlight=False)
    written = (run_seal.REPORT, run_seal.SCORES, run_seal.LOSS_PLOT)
    console.print(f"{folder}: {', '.join(written)}, checkpoints", highlight=False)
    return _row(experiment, folder)


def _score_table(scores: Sequence[Score], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("predictions")
    table.add_column("nats a frame", justify="right")
    for score in scores:
        table.add_row(score.name, f"{score.nats:.3f}")
    return table


def _network_words(experiment: PianorollExperiment) -> str:
    parts = []
    if experiment.model.convolutions:
        parts.append("convolutions")
    if experiment.model.layers:
        parts.append(experiment.model.cell)
    return " + ".join(parts)


def baselines(
    train: Sequence[Float[np.ndarray, "_ d"]],
    test: Sequence[Float[np.ndarray, "_ d"]],
) -> list[Score]:
    """Score two models without harmony by nats a frame, from the second frame of a piece on.

    A key's frequency in the training part, and its frequency given whether it sounded in the frame before. Counts begin
    at 1/2 (Krichevsky & Trofimov 1981).
    """
    frames = np.concatenate(train)
    frequency = (frames.sum(0) + 0.5) / (len(frames) + 1)

    previous, current = _neighbours(train)
    after_silence = _conditional_frequency(current, previous == 0)
    after_sound = _conditional_frequency(current, previous == 1)

    test_previous, test_current = _neighbours(test)
    by_frequency = np.broadcast_to(frequency, test_current.shape)
    by_chain = np.where(test_previous > 0, after_sound, after_silence)
    return [
        Score(FREQUENCY, _nats(test_current, by_frequency)),
        Score(CHAIN, _nats(test_current, by_chain)),
    ]


def _neighbours(
    rolls: Sequence[Float[np.ndarray, "_ d"]],
) -> tuple[Float[np.ndarray, "t d"], Float[np.ndarray, "t d"]]:
    """Return the frames of all pieces that have a successor, and their successors."""
    # Piece by piece: the first frame of one does not follow the last frame of another.
    previous = [roll[:-1] for roll in rolls]
    current = [roll[1:] for roll in rolls]
    return np.concatenate(previous), np.concatenate(current)


def _conditional_frequency(
    current: Float[np.ndarray, "t d"],
    condition: Bool[np.ndarray, "t d"],
) -> Float[np.ndarray, "d"]:
    """Return how often each key sounds in the frames where its `condition` holds."""
    frequencies = []
    for key in range(current.shape[1]):
        frames = current[condition[:, key], key]
        # Half a count before the first: a key that never sounds in training may sound in the test part.
        sounding = float(frames.sum())
        frequencies.append((sounding + 0.5) / (len(frames) + 1))
    return np.array(frequencies)


def _nats(
    truth: Float[np.ndarray, "t d"],
    p: Float[np.ndarray, "t d"],
) -> float:
    """Return -log p a frame, summed over the keys."""
    log_p = np.where(truth > 0, np.log(p), np.log1p(-p))
    return float(-log_p.sum(1).mean())


def report(
    job: PianorollJob,
    scores: Sequence[Score],
    best_epoch: int,
    epochs: int,
) -> str:
    """Write the run's report in Markdown."""
    experiment = job.experiment
    lines = [f"| {score.name} | {score.nats:.3f} |" for score in scores]
    table = "\n".join(["| predictions | nats a frame |", "|---|---:|", *lines])
    parts = ", ".join(f"{len(rolls)} {name}" for name, rolls in job.material._asdict().items())
    return f"""# {experiment.name}: {_network_words(experiment)}

{table}

{_literature(experiment)}Summed over the keys, averaged over all frames of the test part from the second of each piece on.
Epoch {best_epoch} of {epochs} was chosen on the validation part; the test part was used once, for this table.

![Loss by epoch]({run_seal.LOSS_PLOT})

Pieces: {parts}. The experiment is in `{run_seal.CONFIG}`, the versions are in `{run_seal.ENVIRONMENT}`.
"""


def _literature(experiment: PianorollExperiment) -> str:
    """Return the published results on the data, and a space; nothing of other data."""
    sentence = experiment.data.literature
    if sentence is None:
        return ""
    return f"{sentence} "


def check(experiment: PianorollExperiment) -> None:
    """Raise `UsageError` for data that cannot be used."""
    experiment.data.load()


def _row(experiment: PianorollExperiment, folder: Path) -> RunRow:
    """Return a run's nats on the test part, and its validation."""
    scores = csv_tables.read(folder / run_seal.SCORES)
    metrics = run_folder.read_metrics(folder)
    best = run_folder.best_row(metrics, "valid_nats")
    return {
        "epoch": best["epoch"],
        "epochs": len(metrics),
        "valid_nats": best["valid_nats"],
        "nats": scores["nats"].iloc[-1],
        "seconds": sum(metric["seconds"] for metric in metrics),
    }


def summary(experiment: PianorollExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """Summarise a study: the mean over the seeds, and the spread."""
    columns = {"test": "nats", "validation": "valid_nats"}
    lines = []
    for part, column in columns.items():
        nats = table[column]
        lines.append(f"| {part} | {measured(nats.mean(), nats.std(ddof=1), digits=3)} |")
    body = "\n".join(["| part | nats a frame |", "|---|---:|", *lines])
    return f"""# {experiment.name}: {_network_words(experiment)}, {len(runs)} runs

{body}

{_literature(experiment)}± is the standard deviation over the seeds. One row a run: `study.csv`.
"""
