"""A run of any domain is restored by one function, and every domain offers the same ones."""

import inspect
import json

import pytest

from jaxseq.checkpoint.writer import Writer
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.corpora.pianoroll import PianoRoll
from jaxseq.train import domains, run_folder
from jaxseq.train.domains import Domain, chorales, forecasts, pianoroll
from jaxseq.train.experiments import EXPERIMENTS, named, to_config
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import initial_state, run_config
from jaxseq.train.restore import restore

FUNCTIONS = ("prepare", "restore", "judge", "check", "row", "summary")
every_domain = pytest.mark.parametrize("module", [forecasts, chorales, pianoroll])


@every_domain
def test_a_domain_has_the_functions_of_the_protocol_with_their_parameters(module):
    assert isinstance(module, Domain)
    for name in FUNCTIONS:
        required = list(inspect.signature(getattr(Domain, name)).parameters)[1:]
        assert list(inspect.signature(getattr(module, name)).parameters) == required, name


def test_every_experiment_has_a_domain():
    assert {domains.of(experiment) for experiment in EXPERIMENTS.values()} == {forecasts, chorales, pianoroll}


def test_a_run_is_restored_by_its_own_domain(tmp_path):
    experiment = named("waves", data=Waves(count=100, window=6), model=Model(hidden=3))
    job = forecasts.prepare(experiment)
    run_folder.write_config(tmp_path, run_config(job))
    with Writer(tmp_path / run_folder.CHECKPOINTS, run_config(job), "valid_mse") as writer:
        writer.save(1, initial_state(job), {"train_loss": 1.0, "valid_mse": 1.0})

    model = restore(tmp_path)
    assert isinstance(model, forecasts.Trained) and model.experiment == experiment and model.epoch == 1
    with pytest.raises(UsageError, match="is a run of waves"):
        chorales.restore(tmp_path)
    with pytest.raises(UsageError, match="is a run of waves"):
        pianoroll.restore(tmp_path)


@pytest.mark.parametrize(("name", "data"), [("jsb", Jsb()), ("pianoroll", PianoRoll())])
def test_the_domain_is_asked_that_the_config_names(name, data, tmp_path, monkeypatch):
    experiment = named(name, data=data)
    (tmp_path / run_folder.CONFIG).write_text(json.dumps(to_config(experiment)))
    module = domains.of(experiment)

    def refuse(folder, epoch):
        raise UsageError("not trained", where=folder, got=epoch)

    monkeypatch.setattr(module, "restore", refuse)
    with pytest.raises(UsageError, match="not trained") as raised:
        restore(tmp_path, 3)
    assert (raised.value.where, raised.value.got) == (tmp_path, 3)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no run at"):
        restore(tmp_path / "nowhere")
