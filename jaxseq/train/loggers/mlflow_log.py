"""MLflow, in the store of MLFLOW_TRACKING_URI or in `mlflow.db` beside the run.

    mlflow ui --backend-store-uri sqlite:///runs/mlflow.db

Only door to mlflow.
"""

from __future__ import annotations

import logging
import os

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from jaxseq.common import lock
from jaxseq.common.sealed import RUN_ID
from jaxseq.train import experiments
from jaxseq.train.callbacks import StartedRun
from jaxseq.train.loggers.base import Logger

EXPERIMENT = "jaxseq"
STORE = "mlflow.db"
FOLDER = "jaxseq.folder"
"""Tag of the run's folder, by which a run that resumes is found again."""
PATIENCE = 120.0
"""Seconds to wait for another process that opens the store; a new one takes some."""
MOST_TEXT = 500
"""Letters of the longest parameter that MLflow stores in every version."""


class Log(Logger):
    """Metrics by epoch, the recipe as parameters."""

    name = "mlflow"

    def open(self, run: StartedRun) -> None:
        """Find the run of this folder in the store, or make one."""
        # It would announce each table that it makes.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        folder = run.folder.resolve()
        store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent / STORE}")
        # Two processes that make the tables of a new store at once would leave it half made for good.
        with lock.wait_for(folder.parent / STORE, PATIENCE):
            self._client = MlflowClient(tracking_uri=store)
            self._run_id = self._earlier_or_new(run, f"{folder}").info.run_id

    def _earlier_or_new(self, run: StartedRun, folder: str) -> Run:
        experiment_id = self._experiment_id()
        # The path stands in quotes, which the language of the filter cannot escape.
        quoted = folder.replace("'", "?")
        tags = {FOLDER: quoted, RUN_ID: str(run.config.get(RUN_ID))}
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        entries = self._client.search_runs([experiment_id], wanted, max_results=1)
        if entries:
            self._client.set_terminated(entries[0].info.run_id, "RUNNING")
            return entries[0]

        entry = self._client.create_run(experiment_id, run_name=run.folder.name, tags=tags)
        for name, value in experiments.to_config(run.experiment).items():
            self._client.log_param(entry.info.run_id, name, str(value)[:MOST_TEXT])
        return entry

    def _experiment_id(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            # Another process of a sweep may have made it since.
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                raise
            return experiment.experiment_id

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Log the values at the step of the epoch."""
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=epoch)

    def close(self, error: BaseException | None) -> None:
        """Mark the run as finished, or as killed if something ended it before its end."""
        self._client.set_terminated(self._run_id, "FINISHED" if error is None else "KILLED")
