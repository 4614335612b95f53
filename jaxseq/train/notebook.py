"""Trainings and runs in a notebook: one bar with the loss picture at the end, and a restored run as a small page.

IPython is there wherever a notebook is, and is imported by the first display alone. Pages are whole in themselves: texts
are escaped, pictures are inside, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import jax
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import notebook_page
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.train import overrides, run_folder
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.run_folder import Row

UPDATE_PAUSE = 0.1
"""Least seconds between two updates of the bar: a page that is sent for each quick epoch would slow the training down."""
SCORES = {
    "relative_mse": "test MSE / that of the last value",
    "relative_log_loss": "test log loss / that of the share of rises",
    "nats": "test nats",
}
"""Columns of a judgement by which a run is summed up, with their labels; the first one that it has is shown."""
FRAME = "width:100%;height:640px;border:1px solid #8888"
"""Style of the frame of a report."""


class NotebookDisplay:
    """Shows the epochs of one training in a notebook; use it in a `with` block."""

    def __init__(self, console: Console, rows: Sequence[Row], total: int) -> None:
        """`rows` are those of the epochs, of `total`, that were finished before."""
        self._console = console
        self._rows = list(rows)
        self._total = total
        self._metric = ""
        self._numbers = ""
        self._shown = 0.0

    def __enter__(self) -> NotebookDisplay:
        from IPython.display import HTML, display

        self._handle = display(HTML(self._bar()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._update()
        # What a failure leaves of a curve would hide its message.
        is_whole = kind is None or issubclass(kind, Interrupted)
        if is_whole and self._metric:
            from IPython.display import Image, display

            display(Image(data=loss_picture(self._rows, self._metric), width=notebook_page.WIDTH))

    def show_compiling(self) -> None:
        """Say that the functions of the first epoch are being compiled."""
        self._numbers = "compiling"
        self._update()

    def show(self, row: Row, metric: str, best: bool) -> None:
        """Show a finished epoch: its row of `metrics.jsonl`, and a star if it is the best so far."""
        self._rows.append(row)
        self._metric = metric
        star = " *" if best else ""
        speed = f"{row['windows_per_second']:.0f} rows/s"
        self._numbers = f"train {row['train_loss']:.5f}, valid {row[metric]:.5f}{star}, {speed}"
        if time.monotonic() - self._shown > UPDATE_PAUSE:
            self._update()

    def note(self, text: str) -> None:
        """Print a line below the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _update(self) -> None:
        from IPython.display import HTML

        self._handle.update(HTML(self._bar()))
        self._shown = time.monotonic()

    def _bar(self) -> str:
        done = len(self._rows)
        return (
            f'<div><progress value="{done}" max="{self._total}"></progress> '
            f"epoch {done}/{self._total} {html.escape(self._numbers)}</div>"
        )


def loss_picture(rows: Sequence[Row], metric: str) -> bytes:
    """Return the loss by epoch as PNG, with the best epoch of a metric."""
    # It takes longer to import than a notebook without a training takes to start.
    from jaxseq.common import figures
    from jaxseq.train.plots import loss_figure

    best_epoch = int(run_folder.best_row(rows, metric)["epoch"])
    return figures.drawn(loss_figure(rows, metric, best_epoch, naive=None, title=""), "png")


# Restored runs ---------------------------------------------------------------------------------------------------------


def page_of_run(run: RestoredRun) -> str:
    """Return a restored run as HTML: experiment, network, epoch and test score, and its picture, if the folder has them."""
    network = run.experiment.model
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.state.params))
    facts: dict[str, object] = {
        "experiment": run.experiment.name,
        "domain": run.experiment.domain,
        "network": overrides.network_name(run.experiment),
        "layers": network.layers,
        "units": network.hidden,
        "parameters": f"{parameters:,}",
        "epoch": run.epoch,
    }
    picture = None
    report = None
    if run.folder is not None:
        facts |= _judgement(run, run.folder)
        facts["folder"] = run.folder
        try:
            picture = _picture_in(run, run.folder)
        except UsageError as error:
            facts["picture"] = f"{error}"
        try:
            report = _report_in(run, run.folder)
        except UsageError as error:
            facts["report"] = f"{error}"
    return page(facts, picture, report)


def page(facts: Mapping[str, object], picture: bytes | None, report: str | None = None) -> str:
    """Return a table of facts, a row each, a picture below it, which is PNG, and a report as HTML, to be opened."""
    rows = [
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
    ]
    image = ""
    if picture is not None:
        image = notebook_page.picture(picture, "picture of the run")
    opened = ""
    if report is not None:
        # A page of its own: it reads nothing of the notebook, and its style stays in it.
        frame = f'<iframe sandbox="allow-scripts" style="{FRAME}" srcdoc="{html.escape(report)}"></iframe>'
        opened = f"<details><summary>report</summary>{frame}</details>"
    return f"<div><table><tbody>{''.join(rows)}</tbody></table>{image}{opened}</div>"


def _judgement(run: RestoredRun, folder: Path) -> dict[str, str]:
    """Return the test score of the epoch that is restored; nothing if another one was judged, or none."""
    try:
        judged = run_seal.read_judged(folder)
    except UsageError as error:
        # A page is no place for an exception: the run itself was verified when it was restored.
        return {"test": f"{error}"}
    if judged is None or judged.epoch != run.epoch:
        return {"test": "this epoch has not been judged"}

    for column, label in SCORES.items():
        if column in judged.row:
            return {label: f"{judged.row[column]:.4f}"}
    return {}


def _report_in(run: RestoredRun, folder: Path) -> str | None:
    """Return the page of the epoch that is restored; None if another one was judged, or its domain writes no page.

    Raises `UsageError` for a page that is not the one that was written.
    """
    path = folder / run_seal.PAGE
    if not path.is_file() or not run_seal.has_seals(folder):
        return None
    judged = run_seal.read_judged(folder)
    if judged is None or judged.epoch != run.epoch:
        return None
    run_seal.check_output(folder, judged, run_seal.PAGE)
    return path.read_text(encoding="utf-8")


def _picture_in(run: RestoredRun, folder: Path) -> bytes | None:
    """Return the picture of a run: its forecasts, else its loss; None if there is neither.

    Raises `UsageError` for a picture that is not the one that was drawn.
    """
    # Gone, or of a format before the seals.
    is_sealed = (folder / run_seal.CONFIG).is_file() and run_seal.has_seals(folder)
    judged = None
    if is_sealed:
        judged = run_seal.read_judged(folder)

    for name in (run_seal.FORECAST_PLOT, run_seal.LOSS_PLOT):
        # The forecasts are those of the epoch that was judged.
        is_of_epoch = name == run_seal.LOSS_PLOT or judged is None or judged.epoch == run.epoch
        path = folder / name
        if not path.is_file() or not is_of_epoch:
            continue
        if judged is not None:
            run_seal.check_output(folder, judged, name)
        return path.read_bytes()
    return None
