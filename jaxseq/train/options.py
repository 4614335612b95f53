"""The command line of a training, built by tyro from the recipes: the only file that knows tyro's grammar."""

from __future__ import annotations

import inspect
import io
import math
import re
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

import tyro

from jaxseq.common.errors import UsageError
from jaxseq.train import run_folder as runlog
from jaxseq.train.experiments import EXPERIMENTS, from_config, named
from jaxseq.train.experiments.base import Recipe
from jaxseq.train.processes import Processes

DEFAULT = "aapl"
PROGRAM, FORECAST, SAMPLE = "python -m jaxseq.train", "python -m jaxseq.forecast", "python -m jaxseq.sample"
DESCRIPTION = """Train a recurrent network, judge it against naive forecasts, leave a run folder behind.

Without an experiment: aapl. See an experiment's fields with `python -m jaxseq.train aapl --help`."""
E_ = TypeVar("E_", bound=Recipe)
D_ = TypeVar("D_")


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
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(_grammar(base), args=words, prog=PROGRAM, description=DESCRIPTION)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _usage_error(stop, complaint.getvalue()) from None


@dataclass(frozen=True)
class AskedForecast(Generic[D_]):
    """What the user asked for."""

    run: Annotated[Path, tyro.conf.Suppress]
    """The run's folder."""
    data: D_
    horizon: int | None = None
    """Steps to forecast; None for what the run was trained for. More of them need a run with --task iterated."""
    out: Path | None = None
    """The CSV; the picture stands beside it. None for future.csv in the run's folder."""

    def __post_init__(self) -> None:
        if self.horizon is not None and self.horizon < 1:
            raise UsageError(f"horizon must be at least 1; it is {self.horizon}")
        if self.out is not None and self.out.suffix != ".csv":
            raise UsageError(f"--out {self.out} must end in .csv")


def parse_forecast(words: list[str]) -> AskedForecast[Any]:
    """What the words of `python -m jaxseq.forecast` ask for; the run says which fields the data have.

    Raises `UsageError` for a run that is not there, an unknown field or a value that cannot be.
    """
    named_run = bool(words) and not words[0].startswith("-")
    if not named_run and not {"-h", "--help"} & set(words):
        raise UsageError(f"which run? say {FORECAST} runs/aapl-0001")
    folder = Path(words[0] if named_run else "RUN")
    data = saved_experiment(folder).data if named_run else EXPERIMENTS[DEFAULT].data
    asked: Any = AskedForecast
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                asked[type(data)],
                args=words[named_run:],
                default=asked(folder, data),
                prog=f"{FORECAST} RUN",
                description="Forecast beyond the end of a run's data, or of data given in their place.",
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _usage_error(stop, complaint.getvalue(), f"{FORECAST} RUN --help") from None


O_ = TypeVar("O_")


def parsed(options: type[O_], program: str, words: list[str]) -> O_:
    """What the words of a command with these options ask for; for --help, tyro prints it and exits.

    Raises `UsageError` for an unknown field or a value that cannot be.
    """
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(options, args=words, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _usage_error(stop, complaint.getvalue(), f"{program} --help") from None


MOST_SAMPLES, MOST_BARS, MOST_SWEEPS = 1000, 200, 10_000
SLOWEST, FASTEST = 10, 1000
"""Quarter notes a minute."""
SAMPLE_DESCRIPTION = """Compose with a run of chorales: MIDI, MusicXML, sound and pictures of each piece, beside Bach's own.

  python -m jaxseq.sample runs/jsb-chords-0001                              sixteen pieces of sixteen bars
  python -m jaxseq.sample RUN --prime chorale_305 --prime-bars 4            go on after the first bars of a piece
  python -m jaxseq.sample RUN --melody tune.mid --count 4                   harmonise a soprano
  python -m jaxseq.sample RUN --prime chorale_305 --keep soprano,bass       inner voices; RUN is one of fill or jsb-fill
  python -m jaxseq.sample RUN --prime piece.mid --redo 5-8                  four bars anew; RUN likewise"""


@dataclass(frozen=True)
class AskedSample:
    """What the user asked for."""

    run: tyro.conf.Positional[Path]
    """The folder of a run of chorales."""
    count: int = 16
    """Pieces to compose."""
    bars: int | None = None
    """Bars of each piece, a prime's among them; None for 16, or for those of what is given by --melody, --keep, --redo."""
    temperature: float = 1.0
    """Divides the logits: below 1 likelier notes come more often, above 1 less often."""
    top_k: int | None = None
    """Draw from the k likeliest notes alone."""
    top_p: float = 1.0
    """Draw from the fewest likeliest notes whose probabilities reach p (nucleus sampling)."""
    parallels: Literal["allow", "avoid"] = "allow"
    """avoid: never draw a note that makes parallel fifths, octaves or unisons with a voice above."""
    seed: int = 0
    """The same seed gives the same music."""
    prime: str = "none"
    """A piece of the run's data by name, or a MIDI file of four voices: what is gone on with, or what --keep and --redo
    change. none begins from nothing."""
    prime_bars: int = 2
    """Bars of --prime that are given."""
    melody: str | None = None
    """A soprano to harmonise: a MIDI file, or a piece of the run's data."""
    keep: str | None = None
    """Voices of --prime that stay, with commas: soprano,bass. The others are composed anew."""
    redo: str | None = None
    """Bars of --prime to compose anew, as 5-8 or 5; the rest stays."""
    sweeps: int = 128
    """Times that a model that fills gaps goes over its notes."""
    bpm: float = 84.0
    """Quarter notes a minute, for MIDI and sound."""
    score: bool = True
    """Engrave a score (needs jaxseq[score])."""
    out: Path | None = None
    """The folder; None for the next number in the run's folder, say RUN/samples-0001."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("count", self.count, MOST_SAMPLES),
            ("bars", self.bars, MOST_BARS),
            ("prime-bars", self.prime_bars, MOST_BARS),
            ("sweeps", self.sweeps, MOST_SWEEPS),
        ):
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"--{name} must be from 1 to {most}; it is {value}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"--temperature must be a finite number above 0; it is {self.temperature:g}")
        if not SLOWEST <= self.bpm <= FASTEST:
            raise UsageError(f"--bpm must be from {SLOWEST} to {FASTEST}; it is {self.bpm:g}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"--top-k must be at least 1; it is {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p must be above 0 and at most 1; it is {self.top_p:g}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to {2**32 - 1}; it is {self.seed}")


def parse_sample(words: list[str]) -> AskedSample:
    """What the words of `python -m jaxseq.sample` ask for; for --help, tyro prints it and exits.

    Raises `UsageError` for an unknown field or a value that cannot be.
    """
    if not words:
        raise UsageError(f"which run? say {SAMPLE} runs/jsb-chords-0001")
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(AskedSample, args=words, prog=SAMPLE, description=SAMPLE_DESCRIPTION)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _usage_error(stop, complaint.getvalue(), f"{SAMPLE} --help") from None


def saved_experiment(folder: Path) -> Recipe:
    """The experiment of a run. Raises `UsageError` if there is no such run."""
    return from_config(runlog.read_config(folder), str(folder / runlog.CONFIG))


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


def _usage_error(stop: SystemExit, box: str, help_: str = f"{PROGRAM} aapl --help") -> UsageError:
    """The recipe's own complaint, which tyro catches, or else tyro's, which is a box of many lines, as one line."""
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, UsageError):
            return cause
        cause = cause.__context__
    lines = [line.strip("|│ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:-1]]
    said, _, rest = "\n".join("" if set(line) <= set("-─") else line for line in lines).strip().partition("\n\n")
    meant = re.search(r"^--[\w.-]+", rest, re.MULTILINE) if rest.startswith("Perhaps") else None
    hint = f"perhaps {meant[0]}" if meant else f"see {help_}"
    return UsageError(f"{said.replace(chr(10), ' ').rstrip('.')}: {hint}")


def _value_of(flag: str, words: list[str]) -> str | None:
    """The value of a flag, as `--flag value` or `--flag=value`."""
    for number, word in enumerate(words):
        if word == flag and number + 1 < len(words) and not words[number + 1].startswith("-"):
            return words[number + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None
