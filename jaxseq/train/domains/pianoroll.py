"""Models of piano rolls, judged by nats a frame beside each key's frequency and a Markov chain of each key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from jaxseq.common import figures, files
from jaxseq.common.arrays import Batch, Splits
from jaxseq.music.corpora.pianoroll import KEYS, RollSplits
from jaxseq.music.networks.inputs import PADDING
from jaxseq.train import run_folder
from jaxseq.train.domains import Member, measured
from jaxseq.train.epoch import Setup, TrainState, evaluate
from jaxseq.train.experiments.pianoroll import PianorollExperiment
from jaxseq.train.job import Job, build_job, restore_best, restore_epoch
from jaxseq.train.plots import loss_figure
from jaxseq.train.restore import saved_experiment_of

FREQUENCY = "each key's frequency"
CHAIN = "each key by itself, given its last state"
LITERATURE = "Bai et al. 2018: RNN 8.91, LSTM 8.45, GRU 8.43, convolutions 8.10"

PianorollJob: TypeAlias = Job[PianorollExperiment, RollSplits]
"""An experiment with its piano rolls."""


class RollModel(NamedTuple):
    """A model of piano rolls, restored from a run."""

    experiment: PianorollExperiment
    epoch: int
    setup: Setup
    state: TrainState


class Score(NamedTuple):
    """Nats a frame of one set of predictions."""

    name: str
    nats: float


def prepare(experiment: PianorollExperiment) -> PianorollJob:
    """Load the rolls and lay them out as rows of frames and their successors. Raises `UsageError` as the data do."""
    parts = experiment.data.load()
    return build_job(experiment, Splits(*map(_rows, parts)), parts)


def _rows(rolls: Sequence[Float[np.ndarray, "_ d"]]) -> Batch:
    """Lay out frames 1 to T-1 of every piece and their successors, padded to the longest piece."""
    longest = max(len(roll) for roll in rolls) - 1
    x = np.full((len(rolls), longest, KEYS), PADDING, np.float32)
    y = x.copy()
    for number, roll in enumerate(rolls):
        x[number, : len(roll) - 1] = roll[:-1]
        y[number, : len(roll) - 1] = roll[1:]
    return Batch(x, y)


def restore(folder: str | Path, epoch: int | None = None) -> RollModel:
    """Restore a model of piano rolls; see `jaxseq.train.restore.restore`."""
    folder = Path(folder)
    experiment = saved_experiment_of(folder, PianorollExperiment, "which has no piano rolls")
    # No parameter depends on the number of frames.
    row = jax.ShapeDtypeStruct((1, 2, KEYS), np.float32)
    restored = restore_epoch(folder, experiment, row, epoch)
    return RollModel(experiment, restored.epoch, restored.setup, restored.state)


def judge(job: PianorollJob, folder: Path, console: Console, classical: bool = False) -> None:
    """Score the best epoch on the test part beside the baselines, on the console and in the folder."""
    experiment = job.experiment
    best_epoch, state = restore_best(job, folder)
    name = f"{_network_words(experiment)} (epoch {best_epoch})"
    test = evaluate(job.setup, state.params, state.stats, job.batches.test, experiment.batch)
    scores = [*baselines(job.material.train, job.material.test), Score(name, float(test["nats"]))]

    files.write_table(folder / run_folder.SCORES, pd.DataFrame(scores, columns=["predictions", "nats"]))
    metrics = run_folder.read_metrics(folder)
    metric = f"valid_{job.setup.objective.select}"
    curve = loss_figure(metrics, metric, best_epoch, None, f"{experiment.data.name}: {name}")
    figures.save(curve, folder / run_folder.LOSS_PLOT)
    files.write_text(folder / run_folder.REPORT, report(job, scores, best_epoch, len(metrics)))

    table = Table(title=f"{experiment.data.name}, test part", title_justify="left", box=None, padding=(0, 1))
    table.add_column("predictions")
    table.add_column("nats a frame", justify="right")
    for score in scores:
        table.add_row(score.name, f"{score.nats:.3f}")
    console.print(table)
    console.print(f"{LITERATURE} nats a frame", highlight=False)
    written = ", ".join((run_folder.REPORT, run_folder.SCORES, run_folder.LOSS_PLOT))
    console.print(f"{folder}: {written}, checkpoints", highlight=False)


def _network_words(experiment: PianorollExperiment) -> str:
    parts = []
    if experiment.model.convolutions:
        parts.append("convolutions")
    if experiment.model.layers:
        parts.append(experiment.model.cell)
    return " + ".join(parts)


def baselines(train: Sequence[Float[np.ndarray, "_ d"]], test: Sequence[Float[np.ndarray, "_ d"]]) -> list[Score]:
    """Score two models without harmony by nats a frame, from the second frame of a piece on.

    A key's frequency in the training part, and its frequency given whether it sounded in the frame before. Counts begin
    at 1/2 (Krichevsky & Trofimov 1981).
    """
    frames = np.concatenate(train)
    frequency = (frames.sum(0) + 0.5) / (len(frames) + 1)

    previous = np.concatenate([roll[:-1] for roll in train])
    current = np.concatenate([roll[1:] for roll in train])
    after_silence = _conditional_frequency(current, previous == 0)
    after_sound = _conditional_frequency(current, previous == 1)

    test_previous = np.concatenate([roll[:-1] for roll in test])
    test_current = np.concatenate([roll[1:] for roll in test])
    by_chain = np.where(test_previous > 0, after_sound, after_silence)
    by_frequency = np.broadcast_to(frequency, test_current.shape)
    return [Score(FREQUENCY, _nats(test_current, by_frequency)), Score(CHAIN, _nats(test_current, by_chain))]


def _conditional_frequency(current: Float[np.ndarray, "t d"], condition: np.ndarray) -> Float[np.ndarray, "d"]:
    """Return how often each key sounds in the frames where its `condition` "t d" holds."""
    sounding = [current[condition[:, key], key].sum() for key in range(current.shape[1])]
    return np.array([(count + 0.5) / (total + 1) for count, total in zip(sounding, condition.sum(0), strict=True)])


def _nats(truth: Float[np.ndarray, "t d"], p: Float[np.ndarray, "t d"]) -> float:
    """Return -log p a frame, summed over the keys."""
    return float(-np.where(truth > 0, np.log(p), np.log1p(-p)).sum(1).mean())


def report(job: PianorollJob, scores: Sequence[Score], best_epoch: int, epochs: int) -> str:
    """Write the run's report in Markdown."""
    experiment = job.experiment
    lines = [f"| {score.name} | {score.nats:.3f} |" for score in scores]
    table = "\n".join(["| predictions | nats a frame |", "|---|---:|", *lines])
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    return f"""# {experiment.name}: {_network_words(experiment)}

{table}

{LITERATURE}. Summed over the keys, averaged over all frames of the test part from the second of each piece on. Epoch
{best_epoch} of {epochs} was chosen on the validation part; the test part was used once, for this table.

![Loss by epoch]({run_folder.LOSS_PLOT})

Pieces: {parts}. The experiment is in `{run_folder.CONFIG}`, the versions are in `{run_folder.ENVIRONMENT}`.
"""


def check(experiment: PianorollExperiment) -> None:
    """Raise `UsageError` for data that cannot be used."""
    experiment.data.load()


def row(member: Member) -> dict[str, Any]:
    """Return a run's nats on the test part, and its validation."""
    scores = pd.read_csv(member.folder / run_folder.SCORES)
    metrics = run_folder.read_metrics(member.folder)
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
    lines = [
        f"| {part} | {measured(table[column].mean(), table[column].std(ddof=1), 3)} |"
        for part, column in (("test", "nats"), ("validation", "valid_nats"))
    ]
    body = "\n".join(["| part | nats a frame |", "|---|---:|", *lines])
    return f"""# {experiment.name}: {_network_words(experiment)}, {len(runs)} runs

{body}

{LITERATURE}. ± is the standard deviation over the seeds. One row a run: `study.csv`.
"""
