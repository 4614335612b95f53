"""The display of a training: whole on a terminal of 80 columns, and without compiling in the time that is left."""

import io
import re

import pytest
from rich.console import Console

from jaxseq.train.progress import EpochDisplay

ROW = {"train_loss": 12.34567, "valid_mse": 10.98765, "windows_per_second": 123456.7}


def lines_of(display: EpochDisplay, console: Console, seconds: list[float]) -> list[str]:
    """What the display prints for epochs of these durations."""
    with display:
        display.show_compiling()
        for number, duration in enumerate(seconds, 1):
            display.show({**ROW, "epoch": number, "seconds": duration}, "valid_mse", number == 1)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_progress_fits_a_terminal_of_80_columns() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    display = EpochDisplay(console, 0, 1000)
    lines = lines_of(display, console, [30.0, 2.0, 2.0])
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r") for line in lines]
    last = next(line for line in reversed(plain) if line.startswith("epoch"))
    assert last.startswith("epoch 3/1000 ") and len(last) <= 80
    assert "train 12.34567  valid 10.98765" in last and "123457 rows/s" in last
    assert last.rstrip().endswith("left") and "0:33:" in last


def test_the_time_that_is_left_leaves_out_the_epoch_that_compiled() -> None:
    console = Console(file=io.StringIO(), width=120)
    first, *rest = lines_of(EpochDisplay(console, 0, 10), console, [30.0, 2.0, 4.0])
    assert first == "compiling"
    assert "left" not in rest[0], "how long an epoch takes is not known yet"
    assert rest[1].endswith("about 16 s left") and rest[2].endswith("about 21 s left")


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_is_shown_until_the_first_epoch_is_done(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
    assert any("compiling" in line for line in lines_of(EpochDisplay(console, 0, 10), console, []))
