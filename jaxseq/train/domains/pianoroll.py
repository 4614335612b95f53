"""A model of piano rolls: nats a frame on the test part, beside keys alone and a Markov chain of each key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from jaxseq.common import figures, files
from jaxseq.common.arrays import Batch, Splits
from jaxseq.music.networks.inputs import PADDING
from jaxseq.train import epoch, plots, run_folder
from jaxseq.train.domains import Member, measured
from jaxseq.train.experiments.pianoroll import PianorollExperiment
from jaxseq.train.job import Job, build_job, restore_best

KEYS, CHAIN = "each key's frequency", "each key by itself, given its last state"
LITERATURE = "Bai et al. 2018: RNN 8.91, LSTM 8.45, GRU 8.43, convolutions 8.10"


def prepare(experiment: PianorollExperiment) -> Job:
    """Load the rolls and lay them out as rows of frames and those that follow. Raises `UsageError` as the data do."""
    parts = experiment.data.load()
    return build_job(experiment, Splits(*map(_batch, parts)), parts)


def _batch(rolls: Sequence[Float[np.ndarray, "_ k"]]) -> Batch:
    """Frames 1 to T-1 and 2 to T of every piece, padded to the longest."""
    shape = len(rolls), max(len(roll) for roll in rolls) - 1, rolls[0].shape[1]
    x, y = (np.full(shape, PADDING, np.float32) for _ in range(2))
    for number, roll in enumerate(rolls):
        x[number, : len(roll) - 1], y[number, : len(roll) - 1] = roll[:-1], roll[1:]
    return Batch(x, y)


def judge(job: Job, folder: Path, console: Console, classical: bool = False) -> None:
    """Score the best epoch on the test part beside the baselines, on the screen and in the folder."""
    experiment, metric = job.experiment, f"valid_{job.setup.objective.select}"
    rows = run_folder.read_metrics(folder)
    best, state = restore_best(job, folder)
    name = f"{_net(experiment)} (epoch {best})"
    model = epoch.evaluate(job.setup, state.params, state.stats, job.batches.test, experiment.batch)
    found = [*baselines(*job.material), (name, float(model["nats"]))]
    files.write_table(folder / run_folder.SCORES, pd.DataFrame(found, columns=["predictions", "nats"]))
    figures.save(plots.loss(rows, metric, best, None, f"{experiment.data.name}: {name}"), folder / run_folder.LOSS_PLOT)
    files.write_text(folder / run_folder.REPORT, report(job, found, best, len(rows)))
    table = Table(title=f"{experiment.data.name}, test part", title_justify="left", box=None, padding=(0, 1))
    table.add_column("predictions")
    table.add_column("nats a frame", justify="right")
    for label, nats in found:
        table.add_row(label, f"{nats:.3f}")
    console.print(table)
    console.print(f"{LITERATURE} nats a frame", highlight=False)
    console.print(
        f"{folder}: {run_folder.REPORT}, {run_folder.SCORES}, {run_folder.LOSS_PLOT}, checkpoints", highlight=False
    )


def _net(experiment: PianorollExperiment) -> str:
    model = experiment.model
    parts = ["convolutions"] if model.convolutions else []
    return " + ".join(parts + ([model.cell] if model.layers else []))


def baselines(
    train: Sequence[Float[np.ndarray, "_ k"]],
    valid: Sequence[Float[np.ndarray, "_ k"]],
    test: Sequence[Float[np.ndarray, "_ k"]],
) -> list[tuple[str, float]]:
    """Nats a frame, from the second on, of two models without harmony: a key's frequency in the training part; and its
    frequency given whether it sounded in the frame before. Counts begin at 1/2 (Krichevsky & Trofimov 1981)."""
    frames = np.concatenate(train)
    alone = (frames.sum(0) + 0.5) / (len(frames) + 1)
    before, after = (np.concatenate([roll[s] for roll in train]) for s in (slice(None, -1), slice(1, None)))
    given = [
        (after[before[:, key] == on, key].sum() + 0.5) / ((before[:, key] == on).sum() + 1)
        for on in (0, 1)
        for key in range(frames.shape[1])
    ]
    chain = np.array(given).reshape(2, -1)
    last, truth = (np.concatenate([roll[s] for roll in test]) for s in (slice(None, -1), slice(1, None)))
    by_chain = np.where(last > 0, chain[1], chain[0])
    return [(KEYS, _nats(truth, np.broadcast_to(alone, truth.shape))), (CHAIN, _nats(truth, by_chain))]


def _nats(truth: Float[np.ndarray, "t k"], p: Float[np.ndarray, "t k"]) -> float:
    return float(-np.where(truth > 0, np.log(p), np.log1p(-p)).sum(1).mean())


def report(job: Job, found: Sequence[tuple[str, float]], best: int, epochs: int) -> str:
    """The run's report in Markdown."""
    experiment = job.experiment
    table = "\n".join(["| predictions | nats a frame |", "|---|---:|", *(f"| {n} | {v:.3f} |" for n, v in found)])
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    return f"""# {experiment.name}: {_net(experiment)}

{table}

{LITERATURE}. Summed over the keys, averaged over all frames of the test part from the second of each piece on. Epoch
{best} of {epochs} was chosen on the validation part; the test part was used once, for this table.

![Loss by epoch]({run_folder.LOSS_PLOT})

Pieces: {parts}. The recipe is in `{run_folder.CONFIG}`, the versions are in `{run_folder.ENVIRONMENT}`.
"""


def check(experiment: PianorollExperiment) -> None:
    """Raise `UsageError` for data that no run could be made of."""
    experiment.data.load()


def row(member: Member) -> dict[str, Any]:
    """A run's nats on the test part, and its validation."""
    scores, metrics = pd.read_csv(member.folder / run_folder.SCORES), run_folder.read_metrics(member.folder)
    best = run_folder.best_row(metrics, "valid_nats")
    beside = {"valid_nats": best["valid_nats"], "nats": scores["nats"].iloc[-1]}
    return {"epoch": best["epoch"], "epochs": len(metrics)} | beside | {"seconds": sum(r["seconds"] for r in metrics)}


def summary(experiment: PianorollExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """The study in Markdown: the mean over the seeds, and the spread."""
    lines = [
        f"| {part} | {measured(table[column].mean(), table[column].std(ddof=1), 3)} |"
        for part, column in (("test", "nats"), ("validation", "valid_nats"))
    ]
    body = "\n".join(["| part | nats a frame |", "|---|---:|", *lines])
    return f"""# {experiment.name}: {_net(experiment)}, {len(runs)} runs

{body}

{LITERATURE}. ± is the standard deviation over the seeds. One row a run: `study.csv`.
"""
