"""Harmonise the tunes of the test part that no training piece has, and measure the lower voices beside Bach's.

    python -m jaxseq.sample.harmonise runs/jsb-chords-0001

A model that reads conditions is told of each tune what its edition tells: the length and the key, which is found from the
tune alone where no signature declares it, and in an edition that has them the fermatas and the bars. Nothing is written:
the table is printed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import tyro
from jaxtyping import Float, Int

from jaxseq.common import command_line
from jaxseq.common.console import say
from jaxseq.common.errors import UsageError
from jaxseq.music import conditions, tokens
from jaxseq.music.conditions import Known
from jaxseq.music.evaluation import tunes
from jaxseq.music.evaluation.ranges import voice_ranges
from jaxseq.music.evaluation.tunes import Harmony
from jaxseq.music.piece import VOICES, Piece
from jaxseq.music.sampling import FREE, UNCHANGED, Guide, SamplingOptions
from jaxseq.music.sampling import weights as leaning
from jaxseq.music.transposition import Key
from jaxseq.sample import told, usual
from jaxseq.train.domains import chorales
from jaxseq.train.domains.chorale_scores import (
    ChoraleJob,
    log_probabilities_by_length,
    prediction_of,
    rows_of,
    stretches,
)
from jaxseq.train.domains.chorales import Composer
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.job import restore_best
from jaxseq.train.saved_experiment import saved_experiment_of

PROGRAM = "python -m jaxseq.sample.harmonise"


@dataclass(frozen=True)
class Options:
    """Harmonise the tunes of the test part that no training piece has, and measure the lower voices beside Bach's."""

    run: tyro.conf.Positional[Path]
    """Folder of a run of chorales that composes forward."""
    seed: int = 0
    """Seed of the notes."""
    data_path: Annotated[Path | None, tyro.conf.arg(name="data.path")] = None
    """Where the file or folder of the run's data is now, if it has moved since the training."""


class Tune(NamedTuple):
    """A piece whose soprano is given, and the key that is known of it."""

    piece: Piece
    key: Key | None


class Way(NamedTuple):
    """How notes are drawn; `leans` towards the key that a model reads, and keeps to the voices' ranges."""

    options: SamplingOptions
    leans: bool


WAYS = {
    "as by default": Way(SamplingOptions(note_temperature=usual.NOTE_TEMPERATURE, avoid_parallels=True), leans=True),
    "as the network draws": Way(UNCHANGED, leans=False),
}


def run(options: Options) -> None:
    """Harmonise all tunes in each way, and print the table."""
    experiment = _experiment(options)
    job = chorales.prepare(experiment)
    epoch, state = restore_best(job, options.run)
    composer = Composer(experiment, epoch, job.setup, state, options.run)

    pieces = tunes.unseen(job.material.test, job.material.train)
    if not pieces:
        raise UsageError("every tune of the test part stands in a training piece", where=experiment.data.name)
    melodies = [Tune(piece, _key_of_tune(piece)) for piece in pieces]
    bach = [piece.notes for piece in pieces]
    columns = {}
    for name, way in WAYS.items():
        harmonised = harmonise(composer, melodies, job.material.train, way, options.seed)
        columns[name] = tunes.compared(harmonised, bach)
    columns["Bach"] = tunes.compared(bach, bach)
    title = f"{len(pieces)} of {len(job.material.test)} tunes of the test part stand in no training piece"
    say(table(title, columns, nats(job, composer, melodies)))


def _experiment(options: Options) -> ChoraleExperiment:
    """Return the experiment of the run. Raises `UsageError` for one that does not compose whole pieces forward."""
    experiment = saved_experiment_of(options.run, ChoraleExperiment, "which knows no chorales")
    if experiment.model.whole_pieces_only or not experiment.started:
        raise UsageError(
            "does not compose whole pieces forward",
            where=options.run,
            got=f"a run of {experiment.name}",
            needed="a run of jsb-chords or chords",
        )
    if options.data_path is not None:
        experiment = dataclasses.replace(
            experiment, data=dataclasses.replace(experiment.data, path=str(options.data_path))
        )
    return experiment


def _key_of_tune(piece: Piece) -> Key | None:
    """Return the key that the signature declares, or else that of the tune alone: the lower voices are not known yet."""
    # Rests, from which no key is found.
    heard = piece.notes.copy()
    heard[:, 1:] = 0
    return conditions.key_of(piece._replace(notes=heard))


def _known(composer: Composer, tune: Tune) -> Int[np.ndarray, "t 7"]:
    """Return the columns of what the model is told of a tune."""
    piece = tune.piece
    known = Known(len(piece.notes), piece.positions, piece.fermatas, tune.key)
    return conditions.columns(known, told.conditions_of(composer))


def nats(job: ChoraleJob, composer: Composer, given: Sequence[Tune]) -> Float[np.ndarray, "3"]:
    """Return -log p of Bach's alto, tenor and bass, a mean over their notes, given all notes before each."""
    # Told of each piece as much as it is when its tune is harmonised, no more.
    part = []
    for stretch, tune in zip(stretches([tune.piece for tune in given], job.experiment), given, strict=True):
        part.append(stretch._replace(known=_known(composer, tune)))
    rows = rows_of(job.experiment, part, with_conditions=job.experiment.model.conditions)
    by_piece = []
    distributions = log_probabilities_by_length(job, composer.state, rows, part)
    for log_p, stretch in zip(distributions, part, strict=True):
        by_piece.append(prediction_of(log_p, stretch.symbols).log_p)
    return -np.concatenate([log_p[:, 1:] for log_p in by_piece if log_p is not None]).mean(axis=0, dtype=np.float64)


def harmonise(
    composer: Composer, given: Sequence[Tune], train: Sequence[Piece], way: Way, seed: int
) -> list[Int[np.ndarray, "_ 4"]]:
    """Compose the lower voices of all tunes. Those whose bars are alike are composed together."""
    steps = max(len(tune.piece.notes) for tune in given)
    groups: dict[bytes, list[int]] = {}
    for number, tune in enumerate(given):
        groups.setdefault(_longer(tune.piece.positions, steps).tobytes(), []).append(number)

    ranges = voice_ranges([piece.notes for piece in train])
    harmonised: dict[int, Int[np.ndarray, "_ 4"]] = {}
    for numbers in groups.values():
        together = [given[number] for number in numbers]
        weights = None
        if way.leans:
            within = leaning.within_ranges(leaning.none(steps), ranges)
            keys = [tune.key for tune in together]
            weights = leaning.in_keys(within, keys, usual.strength_unasked(composer))
        conditioned = None
        if composer.experiment.model.conditions:
            conditioned = np.stack([_padded(_known(composer, tune), steps) for tune in together])
        drawn = composer.draw(
            jax.random.key(seed),
            np.stack([_forced(tune.piece, steps) for tune in together]),
            _longer(together[0].piece.positions, steps),
            options=way.options,
            guide=Guide(
                known=conditioned,
                weights=weights,
                numbers=np.array(numbers),
            ),
        )
        for number, symbols in zip(numbers, np.asarray(drawn.tokens), strict=True):
            # Whatever was drawn beyond the end of the tune is dropped.
            harmonised[number] = tokens.decode(symbols[: len(given[number].piece.notes)])
    return [harmonised[number] for number in range(len(given))]


def _longer(positions: Int[np.ndarray, "t"], steps: int) -> Int[np.ndarray, "m"]:
    """Return positions that go on, in bars of the longest one, up to a number of steps."""
    further = np.arange(1, steps - len(positions) + 1) + positions[-1]
    return np.concatenate([positions, further % (positions.max() + 1)])


def _forced(piece: Piece, steps: int) -> Int[np.ndarray, "m 4"]:
    # The soprano as it is; the other voices are to be composed.
    forced = np.full((steps, len(VOICES)), FREE)
    forced[: len(piece.notes), 0] = tokens.encode(piece.notes, piece.name)[:, 0]
    return forced


def _padded(known: Int[np.ndarray, "t 7"], steps: int) -> Int[np.ndarray, "m 7"]:
    """Return columns up to a number of steps; nothing is known of what follows the end."""
    return np.pad(known, ((0, steps - len(known)), (0, 0)))


def table(title: str, columns: dict[str, Harmony], of_voices: Float[np.ndarray, "3"]) -> str:
    """Return the measures as a table in Markdown, below the nats of Bach's lower voices."""
    alto, tenor, bass = of_voices
    lines = [
        f"{title}. Bach's lower voices, nats a note, given all notes before it: {of_voices.mean():.4f} (alto {alto:.4f}, "
        f"tenor {tenor:.4f}, bass {bass:.4f}).",
        "",
        f"| | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    measures = {
        "notes that are Bach's": [f"{np.mean(column.agreement):.3f}" for column in columns.values()],
        "alto, tenor, bass": [", ".join(f"{share:.3f}" for share in column.agreement) for column in columns.values()],
        "parallel fifths in 100 chord changes": [f"{column.fifths:.2f}" for column in columns.values()],
        "parallel octaves": [f"{column.octaves:.2f}" for column in columns.values()],
    }
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in measures.items()]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return command_line.run_parsed(PROGRAM, Options, run, words, smaller="run")


if __name__ == "__main__":
    sys.exit(main())
