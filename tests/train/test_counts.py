"""Counts, from a table to their forecast: the negative binomial head and its scaling."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jaxseq import forecast
from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.export import program
from jaxseq.export.kinds import forecasts
from jaxseq.train import options, run
from jaxseq.train.forecaster import restore

pytestmark = pytest.mark.usefixtures("compiled_quickly", "unannotated")
HORIZON = 3


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    """Two shops, whose sales are negative binomial around a mean that alternates; the second has far more of them."""
    random = np.random.default_rng(3)
    frames = []
    for shop, level in (("small", 1.5), ("large", 40.0)):
        mean = level * np.where(np.arange(150) % 2, 1.6, 0.4)
        counts = random.negative_binomial(2, 2 / (2 + mean))
        frames.append(pd.DataFrame({"day": pd.date_range("2020-01-01", periods=150), "shop": shop, "sold": counts}))
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    pd.concat(frames).to_csv(path, index=False)
    return path


def experiment(sales, *words):
    given = f"table --data.path {sales} --data.column sold --data.series shop --data.window 8 --model.hidden 4"
    return options.parse([*given.split(), "--epochs", "4", "--batch", "32", "--lr", "0.03", *words]).experiment


@pytest.mark.parametrize(
    ("head", "task"),
    [
        pytest.param("negative-binomial", "direct", marks=pytest.mark.slow),
        pytest.param("zero-inflated-poisson", "direct", marks=pytest.mark.slow),
        pytest.param("poisson", "direct", marks=pytest.mark.slow),
        pytest.param("negative-binomial", "iterated", marks=pytest.mark.slow),
        pytest.param("zero-inflated-negative-binomial", "iterated", marks=pytest.mark.slow),
    ],
)
def test_counts_are_trained_judged_and_forecast_as_counts(sales, head, task, tmp_path):
    words = ("--data.target", "count", "--model.head", head, "--task", task, "--horizon", str(HORIZON))
    folder = tmp_path / "run"
    run.train(experiment(sales, *words), folder, console=Console(file=io.StringIO()))

    scores = pd.read_csv(folder / run_seal.SCORES)
    model = scores[(scores["role"] == "model") & (scores["step"] == "all")].iloc[0]
    assert np.isfinite(model["mse"]) and model["crps"] > 0
    frame, _ = forecast.forecast(folder)
    assert frame["series"].tolist() == ["small"] * HORIZON + ["large"] * HORIZON
    ends = frame.filter(regex="low|high")
    assert (ends >= 0).all(axis=None) and (ends == ends.round()).all(axis=None)
    means = frame.groupby("series")["forecast"].mean()
    assert means["large"] > means["small"] > 0

    trained = restore(folder)
    if task == "direct":
        exported = forecasts.program_of(trained)
        inputs = exported.example
        outputs = program.computed(exported, inputs)
        # Ends of counts are whole numbers, as those of the run.
        for name, own in exported.own(inputs).items():
            np.testing.assert_allclose(outputs[name], own, rtol=1e-5)
        assert (outputs["quantiles"] == np.round(outputs["quantiles"])).all()
        assert outputs["forecast"].shape == (len(inputs["values"]), HORIZON)


def test_a_head_for_counts_and_a_target_of_real_numbers_do_not_fit(sales):
    from jaxseq.train.domains import forecasts

    for words, got, needed in (
        (["--model.head", "negative-binomial"], "change", "count (or --model.head point or quantile or"),
        (
            ["--data.target", "count"],
            "count",
            "change or season or seasons or log-return or level (or --model.head negative-binomial or poisson or",
        ),
    ):
        with pytest.raises(UsageError) as caught:
            forecasts.prepare(experiment(sales, *words))
        assert (caught.value.where, caught.value.got) == ("--data.target", got)
        assert caught.value.needed.startswith(needed)


@pytest.mark.parametrize(("count", "shown"), [(-2, "-2"), (2.5, "2.5")])
def test_what_is_no_count_is_refused_with_its_file_row_and_column(sales, count, shown, tmp_path):
    lines = sales.read_text().splitlines()
    lines[200] = f"{lines[200].rsplit(',', 1)[0]},{count}"
    path = tmp_path / "wrong.csv"
    path.write_text("\n".join(lines))
    words = ("--data.target", "count", "--model.head", "poisson")
    with pytest.raises(UsageError) as caught:
        experiment(path, *words).load()
    assert caught.value.where == f"{path}: row 201, column 'sold'"
    assert f"{caught.value.got:g}" == shown

    dropped = experiment(path, *words, "--data.unusable", "drop").load()
    assert dropped.background.names == ("small",)


def test_amounts_are_scaled_by_their_mean_and_stay_from_zero(sales):
    dataset = experiment(sales, "--data.target", "amount", "--model.head", "tweedie").load()
    scaling, windows = dataset.scaling, dataset.windows.test
    means = [values.mean() for values in dataset.background.training]
    np.testing.assert_allclose(scaling.scale, means)
    targets = scaling.targets(windows)
    np.testing.assert_allclose(targets[:, 0] * np.asarray(means)[windows.series], windows.targets[:, 0])
    np.testing.assert_allclose(scaling.invert(targets, windows), windows.targets)
    assert (targets >= 0).all() and (scaling.inputs(windows) >= 0).all() and dataset.background.floor == 0
    following = scaling.transform.as_input(targets[:, :1])
    np.testing.assert_allclose(following, np.log1p(targets[:, :1]))


@pytest.mark.slow
def test_amounts_are_trained_judged_and_forecast_and_no_program_simulates_them(sales, tmp_path):
    words = ("--data.target", "amount", "--model.head", "tweedie", "--task", "direct", "--horizon", str(HORIZON))
    folder = tmp_path / "run"
    run.train(experiment(sales, *words), folder, console=Console(file=io.StringIO()))
    frame, _ = forecast.forecast(folder)
    assert (frame.filter(regex="low|high|forecast") >= 0).all(axis=None)
    with pytest.raises(UsageError) as caught:
        forecasts.program_of(restore(folder))
    assert (caught.value.where, caught.value.got) == ("--model.head", "tweedie")
