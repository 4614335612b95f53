"""Programs of users, of which `tests/test_user_types.py` has the types checked; nothing here is ever run.

`assert_type` wants the type itself: an `Any` in a public signature is an error. `# pyrefly: ignore` ends a line with a
mistake that a type checker has to find: an ignore without an error is one, too.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, assert_type

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax import Array

from jaxseq.cells import CELLS, gru, lstm, named, recurrence
from jaxseq.cells import base as cells
from jaxseq.cells.base import Cell
from jaxseq.data.dataset import SeriesData
from jaxseq.data.table import Table
from jaxseq.export.write import Options, export
from jaxseq.forecasting.predictions import Future
from jaxseq.nn import heads, objectives
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.objectives import Objective
from jaxseq.nn.recurrent import Bidirectional, Recurrent
from jaxseq.train import experiments, fit, forecaster, loggers, run
from jaxseq.train.callbacks import Callback, StartedRun
from jaxseq.train.domains import chorales, pianoroll
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.epoch import TrainState
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.restore import restore
from jaxseq.train.run_folder import Row

KEY = jax.random.key(0)
X = jnp.ones((5, 2, 3))  # "b t d", and "t b d"
ROWS = (np.ones((8, 3), np.float32), np.ones((8, 1), np.float32))


def cells_of_the_package() -> None:
    """Cells by name have a carry with an output; a cell's own constant has its own types."""
    assert_type(CELLS["gru"], Cell[Any, cells.Carry])
    assert_type(named("gru"), Cell[Any, cells.Carry])
    start = CELLS["gru"].start((2, 4))
    assert_type(start, cells.Carry)
    assert_type(start.h, Array)
    assert_type(recurrence.scan(CELLS["gru"], CELLS["gru"].init(KEY, 3, 4), X, start), tuple[cells.Carry, Array])

    assert_type(lstm.CELL, Cell[cells.Params, lstm.Carry])
    params = lstm.CELL.init(KEY, 3, 4)
    assert_type(params, cells.Params)
    carry, outputs = recurrence.scan(lstm.CELL, params, X, lstm.CELL.start((2, 4)))
    assert_type(carry, lstm.Carry)
    assert_type(outputs, Array)
    assert_type(recurrence.step(lstm.CELL, params, X[0], carry), lstm.Carry)
    recurrence.scan(lstm.CELL, params, X, gru.CELL.start((2, 4)))  # pyrefly: ignore[bad-argument-type]
    recurrence.scan(lstm.CELL, gru.CELL.init(KEY, 3, 4), X, carry)  # pyrefly: ignore[bad-argument-type]


class Params(NamedTuple):
    """The parameters of a user's cell."""

    input_kernel: Array
    bias: Array
    recurrent_weight: Array


class Carry(NamedTuple):
    """The carry of a user's cell."""

    h: Array
    mean: Array


def start(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Carry:
    """Return zeros."""
    return Carry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def init(key: Array, d: int, h: int, dtype: Any = jnp.float32) -> Params:
    """Return any parameters."""
    return Params(jax.random.normal(key, (d, h), dtype), jnp.zeros(h, dtype), jnp.ones(h, dtype))


def step(params: Params, z: Array, h: Array, carry: Carry) -> Carry:
    """Return the next carry."""
    return Carry(jax.nn.relu(z + params.recurrent_weight * h), carry.mean)


def lstm_step(params: Params, z: Array, h: Array, carry: lstm.Carry) -> lstm.Carry:
    """Return a carry that `start` does not."""
    return carry


def cells_of_a_user() -> None:
    """A user's cell has its own types, and its functions have to go together."""
    mine = Cell("mine", start, init, step=step)
    assert_type(mine, Cell[Params, Carry])
    assert_type(Recurrent(mine, 4)(X), tuple[Carry, Array])
    Cell("mine", start, init, step=lstm_step)  # pyrefly: ignore[bad-argument-type]


def layers() -> None:
    """Layers return the carry of their cell, and an array."""
    assert_type(Recurrent(CELLS["gru"], 4)(X), tuple[cells.Carry, Array])
    assert_type(Recurrent(lstm.CELL, 4)(X), tuple[lstm.Carry, Array])
    assert_type(Bidirectional(Recurrent(lstm.CELL, 4))(X), tuple[lstm.Carry, Array])
    assert_type(Forecaster(lstm.CELL, 4, 1, 1)(X), tuple[tuple[cells.Carry, ...], Array])
    Recurrent("gru", 4)  # pyrefly: ignore[bad-argument-type]


class Tagger(nn.Module):
    """A user's module."""

    @nn.compact
    def __call__(self, tokens: Array, train: bool = False) -> Array:
        """Return logits."""
        _, x = Recurrent(CELLS["gru"], 32, recurrent_dropout=0.1)(nn.Embed(100, 16)(tokens), train=train)
        return nn.Dense(17)(x)


class Best(Callback):
    """A user's callback."""

    def on_start(self, run: StartedRun) -> None:
        """Read the run."""
        assert_type(run.config, Mapping[str, object])
        assert_type(run.folder, Path)

    def on_epoch(self, row: Row) -> None:
        """Read a row."""
        assert_type(row["valid_loss"], int | float)


class Misnamed(Callback):
    """A callback whose row is of another type."""

    def on_epoch(self, row: str) -> None:  # pyrefly: ignore[bad-override]
        """Take no row."""


def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches from outside, under a user's name of the epoch."""
    yield ROWS


def trainings() -> None:
    """What is trained is checked, and what comes back is known."""
    loss = optax.squared_error
    trained = fit.train(Tagger(), ROWS, valid=ROWS, loss=loss, optimiser=optax.lion(1e-3), callbacks=[Best()])
    assert_type(trained, fit.Trained)
    assert_type(trained.predict(ROWS[0]), Array)
    assert_type(trained.params, Mapping[str, Any])
    assert_type(trained.history[-1]["valid_loss"], int | float)
    assert_type(fit.restore("runs/tagger", Tagger()), fit.Trained)

    fit.train(Tagger(), batches, valid=ROWS, loss=loss, callbacks=loggers.named("tensorboard"))
    fit.train("Tagger", ROWS, valid=ROWS, loss=loss)  # pyrefly: ignore[bad-argument-type]
    fit.train(Tagger(), ROWS, valid=ROWS, loss="mse")  # pyrefly: ignore[bad-argument-type]
    fit.train(Tagger(), ROWS, valid=ROWS, loss=loss, optimiser="adam")  # pyrefly: ignore[bad-argument-type]
    fit.train(Tagger(), ROWS, valid=ROWS, loss=loss, callbacks=[print])  # pyrefly: ignore[bad-argument-type]
    fit.train(Tagger(), ROWS, valid=ROWS, loss=loss, learning_rate=1)  # pyrefly: ignore[unexpected-keyword]


class Huber(ForecastExperiment[SeriesData]):
    """A user's experiment."""

    def objective(self) -> Objective:
        """Return another objective."""
        assert_type(self.data.window, int)
        assert_type(self.lr, float)
        return objectives.forecasting(heads.point("huber"))


def runs(windows: np.ndarray) -> None:
    """Experiments and restored runs have types of their own."""
    assert_type(experiments.named("aapl", epochs=3), Experiment)
    assert_type(run.train(experiments.named("aapl")), Path)
    run.train("aapl")  # pyrefly: ignore[bad-argument-type]

    assert_type(restore("runs/aapl-0001"), RestoredRun)
    assert_type(restore("runs/aapl-0001").state, TrainState)
    assert_type(restore("runs/aapl-0001").state.params, Mapping[str, Any])
    assert_type(forecaster.restore("runs/aapl-0001").experiment.data, SeriesData)
    assert_type(chorales.restore("runs/jsb-0001"), chorales.Composer)
    assert_type(pianoroll.restore("runs/pianoroll-0001").state.params, Mapping[str, Any])
    assert_type(forecaster.restore("runs/aapl-0001")(windows), np.ndarray)
    assert_type(forecaster.restore("runs/aapl-0001").predict("sales.csv", 5), Future)


def fields(sales: pd.DataFrame) -> None:
    """The fields of an experiment of one's own values, and the type of its data, are known."""
    data = Table.from_frame(sales, window=14)
    experiment = ForecastExperiment(name="table", data=data, model=Model(hidden=8), task="direct", horizon=7)
    assert_type(experiment, ForecastExperiment[Table])
    assert_type(run.train(experiment, out="runs/sales"), Path)
    ForecastExperiment(name="table", data=data, epoch=3)  # pyrefly: ignore[unexpected-keyword]
    ForecastExperiment(name="table", data=data, task="later")  # pyrefly: ignore[bad-argument-type]
    ForecastExperiment(name="table", data=sales)  # pyrefly: ignore[bad-specialization]


def exports() -> None:
    """An export is a folder, and its options have types."""
    assert_type(export(Options(Path("runs/table-0001"), to="onnx")), Path)
    Options(Path("runs/table-0001"), too="onnx")  # pyrefly: ignore[unexpected-keyword]


def tables(sales: pd.DataFrame) -> None:
    """A table is a frame, and no number; its keywords are its fields."""
    assert_type(Table.from_frame(sales, window=14), Table)
    assert_type(Table(window=14).on(sales), Table)
    Table.from_frame(sales, windows=14)  # pyrefly: ignore[unexpected-keyword]
    Table.from_frame(sales, window="14")  # pyrefly: ignore[bad-argument-type]
    Table.from_frame(sales, unusable="keep")  # pyrefly: ignore[bad-argument-type]
    assert_type(forecaster.restore("runs/table-0001").predict(sales), Future)
    Table.from_frame(3)  # pyrefly: ignore[bad-argument-type]
