"""Runs of chorales as a training would leave them, without its time."""

from pathlib import Path

from jaxseq.checkpoint import run_seal
from jaxseq.checkpoint.writer import Writer
from jaxseq.common import files
from jaxseq.train import experiments
from jaxseq.train.domains import chorales
from jaxseq.train.job import initial_state, run_config


def untrained(name: str, archive: Path, folder: Path, **options: object) -> Path:
    """Write an untrained run of an experiment on an edition of pieces; returns its folder. `options` are the network's."""
    model = {"hidden": 6, "embedding": 4}
    model |= {"convolutions": [5]} if name == "jsb" else {"voice_hidden": 5}
    model |= options
    fields = {
        "experiment": name,
        "data": {"path": str(archive)},
        "model": model,
        "batch": 4,
        "stretch": 32,
        "hop": 32,
    }
    job = chorales.prepare(experiments.from_config(fields, "test"))
    folder.mkdir(parents=True)
    files.write_json(folder / run_seal.CONFIG, run_config(job))
    with Writer(folder / run_seal.CHECKPOINTS, run_config(job), "valid_nats") as writer:
        writer.save(1, initial_state(job), {"valid_nats": 1.0})
    return folder
