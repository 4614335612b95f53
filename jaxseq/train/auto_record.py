"""The record of `--auto`: every preparation that was tried with its validation loss, and the one that was chosen.

`auto.json`, sealed, is read again by the command that goes on; `auto.csv` is the same as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError
from jaxseq.data.panel_data import PanelData
from jaxseq.train import preparation
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.preparation import Preparation


class Tried(NamedTuple):
    """A preparation that was tried.

    preparation  values by field; of one that was trained, with nothing that is left to the rows
    loss         on the validation part; None where it was not trained
    best_epoch   epoch of that loss, of `epochs`
    seconds      that it took
    cpu_seconds  of them, summed over the cores
    note         reason why it was not trained; empty if it was
    """

    preparation: Preparation
    loss: float | None = None
    best_epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    note: str = ""


class Record(NamedTuple):
    """A choice that is made, or under way.

    recipe       experiment and the fields that stay as they are, as JSON has them
    rows_sha256  fingerprint of training and validation part
    measure      name of the loss
    listed       number of preparations on the list
    tried        the first ones of the list
    chosen       number of the chosen one, from 0; None while the choice is under way
    """

    recipe: Mapping[str, object]
    rows_sha256: str
    measure: str
    listed: int
    tried: tuple[Tried, ...] = ()
    chosen: int | None = None

    @property
    def seconds(self) -> float:
        """Time that the trials took."""
        return sum(tried.seconds for tried in self.tried)

    @property
    def trained(self) -> list[int]:
        """Numbers of the preparations that were trained."""
        return [number for number, tried in enumerate(self.tried) if tried.loss is not None]

    def best(self) -> int | None:
        """Return the number of the preparation with the least loss, the first one of equal ones; None without any."""
        losses = {number: tried.loss for number, tried in enumerate(self.tried) if tried.loss is not None}
        return min(losses, key=losses.__getitem__, default=None)


def write(folder: Path, record: Record) -> None:
    """Write a record into the folder of its run, sealed, and as a table."""
    tried = [each._asdict() for each in record.tried]
    sealed.write(folder / run_seal.AUTO, {**record._asdict(), "tried": tried})
    rows = []
    for number, each in enumerate(record.tried):
        place = {"number": number + 1, **each.preparation}
        facts = {name: value for name, value in each._asdict().items() if name != "preparation"}
        rows.append({**place, **facts, "chosen": number == record.chosen})
    csv_tables.write(folder / run_seal.AUTO_TABLE, pd.DataFrame(rows))


def read(folder: Path) -> Record | None:
    """Return the record in the folder of a run; None if its preparation was not chosen.

    Raises `DamagedError` for one that was changed since it was written.
    """
    path = folder / run_seal.AUTO
    if not path.exists():
        return None
    fields = sealed.read(path)
    try:
        tried = tuple(Tried(**each) for each in fields.pop("tried"))
        return Record(**fields, tried=tried)
    except (KeyError, TypeError):
        raise DamagedError(f"{path}", ["it has other fields than a record of --auto"]) from None


def is_of(record: Record, experiment: Experiment) -> bool:
    """Return whether a choice is made, and an experiment has the preparation that was chosen."""
    if record.chosen is None or not isinstance(experiment, ForecastExperiment):
        return False
    if not isinstance(experiment.data, PanelData):
        return False
    return preparation.asked(experiment) == record.tried[record.chosen].preparation


def check_is_of(folder: Path | None, experiment: Experiment) -> None:
    """Raise `UsageError` for a folder with the record of a choice that an experiment does not follow."""
    record = None if folder is None else read(folder)
    if record is not None and not is_of(record, experiment):
        raise UsageError(
            f"has the record of another command's choice ({run_seal.AUTO})", where=folder, needed="another folder"
        )


def sentence(record: Record) -> str:
    """Say which preparation was chosen, by how much, and of how many."""
    assert record.chosen is not None, "the choice is made"
    chosen = record.tried[record.chosen]
    first = record.tried[0]
    assert chosen.loss is not None, "it was trained"
    told = f"auto chose {preparation.words(chosen.preparation)}: validation {record.measure} {chosen.loss:.5g}"
    # The first one is the experiment as it was asked for.
    if first.loss is not None and record.chosen > 0:
        told = f"{told}, {1 - chosen.loss / first.loss:.1%} less than {preparation.words(first.preparation)}"
    return f"{told}; {len(record.trained)} of {record.listed} on the list were trained, in {record.seconds:.0f} s"
