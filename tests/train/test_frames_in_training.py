"""A run on a table in memory is the run on its file, and a restored one forecasts a table in memory."""

import dataclasses
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest

from jaxseq import forecast
from jaxseq.common.errors import UsageError
from jaxseq.data.table import Table
from jaxseq.train import run, run_folder
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.restore import restore

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture
def frame(panel_run):
    return pd.read_csv(panel_run.parent / "panel.csv", parse_dates=["date"])


def experiment_on(frame):
    """The experiment of `panel_run` on a frame."""
    data = Table.from_frame(frame, series="name", column="sales", window=8, target="auto")
    return named("table", data=data, model=Model(hidden=4), batch=32, epochs=2)


def test_a_run_resumes_with_a_frame_of_its_rows_alone(panel_run, frame, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(panel_run, folder)
    experiment = experiment_on(frame)
    begun = run_folder.read_config(folder)
    run.train(experiment, resume=folder)
    resumed = run_folder.read_config(folder)
    # The file's run is the frame's: the same rows, the same identity, and the hash of the contents where the path stood.
    assert resumed["data"].pop("path") == str(experiment.data.path)
    assert begun["data"].pop("path").endswith("panel.csv")
    assert resumed == begun

    other = frame.assign(sales=frame["sales"] + 1e-3 * np.arange(len(frame)))
    with pytest.raises(UsageError, match="differs from the rows") as raised:
        run.train(experiment_on(other), resume=folder)
    assert str(raised.value.needed).removeprefix("sha256 ") == resumed["rows_sha256"][:12]
    # What the frame itself was is not in the folder.
    with pytest.raises(UsageError, match="memory of another process"):
        restore(folder).predict()


def test_a_restored_run_forecasts_a_frame_as_the_command_does_a_file(panel_run, frame):
    model = restore(panel_run)
    assert isinstance(model, forecasts.Trained)
    of_file = forecast.forecast(panel_run)
    assert set(of_file.table.columns) >= {"date", "series", "forecast", "low_80%", "high_95%"}
    for table in (None, frame, frame.set_index(["name", "date"]), panel_run.parent / "panel.csv"):
        pd.testing.assert_frame_equal(model.predict(table).table, of_file.table)

    later = frame[frame["name"] == "north"].assign(date=lambda rows: rows["date"] + pd.Timedelta(30, "D"))
    predicted = model.predict(later)
    assert predicted.table["date"].tolist() == [later["date"].max() + pd.Timedelta(1, "D")]
    with pytest.raises(UsageError, match="no column 'sales'"):
        model.predict(frame.rename(columns={"sales": "sold"}))


def test_a_wide_frame_is_trained_on_and_forecast_in_long_form_as_the_long_one(panel_run, frame):
    names = list(frame["name"].unique())
    wide = frame.pivot(index="date", columns="name", values="sales")[names]
    data = Table.from_frame(wide, column="*", window=8)
    experiment = experiment_on(frame)
    long_job = forecasts.prepare(experiment)
    job = forecasts.prepare(dataclasses.replace(experiment, data=data))
    for rows, others in zip(job.batches, long_job.batches, strict=True):
        np.testing.assert_array_equal(rows.x, others.x)
        np.testing.assert_array_equal(rows.y, others.y)
    assert job.material.background.period == long_job.material.background.period
    of_wide = forecast.forecast(panel_run, data.panel()).table
    pd.testing.assert_frame_equal(of_wide, forecast.forecast(panel_run).table)


def test_a_pickled_run_forecasts_the_same_bits_without_its_folder(panel_run, frame, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(panel_run, folder)
    model = restore(folder)
    before = model.predict(frame).table
    content = pickle.dumps(model)
    shutil.rmtree(folder)
    twin = pickle.loads(content)
    assert isinstance(twin, forecasts.Trained) and repr(twin) == repr(model)
    pd.testing.assert_frame_equal(twin.predict(frame).table, before, check_exact=True)
    assert twin.state.step == model.state.step
    # What is known of the training rows goes with it: another unit is noticed.
    other_unit = frame.assign(sales=1000 * frame["sales"])
    notes = twin.predict(other_unit).notes
    assert "is not as in the training" in " ".join(notes) and notes == model.predict(other_unit).notes
    pd.testing.assert_frame_equal(model.predict(frame).table, before, check_exact=True)
