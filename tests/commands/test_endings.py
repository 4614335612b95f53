"""Every command ends with a status and at most one line where its output cannot go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxseq
from jaxseq import forecast, score
from jaxseq.benchmark import __main__ as benchmark
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.export import __main__ as export
from jaxseq.report import __main__ as report
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.train import __main__ as train

COMMANDS = (train, forecast, score, sample, sweep, report, export, benchmark, checkpoint)
TINY = ["waves", "--data.count", "60", "--data.window", "8", "--model.hidden", "2", "--epochs", "1", "--batch", "16"]
every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)


@every_command
def test_help_on_a_full_disk_is_one_line(command, monkeypatch, capsys) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert command.main(["--help"]) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1


@every_command
def test_help_that_nobody_reads_ends_as_by_its_signal(command, monkeypatch, capsys) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert command.main(["--help"]) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_a_training_whose_output_fails_is_one_line_and_resumes(tmp_path: Path, monkeypatch, capsys) -> None:
    with monkeypatch.context() as patch, open("/dev/full", "w") as stream:
        patch.setattr(sys, "stdout", stream)
        assert train.main([*TINY, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.md").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "status", "lines"),
    [
        ("python -m jaxseq.sweep --help > /dev/full", 2, 1),
        # The reader is gone before there is anything to read.
        ("python -m jaxseq.sweep --help | (exec <&-); exit ${PIPESTATUS[0]}", 141, 0),
        ("ulimit -n 20; python -m jaxseq.sweep --help", 2, 1),
        ("python -m jaxseq.sweep --help >&- 2>&-", 0, 0),
        ("python -m jaxseq.sweep --nothing 2>/dev/full", 2, 0),
    ],
)
def test_a_process_ends_without_a_traceback(script: str, status: int, lines: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxseq.__file__).parents[1])}
    script = script.replace("python", sys.executable)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr.count("\n")) == (status, lines), done.stderr


def shown_by(command, words: list[str], capsys) -> str:
    """What a command shows on both streams."""
    try:
        command.main(words)
    except SystemExit as stop:
        assert not stop.code
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_names_out_of_files_reach_no_screen_as_commands(tmp_path: Path, capsys) -> None:
    from sales_tables import TABLE, sales

    data = sales(tmp_path / "sales.csv", "north\x1b[2J", "south[/red]\x9b31m")
    hostile = tmp_path / "sa\x1b[2Jles.csv"
    data.rename(hostile)
    run = str(tmp_path / "run\x1b]0;title\x07")
    later = tmp_path / "lat\x1b[2Jer.csv"
    later.write_text("date,store,sales\n2021-05-01,north\x1b[2J,50\n2021-05-01,south[/red]\x9b31m,50\n")
    words = ["table", "--data.path", str(hostile), "--data.series", "store", "--data.column", "sales", *TABLE]
    texts = [
        shown_by(train, [*words, "--out", run], capsys),
        shown_by(forecast, [run], capsys),
        shown_by(forecast, [run, "--help"], capsys),
        shown_by(forecast, [run, "--data.column", "none"], capsys),
        shown_by(score, [run, str(later)], capsys),
        shown_by(checkpoint, ["show", run], capsys),
        shown_by(checkpoint, ["verify", run], capsys),
        shown_by(checkpoint, ["diff", run, run], capsys),
        shown_by(sample, [run], capsys),
        shown_by(export, [run, "--to", "safetensors", "--out", f"{run}-export"], capsys),
        shown_by(sweep, [*words, "--seed", "0,1", "--out", run], capsys),
    ]
    assert r"north\x1b[2J" in texts[1] and r"south[/red]\x9b31m" in texts[1]
    for text in texts:
        assert text and text.replace("\n", "").isprintable()
