"""The command line of a training, built by tyro from the recipes: the only file that knows tyro's grammar."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union

import tyro

from jaxseq.common import command_line
from jaxseq.common.errors import UsageError
from jaxseq.train import run_folder
from jaxseq.train.experiments import EXPERIMENTS, from_config, named
from jaxseq.train.experiments.base import Recipe
from jaxseq.train.processes import Processes

DEFAULT = "aapl"
PROGRAM = "python -m jaxseq.train"
DESCRIPTION = """Train a recurrent network, judge it against naive forecasts, leave a run folder behind.

Without an experiment: aapl. See an experiment's fields with `python -m jaxseq.train aapl --help`."""
E_ = TypeVar("E_", bound=Recipe)


@dataclass(frozen=True)
class Asked(Generic[E_]):
    """What the user asked for."""

    experiment: Annotated[E_, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the new run; without it the next number, say runs/aapl-0001."""
    resume: Path | None = None
    """Go on with the run in this folder, bit for bit as if it had not stopped; takes --epochs, --patience and
    --on-nonfinite."""
    seeds: int = 1
    """Runs that differ in their seed alone, from --seed on; the result is given with its spread."""
    backtest: int = 1
    """Folds of a backtest: as many blocks of the test part, each forecast by a model trained on all that is before it."""
    classical: bool = False
    """Fit exponential smoothing and theta to every test window, too (needs statsmodels; 0.1 s a window)."""

    mesh: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        if self.mesh.processes != 1 and (self.seeds > 1 or self.backtest > 1):
            raise UsageError("--mesh.processes train one run together: leave out --seeds and --backtest")
        for name, value in {"seeds": self.seeds, "backtest": self.backtest}.items():
            if value < 1:
                raise UsageError(f"{name} must be at least 1; it is {value}")
        if self.resume is not None and (self.seeds > 1 or self.backtest > 1):
            raise UsageError("--resume goes on with one run; many go on by their --out folder, typed again")


def parse(words: list[str]) -> Asked[Recipe]:
    """What the words of a command line ask for; for --help, tyro prints it and exits.

    Raises `UsageError` for an unknown experiment or field, values that cannot be, or a run that cannot be resumed.
    """
    resume = _value_of("--resume", words)
    base = {name: experiment for name, experiment in EXPERIMENTS.items()}
    name = words[0] if words and not words[0].startswith("-") else None
    if name is not None:
        named(name)
    if resume is not None:
        saved = saved_experiment(Path(resume))
        if name not in (None, saved.name):
            raise UsageError(f"{resume} is a run of {saved.name}, not of {name}")
        if _value_of("--out", words) is not None:
            raise UsageError("--out names a new run, --resume goes on with an old one: take one of them")
        base[saved.name], name, words = saved, saved.name, [saved.name, *words[name is not None :]]
    elif name is None and not {"-h", "--help"} & set(words):
        words = [DEFAULT, *words]
    return command_line.parse(
        _grammar(base), words, program=PROGRAM, description=DESCRIPTION, help_command=f"{PROGRAM} aapl --help"
    )


def saved_experiment(folder: Path) -> Recipe:
    """The experiment of a run. Raises `UsageError` if there is no such run."""
    return from_config(run_folder.read_config(folder), str(folder / run_folder.CONFIG))


def _grammar(base: dict[str, Recipe]) -> Any:
    """One subcommand for each experiment, with its recipe as the default and its docstring as the help."""
    asked: Any = Asked
    annotated: Any = Annotated
    either: Any = Union
    choices = []
    for name, experiment in base.items():
        help_and_default = tyro.conf.subcommand(name, default=Asked(experiment), description=inspect.getdoc(experiment))
        choices.append(annotated[asked[type(experiment)], help_and_default])
    return either[tuple(choices)]


def _value_of(flag: str, words: list[str]) -> str | None:
    """The value of a flag, as `--flag value` or `--flag=value`."""
    for number, word in enumerate(words):
        if word == flag and number + 1 < len(words) and not words[number + 1].startswith("-"):
            return words[number + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None
