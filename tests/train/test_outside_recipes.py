"""An experiment from outside the package trains, resumes and is restored as those of the package."""

import dataclasses
import io

import numpy as np
import optax
import pytest
from rich.console import Console

from jaxseq import forecast
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.nn.objectives import Objective, squared_error, whole_output
from jaxseq.train import __main__ as train_command
from jaxseq.train import run, run_folder
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.optimiser import Optimiser
from jaxseq.train.restore import restore

CONSOLE = Console(file=io.StringIO())
pytestmark = pytest.mark.usefixtures("compiled_quickly")


def twice(prediction, target):
    return 2 * squared_error(prediction, target)


OBJECTIVE = Objective(twice, (("mse", squared_error),), "mse", whole_output)
MODEL = Model(cell="rnn", hidden=3).build(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doubled(ForecastExperiment):
    """Another loss and another network than the fields say."""

    def objective(self):
        return OBJECTIVE

    def build(self):
        return MODEL.clone(hidden=self.model.hidden + 1)

    def build_optimiser(self, steps_per_epoch):
        return Optimiser(optax.with_extra_args_support(optax.lion(RATE)), {})


RATE = 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(ForecastExperiment):
    pass


def recipe(kind=Doubled, **fields):
    waves = named("waves", data=Waves(count=120, window=6), model=Model("rnn", 3), epochs=2, schedule="constant")
    values = {field.name: getattr(waves, field.name) for field in dataclasses.fields(waves)}
    return kind(**{**values, "name": "doubled", **fields})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return run.train(recipe(), out=tmp_path_factory.mktemp("outside") / "run", console=CONSOLE)


def test_the_record_names_the_class_and_what_it_has_built(trained):
    config = run_folder.read_config(trained)
    assert config["recipe"].endswith(".Doubled")
    assert {name: text.partition("(")[0] for name, text in config["overrides"].items()} == {
        "build": "Forecaster",
        "objective": "test_outside_recipes.twice; mse chooses the epoch",
        "build_optimiser": "chain",
    }
    assert "hidden = 4" in config["overrides"]["build"]
    assert (
        "scale_by_lion" in config["overrides"]["build_optimiser"] and "-0.01" in config["overrides"]["build_optimiser"]
    )
    assert "training loss: test_outside_recipes.twice" in (trained / "report.md").read_text()


def test_it_resumes_with_the_optimiser_that_it_was_trained_by(trained, monkeypatch):
    monkeypatch.setitem(globals(), "RATE", 1e-3)
    with pytest.raises(UsageError, match="other methods of its class") as caught:
        run.train(recipe(epochs=3), resume=trained, console=CONSOLE)
    assert "-0.001" in str(caught.value.got) and "-0.01" in str(caught.value.needed)


class Rising(Doubled):
    """A logit of a rise, which is no forecast."""

    def objective(self):
        return Objective(twice, (("log_loss", squared_error),), "log_loss", whole_output)


def test_an_objective_that_cannot_be_judged_is_refused_before_training(tmp_path):
    with pytest.raises(UsageError) as caught:
        run.train(recipe(Rising), out=tmp_path / "run", console=CONSOLE)
    assert (caught.value.where, caught.value.got, caught.value.needed) == ("objective", "log_loss", "mse")
    assert not (tmp_path / "run").exists()


def test_it_is_restored_by_its_recipe_whose_values_play_no_part(trained):
    windows = np.sin(np.arange(12.0)).reshape(2, 6)
    model = restore(trained, experiment=recipe(model=Model("gru", 9), epochs=7))
    assert model.experiment == recipe()
    assert model.state.params["recurrent_0"]["cell"]["bias"].shape == (4,)
    # The fields say nothing of the network that it builds.
    assert repr(model) == f"Trained(doubled, epoch {model.epoch}, network of Doubled)"
    report = (trained / "report.md").read_text()
    assert "network of Doubled" in report and f"Doubled (epoch {model.epoch})" in report and "rnn" not in report
    np.testing.assert_array_equal(model(windows), restore(trained, experiment=recipe())(windows))


@pytest.mark.slow
def test_it_resumes_bit_for_bit(trained, tmp_path):
    whole = run.train(recipe(epochs=3), out=tmp_path / "whole", console=CONSOLE)
    parts = run.train(recipe(epochs=2), out=tmp_path / "parts", console=CONSOLE)
    run.train(recipe(epochs=3), resume=parts, console=CONSOLE)
    assert (parts / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_nothing_is_imported_by_the_name_in_a_file(trained, capsys):
    """The commands know the fields alone, and would restore another network with another loss."""
    with pytest.raises(UsageError, match="an experiment from outside the package"):
        restore(trained)
    for main in (forecast.main, lambda words: train_command.main(["--resume", *words])):
        assert main([str(trained)]) == 2
        assert "an experiment from outside the package" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (recipe(Other), "the run was trained by another class"),
        (recipe(name="tripled"), "the run has another experiment"),
        (named("waves"), "the run has another experiment"),
    ],
)
def test_another_recipe_is_refused(trained, given, rule):
    with pytest.raises(UsageError, match=rule):
        restore(trained, experiment=given)
    with pytest.raises(UsageError, match=rule if given.name != "waves" else "an experiment from outside"):
        run.train(given, resume=trained, console=CONSOLE)
