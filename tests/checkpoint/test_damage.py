"""Whatever happens to a file of a finished folder: each command ends as with the sound one, or in a line that names it.

`python -m pytest -m slow -s -n 0 tests/checkpoint/test_damage.py` prints how many damages were tried, and how many were
harmless, named and lost.
"""

import contextlib
import io
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import pytest
from damages import Command, Damage, Outcome, Tally, damages, damages_of_run, examine, outcome
from made_up import edition
from matplotlib.figure import Figure
from quick_compilation import quick_compilation

from jaxseq import forecast
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import records, run_seal, store
from jaxseq.checkpoint.leaves import data_of
from jaxseq.common import figures
from jaxseq.forecasting import diagnostics, evaluate
from jaxseq.forecasting import plots as forecast_plots
from jaxseq.music import plots as music_plots
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import pool
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import __main__ as train
from jaxseq.train import loop
from jaxseq.train.domains import chorales, forecasts
from jaxseq.train.restore import restore

SMALL = ["--data.window", "5", "--model.hidden", "2", "--schedule", "constant", "--epochs", "4"]
AAPL = ["aapl", *SMALL, "--batch", "1024", "--lr", "0.05"]
TABLE = ["table", *SMALL, "--data.series", "store", "--batch", "64", "--lr", "1.0"]
ONE = ["waves", "--data.count", "60", "--data.window", "8", "--model.hidden", "2", "--epochs", "2", "--batch", "16"]
CHORDS = ["jsb-chords", "--model.hidden", "4", "--model.embedding", "4", "--model.voice-hidden", "4"]
CHORDS += ["--stretch", "32", "--hop", "32", "--batch", "4", "--schedule", "constant", "--epochs", "4", "--lr", "0.3"]
PIECE = ["--no-score", "--bpm", "400", "--count", "1", "--bars", "1"]


DRAWN = (
    (diagnostics, "errors"),
    (forecast_plots, "forecast"),
    (forecast_plots, "fan"),
    (forecasts, "loss_figure"),
    (chorales, "loss_figure"),
    (music_plots, "piano_roll"),
)
"""Functions that draw a figure."""


class Kind(NamedTuple):
    """A kind of finished folder: how it is made, its seed and that of its twin, and the commands that read or fill it.

    With these seeds, a run's best epoch is not one of its last two, so that three epochs lie there.
    """

    make: Callable[[Path, int], object]
    seeds: tuple[int, int]
    readers: dict[str, Command]
    writers: dict[str, Command]


# Commands --------------------------------------------------------------------------------------------------------------


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Replace figures, clocks and worker processes, which take most of the time and differ from call to call."""
    patch.setattr(figures, "drawn", lambda *_: b"\x89PNG")
    for module, name in DRAWN:
        patch.setattr(module, name, lambda *_, **__: Figure())
    patch.setattr(os, "fsync", lambda _: None)
    ticks = iter(range(10**9))
    patch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    patch.setattr(pool, "train_all", train_all)
    patch.setattr(evaluate, "judge", remembered(evaluate.judge))
    patch.setattr(evaluate, "calibrate", remembered(evaluate.calibrate))


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a pure function that computes the same result once."""
    results: dict[bytes, Any] = {}

    def once(*arguments: object, **options: object) -> Any:
        key = pickle.dumps((arguments, sorted(options.items())))
        if key not in results:
            results[key] = function(*arguments, **options)
        return results[key]

    return once


def train_all(runs: Sequence[PlannedRun], *_: object) -> None:
    failures = {}
    for planned in runs:
        if not is_finished(planned):
            failure = pool.train_run(planned.experiment, planned.folder)
            if failure:
                failures[planned] = failure
    pool.raise_failures(failures, len(runs))


def called(main: Callable[[list[str]], int], words: Sequence[str], result: Callable[[], object]) -> Outcome:
    return outcome(lambda: main(list(words)), result)


def verified(folder: Path) -> Outcome:
    return called(checkpoint.main, ["verify", str(folder)], lambda: None)


def forecast_(folder: Path) -> Outcome:
    path = folder.with_name("future.csv")
    path.unlink(missing_ok=True)
    return called(forecast.main, [str(folder), "--out", str(path), "--overwrite"], path.read_bytes)


def restored(folder: Path) -> Outcome:
    def read() -> int:
        found.append(restore(folder))
        return 0

    found: list = []
    return outcome(read, lambda: contents_of(found[0]))


def contents_of(run: object) -> list[object]:
    """Return what a restored run holds, as values that can be compared."""
    leaves = [np.asarray(data_of(leaf)) for leaf in jax.tree.leaves(run.state)]
    rest = [getattr(run, name, None) for name in ("experiment", "epoch", "scaling", "intervals")]
    return [[leaf.tobytes() for leaf in leaves], *map(repr, rest)]


def composed(folder: Path) -> Outcome:
    pieces = folder.with_name("pieces")
    shutil.rmtree(pieces, ignore_errors=True)
    return called(
        sample.main,
        [str(folder), *PIECE, "--out", str(pieces)],
        lambda: {
            path.name: path.read_bytes() for path in pieces.iterdir() if path.suffix in (".mid", ".musicxml", ".csv")
        },
    )


def resumed(folder: Path) -> Outcome:
    return called(train.main, ["--resume", str(folder)], lambda: run_result(folder))


def run_result(run: Path) -> dict[str, object]:
    """Return what a finished run holds, apart from the environment."""
    names = (run_seal.CONFIG, run_seal.METRICS, run_seal.JUDGED, *run_seal.OUTPUTS)
    result: dict[str, object] = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    checkpoints = run / run_seal.CHECKPOINTS
    best_epoch = records.best_epoch(checkpoints)
    assert best_epoch is not None
    leaves = store.load_leaves(checkpoints, best_epoch)
    return {**result, "best epoch": best_epoch, "best": {path: leaf.tobytes() for path, leaf in leaves.items()}}


def folder_result(folder: Path) -> dict[str, object]:
    """Return what a folder of runs holds."""
    result: dict[str, object] = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".md")
    }
    for run in sorted(path.parent for path in folder.glob(f"*/{run_seal.JUDGED}")):
        names = (run_seal.JUDGED, *run_seal.OUTPUTS)
        result[run.name] = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    return result


# Kinds -----------------------------------------------------------------------------------------------------------------


def trained(words: Sequence[str], folder: Path, seed: int) -> None:
    assert train.main([*words, "--seed", str(seed), "--out", str(folder)]) == 0


def table(folder: Path, seed: int) -> None:
    trained([*TABLE, "--data.path", str(sales(folder.parent))], folder, seed)


def sales(folder: Path) -> Path:
    """Write a table of three series of 90 days."""
    path = folder / "sales.csv"
    days = pd.date_range("2021-01-01", periods=90)
    draw = np.random.default_rng(0)
    frames = []
    for store_name in ("a", "b", "c"):
        values = 50 + 10 * np.sin(2 * np.pi * np.arange(90) / 7) + draw.normal(size=90)
        frames.append(pd.DataFrame({"date": days, "store": store_name, "sales": values}))
    pd.concat(frames).to_csv(path, index=False)
    return path


def study_words(seed: int) -> list[str]:
    return [*ONE, "--seeds", "2", "--seed", str(10 * seed)]


def sweep_words(seed: int) -> list[str]:
    return [*ONE, "--lr", "0.01,0.02", "--seed", str(seed), "--workers", "1"]


def study(folder: Path, seed: int) -> None:
    assert train.main([*study_words(seed), "--out", str(folder)]) == 0


def swept(folder: Path, seed: int) -> None:
    assert sweep.main([*sweep_words(seed), "--out", str(folder)]) == 0


def study_again(folder: Path) -> Outcome:
    return called(train.main, [*study_words(0), "--out", str(folder)], lambda: folder_result(folder))


def sweep_again(folder: Path) -> Outcome:
    return called(sweep.main, [*sweep_words(0), "--out", str(folder)], lambda: folder_result(folder))


def chords(folder: Path, seed: int) -> None:
    archive = folder.parent / "pieces.tgz"
    if not archive.exists():
        edition(folder.parent)
    trained([*CHORDS, "--data.path", str(archive)], folder, seed)
    assert sample.main([str(folder), *PIECE]) == 0


SERIES: dict[str, Command] = {"forecast": forecast_, "restore": restored}
KINDS = {
    "aapl": Kind(partial(trained, AAPL), (0, 3), SERIES, {"resume": resumed}),
    "table": Kind(table, (3, 10), SERIES, {"resume": resumed}),
    "chorales": Kind(chords, (11, 0), {"sample": composed, "restore": restored}, {"resume": resumed}),
    "study": Kind(
        lambda folder, seed: train.main([*study_words(seed), "--out", str(folder)]), (0, 1), {}, {"study": study_again}
    ),
    "sweep": Kind(
        lambda folder, seed: sweep.main([*sweep_words(seed), "--out", str(folder)]), (0, 1), {}, {"sweep": sweep_again}
    ),
}


def prove(
    name: str,
    work: Path,
    flips: int,
    chosen: Callable[[Damage], object] = lambda _: True,
    sample: int | None = None,
    progress: bool = False,
) -> Tally:
    """Make a kind of folder and its twin, damage the folder in every way, and call every command after each damage.

    flips     bits of each file, one at a time
    chosen    whether a damage is tried
    sample    number of damages that are tried, drawn from all; None tries every one
    progress  whether each damage is shown when it was tried
    """
    kind = KINDS[name]
    folder = work / "sound"
    twin = work / "twin"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for seed, path in zip(kind.seeds, (folder, twin), strict=True):
            if not path.exists():
                kind.make(path, seed)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    draw = random.Random(0)
    tally = Tally(name)
    ends = {command: call(folder_copy(folder, work)) for command, call in {**kind.readers, **kind.writers}.items()}
    for command, end in ends.items():
        assert end.status == 0, f"{command} of a sound folder: {end.error}"
    sound = {command: end.result for command, end in ends.items()}
    checked = verified(folder)
    assert checked.status == 0, checked.out

    everything = list(damages(folder, twin, flips))
    if (folder / run_seal.CHECKPOINTS).is_dir():
        everything = [*damages_of_run(folder, twin), *everything]
    everything = [damage for damage in everything if chosen(damage)]
    if sample is not None:
        everything = draw.sample(everything, sample)
    for damage in everything:
        number = len(tally.faults)
        examine(
            tally,
            folder,
            work,
            damage,
            verify=verified,
            readers=kind.readers,
            writers=kind.writers,
            sound=sound,
            draw=draw,
        )
        if progress:
            print(
                f"{tally.ends['damages']} {damage}", *tally.faults[number:], sep="\n    ", file=sys.stderr, flush=True
            )
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}, "written through a link"
    return tally


def folder_copy(folder: Path, work: Path) -> Path:
    copy = work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return copy


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    quicken(monkeypatch)
    with quick_compilation():
        yield


@pytest.mark.usefixtures("quickly")
def test_a_few_damages_are_harmless_or_named(tmp_path: Path) -> None:
    tally = prove("table", tmp_path, flips=1, sample=12)
    assert not tally.faults, "\n".join(tally.faults)
    assert tally.ends["named"] and tally.ends["harmless"]


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", KINDS)
def test_each_damage_is_harmless_or_named(kind: str, tmp_path: Path) -> None:
    tally = prove(kind, tmp_path, flips=20)
    print(tally)
    assert not tally.faults, "\n".join(tally.faults)
