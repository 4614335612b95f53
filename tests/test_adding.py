"""A name that is registered is on the command line, and in no second list that would have to follow it."""

import ast
import json
import re
import sys
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxseq.cells import CELLS
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.data.scaling import Scaling
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.export import __main__ as export
from jaxseq.export import formats
from jaxseq.export.kinds import forecasts
from jaxseq.nn import heads, networks
from jaxseq.sweep import options as sweep_options
from jaxseq.train import __main__ as train
from jaxseq.train import domains, experiments, loggers, options
from jaxseq.train.experiments import EXPERIMENTS
from jaxseq.train.optimiser import RULES
from jaxseq.train.restore import restore
from jaxseq.train.schedules import RATES

ROOT = Path(__file__).parent.parent
ADDED = ROOT / "tests" / "support" / "added"
REGISTRIES = MappingProxyType(
    {
        "--model.cell": tuple(CELLS),
        "--model.kind": tuple(networks.KINDS),
        "--model.head": ("point", *heads.HEADS),
        "--data.target": tuple(TRANSFORMS),
        "--loss": tuple(heads.LOSSES),
        "--optimiser": tuple(RULES),
        "--schedule": ("constant", *RATES, "plateau"),
        "--log": loggers.TOOLS,
        "--to": formats.NAMES,
        "experiment": tuple(EXPERIMENTS),
    }
)
"""Names by the option that takes them, in the order of its help."""
LISTS = MappingProxyType({"--optimiser": 1, "--loss": 1, "--data.target": 1})
"""Lists in the source that have all names of a registry: the registry itself, and what --help reads without JAX."""
every_option = pytest.mark.parametrize("option", [name for name in REGISTRIES if name.startswith("--")])


@pytest.fixture(scope="module")
def help_text():
    """The help texts of an experiment and of the export."""

    def shown(parse, words):
        with pytest.MonkeyPatch.context() as patch:
            lines = []
            patch.setattr("builtins.print", lambda *texts, **_: lines.extend(texts))
            with pytest.raises(SystemExit):
                parse(words)
        return "".join(lines)

    return shown(options.parse, ["aapl", "--help"]) + shown(export.main, ["--help"])


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_an_export_is_checked_on_values_that_every_target_can_read(kind):
    scaling = Scaling(kind, shift=(10.0,), scale=(2.0,))
    values = forecasts.example(scaling, steps=6, window=6)["values"]
    assert values.shape == (3, 6) and np.isfinite(values).all() and np.ptp(values) > 0
    assert not TRANSFORMS[kind].refused(values).any()


@every_option
def test_the_help_lists_every_name_that_is_registered(option, help_text):
    (text,) = re.findall(rf"│ {option} (.*?)\(default", help_text, re.DOTALL)
    names = ",".join(REGISTRIES[option])
    # Choices in braces, which may begin with one that is no entry of the registry, or a list in a sentence.
    assert re.search(rf"[{{:](auto,)?{names}[}}.]", re.sub(r"[\s│]+", "", text))


def test_a_sweep_names_every_logger():
    assert f"({', '.join(loggers.TOOLS)})" in sweep_options.HELP


def test_the_loggers_are_the_extras_that_install_them():
    extras = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{name} = \[", extras, re.MULTILINE) for name in loggers.TOOLS)


def lists(source):
    """Line and names of every list, tuple, set, `Literal` and dictionary."""
    for node in ast.walk(ast.parse(source)):
        items = getattr(node, "elts", None) or getattr(node, "keys", None)
        if isinstance(items, list):
            yield node.lineno, {item.value for item in items if isinstance(item, ast.Constant)}


def test_no_second_list_repeats_a_registry():
    sources = {path.relative_to(ROOT): path.read_text() for path in sorted((ROOT / "jaxseq").rglob("*.py"))}
    for option, names in REGISTRIES.items():
        # Few files have all the names, and parsing takes long.
        candidates = {path: text for path, text in sources.items() if all(f'"{name}"' in text for name in names)}
        places = [
            f"{path}:{line}"
            for path, text in candidates.items()
            for line, listed in lists(text)
            if listed >= set(names)
        ]
        assert len(places) == LISTS.get(option, 0), f"{option}: {', '.join(places)}"


# Modules that somebody else adds --------------------------------------------------------------------------------------


@pytest.fixture
def added(monkeypatch):
    """The modules of `tests/support/added` lie in the package's rooms of the same name, and nothing else is changed."""
    rooms = {"domains": domains, "experiments": experiments, "formats": formats}
    for name, room in rooms.items():
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(ADDED / name)])
    registered = experiments.available()
    for module in (experiments, options):
        monkeypatch.setattr(module, "EXPERIMENTS", registered)
    monkeypatch.setattr(formats, "NAMES", formats.available())
    yield
    for name in ("domains.sums", "experiments.sums"):
        sys.modules.pop(f"jaxseq.train.{name}", None)
    sys.modules.pop("jaxseq.export.formats.shapes_format", None)


@pytest.fixture
def added_kind(monkeypatch):
    """The module of a kind of network lies in the room of the others."""
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(ADDED / "networks")])
    registered = networks.available()
    monkeypatch.setattr(networks, "KINDS", registered)
    yield
    sys.modules.pop("jaxseq.nn.networks.doubled", None)


def test_a_kind_of_network_is_added_by_its_module_alone(added_kind):
    assert set(networks.KINDS) == {*REGISTRIES["--model.kind"], "doubled"}
    networks.named("doubled").check(networks.Use(task="direct"))
    built = networks.named("doubled").network(CELLS["gru"], 3, 2, 1)
    params = jax.eval_shape(lambda: built.init(jax.random.key(0), jnp.ones((2, 5, 1))))["params"]
    assert params["recurrent_1"]["cell"]["input_kernel"].shape == (3, 9)


def command(main, *words):
    assert main([str(word) for word in words]) == 0


def test_a_domain_and_a_format_are_added_by_their_modules_alone(added, compiled_quickly, tmp_path, capsys):
    whole, parts, out = tmp_path / "whole", tmp_path / "parts", tmp_path / "exported"
    command(train.main, "sums", "--epochs", "2", "--model.hidden", "3", "--out", whole)
    command(train.main, "sums", "--epochs", "1", "--model.hidden", "3", "--schedule", "constant", "--out", parts)
    command(train.main, "--resume", parts, "--epochs", "2")
    command(checkpoint.main, "verify", whole)
    assert (parts / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()

    run = restore(whole)
    assert type(run).__name__ == "Classified" and run.epoch in (1, 2) and run.experiment.model.hidden == 3
    command(export.main, whole, "--to", "safetensors,shapes", "--out", out)
    shapes = json.loads((out / "shapes.json").read_text())
    arrays = safetensors.numpy.load_file(out / "parameters.safetensors")
    assert shapes == {name: list(array.shape) for name, array in arrays.items()}
    np.testing.assert_array_equal(arrays["head/kernel"], run.state.params["head"]["kernel"])
    card = (out / "README.md").read_text()
    assert "A gru of 3 units, trained as sums." in card and "`shapes.json`" in card

    # A program is what the domain says that its runs are, and it says nothing.
    assert export.main([str(whole), "--to", "stablehlo", "--out", str(tmp_path / "none")]) == 2
    assert "takes no run of sums (sums); got 'stablehlo', needed safetensors or shapes" in capsys.readouterr().err
