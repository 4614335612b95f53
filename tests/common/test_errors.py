"""Errors make their sentence from their fields, and survive the way back from a worker process."""

import ast
import builtins
import pickle
from pathlib import Path

import pytest

from jaxseq.common import command_line, errors
from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.common.sealed import DamagedError
from jaxseq.data import download
from jaxseq.data.tables.cells import NotANumber
from jaxseq.data.yahoo import client
from jaxseq.sweep.planned import PrunedError
from jaxseq.train.callbacks import StopTraining

PACKAGE = Path(errors.__file__).parents[1]
EXAMPLES = [
    UsageError("a whole sentence"),
    UsageError("too few", where="--epochs", got=0, needed="at least 1"),
    errors.Ended("stopped"),
    errors.Interrupted(Path("run"), 3, 130),
    errors.Stopped(143, "the same command"),
    errors.Undecided(3, 130, "the same command"),
    errors.Detached(["7_0", "8"], 130, "the same command"),
    errors.Lost("no heartbeat"),
    errors.WorkerKilled("the same command"),
    command_line._RefusedPathError(),
    download.FetchError("no answer", "offline", "connect"),
    download._Failure("status", "HTTP 404"),
    client.DownloadError("no rows", "offline"),
    client._Failure("server", "HTTP 500"),
    NotANumber("row 3: no number", 3),
    DamagedError("step 3", ["params: sha256 differs", "params: missing"]),
    PrunedError("worse than the median"),
    StopTraining("good enough"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)
    assert again.args == error.args


def exception_classes():
    """Module and name of every exception that the package defines."""
    bases = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(("jaxseq", *path.relative_to(PACKAGE).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[module, node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}

    exceptions = {name for name, value in vars(builtins).items() if isinstance(value, type) and "Error" in name}
    exceptions |= {"BaseException", "Exception"}
    # Until nothing is added: a base may be defined after its subclass.
    count = 0
    while count < len(exceptions):
        count = len(exceptions)
        exceptions |= {name for (_, name), names in bases.items() if names & exceptions}
    return {place for place in bases if place[1] in exceptions}


def test_every_error_of_the_package_is_among_the_examples():
    examples = {(type(error).__module__, type(error).__name__) for error in EXAMPLES}
    assert exception_classes() == examples | {("jaxseq.common.errors", "Portable")}


@pytest.mark.parametrize("where", ["--epochs", None])
@pytest.mark.parametrize("got", [0, None, "zero", ABSENT])
@pytest.mark.parametrize("needed", ["at least 1", ABSENT])
def test_a_sentence_names_the_place_and_both_values(where, got, needed):
    sentence = str(UsageError("too few", where=where, got=got, needed=needed))
    assert sentence.startswith("too few" if where is None else "--epochs: too few")
    assert (f"got {got!r}" in sentence) is (got is not ABSENT)
    assert ("needed at least 1" in sentence) is (needed is not ABSENT)
    assert sentence.count("\n") == 0


def test_a_long_value_is_cut():
    assert len(str(UsageError("too long", got="x" * 10_000))) < 100
