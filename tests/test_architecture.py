"""Imports point down, and each outside package has one door."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxseq"
FLOORS = [
    {"errors", "arrays"},
    {"music", "lock", "formats", "processes", "entry", "signals"},
    {"cells", "consuming", "data", "forecasting", "padding"},
    {"recurrence", "convert", "heads"},
    {"normalised"},
    {"models", "tasks", "intervals"},
    {"composers"},
    {"rollnet"},
    {"experiments", "fit", "judge", "rollout", "compose"},
    {"checkpoint", "mesh", "runlog", "plots", "screen", "vanishing"},
    {"job", "command"},
    {"run", "loop"},
    {"kinds"},
    {"training"},
    {"commission"},
    {"study", "composition", "pool"},
    {"composing", "cluster"},
    {"train", "forecast", "sample", "benchmark", "report", "sweep"},
]
DOORS = {
    "orbax": {"checkpoint"},
    "flax": {"models", "intervals", "composers", "rollnet", "benchmark"},
    "matplotlib": {"plots"},
    "tyro": {"command", "checkpoint", "benchmark", "report"},
    "pandas": {"data", "judge", "kinds", "runlog", "plots", "forecasting", "study", "forecast", "report", "sweep"},
    "optax": {"experiments", "fit", "benchmark"},
    "torch": {"benchmark"},
    "yfinance": {"data"},
    "curl_cffi": {"data"},
    "pyarrow": {"data"},
    "statsmodels": {"forecasting"},
    "mido": {"music"},
    "markdown_it": {"report"},
    "verovio": {"music"},
    "resvg_py": {"music"},
    "submitit": {"cluster"},
}
NO_JAX = {"music", "data", "forecasting", "judge", "runlog", "plots", "screen", "errors"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent == PACKAGE and path.stem == "__init__":
            continue
        yield path, path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(package, first module below jaxseq or None) for every import of a file, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            yield package, rest[0] if package == "jaxseq" and rest else None


def floor(room):
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} is on no floor"
    return found[0]


@pytest.mark.parametrize(("path", "room"), list(modules()), ids=lambda value: str(getattr(value, "stem", value)))
def test_imports_point_down(path, room):
    for package, other in imports(path):
        if package == "jaxseq" and other not in (None, room, "__version__"):
            assert floor(other) < floor(room), f"{path.name} imports {other}, which is not below it"


@pytest.mark.parametrize(("path", "room"), list(modules()), ids=lambda value: str(getattr(value, "stem", value)))
def test_every_package_has_its_door(path, room):
    for package, _ in imports(path):
        assert package not in DOORS or room in DOORS[package], f"{path.name} imports {package}"
        assert package != "jax" or room not in NO_JAX, f"{path.name} imports jax"


def test_no_module_is_named_like_one_of_the_standard_library():
    import sys

    assert not {path.stem for path, _ in modules()} & set(sys.stdlib_module_names)
