"""The forecaster with scikit-learn's interface: its training is that of the command, and it keeps scikit-learn's rules."""

import dataclasses
import pickle
import tempfile

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from test_architecture import MODULES, imports

from jaxseq.common.errors import UsageError
from jaxseq.data.table import Table
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.restore import restore

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from jaxseq import estimator  # noqa: E402
from jaxseq.estimator import TABLE, JaxseqForecaster  # noqa: E402

pytestmark = pytest.mark.usefixtures("compiled_quickly")

DAYS = pd.date_range("2021-01-01", periods=150)
WEEKLY = 50 + 10 * np.sin(2 * np.pi * np.arange(150) / 7) + np.random.default_rng(0).normal(size=150)
SALES = pd.DataFrame({"sales": WEEKLY, "price": np.arange(150.0) % 4}, index=DAYS)
STORES = pd.concat([SALES.assign(store="east"), SALES.assign(store="north", sales=2000 - 20 * SALES["sales"])])
FEW = {"horizon": 3, "window": 8, "hidden": 2, "epochs": 1}
"""All fits share their compiled functions."""
STORE = {"column": "sales", "series": "store", **FEW}
WITHOUT_FIT = (
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)
OTHERWISE = {
    "check_dict_unchanged": "takes a horizon",
    "check_dtype_object": "takes a horizon",
    "check_estimators_dtypes": "takes a horizon",
    "check_estimators_nan_inf": "its y never moves in the test part, which is refused",
    "check_estimators_pickle": "takes a horizon",
    "check_f_contiguous_array_estimator": "takes a horizon",
    "check_fit2d_predict1d": "takes a horizon",
    "check_fit_idempotent": "takes a horizon",
    "check_methods_sample_order_invariance": "takes a horizon; the order of rows is time",
    "check_methods_subset_invariance": "takes a horizon; a forecast depends on the rows before it",
    "check_n_features_in_after_fitting": "takes a horizon",
    "check_positive_only_tag_during_fit": "its y never moves in the test part, which is refused",
}
"""Checks of scikit-learn that call `predict` with rows, or fit to rows that are no series, and why they do not apply."""


@pytest.fixture(scope="module")
def fitted():
    return JaxseqForecaster(**STORE).fit(STORES)


def test_parameters_have_the_defaults_of_the_fields_that_they_set():
    parameters = JaxseqForecaster().get_params()
    for part in (TABLE, TABLE.data, TABLE.model):
        for field in dataclasses.fields(part):
            # None stands for a task that fits the horizon.
            if field.name in parameters and field.name != "task":
                assert parameters[field.name] == getattr(part, field.name), field.name


def test_transform_scale_and_kind_are_parameters_that_a_clone_keeps_and_the_experiment_has(monkeypatch):
    prepared = {"value_transform": "log", "scale": "window-mean", "scale_input": True, "target": "change"}
    forecaster = clone(JaxseqForecaster(column="y", window=6)).set_params(kind="residual", layers=2, **prepared)
    parameters = forecaster.get_params()
    assert {name: parameters[name] for name in prepared} == prepared and parameters["kind"] == "residual"
    # Those of scikit-learn's pipelines that end in a forecaster would have it.
    assert not hasattr(forecaster, "transform")

    trained = []

    def keep(experiment, *_):
        trained.append(experiment)
        raise InterruptedError

    monkeypatch.setattr(JaxseqForecaster, "_fit_without_folder", lambda _, *arguments: keep(*arguments))
    with pytest.raises(InterruptedError):
        forecaster.fit(pd.DataFrame({"y": np.arange(1.0, 90.0), "x": 0.0}))
    (experiment,) = trained
    assert (experiment.data.transform, experiment.data.scale, experiment.data.scale_input) == (
        "log",
        "window-mean",
        True,
    )
    assert (experiment.model.kind, experiment.model.layers) == ("residual", 2)


@pytest.fixture
def types_unchecked():
    """As outside of the tests, parameters of any type are stored: `fit` checks them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("name", WITHOUT_FIT)
def test_a_check_of_scikit_learn_holds_without_a_fit(name):
    # The name has changed between versions.
    check = getattr(estimator_checks, name, None) or getattr(estimator_checks, f"{name}s")
    check("JaxseqForecaster", JaxseqForecaster())


@pytest.mark.slow
@pytest.mark.usefixtures("types_unchecked")
def test_the_checks_of_scikit_learn_hold_that_apply_to_a_forecaster():
    forecaster = JaxseqForecaster(covariates="x0", time="rows", **(FEW | {"horizon": 1, "window": 2, "batch": 4}))
    results = estimator_checks.check_estimator(forecaster, on_fail=None, on_skip=None)
    failures = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert set(failures) == set(OTHERWISE), failures
    assert sum(result["status"] == "passed" for result in results) >= 27


def test_a_fit_is_the_training_of_the_command(fitted, tmp_path):
    recipe = dataclasses.replace(TABLE, data=Table(floor=-5.0), model=Model(hidden=9, epsilon=1e-6), epochs=7)
    forecaster = JaxseqForecaster(recipe=recipe, out=tmp_path / "run", **STORE).fit(STORES)
    assert forecaster.folder_ == tmp_path / "run" and (forecaster.folder_ / "report.md").is_file()
    assert clone(forecaster).recipe is not None and clone(forecaster).recipe == recipe

    # The folder has what is not a parameter from the recipe, and all else from the parameters.
    data = Table.from_frame(STORES, column="sales", series="store", window=8, floor=-5.0, target="auto")
    model = Model(hidden=2, epsilon=1e-6)
    restored = restore(tmp_path / "run")
    assert restored.experiment == named("table", data=data, model=model, task="direct", horizon=3, epochs=1)

    # Without a folder the same bits come out.
    whole = restored.predict(STORES).table
    pd.testing.assert_frame_equal(fitted.predict(level=[0.5, 0.8]), whole.filter(regex="^[^_]*(_[58]0%)?$"))
    assert fitted.scores_["forecast"].tolist()[0] == "naive (last value)"
    assert [row["epoch"] for row in fitted.history_] == [1] and "2 series by 'store'" in " ".join(fitted.notes_)


def test_a_fit_is_quiet_and_leaves_no_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    forecaster = JaxseqForecaster(**STORE)
    before = {name: id(value) for name, value in forecaster.get_params().items()}
    assert forecaster.fit(STORES) is forecaster
    assert before == {name: id(value) for name, value in forecaster.get_params().items()}
    assert "".join(capfd.readouterr()) == "" and list(tmp_path.iterdir()) == []
    assert forecaster.folder_ is None and forecaster.n_features_in_ == 4

    twin = clone(forecaster)
    with pytest.raises(NotFittedError):
        twin.predict()
    with pytest.raises(NotFittedError):
        twin.score(STORES)
    # The same rows again, from X and y apart, and to the bit.
    again = twin.set_params(column=None).fit(STORES[["price", "store"]], STORES["sales"])
    pd.testing.assert_frame_equal(again.predict(), forecaster.predict(), check_exact=True)
    assert list(again.feature_names_in_) == ["date", "price", "store"]


def test_a_pickled_forecaster_forecasts_the_same_bits(fitted):
    state = {name: id(value) for name, value in vars(fitted).items()}
    forecast = fitted.predict(level=0.8)
    assert state == {name: id(value) for name, value in vars(fitted).items()}
    twin = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(twin.predict(level=0.8), forecast, check_exact=True)
    assert twin.score() == fitted.score() and twin.get_params() == fitted.get_params()


@pytest.mark.usefixtures("types_unchecked")
def test_a_forecast_has_the_steps_and_the_levels_that_are_asked_for(fitted):
    assert fitted.predict().columns.tolist() == ["date", "series", "step", "forecast"]
    two = fitted.predict(2, level=0.5)
    assert two["series"].tolist() == ["east", "east", "north", "north"]
    assert two["date"].tolist() == [DAYS[-1] + pd.Timedelta(days, "D") for days in (1, 2)] * 2
    assert (two["low_50%"] < two["forecast"]).all() and (two["forecast"] < two["high_50%"]).all()
    for wrong in (0.9, 0.505, 80):
        with pytest.raises(UsageError) as raised:
            fitted.predict(level=wrong)
        assert raised.value.got == wrong and "0.5, 0.8" in raised.value.needed
    for wrong in ("0.8", [[0.8], ["x"]], True):
        with pytest.raises(UsageError, match="level"):
            fitted.predict(level=wrong)
    pd.testing.assert_frame_equal(fitted.predict(level=np.float32(0.8)), fitted.predict(level=[0.8]))
    for wrong in (4, 0, -1):
        with pytest.raises(UsageError) as raised:
            fitted.predict(wrong)
        assert (raised.value.where, raised.value.got) == ("horizon", wrong)
    with pytest.raises(UsageError, match="number of time steps"):
        fitted.predict(STORES)

    later = STORES[STORES["store"] == "north"].set_index(DAYS + pd.Timedelta(30, "D"))
    assert fitted.predict(1, X=later)["date"].tolist() == [later.index[-1] + pd.Timedelta(1, "D")]


def test_the_score_is_the_skill_against_the_last_value_each_series_in_its_unit(fitted):
    errors = {"east": [], "north": []}
    naive_errors = {"east": [], "north": []}
    rows = STORES.set_index("store", append=True)["sales"].unstack()[-40:]
    for origin in range(8, 40):
        past = rows[:origin].rename_axis("date").stack().rename("sales").reset_index()
        forecast = fitted.predict(X=past).set_index(["series", "step"])["forecast"]
        for name, values in rows[origin : origin + 3].items():
            errors[name] += [*(values - forecast[name].to_numpy()[: len(values)])]
            naive_errors[name] += [*(values - rows[name].iloc[origin - 1])]

    scale = np.array([np.square(np.diff(rows[name])).mean() for name in errors])
    loss, naive_loss = (
        sum(np.square(of_series[name]).mean() / one for name, one in zip(of_series, scale, strict=True))
        for of_series in (errors, naive_errors)
    )
    assert fitted.score(STORES.groupby("store").tail(40)) == pytest.approx(1 - loss / naive_loss, rel=1e-5)

    test_part = fitted.scores_.set_index("forecast")["rmsse"]
    ratio = test_part.iloc[-1] / test_part["naive (last value)"]
    assert fitted.score() == pytest.approx(1 - ratio**2, rel=1e-5)
    with pytest.raises(UsageError) as raised:
        fitted.score(STORES.groupby("store").tail(10))
    assert (raised.value.got, raised.value.needed) == (10, "at least 11, a window and its targets")


@pytest.mark.parametrize(
    ("parameters", "rows", "words"),
    [
        ({"cell": "gruu", "column": "sales"}, SALES, "gruu"),
        ({"task": "one-step", "horizon": 2, "column": "sales"}, SALES, "one-step"),
        ({"column": "sold"}, SALES, "no column 'sold'"),
        ({}, SALES, "say with --data.column"),
        ({"column": "sales"}, SALES.assign(sales=[*["1"] * 9, "x", *["1"] * 140]), "row 9, column 'sales'"),
        ({}, None, "no rows"),
        ({}, np.zeros((3, 2, 2)), "shape"),
        ({}, WEEKLY + 1j, "Complex"),
    ],
)
def test_mistakes_are_told_by_fit(parameters, rows, words):
    with pytest.raises(UsageError) as raised:
        JaxseqForecaster(**parameters).fit(rows)
    assert words in str(raised.value)


def test_values_belong_to_the_rows_that_their_index_names():
    """What would be trained on: dates, other columns, values."""
    values = SALES["sales"]
    beside = SALES.drop(columns="sales").assign(guests=np.arange(len(SALES)))
    together = estimator._frame(beside, values)
    assert together.columns.iloc[:, -1].tolist() == values.tolist()

    shuffled = values.sample(frac=1, random_state=0)
    later = values.set_axis(values.index + pd.Timedelta(1, "D"))
    for other in (shuffled, later):
        with pytest.raises(UsageError, match="different indices") as raised:
            estimator._frame(beside, other)
        assert raised.value.where == "y"
    with pytest.raises(UsageError, match="several columns") as raised:
        estimator._frame(beside.to_numpy(), np.ones((len(beside), 2)))
    assert raised.value.got == 2

    # The dates are those of y, if X has none.
    dated = estimator._frame(beside.reset_index(drop=True), values)
    assert dated.names[0] == "date" and dated.columns.iloc[:, 0].tolist() == values.index.tolist()


def test_no_other_module_imports_scikit_learn():
    """Importing jaxseq, or a command, waits for nothing that an extra installs."""
    for module in MODULES:
        assert "jaxseq.estimator" not in "".join(imports(module)), module
