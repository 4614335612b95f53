"""`python -m jaxseq.sample.harmonise`: tunes keep, lower voices are composed, and the table has Bach's beside them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.sample import harmonise, usual
from jaxseq.sample.harmonise import Options, Tune
from jaxseq.train import experiments
from jaxseq.train.domains import chorales
from jaxseq.train.domains.chorales import Composer
from jaxseq.train.job import restore_best

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.mark.slow
def test_tunes_are_harmonised_together_and_measured_beside_bach(
    untrained_run: Callable[[str], Path], capsys: pytest.CaptureFixture
) -> None:
    folder = untrained_run("jsb-chords")
    assert harmonise.main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 tunes" in printed and "| notes that are Bach's |" in printed and "| 1.000 |" in printed

    job = chorales.prepare(harmonise._experiment(Options(folder)))
    epoch, state = restore_best(job, folder)
    composer = Composer(job.experiment, epoch, job.setup, state, folder)
    pieces = list(job.material.test)
    # One of another length and with an upbeat is composed beside the others.
    pieces[1] = pieces[1]._replace(
        notes=pieces[1].notes[4:], positions=pieces[1].positions[4:], fermatas=pieces[1].fermatas[4:]
    )
    given = [Tune(piece, harmonise._key_of_tune(piece)) for piece in pieces]
    way = harmonise.WAYS["as by default"]
    harmonised = harmonise.harmonise(composer, given, job.material.train, way, seed=0)
    for piece, notes in zip(pieces, harmonised, strict=True):
        np.testing.assert_array_equal(notes[:, 0], piece.notes[:, 0])
        assert (notes[:, 1:] != piece.notes[:, 1:]).any()

    first = pieces[:1]
    log_p = composer.predict(first[0].notes, first[0].positions)
    symbols = np.where(first[0].notes == 0, 0, first[0].notes - 35)
    expected = -np.take_along_axis(log_p, symbols[..., None], -1)[:, 1:, 0].mean(axis=0)
    np.testing.assert_allclose(harmonise.nats(job, composer, given[:1]), expected, rtol=1e-4)


@pytest.mark.parametrize(("conditions", "strength"), [(True, usual.STRENGTH_BESIDE_READING), (False, 0.0)])
def test_only_a_model_that_reads_keys_leans_towards_that_of_a_tune(conditions: bool, strength: float) -> None:
    chords = experiments.named("jsb-chords")
    reading = dataclasses.replace(chords, model=dataclasses.replace(chords.model, conditions=conditions))
    assert usual.strength_unasked(Composer(reading, epoch=1, setup=None, state=None)) == strength


def test_a_run_that_fills_gaps_is_refused(untrained_run: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError) as error:
        harmonise._experiment(Options(untrained_run("jsb-fill")))
    assert "run of jsb-fill" in str(error.value.got)
