"""Hostile files: every reader gives a right reading or one line that says why not, in time, in memory, in its folder.

`python -m pytest -m slow tests/commands/test_hostile.py -n 0 -s` tries ten thousand inputs for each reader,
and prints a row for each. The inputs are in `hostile.py`, the attacks that chance does not find in `planted.py`.
"""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hostile import LONGEST_SECONDS, MEMORY, READERS, attack
from planted import PLANTED, SLOW

from jaxseq.common.errors import UsageError
from jaxseq.data.tables.read import read as read_table
from jaxseq.data.yahoo.quotes import check_request, read
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.midi.read import read_melody
from jaxseq.train.experiments import from_config

HERE = Path(__file__).parents[1] / "support"
INPUTS, SECONDS = 10_000, 600
"""Tried for each reader, unless the time is up before."""


def apart(script, *words, limit):
    """What a script of this folder prints, a line of JSON each, in a process of its own."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{HERE.parents[1]}"}
    command = [sys.executable, "-W", "error", str(HERE / script), *map(str, words)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    assert found.returncode == 0, found.stderr[-2000:]
    return [json.loads(line) for line in found.stdout.splitlines()]


@pytest.mark.parametrize("name", READERS)
def test_damage_and_noise_are_read_rightly_or_refused_in_one_line(name, tmp_path):
    found = attack(name, 100, 20, "quick", tmp_path)
    assert not found["faults"]
    assert found["tried"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_inputs_are_read_rightly_or_refused_in_one_line(name, tmp_path):
    (found,) = apart("hostile.py", name, INPUTS, SECONDS, "slow", tmp_path, limit=SECONDS + 60)
    print(f"\n| {' | '.join(str(value) for key, value in found.items() if key != 'faults')} |")
    assert not found["faults"]
    assert found["tried"] >= INPUTS and found["read"] > 0 and found["MiB"] < MEMORY / 2**20


def check_planted(attacks, tmp_path, limit):
    found = apart("planted.py", tmp_path, *attacks, limit=limit)
    assert [name for name, *_ in found] == list(attacks)
    for name, came, seconds, mebibytes in found:
        said = attacks[name].said
        assert said in came and (said or not came), f"{name}: {came}"
        assert seconds < LONGEST_SECONDS * (2 if attacks is SLOW else 1) and mebibytes < MEMORY / 2**20, name


@pytest.mark.slow
def test_what_asks_for_much_is_refused_in_time_and_memory(tmp_path):
    check_planted({name: attack for name, attack in PLANTED.items() if name not in HEAVY}, tmp_path, 300)


HEAVY = (
    "two million elements",
    "thirty long pieces",
    "a million bars",
    "8,000 columns of 4,000 rows",
    "600,000 series",
)
HEAVY += ("forty million numbers in a kilobyte", "as many messages as there is room for", "notes over notes")
"""Those that take seconds."""


@pytest.mark.slow
def test_what_asks_for_most_is_read_or_refused_in_time_and_memory(tmp_path):
    check_planted({name: PLANTED[name] for name in HEAVY}, tmp_path, 600)
    check_planted(SLOW, tmp_path, 600)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
def test_a_pipe_that_nobody_writes_to_is_no_file(tmp_path):
    pipe, cached = tmp_path / "tune.csv", tmp_path / "kept.csv"
    os.mkfifo(pipe)
    os.mkfifo(cached)
    for reader in (
        read_table,
        read_melody,
        lambda path: Jsb(str(path)).load(),
        lambda path: Chorales(str(path)).load(),
    ):
        with pytest.raises(UsageError, match=r"tune\.csv.*no regular file"):
            reader(pipe)
    assert "no regular file" in read(cached, check_request("A", None, None, date(2024, 1, 1)))[1]


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\0b", "a\nb", "x" * 5000, "\ud800"])
def test_a_path_that_cannot_be_is_refused_in_one_line(path):
    for reader in (read_table, lambda path: Jsb(path).load(), lambda path: Chorales(path).load()):
        with pytest.raises(UsageError) as caught:
            reader(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/dev/zero", "/proc/self/mem"])
def test_a_recipe_out_of_a_run_opens_nothing_and_its_data_must_be_a_table(path):
    recipe = from_config({"experiment": "table", "data": {"path": path}}, "config.json")
    with pytest.raises(UsageError, match=r"the suffix '' is unknown|no regular file|No such file"):
        recipe.data.panel()


def test_prices_that_nobody_downloaded_are_damaged_though_their_seal_is_right(tmp_path):
    from hostile import PRICES, RECORD, REQUEST, sealed_prices

    file = tmp_path / "ABC.csv"
    file.write_bytes(sealed_prices(PRICES))
    assert read(file, REQUEST)[0] is not None
    for record in ({"dropped": "1"}, {"dropped": -1}, {"currency": ["USD"]}, {"currency": "a\nb"}, {"fetched": 5}):
        file.write_bytes(sealed_prices(PRICES, {**RECORD, **record}))
        assert "is damaged (" in read(file, REQUEST)[1]
    for rows in (
        b"2020-01-02,1,inf\n",
        b"2020-01-03,1,1\n2020-01-02,1,1\n",
        b"",
        b"2020-01-02,1\n",
        b"2020-01-02,1e999,1\n",
    ):
        file.write_bytes(sealed_prices(b"date,close,adj_close\n" + rows))
        assert "is damaged (" in read(file, REQUEST)[1]
