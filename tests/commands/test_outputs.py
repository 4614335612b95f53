"""Outputs of every command, in a folder that is reached by a link: they land there, with the permissions of new files."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_words import PIECE, TINY

from jaxseq import forecast, score
from jaxseq.benchmark import __main__ as benchmark
from jaxseq.benchmark import machine
from jaxseq.export import __main__ as export
from jaxseq.report import __main__ as report
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.train import __main__ as train

pytestmark = pytest.mark.usefixtures("compiled_quickly", "in_process", "reported")

UMASK = 0o007
"""Neither the usual one nor one by which a file of mode 0600 or 0644 would look right."""


@pytest.fixture
def shared_with_the_group() -> Iterator[None]:
    before = os.umask(UMASK)
    yield
    os.umask(before)


def others(folder: Path) -> dict[str, str]:
    """Permissions of files and folders that are not those of new ones."""
    modes = {}
    for path in folder.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        new = (0o777 if path.is_dir() else 0o666) & ~UMASK
        if not path.is_symlink() and mode != new:
            modes[str(path.relative_to(folder))] = oct(mode)
    return modes


@pytest.mark.slow
@pytest.mark.usefixtures("shared_with_the_group")
def test_outputs_below_a_link_land_where_it_points_with_the_permissions_of_new_files(
    table_run: Path, chords_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    real = tmp_path / "real"
    link = tmp_path / "link"
    (real / "empty").mkdir(parents=True)
    link.symlink_to("real")
    (real / "linked").symlink_to("empty")
    monkeypatch.setattr(machine, "prepare", lambda device, core, heap: machine.Place(0, heap))
    monkeypatch.setattr(benchmark, "_compare", lambda *_: {"results": []})

    assert train.main([*TINY, "--schedule", "constant", "--out", str(link / "linked")]) == 0
    assert train.main(["--resume", str(link / "linked"), "--epochs", "2"]) == 0
    assert train.main([*TINY, "--seeds", "2", "--out", str(link / "study")]) == 0
    assert sweep.main([*TINY, "--seed", "0,1", "--workers", "1", "--out", str(link / "sweep")]) == 0
    assert forecast.main([str(table_run), "--out", str(link / "a.csv")]) == 0
    (tmp_path / "later.csv").write_text("date,sales\n2021-05-01,50\n")
    assert score.main([str(table_run), str(tmp_path / "later.csv"), "--out", str(link / "below" / "score")]) == 0
    assert sample.main([str(chords_run), *PIECE, "--out", str(link / "below" / "pieces")]) == 0
    for words in ([], ["--out", str(link / "export")]):
        assert export.main([str(link / "linked"), "--to", "safetensors", *words]) == 0
    assert benchmark.main(["--quick", "--out", str(link / "bench.json")]) == 0
    assert report.main(["--budget", "quick", "--out", str(link / "report")]) == 2
    assert "far enough" in capsys.readouterr().err

    made = {path.name for path in real.iterdir()}
    assert made == {
        *("a.csv", "a.png", "below", "bench.json", "empty", "export", "linked", "linked-export"),
        *("report", "study", "sweep"),
    }
    assert {"report.md", "judged-1", "checkpoints"} <= {path.name for path in (real / "empty").iterdir()}
    assert link.is_symlink() and (real / "linked").is_symlink()
    assert others(real) == {}

    # Pieces appear at once, and a folder cannot be renamed to a link.
    shutil.rmtree(real / "empty")
    (real / "empty").mkdir()
    assert sample.main([str(chords_run), *PIECE, "--out", str(link / "linked")]) == 2
    error = capsys.readouterr().err
    assert "not an empty folder" in error and error.count("\n") == 1
