"""The errors in groups on a run's page: their numbers, and in a browser what its reader chooses."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from test_chart import judged

from jaxseq.common import html_page
from jaxseq.forecasting import chart, chart_errors, predictions, residuals

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def sections(series: int = 3, name: str = "least squares") -> tuple[str, str, residuals.pd.DataFrame]:
    """The chart of forecasts, that of errors, and the residuals behind it, the first series the worst."""
    frame, windows = judged([4] * series)
    table = residuals.table(predictions.judged(frame, 3), windows, tuple(map(str, range(series))))
    shown = chart.shown_series(frame, windows)
    return chart.section(frame, windows, name), chart_errors.section(table, shown, name, "MWh"), table


def read(section: str) -> dict:
    root = ElementTree.fromstring(section)
    data = root.find(".//script[@id='errors-data']")
    assert data is not None and data.text is not None
    return json.loads(data.text)


def test_the_errors_are_those_of_the_residuals_and_series_stand_as_in_the_chart_of_forecasts() -> None:
    forecasts, errors, table = sections()
    data = read(errors)
    assert data["measure"] == "Mean absolute error, MWh" and data["levels"] == [80, 50]
    step, series = data["kinds"]
    assert step["name"] == "step of the horizon" and step["groups"] == ["1", "2", "3"]
    rows = table[table["by"] == "step"]
    np.testing.assert_allclose(step["error"], rows["mae"], rtol=1e-5)
    np.testing.assert_allclose(step["reference"], rows["reference_mae"], rtol=1e-5)
    np.testing.assert_allclose(step["covered"][0], 100 * (1 - rows["low_80%"] - rows["high_80%"]), rtol=1e-5)

    in_forecasts = json.loads(re.search(r'id="chart-data">(.*)</script>', forecasts)[1])["series"]
    assert series["groups"] == [item["name"] for item in in_forecasts] == ["0", "1", "2"]
    np.testing.assert_allclose(series["error"], [0.3, 0.2, 0.1], rtol=1e-5)


def test_many_series_are_those_of_the_chart_of_forecasts() -> None:
    _, errors, _ = sections(series=90)
    assert len(read(errors)["kinds"][1]["groups"]) == chart.MOST_SERIES


def test_forecasts_of_one_group_have_no_such_chart() -> None:
    frame, windows = judged([4], horizon=1)
    table = residuals.table(predictions.judged(frame, 1), windows, ("",))
    assert chart_errors.section(table, chart.shown_series(frame, windows), "drift") == ""


def test_a_name_of_the_user_ends_no_script() -> None:
    _, errors, _ = sections(name="</script><script>alert(1)</script>")
    assert len(list(ElementTree.fromstring(errors).iter("script"))) == 2


def test_a_series_without_known_targets_keeps_its_name_and_has_no_errors() -> None:
    frame, windows = judged([4] * 3)
    frame.loc[frame["series"] == "1", "actual"] = np.nan
    table = residuals.table(predictions.judged(frame, 3), windows, ("0", "1", "2"))
    shown = chart.shown_series(frame, windows)
    by_series = read(chart_errors.section(table, shown, "drift"))["kinds"][1]
    assert by_series["groups"] == shown == ["0", "2", "1"] and by_series["error"][2] is None


@pytest.mark.parametrize("has_intervals", [True, False])
def test_the_words_on_intervals_are_shown_with_intervals_alone(has_intervals: bool) -> None:
    frame, windows = judged([4] * 3)
    if not has_intervals:
        frame = frame[[name for name in frame if not name.startswith(("low_", "high_"))]]
    table = residuals.table(predictions.judged(frame, 3), windows, ("0", "1", "2"))
    section = chart_errors.section(table, chart.shown_series(frame, windows), "drift")
    words = next(ElementTree.fromstring(section).iter("p"))
    assert f"{words.text}".startswith("Lower plot:") and ("hidden" in words.attrib) is not has_intervals


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_reader_chooses_a_series_in_the_errors_and_sees_its_forecasts(tmp_path: Path) -> None:
    forecasts, errors, _ = sections()
    # A reader's hand: the errors by series, then a click on the last one of them.
    hand = """<script>
    const kind = document.getElementById("errors-kind"), plot = document.getElementById("errors-plot");
    kind.value = "1";
    kind.dispatchEvent(new Event("change"));
    const box = plot.getBoundingClientRect(), at = { clientX: box.right - 12, clientY: box.top + 60, bubbles: true };
    plot.dispatchEvent(new PointerEvent("pointerdown", at));
    const slider = document.getElementById("chart-window");
    slider.value = "0";
    slider.dispatchEvent(new Event("input"));
    </script>"""
    page = tmp_path / "page.html"
    text = html_page.html("# Page\n\n## Section\n\nWords.\n", tmp_path, after_lead=f"{forecasts}{errors}")
    page.write_text(text.replace("</body>", f"{hand}</body>"), encoding="utf-8")

    command = [f"{BROWSER}", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=400,900", "--dump-dom"]
    arguments = [f"--user-data-dir={tmp_path / 'browser'}", page.as_uri()]
    shown = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=True).stdout

    words = dict(re.findall(r'<output id="([a-z-]+)">([^<]*)</output>', shown))
    assert words["errors-readout"].startswith("series 2: Mean absolute error, MWh 0.1, least squares 1,")
    assert words["chart-readout"].startswith("2: forecast of 24 to 26")
    plots = {match[0]: match[1] for match in re.findall(r'<svg id="([a-z]+)-plot".*?>(.*?)</svg>', shown, re.DOTALL)}
    assert plots["chart"].count("chart-band") == 2 and "chart-forecast" in plots["chart"]
    assert plots["errors"].count("<circle") == 6 and plots["coverage"].count("errors-nominal") == 2
    assert "NaN" not in "".join(plots.values())
