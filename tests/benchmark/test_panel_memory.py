"""The benchmark of large panels writes them as they are read, and states what a run printed."""

from pathlib import Path

import pytest

from jaxseq.benchmark import panel_memory
from jaxseq.data.table import Table


def test_a_panel_is_read_with_all_its_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_memory, "WRITTEN_AT_ONCE", 64)
    panel_memory.write(tmp_path / "a.csv", 5, 30)
    panel = Table(path=str(tmp_path / "a.csv"), column="value", time="time", series="series").panel()
    assert panel.names == tuple(f"series {number}" for number in range(5))
    assert [len(series.values) for series in panel.series] == [30] * 5


def test_the_table_has_the_numbers_that_a_run_printed(capsys: pytest.CaptureFixture[str]) -> None:
    memory = panel_memory.MEMORY.search("x\nmemory: 3.2 GiB, by the estimate at most 3.5\n")
    assert memory is not None
    rows = [panel_memory.Measured(30_000, 200, float(memory[1]), float(memory[2]), 12.04, 9.96)]
    rows.append(panel_memory.Measured(3, 100, None, None, 0.5, None))
    *_, large, small = panel_memory.table(rows).splitlines()
    assert large == "| 30,000 | 200 | 3.2 | 3.5 | 12.0 | 10.0 |" and "under 1" in small
    assert panel_memory.main(["30000by200"]) == 2
    assert "SERIESxROWS" in capsys.readouterr().err
