"""Runs explained: a covariate that was planted matters, one of noise does not, and a finished run is explained later."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.errors import UsageError
from jaxseq.train import __main__ as train
from jaxseq.train import explain
from jaxseq.train.experiments import named

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def planted_table(path: Path) -> None:
    """A table of three shops, which sell tomorrow what today's price says; the noise says nothing."""
    draw = np.random.default_rng(0)
    frames = []
    for shop in range(3):
        price, noise = draw.normal(size=(2, 240))
        sold = 10.0 * shop + 3 * np.roll(price, 1) + 0.5 * draw.normal(size=240)
        dates = pd.date_range("2021-01-01", periods=240)
        columns = {"date": dates, "shop": f"shop {shop}", "sold": sold, "price": price, "noise": noise}
        columns["kind"] = draw.choice(["a", "b", "c"], size=240)
        frames.append(pd.DataFrame(columns))
    pd.concat(frames).to_csv(path, index=False)


@pytest.mark.slow
def test_a_planted_covariate_matters_noise_does_not_and_the_report_keeps_its_sections(tmp_path: Path) -> None:
    planted_table(tmp_path / "sales.csv")
    data = ["--data.path", f"{tmp_path / 'sales.csv'}", "--data.series", "shop", "--data.column", "sold"]
    data += ["--data.covariates", "price,noise,kind", "--data.target", "level", "--data.window", "4"]
    run = tmp_path / "run"
    words = [*data, "--start", "random", "--model.hidden", "8", "--epochs", "5", "--lr", "0.03", "--out", f"{run}"]
    assert train.main(["table", *words, "--explain"]) == 0

    rows = csv_tables.read(run / run_seal.IMPORTANCE).set_index("input")
    assert rows.loc["price", "low_95%"] > 1
    assert rows.loc["noise", "low_95%"] < 0 < rows.loc["noise", "high_95%"]
    # One input for the texts of a column.
    assert rows.index[:3].tolist() == ["price", "noise", "kind"] and rows.index[3] == "lag 1"
    assert rows["permutation"].idxmax() == rows["gradient"].idxmax() == "price"
    residuals = csv_tables.read(run / run_seal.RESIDUALS)
    assert set(residuals["by"]) == {"all", "series", "season"}
    assert not run_seal.judged_damage(run)

    # Judged again, without being asked for an explanation, after a file of it was lost.
    report = (run / run_seal.REPORT).read_text()
    assert "## Importance of the inputs" in report and "| Monday |" in report
    (run / run_seal.RESIDUALS).unlink()
    assert train.main(["--resume", f"{run}"]) == 0
    assert (run / run_seal.REPORT).read_text() == report
    assert not run_seal.judged_damage(run)


@pytest.mark.parametrize("run", [pytest.param("aapl_run", marks=pytest.mark.slow), "panel_run"])
def test_a_finished_run_is_explained_later(run: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(request.getfixturevalue(run), copy)
    assert "## Importance" not in (copy / run_seal.REPORT).read_text()
    assert train.main(["--resume", f"{copy}", "--explain"]) == 0
    assert "## Importance of the inputs" in (copy / run_seal.REPORT).read_text()
    rows = csv_tables.read(copy / run_seal.IMPORTANCE)
    assert rows["input"].tolist() == [f"lag {lag}" for lag in range(1, 9)]
    assert (rows["low_95%"] <= rows["permutation"]).all() and (rows["permutation"] <= rows["high_95%"]).all()


def test_what_cannot_be_explained_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--explain") as refusal:
        explain.check(named("jsb"))
    assert refusal.value.got == "jsb"
    with pytest.raises(UsageError, match="carried state"):
        explain.check(named("aapl", task="every-step", data=named("aapl").data.__class__(stateful=True)))
