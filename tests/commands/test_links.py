"""Links in a folder from elsewhere: no command writes to what they point to, or makes it."""

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from quick_words import PIECE, TINY

import jaxseq
from jaxseq import forecast
from jaxseq.checkpoint import run_seal
from jaxseq.checkpoint.writer import Writer
from jaxseq.common import files, written
from jaxseq.common.errors import UsageError
from jaxseq.report import __main__ as report
from jaxseq.report import plan
from jaxseq.report import write as report_pages
from jaxseq.report.document import Page
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import pool, summary
from jaxseq.sweep.planned import PlannedRun
from jaxseq.train import __main__ as train
from jaxseq.train import domains, run, run_folder, study

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def state(folder: Path) -> dict[str, tuple[float, bytes]]:
    """Time and content of everything in a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def moved(path: Path, elsewhere: Path) -> None:
    """Move a file or folder elsewhere, and leave a link in its place."""
    elsewhere.mkdir(exist_ok=True)
    target = elsewhere / path.name
    shutil.move(path, target)
    path.symlink_to(target)


def test_a_run_that_resumes_and_is_forecast_writes_through_no_link(table_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(table_run, folder)
    forecast.main([str(folder)])
    names = [path.name for path in folder.iterdir() if path.is_file()]
    assert {"config.json", "metrics.jsonl", "report.md", "loss.png", "forecast.png", "errors.png"} <= set(names)
    for name in names:
        moved(folder / name, tmp_path / "elsewhere")
    before = state(tmp_path / "elsewhere")

    assert train.main(["--resume", str(folder)]) == 0
    forecast.main([str(folder)])
    assert state(tmp_path / "elsewhere") == before
    assert not (folder / "report.md").is_symlink() and not (folder / "loss.png").is_symlink()


def test_links_to_nothing_are_not_followed_either(table_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(table_run, folder)
    for name in (*run_seal.OUTPUTS, "future.png"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / "nothing" / name)
    (tmp_path / "nothing").mkdir()
    assert train.main(["--resume", str(folder)]) == 0
    forecast.main([str(folder)])
    assert not list((tmp_path / "nothing").iterdir())


def write_log(folder: Path) -> None:
    run_folder.append_metrics(folder, {"epoch": 1})


def test_a_row_is_appended_to_no_link_and_no_device(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("mine\n")
    for target in (canary, tmp_path / "nothing", Path("/dev/null")):
        folder = tmp_path / target.name.upper()
        folder.mkdir()
        (folder / run_seal.METRICS).symlink_to(target)
        with pytest.raises(UsageError, match="link"):
            write_log(folder)
    os.mkfifo(tmp_path / run_seal.METRICS)
    with pytest.raises(UsageError, match=run_seal.METRICS):
        write_log(tmp_path)
    assert canary.read_text() == "mine\n" and not (tmp_path / "nothing").exists()


def test_a_row_is_not_appended_to_a_backup_by_hard_links(tmp_path: Path) -> None:
    write_log(tmp_path)
    backup = tmp_path / "backup"
    backup.hardlink_to(tmp_path / run_seal.METRICS)
    write_log(tmp_path)
    assert len(backup.read_text().splitlines()) == 1
    assert len((tmp_path / run_seal.METRICS).read_text().splitlines()) == 2


def test_checkpoints_that_are_links_or_hold_one_are_not_opened_to_write(table_run: Path, tmp_path: Path) -> None:
    original = table_run / run_seal.CHECKPOINTS
    extras = ["clearing-1", "probe-1", "damaged-1", "2"]
    names = [str(path.relative_to(original)) for path in original.rglob("*")]
    assert len(names) > 5
    for number, name in enumerate([".", *names, *extras]):
        folder = tmp_path / f"{number}" / run_seal.CHECKPOINTS
        elsewhere = tmp_path / f"{number}" / "elsewhere"
        shutil.copytree(original, folder)
        if name in extras:
            elsewhere.mkdir()
            (elsewhere / name).write_text("mine")
            (folder / name).symlink_to(elsewhere / name)
        else:
            moved(folder / name, elsewhere)
        before = state(elsewhere)
        with pytest.raises(UsageError, match="a link to somewhere else"), Writer(folder, {}, "valid_mse"):
            pass
        assert state(elsewhere) == before, name


def test_a_resumed_run_is_refused_in_one_line(table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "run"
    shutil.copytree(table_run, folder)
    moved(folder / run_seal.CHECKPOINTS, tmp_path / "elsewhere")
    before = state(tmp_path / "elsewhere")
    assert train.main(["--resume", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "checkpoints: a link to somewhere else" in error and error.count("\n") == 1
    assert state(tmp_path / "elsewhere") == before


def test_links_that_stay_within_a_folder_harm_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("text")
    (tmp_path / "folder" / "link").symlink_to("file")
    (tmp_path / "folder" / "circle").symlink_to("circle")
    files.check_links(tmp_path / "folder")
    (tmp_path / "folder" / "out").symlink_to(tmp_path / "folder" / ".." / "nothing")
    with pytest.raises(UsageError, match="out: a link"):
        files.check_links(tmp_path / "folder")


class Stopped(Exception):
    """The end of a command before it trains."""


def stop(*_: object, **__: object) -> None:
    raise Stopped


def test_a_study_trains_into_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    words = [*TINY, "--seeds", "2", "--out", str(tmp_path / "study")]
    monkeypatch.setattr(run, "train", stop)
    with pytest.raises(Stopped):
        train.main(words)
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "nothing"):
        member = tmp_path / "study" / "fold-1-seed-0"
        member.unlink(missing_ok=True)
        member.symlink_to(target)
        assert train.main(words) == 2
        assert "fold-1-seed-0: a link" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir()) and not (tmp_path / "nothing").exists()


def test_the_tables_of_a_study_and_a_sweep_replace_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    canary.write_text("mine")

    def plant(folder: Path, *names: str) -> Callable[..., None]:
        def planted(*_: object, **__: object) -> None:
            for name in names:
                (folder / name).symlink_to(canary)

        return planted

    table = pd.DataFrame({"mse": [1.0]})
    monkeypatch.setattr(study, "_one_by_one", plant(tmp_path / "study", study.MEMBERS, study.SUMMARY))
    monkeypatch.setattr(study, "gather", lambda *_: table)
    monkeypatch.setattr(domains.forecasts, "summary", lambda *_: "text")
    assert train.main([*TINY, "--seeds", "2", "--out", str(tmp_path / "study")]) == 0

    monkeypatch.setattr(pool, "train_all", plant(tmp_path / "sweep", summary.TABLE, summary.SUMMARY))
    monkeypatch.setattr(summary, "table", lambda *_: table)
    monkeypatch.setattr(summary, "markdown", lambda *_: "text")
    assert sweep.main([*TINY, "--seed", "0,1", "--workers", "1", "--out", str(tmp_path / "sweep")]) == 0
    assert canary.read_text() == "mine"
    assert (tmp_path / "study" / study.SUMMARY).read_text() == (tmp_path / "sweep" / summary.SUMMARY).read_text()


def test_a_run_of_a_sweep_and_its_log_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "train", stop)
    recipe = train.options.parse(TINY).experiment
    canary = tmp_path / "canary"
    canary.write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.log").symlink_to(canary)
    (tmp_path / "b.log").symlink_to(tmp_path / "nothing")
    (tmp_path / "c").symlink_to(tmp_path / "empty")
    (tmp_path / "d").symlink_to(tmp_path / "nothing")
    for name in "abcd":
        assert "link" in pool.train_run(PlannedRun(name, recipe, tmp_path / name))
    assert canary.read_text() == "mine" and not (tmp_path / "nothing").exists()
    assert not list((tmp_path / "empty").iterdir())


def test_jobs_are_submitted_into_no_link(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from jaxseq.sweep import slurm

    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "7_0_log.out").symlink_to(tmp_path / "canary")
    with pytest.raises(UsageError, match="a link"):
        slurm._executor(slurm.Cluster("local", {}), tmp_path / "jobs")


@pytest.mark.slow
def test_pieces_are_written_into_no_link(chords_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "run"
    shutil.copytree(chords_run, folder)
    (tmp_path / "empty").mkdir()
    (folder / "samples-0001").symlink_to(tmp_path / "empty")
    (folder / "samples-0002").symlink_to(tmp_path / "nothing")
    assert sample.main([str(folder), *PIECE]) == 0
    assert (folder / "samples-0003" / "samples.json").is_file()
    for name in ("samples-0001", "samples-0002"):
        assert sample.main([str(folder), *PIECE, "--out", str(folder / name)]) == 2
        assert "--out" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir()) and not (tmp_path / "nothing").exists()


def test_a_report_replaces_links_and_trains_into_none(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(plan, "check_chorales", lambda _: "none")
    canary = tmp_path / "canary"
    canary.write_text("mine")
    for name in ("report.md", "report.html"):
        (tmp_path / name).symlink_to(canary)
    report_pages.write(Page("Title", "Lead", [], []), written.Outputs(tmp_path, print))
    assert canary.read_text() == "mine" and "Title" in (tmp_path / "report.md").read_text()

    (tmp_path / "out").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "out" / "runs").symlink_to(tmp_path / "empty")
    assert report.main(["--budget", "quick", "--workers", "1", "--out", str(tmp_path / "out")]) == 2
    assert "runs: a link" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir())


WRITERS = {"write_text", "write_bytes", "to_csv", "to_json", "savefig", "savez", "touch", "imsave"}
ALLOWED = {
    # Everything is written by this module.
    ("common/files.py", "open"),
    # Within a folder that was just made, and marks beside checkpoints, none of which is a link.
    ("checkpoint/writer.py", "write_bytes"),
    ("checkpoint/retention.py", "touch"),
    ("benchmark/panel_peers.py", "open"),
    # Into a file that `files` has opened.
    ("benchmark/panel_memory.py", "to_csv"),
    # The null device in the place of a closed stream.
    ("common/streams.py", "open"),
    # Into memory.
    ("common/csv_tables.py", "to_csv"),
    ("common/figures.py", "savefig"),
    ("music/corpora/chorale_cache.py", "savez"),
    ("music/sound.py", "open"),
}


def writes(call: ast.Call) -> str | None:
    """The name of a method that writes a file by its path, None for any other call."""
    if not isinstance(call.func, ast.Attribute | ast.Name):
        return None
    is_method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if is_method else call.func.id
    owner = call.func.value.id if is_method and isinstance(call.func.value, ast.Name) else ""
    if name in WRITERS and owner != "files" and is_method:
        return name
    modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    if name == "open" and any(isinstance(mode, str) and set(mode) & set("wax+") and len(mode) < 4 for mode in modes):
        return name
    return None


def test_every_file_is_written_by_the_module_that_follows_no_link() -> None:
    package = Path(jaxseq.__file__).parent
    calls = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = writes(node) if isinstance(node, ast.Call) else None
            if name is not None:
                calls.add((str(path.relative_to(package)), name))
    assert calls == ALLOWED
