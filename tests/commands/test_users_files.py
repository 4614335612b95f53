"""The user's paths and files: one folder for ~, and nothing that is there is replaced or removed unasked."""

import contextlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from quick_words import PIECE, TINY
from sales_tables import sales

from jaxseq import forecast
from jaxseq.benchmark import __main__ as benchmark
from jaxseq.benchmark import machine
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import run_seal
from jaxseq.common import sealed, written
from jaxseq.common.errors import UsageError
from jaxseq.report import __main__ as report
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.train import __main__ as train
from jaxseq.train import restore, run, study
from jaxseq.train.saved_experiment import saved_experiment

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def contents(folder: Path) -> dict[str, bytes | None]:
    """The bytes of every file of a folder, None for a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.slow
def test_train_lands_in_the_home_folder_and_every_reader_finds_it(home: Path, capsys: pytest.CaptureFixture) -> None:
    assert train.main([*TINY, "--out=~/a"]) == 0
    assert {"config.json", "report.md", "checkpoints"} <= {path.name for path in (home / "a").iterdir()}
    assert train.main(["--resume=~/a"]) == 0
    assert checkpoint.main(["verify", "~/a"]) == 0
    assert "epoch 1: sound" in capsys.readouterr().out
    assert [path.name for path in home.iterdir()] == ["a"]


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_a_study_and_a_sweep_land_in_the_home_folder(home: Path) -> None:
    assert train.main([*TINY, "--seeds", "2", "--out=~/study"]) == 0
    assert sweep.main([*TINY, "--seed", "0,1", "--workers", "1", "--out=~/sweep"]) == 0
    assert (home / "study" / "study.md").is_file() and (home / "sweep" / "sweep.md").is_file()


def test_a_forecast_reads_and_writes_in_the_home_folder(home: Path, table_run: Path) -> None:
    shutil.copytree(table_run, home / "run")
    shutil.copy(table_run.parent / "sales.csv", home / "new.csv")
    assert forecast.main(["~/run", "--data.path=~/new.csv", "--out=~/a.csv"]) == 0
    assert (home / "a.csv").is_file() and (home / "a.png").is_file()
    with pytest.raises(UsageError, match="exists"):
        forecast._run(forecast.parse(["~/run", "--out=~/a.csv"]))


@pytest.mark.usefixtures("reported")
def test_pieces_and_measurements_land_in_the_home_folder(
    home: Path, chords_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sample.main([str(chords_run), *PIECE, "--out=~/pieces"]) == 0
    assert (home / "pieces" / "samples.json").is_file()

    monkeypatch.setattr(machine, "prepare", lambda device, core, heap: machine.Place(0, heap))
    monkeypatch.setattr(benchmark, "_compare", lambda *_: {"results": []})
    assert benchmark.main(["--quick", "--out=~/bench.json"]) == 0
    assert (home / "bench.json").is_file()

    assert report.main(["--budget", "quick", "--out=~/report"]) == 2
    assert (home / "report" / "runs").is_dir()


@pytest.mark.slow
def test_functions_for_users_resolve_their_paths(home: Path, table_run: Path) -> None:
    shutil.copytree(table_run, home / "run")
    assert restore.restore("~/run").epoch == 1
    assert len(forecast.forecast("~/run").table) == 1
    experiment = saved_experiment("~/run")
    run.train(experiment, out="~/new")
    run.train(experiment, resume="~/new")
    study.study(experiment, seeds=1, out=Path("~/study"))
    assert {path.name for path in home.iterdir()} == {"run", "new", "study"}


@pytest.mark.parametrize("name", [".config.personal", ".env.testing1", ".config.json.abcdefgh"])
def test_a_hidden_file_of_the_user_is_no_leftover(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / name).write_text("mine")
    for words in ([], ["--seeds", "2"]):
        assert train.main([*TINY, *words, "--out", str(tmp_path)]) == 2
        assert "not empty" in capsys.readouterr().err
    assert contents(tmp_path) == {name: b"mine"}


def test_only_leftovers_of_our_own_are_removed_and_no_folder_or_target(tmp_path: Path) -> None:
    from jaxseq.common import files
    from jaxseq.train import run_folder

    canary = tmp_path / "canary"
    canary.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / files.temporary_name("config.json")).write_text("{")
    (folder / files.temporary_name("a.csv")).symlink_to(canary)
    (folder / files.temporary_name("b.csv")).mkdir()
    (folder / files.temporary_name("z.csv")).write_text("")
    (folder / ".config.personal").write_text("mine")
    run_folder.remove_leftovers(folder)
    left = [path for path in folder.iterdir() if not path.is_dir()]
    assert [path.name for path in left] == [".config.personal"] and canary.read_text() == "mine"


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal comes before any work."""
    monkeypatch.setattr(forecast.future, "forecast", lambda *_: pytest.fail("forecast"))
    monkeypatch.setattr(machine, "prepare", lambda *_: pytest.fail("measured"))


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_forecast_replaces_no_file_unasked(table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = sales(tmp_path / "data.csv")
    (tmp_path / "chart.png").write_text("mine")
    (tmp_path / "link.csv").symlink_to(data)
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nothing")
    before = contents(tmp_path)
    for name in ("data.csv", "chart.csv", "link.csv", "dangling.csv"):
        assert forecast.main([str(table_run), "--out", str(tmp_path / name)]) == 2
        assert "exists" in capsys.readouterr().err

    # The data that are read are not replaced even on demand, by whatever name, nor are the files of the run.
    (tmp_path / "same.csv").hardlink_to(data)
    for out in ("data.csv", "link.csv", "same.csv"):
        words = ["--data.path", str(data), "--overwrite", "--out", str(tmp_path / out)]
        assert forecast.main([str(table_run), *words]) == 2
        assert "is read here" in capsys.readouterr().err
    for name in ("predictions.csv", "scores.csv", "forecast.csv", "loss.csv"):
        assert forecast.main([str(table_run), "--overwrite", "--out", str(table_run / name)]) == 2
    (tmp_path / "same.csv").unlink()
    assert contents(tmp_path) == before


def test_a_forecast_replaces_what_it_is_told_to(table_run: Path, tmp_path: Path) -> None:
    data = sales(tmp_path / "data.csv")
    canary = data.read_bytes()
    (tmp_path / "a.csv").symlink_to(data)
    (tmp_path / "a.png").write_text("old")
    assert forecast.main([str(table_run), "--overwrite", "--out", str(tmp_path / "a.csv")]) == 0
    assert data.read_bytes() == canary and not (tmp_path / "a.csv").is_symlink()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_default_files_of_a_forecast_are_replaced_as_long_as_nobody_edits_them(
    table_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(table_run, folder)
    words = [str(folder)]
    for more in ([], ["--epoch", "1"]):
        assert forecast.main([*words, *more]) == 0
    record = json.loads((folder / "future.json").read_text())
    assert (record["run"], record["epoch"], record["horizon"]) == ("run", 1, 1)
    assert record["last"] == ["2021-04-30"]

    with monkeypatch.context() as patch:
        # Killed between the two files.
        patch.setattr(written.files, "write", lambda path, content: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forecast.main(words)
    assert forecast.main(words) == 0

    capsys.readouterr()
    for name in ("future.csv", "future.png"):
        sound = (folder / name).read_bytes()
        (folder / name).write_bytes(sound + b"mine")
        with monkeypatch.context() as patch:
            patch.setattr(forecast.future, "forecast", lambda *_: pytest.fail("forecast"))
            assert forecast.main(words) == 2
        error = capsys.readouterr().err
        assert name in error and "--overwrite" in error
        assert (folder / name).read_bytes() == sound + b"mine"
        (folder / name).write_bytes(sound)
    (folder / "future.csv").write_text("mine")
    assert forecast.main([*words, "--overwrite"]) == 0
    assert forecast.main(words) == 0
    (folder / "future.json").write_text("{}")
    assert forecast.main(words) == 2


@pytest.mark.usefixtures("reported")
def test_a_report_goes_into_an_empty_folder_or_that_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "thesis" / "runs").mkdir(parents=True)
    (tmp_path / "thesis" / "report.md").write_text("mine")
    before = contents(tmp_path)
    assert report.main(["--out", str(tmp_path / "thesis")]) == 2
    error = capsys.readouterr().err
    assert "is not empty, and holds no report" in error and error.count("\n") == 1
    assert contents(tmp_path) == before

    for _ in range(2):
        assert report.main(["--out", str(tmp_path / "report")]) == 2
        assert "far enough" in capsys.readouterr().err
    # What a user puts beside a report stays, and does not stop it.
    (tmp_path / "report" / "notes.txt").write_text("mine")
    assert report.main(["--out", str(tmp_path / "report")]) == 2
    assert "far enough" in capsys.readouterr().err
    assert (tmp_path / "report" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_edited_tables_of_a_study_and_a_sweep_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    study_words = (train, [*TINY, "--seeds", "2"], "study")
    sweep_words = (sweep, [*TINY, "--seed", "0,1", "--workers", "1"], "sweep")
    for program, words, name in (study_words, sweep_words):
        folder = tmp_path / name
        assert program.main([*words, "--out", str(folder)]) == 0
        tables = contents(folder)
        (folder / f"{name}.md").write_text("my notes")
        (folder / f"{name}.csv").unlink()
        capsys.readouterr()
        for _ in range(2):
            assert program.main([*words, "--out", str(folder)]) == 0
        assert "kept as" in capsys.readouterr().out
        assert (folder / f"{name}.edited-1.md").read_text() == "my notes"
        assert not list(folder.glob("*.edited-2.*"))
        for suffix in ("md", "csv"):
            assert (folder / f"{name}.{suffix}").read_bytes() == tables[f"{name}.{suffix}"]

        # The recipe of another study or sweep is seen.
        assert checkpoint.main(["verify", str(folder)]) == 0
        recipe = sealed.read(folder / f"{name}.json")
        member = folder / sorted(recipe[run_seal.MEMBERS])[0]
        config = sealed.read(member / run_seal.CONFIG)
        sealed.write(member / run_seal.CONFIG, {**config, "lr": 0.5})
        assert checkpoint.main(["verify", str(folder)]) == 1
        assert f"{name}.json: damaged (it has another recipe for {member.name})" in capsys.readouterr().out
        sealed.write(member / run_seal.CONFIG, config)
        sealed.write(folder / f"{name}.json", {**recipe, run_seal.MEMBERS: {"fold-9-seed-9": "0"}})
        assert checkpoint.main(["verify", str(folder)]) == 1
        assert f"{name}.json: damaged (it is of other runs than" in capsys.readouterr().out


def test_outputs_are_known_again_wherever_a_process_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def write_two(first: bytes, second: bytes) -> None:
        outputs = written.Outputs(tmp_path, said.append)
        outputs.write("a.md", first)
        outputs.write("b.csv", second)

    write_two(b"1", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(written.files, "write", lambda path, content: 1 / 0)
        for content in (b"2", b"3"):
            with pytest.raises(ZeroDivisionError):
                write_two(content, content)
    write_two(b"4", b"4")
    assert said == [] and set(contents(tmp_path)) == {"a.md", "b.csv", "written.json"}

    # A link is somebody else's, and what it points to stays.
    (tmp_path / "a.md").rename(tmp_path / "canary")
    (tmp_path / "a.md").symlink_to("canary")
    (tmp_path / "b.csv").write_bytes(b"5")
    write_two(b"6", b"5")
    assert (tmp_path / "canary").read_bytes() == b"4" and len(said) == 0
    (tmp_path / "b.csv").unlink()
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(UsageError, match=r"b\.csv"):
        write_two(b"6", b"7")


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_benchmark_replaces_no_file_unasked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.json").write_text("mine")
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nothing")
    for words in (["--out", "a.json"], ["--out", "dangling.json"], ["--gpu", "--out", "a.json"]):
        assert benchmark.main([*words[:-1], str(tmp_path / words[-1])]) == 2
        assert "exists" in capsys.readouterr().err
    # For the superuser, a file that is renamed to /dev/null would take the place of the device.
    for words in (["--out", "/dev/null", "--overwrite"], ["--gpu", "--out", "/dev/stdout", "--overwrite"]):
        assert benchmark.main(words) == 2
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (tmp_path / "a.json").read_text() == "mine" and not (tmp_path / "nothing").exists()


def test_results_are_printed_where_stdout_is_named(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "prepare", lambda device, core, heap: machine.Place(0, heap))
    monkeypatch.setattr(benchmark, "_compare", lambda *_: {"results": []})
    with contextlib.suppress(SystemExit):
        assert benchmark.main(["--quick", "--out", "/dev/stdout"]) == 0
    assert '"results": []' in capsys.readouterr().out


def test_a_folder_that_holds_anything_is_refused_by_every_command_that_fills_one(
    tmp_path: Path, chords_run: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for program, words in (
        (train, TINY),
        (train, [*TINY, "--seeds", "2"]),
        (sweep, [*TINY, "--seed", "0,1", "--workers", "1"]),
        (sample, [str(chords_run), *PIECE]),
    ):
        assert program.main([*words, "--out", str(tmp_path)]) == 2
        assert "empty" in capsys.readouterr().err
    assert contents(tmp_path) == {"thesis.txt": b"mine"}
