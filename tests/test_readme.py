"""What README and docs show is true: their Python runs, the tree names every room, the commands are there."""

import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import jax
import pytest

from jaxseq.common import command_line
from jaxseq.export import write
from jaxseq.sample import options as sample_options
from jaxseq.sweep import grid, space
from jaxseq.sweep import options as sweep_options
from jaxseq.train import __main__ as train_command
from jaxseq.train import options as train_options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FILES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELIABILITY.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
PAGES = {path.relative_to(ROOT).as_posix().removeprefix("docs/"): path.read_text() for path in FILES}
APART = ("forecasting.md", "functions.md", "own-table.md", "python.md", "rl.md")
"""Pages with tests below: their blocks train, or go on from one another."""


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)


SLOW = {"training.md-0", "training.md-7"}
"""Blocks that train for seconds; `train/test_fit.py` and `train/test_outside_recipes.py` train the like of them."""
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}", marks=[pytest.mark.slow] if f"{page}-{number}" in SLOW else [])
    for page in PAGES
    for number, block in enumerate(blocks_of(page))
    if page not in APART
]


OPTIONAL = ("equinox", "optuna", "safetensors", "statsmodels", "torch")
"""Packages that a page may import and that not everybody has."""


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_of_a_page_runs(block, tmp_path, monkeypatch, capsys):
    for package in OPTIONAL:
        if re.search(rf"^(import|from) {package}\b", block, re.MULTILINE):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    # JAX as a user has it: its own optimisers mix dtypes that the tests' strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(block, "page.md", "exec"), {"__name__": "__page__"})
    assert capsys.readouterr().out.strip()


@pytest.mark.usefixtures("compiled_quickly")
def test_the_blocks_on_pure_functions_go_on_from_one_another(capsys):
    names = {"__name__": "__page__"}
    for block in blocks_of("functions.md"):
        exec(compile(block, "functions.md", "exec"), names)
        assert capsys.readouterr().out.strip()
    assert jax.numpy.array_equal(names["outputs"][13:, 1], jax.numpy.zeros((7, 8)))


@pytest.mark.slow
def test_the_page_on_a_table_leads_from_a_file_to_a_score(tmp_path, monkeypatch, capsys):
    make, use = blocks_of("own-table.md")
    monkeypatch.chdir(tmp_path)
    exec(compile(make, "own-table.md", "exec"), {"__name__": "__page__"})
    train, *later = re.findall(r"^    python -m jaxseq\.(\w+) (.*)$", PAGES["own-table.md"], re.MULTILINE)
    assert train[0] == "train"
    assert train_command.main([*shlex.split(train[1]), "--epochs", "2"]) == 0
    exec(compile(use, "own-table.md", "exec"), {"__name__": "__page__"})

    assert [name for name, _ in later] == ["forecast", "score"]
    for name, words in later:
        command = importlib.import_module(f"jaxseq.{name}")
        assert command.main(shlex.split(words)) == 0
    assert {path.name for path in Path("runs/table-0001").iterdir()} >= {"future.csv", "future.png", "score-0001"}


@pytest.mark.slow
def test_the_example_of_a_forecast_gives_a_price(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGES["forecasting.md"], re.DOTALL)
    assert len(block.strip().splitlines()) <= 10
    monkeypatch.chdir(tmp_path)

    names = {"__name__": "__page__"}
    exec(block, names)
    assert names["model"](names["prices"].values[-50:])[0] == pytest.approx(names["prices"].values[-1], rel=0.1)


@pytest.mark.usefixtures("compiled_quickly")
def test_the_examples_for_python_forecast_a_frame(tmp_path, monkeypatch, request):
    blocks = re.findall(r"```python\n(.*?)```", PAGES["python.md"], re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__"}
    exec(compile(blocks[0], "python.md", "exec"), names)
    assert names["table"]["step"].tolist() == list(range(1, 8))
    assert names["table"]["date"].iloc[0] == names["days"][-1] + names["days"].freq
    assert {"low_80%", "high_80%"} <= set(names["table"])

    pytest.importorskip("onnx")
    request.getfixturevalue("unannotated")
    exec(compile(blocks[3], "python.md", "exec"), names)
    for result, column in {"forecast": "forecast", "low_80": "low_80%", "high_80": "high_80%"}.items():
        assert names["results"][result][0].tolist() == pytest.approx(names["table"][column].tolist(), rel=1e-6)

    pytest.importorskip("sklearn")
    exec(compile(blocks[1], "python.md", "exec"), names)
    assert names["forecaster"].predict(level=0.8)["low_80%"].tolist() == names["table"]["low_80%"].tolist()


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_the_example_of_a_search_finds_a_size(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    blocks = re.findall(r"```python\n(.*?)```", PAGES["python.md"], re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__"}
    exec(compile(blocks[1], "python.md", "exec"), names)
    exec(compile(blocks[2], "python.md", "exec"), names)
    assert names["search"].best_params_["hidden"] in (4, 8)
    assert len(names["search"].predict(7)) == 7


@pytest.mark.usefixtures("compiled_quickly")
def test_the_example_of_a_policy_learns_to_remember():
    """Without a memory half of its answers are right."""
    (block,) = re.findall(r"```python\n(.*?)```", PAGES["rl.md"], re.DOTALL)
    names = {"__name__": "__page__"}
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(block, "rl.md", "exec"), names)
    assert names["right"][0] < 0.7
    assert names["right"][-10:].mean() > 0.95


def test_the_front_page_is_short():
    assert len(README.splitlines()) <= 160


def test_every_page_that_is_linked_is_there():
    for path in FILES:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_every_test_that_is_named_is_there():
    for path in FILES:
        for name in re.findall(r"tests/[\w/]+\.py", path.read_text()):
            assert (ROOT / name).is_file(), f"{path.name} names {name}"


def test_its_tree_names_every_room():
    tree = README.split("## Where things are")[1].split("\n## ")[0]
    for path in sorted((ROOT / "jaxseq").iterdir()):
        if path.name not in ("__init__.py", "__pycache__", "py.typed"):
            assert re.search(rf"\b{re.escape(path.name)}", tree), f"{path.name} is not in the tree"


def test_every_module_that_it_runs_is_there():
    for module in set(re.findall(r"python -m (jaxseq\.\w+)", "".join(PAGES.values()))):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def swept(words):
    options = sweep_options.parse(words)
    return space.parse(options.words) if options.trials else grid.points(options.words)


PARSERS = {
    "train": train_options.parse,
    "sweep": swept,
    "sample": sample_options.parse,
    "export": lambda words: command_line.parse(write.Options, words, program="jaxseq.export"),
}
"""What reads the words of a command."""


def test_the_options_of_every_command_that_is_shown_are_there(aapl_run):
    shown = re.findall(r"^    \S*python -m jaxseq\.(\w+) ((?:.*\\\n)*.*)$", "".join(PAGES.values()), re.MULTILINE)
    assert len(shown) > 30
    has_optuna = importlib.util.find_spec("optuna") is not None
    for name, text in sorted(set(shown)):
        # A search is refused without it, before its options are read.
        if "--optuna" in text and not has_optuna:
            continue
        # A run to resume is any that is there.
        named = re.sub(r"(--resume) runs/(aapl|table)-0001", rf"\1 {aapl_run}", text.replace("\\\n", " "))
        words = shlex.split(named.replace("runs/aapl-0001", str(aapl_run)), comments=True)
        if name in PARSERS and "--help" not in words:
            assert PARSERS[name](words), text


def test_the_tests_run_on_the_python_that_is_promised():
    promised = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert sys.version_info >= (int(promised[1]), int(promised[2]))
