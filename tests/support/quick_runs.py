"""The quickest run, trained from Python."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jaxseq.data.waves import Waves
from jaxseq.train import run
from jaxseq.train.callbacks import Callback
from jaxseq.train.experiments import Experiment, named
from jaxseq.train.experiments.forecasts import Model


def waves(epochs: int = 4) -> Experiment:
    return named("waves", model=Model(hidden=2), batch=16, epochs=epochs, data=Waves(count=60, window=8))


def trained(folder: Path, callbacks: Sequence[Callback] = (), console: Console | None = None) -> Path:
    """Train a run in a folder, or resume it."""
    place = {"resume" if folder.exists() else "out": folder}
    return run.train(waves(), console=console or Console(quiet=True), callbacks=callbacks, **place)
