"""Text for messages stays on one line of bounded length."""

from pathlib import Path

import numpy as np
import pytest

from jaxseq.common import text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a b", "'a b'"),
        ("two\nlines", r"'two\nlines'"),
        (3, "3"),
        (np.float64(0.5), "0.5"),
        (None, "None"),
        (Path("runs"), "runs"),
        (Path("two\nlines"), r"two\nlines"),
    ],
)
def test_a_value_is_shown_on_one_line(value, words):
    assert text.shown(value) == words


def test_a_long_value_is_cut():
    assert text.shown("x" * 100, 10) == "'xxxxxxxx…"
    assert len(text.shown(list(range(100)))) == 60


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 rows"), (1, "1 row"), (2000, "2,000 rows"), (np.int64(1), "1 row")]
)
def test_a_count_has_its_noun(count, words):
    assert text.counted(count, "row") == words


def test_the_first_line_of_an_error_is_its_message_or_its_class():
    assert text.first_line(ValueError("one\ntwo")) == "one"
    assert text.first_line(ValueError()) == "ValueError"
