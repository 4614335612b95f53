"""A run of any domain is restored by one function, and every domain offers the same ones."""

import functools
import inspect
import json

import numpy as np
import pandas as pd
import pytest
from made_up import rolls
from quick_compilation import quick_compilation

from jaxseq.checkpoint import run_seal
from jaxseq.checkpoint.writer import Writer
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.corpora.pianoroll import PianoRoll
from jaxseq.train import domains, epoch, run, run_folder
from jaxseq.train.domains import chorales, forecasts, pianoroll
from jaxseq.train.domains.base import Domain
from jaxseq.train.experiments import EXPERIMENTS, named, to_config
from jaxseq.train.experiments.chorale_networks import Notes
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.experiments.pianoroll import Roll
from jaxseq.train.job import initial_state, run_config
from jaxseq.train.restore import restore

pytestmark = pytest.mark.usefixtures("compiled_quickly")

FUNCTIONS = ("prepare", "restore", "judge", "check", "summary")
every_domain = pytest.mark.parametrize("module", [forecasts, chorales, pianoroll])


@every_domain
def test_a_domain_has_the_functions_of_the_protocol_with_their_parameters(module):
    assert isinstance(module, Domain)
    for name in FUNCTIONS:
        required = list(inspect.signature(getattr(Domain, name)).parameters)[1:]
        assert list(inspect.signature(getattr(module, name)).parameters) == required, name


def test_every_experiment_has_a_domain():
    assert {domains.of(experiment) for experiment in EXPERIMENTS.values()} >= {forecasts, chorales, pianoroll}


def test_a_run_is_restored_by_its_own_domain(tmp_path):
    experiment = named("waves", data=Waves(count=100, window=6), model=Model(hidden=3))
    job = forecasts.prepare(experiment)
    run_folder.write_config(tmp_path, run_config(job))
    with Writer(tmp_path / run_seal.CHECKPOINTS, run_config(job), "valid_mse") as writer:
        writer.save(1, initial_state(job), {"train_loss": 1.0, "valid_mse": 1.0})

    model = restore(tmp_path)
    assert isinstance(model, forecasts.Trained) and model.experiment == experiment and model.epoch == 1
    with pytest.raises(UsageError, match="is a run of waves"):
        chorales.restore(tmp_path)
    with pytest.raises(UsageError, match="is a run of waves"):
        pianoroll.restore(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, chorales_run):
    """A function that gives the experiment of a domain and the folder of its run, which is trained once."""

    @functools.cache
    def of_domain(domain):
        if domain is chorales:
            data, model = Jsb(str(chorales_run.parent / "few.tgz")), Notes(hidden=4, convolutions=(3, 4))
            return named("jsb", data=data, model=model, batch=8, epochs=2, schedule="constant"), chorales_run

        folder = tmp_path_factory.mktemp("finished")
        if domain is forecasts:
            experiment = named("waves", data=Waves(count=100, window=6), model=Model(hidden=3), epochs=3)
        else:
            data = PianoRoll(str(rolls(folder)))
            experiment = named("pianoroll", data=data, model=Roll(hidden=3), batch=4, epochs=3, lr=0.05)
        with quick_compilation():
            return experiment, run.train(experiment, out=folder / "run")

    return of_domain


@every_domain
def test_a_trained_run_is_restored_to_the_evaluation_that_it_logged(module, finished):
    experiment, folder = finished(module)
    model = restore(folder)

    job = module.prepare(experiment)
    rows = epoch.EVALUATION_BATCHES * experiment.batch
    measured = epoch.evaluate(model.setup, model.state.params, model.state.stats, job.batches.valid, rows)
    logged = run_folder.read_metrics(folder)
    assert model.experiment == experiment and 1 <= model.epoch <= experiment.epochs
    assert len({row[f"valid_{model.setup.objective.select}"] for row in logged}) == experiment.epochs > 1
    for name, value in measured.items():
        np.testing.assert_allclose(value, logged[model.epoch - 1][f"valid_{name}"], rtol=1e-6)


def test_a_restored_model_of_piano_rolls_scores_the_test_part_as_its_run_did(finished):
    experiment, folder = finished(pianoroll)
    model = restore(folder)
    assert isinstance(model, pianoroll.RollModel)

    test = pianoroll.prepare(experiment).batches.test
    score = epoch.evaluate(model.setup, model.state.params, model.state.stats, test, experiment.batch)
    written = pd.read_csv(folder / run_seal.SCORES)["nats"].iloc[-1]
    np.testing.assert_allclose(score["nats"], written, rtol=1e-6)


@pytest.mark.parametrize(("name", "data"), [("jsb", Jsb()), ("pianoroll", PianoRoll())])
def test_the_domain_is_asked_that_the_config_names(name, data, tmp_path, monkeypatch):
    experiment = named(name, data=data)
    (tmp_path / run_seal.CONFIG).write_text(json.dumps(to_config(experiment)))
    module = domains.of(experiment)

    def refuse(folder, epoch, experiment):
        raise UsageError("not trained", where=folder, got=epoch)

    monkeypatch.setattr(module, "restore", refuse)
    with pytest.raises(UsageError, match="not trained") as raised:
        restore(tmp_path, 3)
    assert (raised.value.where, raised.value.got) == (tmp_path, 3)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no run at"):
        restore(tmp_path / "nowhere")
