"""A large panel trains the numbers of its rows laid out, from series that the device holds once."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from jaxseq.common.arrays import Batch
from jaxseq.data import uncut
from jaxseq.data.frequency import describe
from jaxseq.data.gathered import Gathered, can_gather, gathered
from jaxseq.data.panel import Panel
from jaxseq.data.table import Table
from jaxseq.data.windows import Series
from jaxseq.train import epoch, footprint
from jaxseq.train.domains import forecasts
from jaxseq.train.domains.forecast_report import ForecastJob
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import initial_state


def write_panel(path: Path, series: int, rows: int) -> None:
    """Write noisy series with a weekly season, each of another size."""
    draw = np.random.default_rng(0)
    level = draw.uniform(20, 200, (series, 1))
    season = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(rows) + draw.uniform(0, 7, (series, 1))) / 7)
    values = level * (season + draw.normal(0, 0.1, (series, rows)))
    table = pd.DataFrame(
        {
            "date": np.tile(pd.date_range("2024-01-01", periods=rows), series),
            "item": np.repeat([f"item {number}" for number in range(series)], rows),
            "sales": values.round(2).ravel(),
        }
    )
    table.to_csv(path, index=False)


def trained(path: Path) -> tuple[ForecastJob, epoch.Epoch]:
    """Prepare the first command on a panel, and train two epochs."""
    data = Table(path=str(path), column="sales", series="item", time="date", window=14)
    recipe = named("table", data=data, task="direct", horizon=3, model=Model(hidden=4), batch=32, epochs=2)
    job = forecasts.prepare(recipe)
    *_, last = epoch.epochs(job.setup, initial_state(job), job.data.train, job.data.valid, 32, range(1, 3))
    return job, last


@pytest.mark.slow
def test_gathered_rows_train_the_numbers_of_rows_that_are_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_panel(tmp_path / "a.csv", series=3, rows=90)
    laid_out, expected = trained(tmp_path / "a.csv")
    monkeypatch.setattr(uncut, "MOST_NUMBERS", 0)
    job, last = trained(tmp_path / "a.csv")

    assert isinstance(laid_out.batches.train, Batch) and isinstance(job.batches.train, Gathered)
    # By which a run of either resumes the other.
    assert job.rows_sha256 == laid_out.rows_sha256
    assert last.valid == expected.valid
    jax.tree.map(
        np.testing.assert_array_equal, (last.state.params, last.steps), (expected.state.params, expected.steps)
    )


@pytest.mark.parametrize("target", ["change", "season", "level"])
def test_the_bytes_of_a_large_panel_grow_with_its_rows_and_not_with_the_window(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncut, "MOST_NUMBERS", 0)
    draw = np.random.default_rng(0)
    dates = np.datetime64("2020-01-01") + np.arange(1000)
    series = tuple(Series(dates, draw.standard_normal(1000).cumsum()) for _ in range(3))
    panel = Panel(("a", "b", "c"), series, describe("D"))
    sizes = []
    for window in (28, 56, 112):
        dataset = panel.load(target, window, 14)
        assert can_gather(dataset.scaling)
        rows = gathered(dataset.windows.train, dataset.scaling)
        sizes.append(footprint.bytes_of(rows))
    assert max(sizes) < 40 * 3000
    # A longer window leaves fewer windows.
    assert sizes == sorted(sizes, reverse=True)


PEAK = """
import sys
from jaxseq.common import memory
from jaxseq.train.__main__ import main
assert main(sys.argv[1:]) == 0
print(memory.peak())
"""


@pytest.mark.slow
def test_a_panel_of_a_million_rows_takes_no_more_memory_than_was_estimated(tmp_path: Path) -> None:
    write_panel(tmp_path / "a.csv", series=5000, rows=200)
    words = (
        "table --data.path a.csv --data.column sales --data.series item --data.time date --data.window 28 "
        "--task direct --horizon 7 --epochs 1 --batch 512 --out run"
    )
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *lines, peak = done.stdout.splitlines()
    measured, estimated = (float(word) for word in lines[-1].split() if word[0].isdigit())
    print(f"{measured} GiB measured, {estimated} estimated")
    assert int(peak) < 1.6 * 2**30
    # The memory of a training step is no more than a bound where it is far below what there is.
    assert estimated > 0.75 * measured
