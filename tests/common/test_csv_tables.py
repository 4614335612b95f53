"""Tables keep every text and number, and a spreadsheet finds no formula in them."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.common import csv_tables

FORMULAS = (
    "=1+1",
    "@sum",
    "+x",
    "-x",
    "\tx",
    "\rx",
    "'=x",
    "''-x",
    "=",
    "-",
    "+-1",
    "=cmd|' /C calc'!A1",
    "-1e",
    "+1_0",
)
PLAIN = ("a", "'a", "'", "a=b", " =x", "-1", "+1.5e-3", "-.5", "1-2")


def cells(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_written_as_text_and_read_as_it_was(text, tmp_path):
    frame = pd.DataFrame({text: [text, "a"], "number": [-1.5, 2.0]})
    header, first, _ = cells(csv_tables.content(frame))
    assert header[0] == first[0] == f"'{text}" and first[1] == "-1.5"
    csv_tables.write(tmp_path / "t.csv", frame)
    pd.testing.assert_frame_equal(csv_tables.read(tmp_path / "t.csv"), frame)


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_are_left_alone(text):
    frame = pd.DataFrame({"name": [text], "number": [-np.inf], "date": pd.to_datetime(["2020-01-01"])})
    assert cells(csv_tables.content(frame))[1] == [text, "-inf", "2020-01-01"]


@given(st.lists(st.text(st.sampled_from("'=+-@\t\r1a, \"\n")), min_size=1, max_size=5))
def test_every_text_comes_back(texts):
    frame = pd.DataFrame({"name": texts})
    content = csv_tables.content(frame)
    read = csv_tables.read(io.BytesIO(content), dtype=str, keep_default_na=False, skip_blank_lines=False)
    assert read["name"].tolist() == texts
    for (cell,) in cells(content)[1:]:
        assert not cell.startswith(("=", "@", "\t", "\r")) and (cell[:1] not in "+-" or not cell or float(cell) < 1e99)


def test_predictions_of_series_with_any_names_are_read_as_they_were(tmp_path):
    """As a study reads those of its members."""
    from jaxseq.checkpoint import run_seal
    from jaxseq.train.domains import forecast_study
    from jaxseq.train.domains.base import Member
    from jaxseq.train.experiments import named

    names = ["=x", "NA", "01", "", "'=x", "-5", "@a,b"]
    frame = pd.DataFrame({"series": names, "actual": [np.nan, *range(6)], "forecast": 0.1})
    csv_tables.write(tmp_path / run_seal.PREDICTIONS, frame, digits=None)
    read = forecast_study._predictions(Member(1, 0, named("table"), tmp_path))
    assert read["series"].tolist() == names
    np.testing.assert_array_equal(read["actual"], frame["actual"])
