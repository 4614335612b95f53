"""Intervals come back from their file as they were written, or are refused with the field that is wrong."""

import json
import math

import pytest
import simulated

from jaxseq.common.errors import UsageError
from jaxseq.forecasting import saved_intervals
from jaxseq.forecasting.calibration import calibrate
from jaxseq.forecasting.intervals import Intervals

SETTINGS = {"source": "intervals.json", "horizon": 2, "series": 1, "point": True}
SOUND = {"levels": [0.5, 0.8], "sizes": [[1.0, 2.0], [1.5, 2.0]]}


def parse(saved, **settings):
    return saved_intervals.parse(saved, **{**SETTINGS, **settings})


@pytest.mark.parametrize("choice", ["auto", "split", "scaled", "volatility", "adaptive"])
def test_intervals_come_back_from_json_as_they_were(choice):
    part, _ = simulated.parts(simulated.garch(900, 0), simulated.trending(700, 1), horizon=2)
    written = calibrate(choice, simulated.naive(part), part, floor=0.0).intervals
    saved = json.loads(json.dumps(written._asdict()))
    assert parse(saved, series=2) == written


@pytest.mark.parametrize("until", ["", "699", "-3", "2020-01-31", "2020-01-31T05:00:00.000000000"])
def test_times_that_runs_write_are_read(until):
    assert parse({**SOUND, "until": [until]}).until == (until,)


def test_scaled_intervals_of_a_panel_need_a_size_for_each_series():
    saved = {**SOUND, "kind": "scaled", "series": []}
    assert parse(saved).size == "scaled"
    for kind in (saved, {**saved, "kind": "adaptive", "size": "scaled", "scores": SCORES}):
        with pytest.raises(UsageError) as raised:
            parse(kind, series=3)
        assert (raised.value.where, raised.value.got, raised.value.needed) == ("intervals.json: series", 0, 3)


def test_a_file_without_a_kind_is_read_as_split():
    assert parse(SOUND) == Intervals("split", (0.5, 0.8), ((1.0, 2.0), (1.5, 2.0)))


def test_margins_of_a_distribution_may_be_negative_and_fall_with_the_level():
    saved = {"levels": [0.5, 0.8], "sizes": [[1.0, 2.0], [-1.5, 0.0]]}
    assert parse(saved, point=False).sizes == ((1.0, 2.0), (-1.5, 0.0))
    with pytest.raises(UsageError) as raised:
        parse(saved)
    assert raised.value.where == "intervals.json: sizes" and raised.value.got == [1.0, -1.5]


SCORES = [[[0.0] * 200] * 2] * 2
WRONG = [
    ("until", {"until": ["NaT"]}),
    ("until", {"until": ["now"]}),
    ("until", {"until": ["2020-13-01"]}),
    ("least", {"least": 1e308}),
    ("sizes", {"sizes": [[1.0, 2.0], [3.0, 1e31]]}),
    ("scores", {"kind": "adaptive", "scores": [[[0.0] * 199 + [1e308]] * 2] * 2}),
    ("levels", {"levels": [0.5, 1.0]}),
    ("levels", {"levels": [0.0, 0.5]}),
    ("levels", {"levels": [0.8, 0.5]}),
    ("levels", {"levels": [0.5, 0.5]}),
    ("levels", {"levels": [0.5, math.nan]}),
    ("levels", {"levels": ["0.5", 0.8]}),
    ("levels", {"levels": [True, 0.8]}),
    ("levels", {"levels": 0.5}),
    ("levels", {"levels": [n / 1000 for n in range(1, 200)], "sizes": [[1.0, 2.0]] * 199}),
    ("sizes", {"sizes": [[1.0, 2.0]]}),
    ("sizes", {"sizes": [[1.0, 2.0], [3.0]]}),
    ("sizes", {"sizes": [[1.0, 2.0], [3.0, math.inf]]}),
    ("sizes", {"sizes": [[-1.0, 2.0], [3.0, 4.0]]}),
    ("sizes", {"sizes": [[1.0, 2.0], [0.5, 4.0]]}),
    ("sizes", {"sizes": None}),
    ("kind", {"kind": "wide"}),
    ("kind", {"kind": ["split"]}),
    ("size", {"size": "adaptive"}),
    ("least", {"least": math.nan}),
    ("series", {"series": [1.0, 2.0]}),
    ("series", {"series": ["1"]}),
    ("until", {"until": ["2020-01-01"] * 2}),
    ("until", {"until": [3]}),
    ("scores", {"kind": "adaptive"}),
    ("scores", {"kind": "adaptive", "scores": SCORES[:1]}),
    ("scores", {"kind": "adaptive", "scores": [[[0.0] * 199] * 2] * 2}),
    ("scores", {"kind": "adaptive", "scores": [[[0.0] * 199 + [-1.0]] * 2] * 2}),
    ("floor", {"floor": "0"}),
]


@pytest.mark.parametrize(("field", "change"), WRONG)
def test_a_wrong_field_is_named(field, change):
    with pytest.raises(UsageError) as raised:
        parse({**SOUND, **change})
    assert raised.value.where == f"intervals.json: {field}"
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [{"least": -1.0}, {"series": [0.0]}])
def test_a_size_that_is_not_positive_is_refused(change):
    with pytest.raises(UsageError, match="not positive"):
        parse({**SOUND, **change})


def test_adaptive_intervals_need_their_scores_and_keep_them():
    assert parse({**SOUND, "kind": "adaptive", "scores": SCORES}).scores == tuple([tuple([(0.0,) * 200] * 2)] * 2)
