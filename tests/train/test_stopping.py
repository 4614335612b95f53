"""Early stopping by the training loss: the rule on curves whose plateau is known, a run that stops and stays stopped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.train import __main__ as train
from jaxseq.train import run_folder, stopping
from jaxseq.train.experiments import named


def stops(losses: np.ndarray, **options: object) -> list[int]:
    """Return the epochs after which a training with these losses would stop."""
    training = named("aapl", patience=None, **options)
    rows = [{"epoch": k + 1, "train_loss": float(loss), "valid_mse": 1.0} for k, loss in enumerate(losses)]
    ends = range(1, len(rows) + 1)
    return [end for end in ends if stopping.stop_reason(training, rows[:end], "valid_mse") is not None]


def test_training_stops_where_the_best_loss_gains_too_little() -> None:
    # From epoch 6 on it falls by 0.1 % an epoch: three of them gain less than 0.5 %.
    losses = np.concatenate([0.8 ** np.arange(5), 0.8**4 * 0.999 ** np.arange(1, 8)])
    options = {"min_gain": 0.005, "gain_epochs": 3, "min_epochs": 1}
    assert stops(losses, **options) == [8, 9, 10, 11, 12]
    assert stops(losses, **options | {"min_epochs": 10}) == [10, 11, 12]
    assert stops(losses, **options | {"min_gain": 0.002}) == []
    assert stops(losses, **options | {"min_gain": None}) == []


def test_a_single_bad_epoch_is_no_plateau() -> None:
    losses = 0.9 ** np.arange(12.0)
    losses[5] = 10.0
    assert stops(losses, min_gain=0.005, gain_epochs=2, min_epochs=1) == []


def test_a_loss_below_zero_has_a_gain_of_its_size() -> None:
    assert stopping.has_plateau(np.array([-1.0, -1.001]), min_gain=0.005, epochs=1)
    assert not stopping.has_plateau(np.array([-1.0, -1.01]), min_gain=0.005, epochs=1)
    # One that stays gains nothing, even at 0.
    assert stopping.has_plateau(np.zeros(2), min_gain=0.005, epochs=1)
    assert stopping.has_plateau(np.ones(2), min_gain=0.0, epochs=1)


@pytest.mark.parametrize("field", [{"min_gain": 1.5}, {"min_gain": -0.1}, {"gain_epochs": 0}, {"min_epochs": 0}])
def test_a_rule_that_cannot_be_is_refused(field: dict) -> None:
    with pytest.raises(UsageError) as error:
        named("aapl", **field)
    assert error.value.where == next(iter(field))


@pytest.mark.exact_versions
def test_a_run_stops_at_its_plateau_and_stays_stopped(
    aapl_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(aapl_run, tmp_path / "run"))
    words = ["--resume", str(run), "--epochs", "60", "--min-gain", "0.999", "--gain-epochs", "1", "--min-epochs", "3"]
    assert train.main(words) == 0
    assert [row["epoch"] for row in run_folder.read_metrics(run)] == [1, 2, 3]
    assert (
        "the training loss fell by less than 0.999 of it in 1 epochs: stopped after epoch 3" in capsys.readouterr().out
    )

    log = (run / "metrics.jsonl").read_bytes()
    assert train.main(words) == 0
    assert "in 1 epochs: the training stays stopped" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_bytes() == log
    assert json.loads((run / "config.json").read_text())["min_gain"] == 0.999
