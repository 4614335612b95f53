"""What an older version wrote is read, what a newer one wrote is refused: by the number that each record bears."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jaxseq.checkpoint import records, run_seal
from jaxseq.common import files, formats, sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError
from jaxseq.data.windows import lay_out
from jaxseq.train import __main__ as train
from jaxseq.train import forecaster, run_folder

FIXTURES = Path(__file__).parents[1] / "fixtures"


def fixture_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fixture", FIXTURES / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = fixture_module()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A copy of the run of format 1."""
    return Path(shutil.copytree(FIXTURES / "format-1" / "run", tmp_path / "run"))


def relabel(folder: Path, number: object) -> None:
    """Give all that a run holds another format number, soundly sealed; None for no number at all."""
    change = {} if number is None else {"format": number}
    config = files.read_json(folder / run_seal.CONFIG)
    config.pop("format")
    config = {**change, **config}
    if isinstance(number, int) and number >= sealed.SINCE:
        config["sha256"] = sealed.digest(config)
    files.write_json(folder / run_seal.CONFIG, config)
    for path in (*folder.rglob("_CHECKPOINT_METADATA"), *folder.rglob("_ROOT_METADATA")):
        whole = json.loads(path.read_text())
        record = {key: value for key, value in whole["custom_metadata"].items() if key not in ("format", "sha256")}
        record = {**change, **record}
        whole["custom_metadata"] = {**record, "sha256": sealed.digest(record)}
        path.write_text(json.dumps(whole))


@pytest.mark.parametrize("number", range(1, formats.FORMAT + 1))
def test_a_run_of_every_format_has_its_parameters_and_its_forecast(number: int) -> None:
    folder = FIXTURES / f"format-{number}"
    wanted, trained = json.loads((folder / "expected.json").read_text()), forecaster.restore(folder / "run")
    assert trained.epoch == wanted["epoch"] and make.digest(trained) == wanted["parameters"]
    np.testing.assert_allclose(trained(make.windows()), wanted["forecast"], atol=1e-5)
    centre, ends = trained.forecast(lay_out(make.windows(), np.full((3, 1), np.nan)), trained.scaling)
    saved_margins = files.read_json(folder / "run" / run_seal.INTERVALS)["sizes"]
    for (low, high), margins in zip(ends.values(), saved_margins, strict=True):
        np.testing.assert_allclose(high - centre, margins[0], rtol=1e-9)
        np.testing.assert_allclose(centre - low, margins[0], rtol=1e-9)
    assert trained.intervals is not None and len(run_folder.read_metrics(folder / "run")) == 2


def test_the_fixtures_stay_small() -> None:
    for folder in FIXTURES.glob("format-*"):
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000


def test_every_format_has_a_fixture() -> None:
    assert {path.name for path in FIXTURES.glob("format-*")} == {f"format-{n + 1}" for n in range(formats.FORMAT)}


def test_an_old_run_is_gone_on_with_and_then_bears_todays_number(saved: Path) -> None:
    relabel(saved, None)
    assert train.main(["--resume", str(saved), "--epochs", "3"]) == 0
    assert json.loads((saved / run_seal.CONFIG).read_text())["format"] == formats.FORMAT
    assert "format" not in run_folder.read_config(saved)
    assert [row["epoch"] for row in run_folder.read_metrics(saved)] == [1, 2, 3]


def test_what_bears_no_number_is_of_format_0_and_means_the_same(saved: Path) -> None:
    config, root = run_folder.read_config(saved), records.config(saved / run_seal.CHECKPOINTS)
    relabel(saved, None)
    assert run_folder.read_config(saved) == config and records.config(saved / run_seal.CHECKPOINTS) == root
    assert make.digest(forecaster.restore(saved)) == make.digest(forecaster.restore(FIXTURES / "format-1" / "run"))


def test_a_newer_run_is_refused_with_both_numbers(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relabel(saved, 7)
    for words in (["--resume", str(saved), "--epochs", "3"], ["--resume", str(saved)]):
        assert train.main(words) == 2
        error = capsys.readouterr().err
        assert f"{saved / 'config.json'}: the format is newer" in error
        assert f"got 7, needed at most {formats.FORMAT}" in error
        assert error.count("\n") == 1
    with pytest.raises(UsageError, match="the format is newer") as raised:
        records.metrics(saved / run_seal.CHECKPOINTS, 2)
    assert (raised.value.got, raised.value.needed) == (7, f"at most {formats.FORMAT}")
    assert not isinstance(raised.value, DamagedError)


@pytest.mark.parametrize("number", ["1", -1, 1.0, True, None, [1]])
def test_a_format_that_is_no_number_is_refused(number: object, tmp_path: Path) -> None:
    files.write_json(tmp_path / run_seal.CONFIG, {"format": number})
    with pytest.raises(UsageError, match="not a format number") as error:
        run_folder.read_config(tmp_path)
    assert error.value.where == str(tmp_path / run_seal.CONFIG)
    assert (error.value.got, error.value.needed) == (number, f"a number from 0 to {formats.FORMAT}")


def test_a_number_that_was_damaged_is_damage_and_no_newer_format(saved: Path) -> None:
    """The one is fallen back from, the other is refused."""
    record = saved / run_seal.CHECKPOINTS / "2" / "_CHECKPOINT_METADATA"
    text = record.read_text()
    assert text.count('"format": 1') == 1
    record.write_text(text.replace('"format": 1', '"format": 3'))
    with pytest.raises(DamagedError, match="sha256 differs"):
        records.metrics(saved / run_seal.CHECKPOINTS, 2)


@pytest.mark.parametrize("number", [None, *range(formats.FORMAT + 1)])
def test_records_of_every_format_up_to_the_current_one_are_read_alike(number: int | None) -> None:
    record = {"epochs": 3} if number is None else {"format": number, "epochs": 3}
    assert formats.unstamped(record, "here") == {"epochs": 3}
    assert formats.stamped({"epochs": 3}) == {"format": formats.FORMAT, "epochs": 3}
