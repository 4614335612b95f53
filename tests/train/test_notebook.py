"""In a notebook a training is one bar and its picture, and a restored run a page that is whole and escaped."""

import base64
import html.parser
import io
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import Interrupted
from jaxseq.forecasting.predictions import Future
from jaxseq.train import notebook, run_folder
from jaxseq.train.progress import EpochDisplay, display_of
from jaxseq.train.restore import restore

ROWS = [
    {"epoch": number, "train_loss": 1 / number, "valid_mse": 2 / number, "windows_per_second": 9.0}
    for number in range(1, 5)
]
PNG = b"\x89PNG\r\n\x1a\n"


class Page(html.parser.HTMLParser):
    """The texts, tags and pictures of a page whose tags are all closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.cells = []
        self.pictures = []
        self.frames = []
        self.tags = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        else:
            self.open.append(tag)
        if tag == "iframe":
            assert dict(attributes)["sandbox"] == "allow-scripts"
            self.frames.append(dict(attributes)["srcdoc"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        # The name of what is opened is no fact.
        if self.open[-1] != "summary":
            self.cells.append(data)


@pytest.fixture
def shown(monkeypatch):
    """Everything that IPython is given: each display with its updates in order."""
    displays = []

    class Handle(list):
        update = list.append

    def display(thing, display_id=False):
        displays.append(Handle([thing]))
        return displays[-1]

    module = types.ModuleType("IPython.display")
    module.HTML = str
    module.Image = lambda data, width: data
    module.display = display
    package = types.ModuleType("IPython")
    # matplotlib looks for these when it is imported.
    package.version_info = (9, 0)
    package.get_ipython = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return displays


def notebook_console(**options):
    return Console(file=io.StringIO(), force_jupyter=True, **options)


def train_with(display, rows):
    with display:
        display.show_compiling()
        for row in rows:
            display.show(row, "valid_mse", row["epoch"] == 2)


def test_a_training_in_a_notebook_is_one_bar_and_its_picture(shown, monkeypatch):
    monkeypatch.setattr(notebook, "UPDATE_PAUSE", -1)
    train_with(display_of(notebook_console(), ROWS[:1], 4), ROWS[1:])
    bar, picture = shown
    pages = [Page(text).cells[0] for text in bar]
    assert [page.split()[1] for page in pages] == ["1/4", "1/4", "2/4", "3/4", "4/4", "4/4"]
    assert "compiling" in pages[1] and "valid 1.00000 *" in pages[2] and "*" not in pages[3]
    assert picture[0].startswith(PNG)


def test_quick_epochs_are_not_all_sent_but_the_last_one_is(shown, monkeypatch):
    monkeypatch.setattr(notebook, "UPDATE_PAUSE", 1e9)
    train_with(display_of(notebook_console(), [], 4), ROWS)
    assert ["epoch 4/4" in text for text in shown[0]] == [False, False, True]


@pytest.mark.parametrize(("error", "pictures"), [(ValueError, 0), (KeyboardInterrupt, 0), (Interrupted, 1)])
def test_a_training_that_is_stopped_has_its_picture_and_one_that_fails_has_none(error, pictures, shown):
    arguments = (Path("run"), 4, 130) if error is Interrupted else ()
    with pytest.raises(error), display_of(notebook_console(), [], 9) as display:
        display.show(ROWS[0], "valid_mse", True)
        raise error(*arguments)
    assert len(shown) == 1 + pictures


def test_a_quiet_training_shows_nothing_in_a_notebook(shown):
    train_with(display_of(notebook_console(quiet=True), [], 4), [{**row, "seconds": 1.0} for row in ROWS])
    assert shown == []
    assert isinstance(display_of(Console(file=io.StringIO()), [], 4), EpochDisplay)


def test_a_page_is_escaped_and_loads_nothing():
    name = "<script>alert('&')</script>"
    page = Page(notebook.page({name: f'"{name}"'}, PNG))
    assert page.cells == [name, f'"{name}"'] and "script" not in page.tags
    assert page.pictures == ["data:image/png;base64," + base64.b64encode(PNG).decode()]


@pytest.mark.usefixtures("drawn")
def test_a_forecast_is_a_table_with_its_notes_and_a_picture_of_several_steps():
    columns = {"row": [8, 9] * 2, "series": ["<b>", "<b>", "c", "c"], "step": [1, 2] * 2, "forecast": np.arange(4.0)}
    table = pd.DataFrame({**columns, "low_80%": np.arange(4.0) - 1, "high_80%": np.arange(4.0) + 1})
    page = Page(Future(table, ("series '<b>' is new",))._repr_html_())
    assert {"<b>", "high_80%", "series '<b>' is new"} <= set(page.cells)
    assert base64.b64decode(page.pictures[0].partition(",")[2]).startswith(PNG)

    # Probabilities are drawn by their quantity; what has one step is all in the table.
    rises = pd.DataFrame({"row": [8, 9], "step": [1, 2], "p_rise": [0.5, 0.6]})
    assert len(Page(Future(rises, ())._repr_html_()).pictures) == 1
    assert Page(Future(rises.drop(columns="step"), ())._repr_html_()).pictures == []


@pytest.mark.usefixtures("compiled_quickly")
def test_a_restored_run_is_a_page_with_its_score_and_picture(aapl_run, tmp_path):
    folder = tmp_path / "<b>run"
    shutil.copytree(aapl_run, folder)
    model = restore(folder)
    page = Page(model._repr_html_())
    facts = dict(zip(page.cells[::2], page.cells[1::2], strict=True))
    judged = run_seal.read_judged(folder)
    assert facts.pop("parameters").isdigit()
    assert facts == {
        "experiment": "aapl",
        "domain": "forecasts",
        "network": "gru",
        "layers": "1",
        "units": "4",
        "epoch": f"{model.epoch}",
        "test MSE / that of the last value": f"{judged.row['relative_mse']:.4f}",
        "folder": str(folder),
    }
    (picture,) = page.pictures
    (report,) = page.frames
    assert report == (folder / "report.html").read_text()
    assert base64.b64decode(picture.removeprefix("data:image/png;base64,")) == (folder / "forecast.png").read_bytes()

    # Another epoch has no score of its own; a damaged judgement is no reason to show nothing.
    other = next(number for number in (1, 2) if number != model.epoch)
    page = Page(restore(folder, other)._repr_html_())
    assert page.cells[page.cells.index("test") + 1] == "this epoch has not been judged"
    assert not page.frames
    # The forecasts in the folder are those of the epoch that was judged.
    assert base64.b64decode(page.pictures[0].partition(",")[2]) == (folder / "loss.png").read_bytes()

    # Nothing that was changed is shown, and the rest is.
    shutil.copyfile(folder / "loss.png", folder / "forecast.png")
    damaged = Page(model._repr_html_())
    assert "forecast.png: damaged" in damaged.cells[damaged.cells.index("picture") + 1] and damaged.pictures == []
    (folder / run_seal.JUDGED).write_text("{}")
    damaged = Page(model._repr_html_())
    assert "judged.json" in damaged.cells[damaged.cells.index("test") + 1] and damaged.pictures == []
    shutil.rmtree(folder)
    assert Page(model._repr_html_()).pictures == []


@pytest.mark.usefixtures("compiled_quickly")
def test_a_restored_model_of_music_is_a_page_with_its_nats(chorales_run):
    page = Page(restore(chorales_run)._repr_html_())
    label = page.cells.index("test nats")
    assert float(page.cells[label + 1]) == pytest.approx(run_seal.judged_row(chorales_run)["nats"], abs=1e-4)
    assert page.cells[page.cells.index("domain") + 1] == "chorales" and len(page.pictures) == 1


@pytest.mark.usefixtures("drawn")
def test_the_picture_of_a_training_marks_its_best_epoch():
    assert run_folder.best_row(ROWS, "valid_mse")["epoch"] == 4
    assert notebook.loss_picture(ROWS, "valid_mse") != notebook.loss_picture(ROWS[::-1][1:][::-1], "valid_mse")
