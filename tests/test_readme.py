"""What the README shows is true: its Python runs, its tree names every room, its commands are there."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_its_python_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__readme__"})
    assert capsys.readouterr().out.strip()


def test_its_first_example_is_short_and_gives_a_price(tmp_path, monkeypatch, capsys):
    assert len(BLOCKS[0].strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__readme__"}
    exec(BLOCKS[0], names)
    assert names["model"](names["prices"].values[-50:])[0] == pytest.approx(names["prices"].values[-1], rel=0.1)


def test_its_tree_names_every_room():
    tree = README.split("## Where things are")[1].split("\n## ")[0]
    for path in sorted((ROOT / "jaxseq").iterdir()):
        if path.name not in ("__init__.py", "__pycache__", "py.typed"):
            assert re.search(rf"\b{re.escape(path.name)}", tree), f"{path.name} is not in the tree"


def test_every_module_that_it_runs_is_there():
    for module in set(re.findall(r"python -m (jaxseq\.\w+)", README)):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_the_tests_run_on_the_python_that_is_promised():
    promised = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert sys.version_info >= (int(promised[1]), int(promised[2]))
