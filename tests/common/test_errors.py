"""Errors make their sentence from their fields, and survive the way back from a worker process."""

import pickle

import pytest

from jaxseq.checkpoint.records import DamagedError
from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.data.download import FetchError
from jaxseq.data.yahoo.client import DownloadError

EVERY_KIND = [
    UsageError("a whole sentence"),
    UsageError("too few", where="--epochs", got=0, needed="at least 1"),
    FetchError("no answer", "offline"),
    DownloadError("no rows", "offline"),
    DamagedError("step 3", ["params: sha256 differs"]),
]


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


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
