"""Imports point down, and each outside package has one door."""

import ast
import functools
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "jaxseq"
FLOORS = (
    {"report"},
    {"forecast", "score", "estimator", "export", "sample", "sweep", "benchmark"},
    {"train"},
    {"forecasting", "music"},
    {"nn"},
    {"data", "checkpoint", "cells"},
    {"common"},
)
DOORS = {
    "curl_cffi": {"data/yahoo"},
    "filelock": {"common/lock"},
    "holidays": {"data/calendar"},
    "IPython": {"train/notebook"},
    "flax": {"nn", "music/networks", "benchmark"},
    "markdown_it": {"common/html_page"},
    "matplotlib": {
        "common/figures",
        "forecasting",
        "music/plots",
        "train/plots",
        "report/plots",
        "sweep/plots",
        "benchmark/plots",
    },
    "mido": {"music/midi"},
    "narwhals": {"data/tables/frame"},
    "onnx": {"export"},
    "optax": {"train", "benchmark"},
    "mlflow": {"train/loggers/mlflow_log"},
    "optuna": {"sweep/search", "sweep/search_journal", "sweep/sealed_journal", "sweep/trial_values", "sweep/pruning"},
    "orbax": {"checkpoint"},
    "pandas": {
        "benchmark/panel_memory",
        "benchmark/panel_peers",
        "data",
        "estimator",
        "forecasting",
        "train",
        "report",
        "sweep",
        "forecast",
        "score",
        "common/csv_tables",
        "common/figures",
    },
    "pyarrow": {"data/tables/parquet"},
    "resvg_py": {"music/notation/engrave"},
    "safetensors": {"export/formats"},
    "sklearn": {"estimator"},
    "statsforecast": {"benchmark/panel_peers", "forecasting/classical"},
    "statsmodels": set(),
    "submitit": {"sweep/slurm"},
    "tensorboardX": {"train/loggers/tensorboard_log"},
    "torch": {"benchmark"},
    "trackio": {"train/loggers/trackio_log"},
    "tyro": {
        "common/command_line",
        "train/experiments/base",
        "train/options",
        "sample/options",
        "sample/harmonise",
        "forecast",
        "score",
        "export",
        "checkpoint",
        "benchmark",
        "report",
    },
    "verovio": {"music/notation/engrave"},
    "wandb": {"train/loggers/wandb_log"},
    "yfinance": {"data/yahoo"},
}
"""The rooms, or the modules, that may import a package."""
WITHOUT_JAX = ("data", "common/errors", "common/figures", "music/corpora", "music/evaluation", "music/midi")
MODULES = [path.relative_to(PACKAGE).with_suffix("") for path in sorted(PACKAGE.rglob("*.py"))]
"""All of them are read in one test of each rule: a test of each would take longer to start than to check."""


@functools.cache
def parsed(module):
    return ast.parse((PACKAGE / module).with_suffix(".py").read_text())


def imports(module):
    """Dotted names of what a module imports, those within functions too."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(room):
    (number,) = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    return number


def within(module, places):
    """Whether a module is one of the places, or lies in one of them."""
    return any((module / "_").is_relative_to(place) for place in places)


def upward_imports(module):
    room = module.parts[0]
    if room == "__init__":
        return
    for name in imports(module):
        package, *rest = name.split(".")
        if package == "jaxseq" and rest[0] not in (room, "__version__") and floor(rest[0]) <= floor(room):
            yield f"{module} imports {name}, which is not below it"


def imports_beside_the_door(module):
    for name in imports(module):
        package = name.partition(".")[0]
        if package in DOORS and not within(module, DOORS[package]):
            yield f"{module} imports {package}"
        if package == "jax" and within(module, WITHOUT_JAX):
            yield f"{module} imports jax"


def false_claims(module):
    """Of doors a claim can be checked; of what a file "knows" it cannot, so no docstring makes it."""
    docstring = ast.get_docstring(parsed(module)) or ""
    for package in re.findall(r"[Oo]nly door to (\w+)", docstring):
        if DOORS[package] != {str(module)}:
            yield f"{package} has other doors than {module}"
    for claim in re.findall(r"[Oo]nly (?:file|module|place|room)\b", docstring):
        yield f"{module}: no test holds that it is the {claim}"


def faults(rule):
    """What a rule finds in all modules, one on a line."""
    assert len(MODULES) > 300
    return "\n".join(fault for module in MODULES for fault in rule(module))


def test_imports_point_down():
    assert not faults(upward_imports)


def test_every_package_has_its_door():
    assert not faults(imports_beside_the_door)


def test_a_module_that_calls_itself_the_only_one_is_it():
    assert not faults(false_claims)


def test_every_room_stands_on_one_floor():
    rooms = {module.parts[0] for module in MODULES} - {"__init__"}
    assert sorted(rooms) == sorted(room for rooms in FLOORS for room in rooms)


def test_no_module_is_named_like_one_of_the_standard_library():
    assert not {module.parts[0] for module in MODULES} & set(sys.stdlib_module_names)
