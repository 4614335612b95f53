"""The run folder: numbers that nobody shares, files that are whole, rows that are all there."""

import json
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, files, sealed
from jaxseq.common.errors import UsageError
from jaxseq.train import run_folder


def seal_log(folder: Path, epoch: int) -> None:
    """A checkpoint of an epoch that has the rows' sha256, as far as the log needs one."""
    record = sealed.seal(step=epoch, log_sha256=run_seal.log_sha256(folder / run_seal.METRICS, epoch))
    path = folder / run_seal.CHECKPOINTS / str(epoch) / "_CHECKPOINT_METADATA"
    path.parent.mkdir(parents=True)
    files.write_json(path, {"custom_metadata": record})


def rows(folder: Path, *epochs: int) -> None:
    for epoch in epochs:
        run_folder.append_metrics(folder, {"epoch": epoch, "valid_mse": 1 / epoch})


def test_numbers_go_on_from_the_highest_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("aapl-0001", "aapl-0007", "aapl-old", "waves-0090", "aapl-0008.bak"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert [str(run_folder.create("aapl", None)) for _ in range(2)] == ["runs/aapl-0008", "runs/aapl-0009"]


def test_runs_that_start_together_get_a_number_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: run_folder.create("aapl", None), range(48)))
    assert sorted(str(folder) for folder in folders) == [f"runs/aapl-{number:04d}" for number in range(1, 49)]


def test_a_number_that_was_taken_after_the_look_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mkdir = Path.mkdir

    def overtaken(self: Path, *arguments: object, **options: object) -> None:
        if self.name in ("aapl-0001", "aapl-0002"):
            mkdir(self)  # somebody else
        mkdir(self, *arguments, **options)  # type: ignore

    monkeypatch.setattr(Path, "mkdir", overtaken)
    assert str(run_folder.create("aapl", None)) == "runs/aapl-0003"


def test_a_named_folder_may_be_new_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "new"):
        assert run_folder.create("aapl", out) == out and out.is_dir()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for out in (tmp_path, tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("a" * 300)):
        with pytest.raises(UsageError):
            run_folder.check_writable(out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UsageError, match="/proc/nothing: cannot write a run"):
        run_folder.create("aapl", Path("/proc/nothing"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_text(tmp_path / "report.md", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot write .*report\.md: No space left"):
        files.write_text(tmp_path / "report.md", "new")
    assert (tmp_path / "report.md").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_file_may_be_read_by_others_and_holds_any_letter(tmp_path: Path) -> None:
    files.write_text(tmp_path / "report.md", "95 % µ ü")
    assert (tmp_path / "report.md").read_bytes() == "95 % µ ü".encode()
    assert (tmp_path / "report.md").stat().st_mode & 0o777 == 0o644


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert run_folder.read_metrics(tmp_path) == []
    rows(tmp_path, 1, 2)
    assert run_folder.read_metrics(tmp_path) == [{"epoch": 1, "valid_mse": 1.0}, {"epoch": 2, "valid_mse": 0.5}]


def test_a_last_line_that_was_cut_off_is_left_out_and_any_other_is_named(tmp_path: Path) -> None:
    rows(tmp_path, 1, 2)
    file = tmp_path / run_seal.METRICS
    with file.open("a") as stream:
        stream.write('{"epoch": 3, "val')
    assert [row["epoch"] for row in run_folder.read_metrics(tmp_path)] == [1, 2]
    numbers = (
        '{"epoch": 3, "val',
        "[3]",
        '{"step": 3}',
        '{"epoch": "3"}',
        '{"epoch": true}',
        '{"epoch": 3, "mse": "x"}',
    )
    for line in (
        *map(str.encode, numbers),
        b"\x00\xff\xfe",
        b"[" * 100_000,
        b"{" * 100_000,
        b'{"epoch": 1' + b"0" * 9000 + b"}",
    ):
        file.write_bytes(b'{"epoch": 2}\n' + line + b'\n{"epoch": 4}\n')
        with pytest.raises(UsageError, match=r"metrics\.jsonl, line 2: ") as raised:
            run_folder.read_metrics(tmp_path)
        assert "\n" not in str(raised.value)


def test_flipped_bits_in_the_log_are_rows_or_one_line_that_names_them(tmp_path: Path) -> None:
    rows(tmp_path, *range(1, 6))
    seal_log(tmp_path, 4)
    file, choose = tmp_path / run_seal.METRICS, random.Random(0)
    whole, found = file.read_bytes(), []
    for _ in range(300):
        content = bytearray(whole)
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
        file.write_bytes(content)
        try:
            run_folder.keep_metrics(tmp_path, 4)
        except UsageError as error:
            found.append(str(error))
        else:
            # The row that is dropped may hold anything that can be read.
            assert file.read_bytes() == whole[: len(file.read_bytes())]
    assert len(found) > 240 and all(run_seal.METRICS in said and "\n" not in said for said in found)


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    rows(tmp_path, 1, 2, 3, 4)
    seal_log(tmp_path, 2)
    kept = run_folder.keep_metrics(tmp_path, 2)
    assert [row["epoch"] for row in kept] == [1, 2] and run_folder.read_metrics(tmp_path) == kept
    assert run_folder.keep_metrics(tmp_path, 0) == [] == run_folder.read_metrics(tmp_path)


@pytest.mark.parametrize("epochs", [(1, 3), (1, 2, 2, 3), (2, 3), (1, 2), ()])
def test_rows_that_are_not_one_an_epoch_are_refused_and_left(tmp_path: Path, epochs: tuple[int, ...]) -> None:
    (tmp_path / run_seal.METRICS).touch()
    rows(tmp_path, *epochs)
    before = (tmp_path / run_seal.METRICS).read_bytes()
    with pytest.raises(UsageError, match="epochs 1 to 3, once each"):
        run_folder.keep_metrics(tmp_path, 3)
    assert (tmp_path / run_seal.METRICS).read_bytes() == before


def test_the_best_row_is_the_smallest_the_newest_of_equals_and_never_nan() -> None:
    losses = [math.nan, 0.5, 0.4, 0.4, 0.9]
    found = [{"epoch": number, "loss": loss} for number, loss in enumerate(losses, 1)]
    assert run_folder.best_row(found, "loss")["epoch"] == 4
    with pytest.raises(UsageError, match="the metrics of epoch 1 lack valid_mse"):
        run_folder.best_row(found, "valid_mse")


def test_a_config_that_is_not_there_or_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        run_folder.read_config(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"it has no config\.json"):
        run_folder.read_config(tmp_path)
    for content, said in (
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "got 'list'"),
    ):
        (tmp_path / run_seal.CONFIG).write_bytes(content)
        with pytest.raises(UsageError, match=said):
            run_folder.read_config(tmp_path)


def test_the_environment_tells_versions_machine_and_source() -> None:
    found = run_folder.environment("1 cpu")
    assert set(found["libraries"]) == set(run_folder.LIBRARIES) and found["devices"] == "1 cpu"
    assert all(found[name] for name in ("jaxseq", "python", "platform", "cpu_count", "started", "command"))
    assert json.loads(json.dumps(found)) == found


def test_tables_have_seven_digits_however_small_the_number(tmp_path: Path) -> None:
    csv_tables.write(tmp_path / "t.csv", pd.DataFrame({"row": [1, 2], "forecast": [1 / 3, 1e-9 / 3]}))
    assert (tmp_path / "t.csv").read_text() == "row,forecast\n1,0.3333333\n2,3.333333e-10\n"


def test_a_judgement_is_remembered_also_when_it_was_set_aside(tmp_path: Path) -> None:
    names = ("importance.csv",)
    assert not run_folder.judged_with(tmp_path, names)
    (tmp_path / "judged-3").mkdir()
    (tmp_path / "judged-3" / "importance.csv").write_text("")
    assert run_folder.judged_with(tmp_path, names)
    assert not run_folder.judged_with(tmp_path, ("classical.csv",))
