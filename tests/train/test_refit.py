"""A recipe trained again on all rows: what it is trained on, where it resumes, and who takes it."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from quick_compilation import quick_compilation

from jaxseq import forecast, score
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.train import __main__ as train
from jaxseq.train import forecaster, refit, run_folder
from jaxseq.train.callbacks import Callback

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def refitted(panel_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `panel_run` with its refit, made by the command."""
    folder = shutil.copytree(panel_run, tmp_path_factory.mktemp("refit") / "run")
    # The pictures of the judgement are drawn again, which takes a while.
    with quick_compilation():
        assert train.main(["--resume", str(folder), "--refit"]) == 0
    return folder


def params(state: object) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]


def test_a_refit_trains_the_judged_epochs_on_all_rows_and_forecasts(
    refitted: Path, panel_run: Path, capsys: pytest.CaptureFixture
) -> None:
    judged = run_seal.read_judged(refitted)
    rows = run_folder.read_metrics(refitted / "refit")
    assert judged is not None and [row["epoch"] for row in rows] == list(range(1, judged.epoch + 1))
    # Three series of 80 rows and a window of 8, in batches of 32.
    assert rows[0]["step"] == -(-3 * (80 - 8) // 32) > run_folder.read_metrics(refitted)[0]["step"]
    assert (refitted / "predictions.csv").read_bytes() == (panel_run / "predictions.csv").read_bytes()

    again = refit.restore(refitted)
    own = forecaster.restore(refitted)
    assert again.is_refit and again.intervals == own.intervals and again.scaling == own.scaling
    assert any(not np.array_equal(a, b) for a, b in zip(params(again.state), params(own.state), strict=True))
    assert not refit.restore(refitted, epoch=judged.epoch).is_refit

    assert forecast.main([str(refitted)]) == 0
    assert "forecast by the refit" in capsys.readouterr().out
    by_refit = pd.read_csv(refitted / "future.csv")
    assert forecast.main([str(refitted), "--no-refit"]) == 0
    assert "forecast by the refit" not in capsys.readouterr().out
    by_judged = pd.read_csv(refitted / "future.csv")
    assert (by_refit["forecast"] != by_judged["forecast"]).all()
    widths = [(table["high_95%"] - table["low_95%"]).to_numpy() for table in (by_refit, by_judged)]
    np.testing.assert_allclose(*widths, rtol=1e-4)

    came = pd.DataFrame({"date": ["2021-03-22"] * 3, "name": ["east", "north", "south"], "sales": [5.0, 50.0, 5000.0]})
    assert "all rows" in score.score(refitted, came).comparison.model.name
    assert "all rows" not in score.score(refitted, came, refit=False).comparison.model.name

    assert checkpoint.main(["verify", str(refitted)]) == 0
    assert f"{refitted / 'refit'}:" in capsys.readouterr().out


class Interrupt(Callback):
    """Ctrl-C after the first epoch."""

    def on_epoch(self, *_: object) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_refit_resumes_bit_for_bit(refitted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(refitted, tmp_path / "run")
    shutil.rmtree(folder / "refit")
    with pytest.raises(Interrupted) as end:
        refit.refit(folder, callbacks=[Interrupt()])
    assert str(end.value).endswith("--refit")
    unfinished = refit.restore(folder)
    if run_folder.read_metrics(refitted / "refit")[-1]["epoch"] > 1:
        assert not unfinished.is_refit and "1 of 2 epochs" in unfinished.weights
    refit.refit(folder)
    for resumed, undisturbed in zip(
        params(refit.restore(folder).state), params(refit.restore(refitted).state), strict=True
    ):
        np.testing.assert_array_equal(resumed, undisturbed)


def test_a_refit_of_another_epoch_is_not_taken_and_is_set_aside(refitted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(refitted, tmp_path / "run")
    config = run_folder.read_config(folder / "refit")
    config["refit_of"]["state_sha256"] = "0" * 64
    run_folder.write_config(folder / "refit", config)
    other = refit.restore(folder)
    assert not other.is_refit and "not of epoch" in other.weights
    refit.refit(folder)
    assert refit.restore(folder).is_refit
    assert (folder / f"refit-{config['refit_of']['epoch']}").is_dir()

    record = run_seal.JUDGED
    (folder / record).unlink()
    for name in run_seal.OUTPUTS:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UsageError) as error:
        refit.refit(folder)
    assert "--refit" in str(error.value.needed)


@pytest.mark.parametrize(
    "words",
    [
        ["waves", "--refit"],
        ["jsb", "--refit"],
        ["aapl", "--refit", "--seeds", "2"],
        ["aapl", "--refit", "--backtest", "2"],
        ["aapl", "--refit", "--data.folds", "2"],
        ["aapl", "--refit", "--data.stateful", "--task", "every-step"],
    ],
)
def test_what_has_no_refit_is_refused_before_the_training(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert train.main([*words, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "--refit" in error and error.count("\n") == 1 and not (tmp_path / "run").exists()
