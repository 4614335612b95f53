"""The command line of `python -m jaxseq.train`, which tyro builds from the experiments."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union

import tyro

from jaxseq.common import command_line
from jaxseq.common.checks import MOST_RUNS, count
from jaxseq.common.errors import UsageError
from jaxseq.forecasting.mixture import Combination
from jaxseq.train import auto_options, loggers, preparation
from jaxseq.train.experiments import EXPERIMENTS, named
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.processes import Processes
from jaxseq.train.saved_experiment import saved_experiment

DEFAULT = "aapl"
"""The experiment that runs if none is named."""
PROGRAM = "python -m jaxseq.train"
DESCRIPTION = f"""
    Train a recurrent network, judge it against baselines, and write a run folder.

    {PROGRAM} [EXPERIMENT] [--field VALUE ...]

    Without an experiment: {DEFAULT}. List the fields of an experiment, with duration and expected result:

    {PROGRAM} {DEFAULT} --help
    """
LOG = (
    f"Copy every epoch to these tools, separated by commas: {', '.join(loggers.TOOLS)}. Each is an extra, as in: "
    'pip install "jaxseq[tensorboard]".'
)
"""The help of `--log`."""
WIDTH, INDENT = 79, "  "
"""Columns of a help text, and the space before each of its lines."""
ENSEMBLE = "--ensemble"
ALONE = {ENSEMBLE: "mean", auto_options.OPTION: "5m"}
"""Options that may stand without a value, each with the one that it then has."""
OVERVIEW = frozenset({"-h", "--help", "--tyro-print-completion", "--tyro-write-completion"})
"""Options that concern all experiments unless one is named before them."""

AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)


@dataclass(frozen=True)
class Options(Generic[AnyExperiment]):
    """Options of `python -m jaxseq.train`. Raises `UsageError` for options that exclude each other."""

    # The empty name drops a prefix: --epochs, not --experiment.epochs.
    experiment: Annotated[AnyExperiment, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder of the new run; None takes the next number, such as runs/aapl-0001."""
    resume: Path | None = None
    """Resume the run in this folder, bit for bit; --epochs, --on-nonfinite and early stopping may change."""
    from_epoch: int | None = None
    """With --resume: resume from this saved epoch, and train the later ones again; 0 starts anew. None takes the newest."""
    warm_start: Path | None = None
    """Begin with the parameters of the finished run in this folder, of the same network, and go on with these rows."""
    refit: bool = False
    """Train the chosen epochs once more on all rows, into RUN/refit: forecasts take it, the judgement stays. With --resume,
    a finished run gets one, or an interrupted one resumes."""
    seeds: int = 1
    """Number of runs that differ in their seed alone, from --seed on; reports mean and spread."""
    ensemble: Combination | None = None
    """With --seeds: judge the mean (--ensemble alone) or the median of the runs' forecasts as one, beside each of them; the
    study's folder then forecasts with all of them."""
    auto: str | None = None
    """Choose target, scale, transform, window and start by validation, in a time (--auto 90s; alone: 5m); fields that are
    given stay."""
    together: bool = False
    """With --seeds: train the seeds in one compiled epoch. Results differ from those of one after the other in the last
    bits; on a CPU it pays for a few units (docs/training.md)."""
    backtest: int = 1
    """Folds of a backtest: blocks of the test part, each forecast by a model trained on all rows before it."""
    classical: bool = False
    """Compare forecasts with AutoARIMA, AutoETS, AutoTheta, MSTL and Croston on at most 50 windows of a part, too (minutes;
    pip install "jaxseq[classical]")."""
    explain: bool = False
    """Add to the report the importance of covariates and lags, residuals by series, step and season, and pictures of the
    worst forecasts. With --resume, a finished run is explained."""
    compile_cache: bool = True
    """Keep compiled programs in the user's cache folder for the next run; $JAX_COMPILATION_CACHE_DIR names another one."""

    log: Annotated[str | None, tyro.conf.arg(help=LOG)] = None

    mesh: Processes = field(default_factory=Processes)
    """Processes that train one run together."""

    def __post_init__(self) -> None:
        loggers.check_names(self.log)
        if self.from_epoch is not None:
            if self.resume is None:
                raise UsageError("no run resumes", where="--from-epoch", got=self.from_epoch, needed="--resume RUN")
            if self.from_epoch < 0:
                raise UsageError("no epoch", where="--from-epoch", got=self.from_epoch, needed="at least 0")
        counts = {"--seeds": self.seeds, "--backtest": self.backtest}
        count(most=MOST_RUNS, where=None, **counts)

        if self.together and self.seeds == 1:
            raise UsageError("trains several seeds", where="--together", got="--seeds 1", needed="--seeds 2 or more")
        if self.classical and not isinstance(self.experiment, ForecastExperiment):
            raise UsageError(
                "compares forecasts",
                where="--classical",
                got=self.experiment.name,
                needed="an experiment that forecasts",
            )
        if self.refit:
            self._check_refit()
        if self.ensemble is not None:
            self._check_ensemble()
        if self.warm_start is not None:
            self._check_warm_start()
        if self.auto is not None:
            self._check_auto()
        if self.seeds == 1 and self.backtest == 1:
            return
        if self.mesh.processes != 1:
            raise UsageError(
                "several processes train a single run; leave out --seeds and --backtest", where="--mesh.processes"
            )
        if self.resume is not None:
            raise UsageError(
                "takes a single run; to resume several, type their command again with its --out", where="--resume"
            )

    def _check_warm_start(self) -> None:
        """Raise `UsageError` for a training that is not that of a single new run."""
        others = {"--resume": self.resume is not None, "--seeds": self.seeds > 1, "--backtest": self.backtest > 1}
        for name, is_given in others.items():
            if is_given:
                raise UsageError("begins one new run", where="--warm-start", got=name, needed="a single new run")

    def _check_auto(self) -> None:
        """Raise `UsageError` for no time, and for a training whose preparation is chosen already."""
        auto_options.seconds_of(self.auto or "")
        preparation.check(self.experiment, auto_options.OPTION)
        others = {"--resume": self.resume, "--warm-start": self.warm_start}
        for name, folder in others.items():
            if folder is not None:
                raise UsageError(
                    "chooses for a new run", where=auto_options.OPTION, got=f"{name} {folder}", needed="--out"
                )
        if self.mesh.processes != 1:
            raise UsageError(
                "takes one process",
                where="--mesh.processes",
                got=self.mesh.processes,
                needed=f"1 with {auto_options.OPTION}",
            )

    def _check_ensemble(self) -> None:
        """Raise `UsageError` for a training that leaves no runs of one split behind, and for a median that there is not."""
        if self.ensemble == "median" and isinstance(self.experiment, ChoraleExperiment):
            raise UsageError("no mixture of distributions", where=ENSEMBLE, got=self.ensemble, needed="mean")
        if self.seeds == 1:
            raise UsageError("combines several seeds", where=ENSEMBLE, got="--seeds 1", needed="--seeds 2 or more")
        if self.backtest > 1:
            raise UsageError(
                "combines the runs of one split", where=ENSEMBLE, got=f"--backtest {self.backtest}", needed="no folds"
            )

    def _check_refit(self) -> None:
        """Raise `UsageError` for a training that leaves neither a single run nor an ensemble behind."""
        needed = "a single run, or --ensemble"
        if self.seeds > 1 and self.ensemble is None:
            raise UsageError("trains one run again", where="--refit", got=f"--seeds {self.seeds}", needed=needed)
        if self.backtest > 1:
            raise UsageError("trains one run again", where="--refit", got=f"--backtest {self.backtest}", needed=needed)
        if self.mesh.processes != 1:
            raise UsageError(
                "takes one process", where="--mesh.processes", got=self.mesh.processes, needed="1 with --refit"
            )


@dataclass(frozen=True)
class OptionsWithoutForecasts(Options[AnyExperiment], Generic[AnyExperiment]):
    """Options in the help of an experiment that forecasts no series: without those that it refuses."""

    refit: Annotated[bool, tyro.conf.Suppress] = False
    ensemble: Annotated[Combination | None, tyro.conf.Suppress] = None
    auto: Annotated[str | None, tyro.conf.Suppress] = None
    backtest: Annotated[int, tyro.conf.Suppress] = 1
    classical: Annotated[bool, tyro.conf.Suppress] = False
    explain: Annotated[bool, tyro.conf.Suppress] = False


@dataclass(frozen=True)
class OptionsOfChorales(OptionsWithoutForecasts[AnyExperiment], Generic[AnyExperiment]):
    """Options in the help of an experiment on chorales, whose runs are combined, too."""

    ensemble: Combination | None = None
    """With --seeds: judge the runs as one beside each of them, by the mean of their probabilities, also over the
    transpositions that they were trained on (--ensemble alone; there is no median)."""


def parse(words: list[str]) -> Options[Experiment]:
    """Return the options that the words of a command line stand for; --help prints and exits.

    Raises `UsageError` for an unknown experiment or field, an invalid value, or a run that cannot be resumed.
    """
    words = _with_values(words)
    name = _leading_name(words)
    experiment = named(DEFAULT if name is None else name)
    fields = words if name is None else words[1:]

    # Read before tyro parses the words, because the run decides which fields there are.
    folder = _value_of("--resume", words)
    if folder is not None:
        # The saved experiment replaces the one of the table: options change its values.
        experiment = saved_experiment(folder)
        _check_resume(folder, experiment, name, words)
    elif name is None and _asks_for_help(words):
        return _show_overview(words)

    return _parse_fields(experiment, fields)


def _with_values(words: list[str]) -> list[str]:
    """Return the words with a value after each option that stands alone."""
    filled = []
    for number, word in enumerate(words):
        filled.append(word)
        following = words[number + 1 : number + 2]
        if word in ALONE and (not following or following[0].startswith("-")):
            filled.append(ALONE[word])
    return filled


def given_fields(words: list[str]) -> frozenset[str]:
    """Return the fields of the experiment that a command line names, such as "data.target"."""
    fields = set()
    for word in words:
        if word.startswith("--"):
            flag = word.removeprefix("--").partition("=")[0].replace("-", "_")
            # A switch that is turned off.
            part, dot, name = flag.rpartition(".")
            fields.add(f"{part}{dot}{name.removeprefix('no_')}")
    return frozenset(fields)


def _leading_name(words: list[str]) -> str | None:
    """Return the experiment that a command line names first; None if it begins with an option."""
    if not words or words[0].startswith("-"):
        return None
    return words[0]


def _check_resume(folder: str, saved: Experiment, name: str | None, words: list[str]) -> None:
    """Raise `UsageError` for an experiment or an output folder that contradicts the run to resume."""
    if name not in (None, saved.name):
        raise UsageError("is a run of another experiment", where=folder, got=name, needed=saved.name)
    if _value_of("--out", words) is not None:
        raise UsageError("--out is for a new run, --resume for an existing one; leave out one of them")


def _parse_fields(experiment: Experiment, words: list[str]) -> Options[Experiment]:
    """Return the options for one experiment, whose values are the defaults."""
    form: Any = Options
    # They are refused by name all the same, with the reason.
    if _asks_for_help(words) and not isinstance(experiment, ForecastExperiment):
        form = OptionsWithoutForecasts
        if isinstance(experiment, ChoraleExperiment):
            form = OptionsOfChorales
    return command_line.parse(
        form[_typed(experiment)],
        words,
        program=f"{PROGRAM} {experiment.name}",
        description=_filled(experiment.about),
        default=form(experiment),
    )


def _asks_for_help(words: list[str]) -> bool:
    return not OVERVIEW.isdisjoint(word.partition("=")[0] for word in words)


def _show_overview(words: list[str]) -> Options[Experiment]:
    """Print the list of all experiments, or the completion of their options, and exit."""
    # Types that are made at run time are no types to a checker.
    form: Any = Options
    annotated: Any = Annotated
    union: Any = Union
    subcommands = []
    for experiment in EXPERIMENTS.values():
        default = tyro.conf.subcommand(experiment.name, default=Options(experiment), description=_summary(experiment))
        subcommands.append(annotated[form[_typed(experiment)], default])

    return command_line.parse(
        union[tuple(subcommands)],
        words,
        program=PROGRAM,
        description=_filled(DESCRIPTION),
        default=Options(EXPERIMENTS[DEFAULT]),
    )


def _typed(experiment: Experiment) -> Any:
    """Return an experiment's class with its type parameters, by which tyro finds the fields of data and network."""
    experiment_class: Any = type(experiment)
    parameters = getattr(experiment_class, "__parameters__", ())
    if not parameters:
        return experiment_class
    # A class is generic in its data set, or in its data set and its network.
    arguments = (type(experiment.data), type(experiment.model))[: len(parameters)]
    return experiment_class[arguments]


def _filled(text: str) -> str:
    """Return the paragraphs of a help text in lines of `WIDTH`; those that show a command keep their lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    filled = [
        paragraph if paragraph.startswith(PROGRAM) else textwrap.fill(paragraph, WIDTH - len(INDENT))
        for paragraph in paragraphs
    ]
    # tyro joins lines that begin with a letter, and then does not wrap them: an indent keeps them apart.
    return textwrap.indent("\n\n".join(filled), INDENT)


def _summary(experiment: Experiment) -> str:
    """Return the first line of an experiment's help."""
    return inspect.cleandoc(experiment.about).partition("\n")[0]


def _value_of(flag: str, words: list[str]) -> str | None:
    """Return the value of a flag, given as `--flag value` or `--flag=value`."""
    for number, word in enumerate(words):
        if word.startswith(flag + "="):
            return word.partition("=")[2]
        if word == flag and number + 1 < len(words) and not words[number + 1].startswith("-"):
            return words[number + 1]
    return None
