"""One composing from end to end: take a trained model, compose what was asked for, judge it, leave a folder behind."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxseq.common.errors import UsageError
from jaxseq.sample.options import AskedSample

TOGETHER = 64
"""Pieces that are composed at once, at the most."""
IN_ORDER = (
    "Nats are -log p of the notes that were composed, each given all before it, by the model as it is (temperature 1)"
)
IN_ANY_ORDER = "Nats are -log p of each note when it was last drawn, given those that were not drawn with it"


def compose(asked: AskedSample, console: Any = None) -> Path:
    """Compose as asked, judge and write; returns the folder. Raises `UsageError` before anything is written."""
    # Here, so that --help and a mistyped field answer before JAX and its like are loaded.
    import numpy as np

    from jaxseq.common import console as common_console
    from jaxseq.music import tokens
    from jaxseq.sample import judge, request, write
    from jaxseq.train.domains import chorales

    console = common_console.terminal() if console is None else console
    composer = chorales.restore(asked.run)
    write.check_out(asked.run, asked.out)
    parts = composer.experiment.data.load()
    commission = ordered(asked, composer, parts)
    check_length(len(commission.forced), asked.bpm)
    for text in commission.said:
        console.print(text, highlight=False, markup=False)
    with common_console.counter(console, "composing") as progress:
        begun = time.perf_counter()
        symbols, log_probability, said = perform(asked, composer, commission, parts, progress)
        took = time.perf_counter() - begun
    notes = [tokens.decode(row) for row in symbols]
    assert (np.where(commission.forced == -1, symbols, commission.forced) == symbols).all()
    width = max(2, len(str(asked.count)))
    pieces = [request.completed(commission, row, f"sample-{number:0{width}d}") for number, row in enumerate(notes, 1)]
    console.print(f"{len(pieces)} pieces of {len(commission.forced)} sixteenths in {took:.1f} s", highlight=False)
    found = judge.judge(pieces, parts, asked.seed)
    settings = {"run": str(asked.run), "experiment": composer.experiment.name, "epoch": composer.epoch} | _settings(
        asked, _fills(composer)
    )
    settings["likelihood"] = IN_ANY_ORDER if _fills(composer) else IN_ORDER
    made = write.Composition(pieces, log_probability, settings, (*commission.said, *said))
    with common_console.counter(console, "writing") as progress:
        folder, missing = write.write(asked.run, asked.out, made, found, asked.bpm, asked.score, progress)
    show(console, found, (*said, *missing), folder)
    return folder


def ordered(asked: AskedSample, composer: Any, parts: Any) -> Any:
    """What has to be kept, by the words of the command. Raises `UsageError` for what does not go together."""
    from jaxseq.sample import request

    changing, primed = asked.keep is not None or asked.redo is not None, asked.prime != request.NO_PRIME
    if asked.melody is not None and (changing or primed):
        raise UsageError("--melody is harmonised by itself: leave out --prime, --keep and --redo")
    if changing and not primed:
        raise UsageError("--keep and --redo change a piece: say which by --prime")
    if changing and not _fills(composer):
        data = composer.experiment.data.name
        train = {"jsb": "jsb-fill"}.get(data, "fill")
        raise UsageError(
            f"--keep and --redo need a model that knows what comes after; {asked.run} is a run of "
            f"{composer.experiment.name}: train one by python -m jaxseq.train {train}"
        )
    if asked.parallels == "avoid" and _fills(composer):
        raise UsageError(f"--parallels avoid is for models that compose forward; {asked.run} fills gaps, all at once")
    if asked.bars is not None and (changing or asked.melody is not None):
        raise UsageError(f"--bars {asked.bars}: with --melody, --keep or --redo it is as long as what is given")
    if asked.melody is not None:
        return request.harmonised(request.melody(asked.melody, parts))
    if not primed:
        return request.afresh(asked.bars)
    piece, said = request.named(asked.prime, "--prime", parts)
    if changing:
        found = request.changed(piece, asked.keep, asked.redo)
    else:
        found = request.continued(piece, asked.prime_bars, asked.bars)
    return found._replace(said=(*said, *found.said))


def check_length(steps: int, bpm: float) -> None:
    """Raise `UsageError` for more music than is played."""
    from jaxseq.music import sound
    from jaxseq.music.piece import BEAT

    if (seconds := steps / BEAT * 60 / bpm) > sound.LONGEST:
        raise UsageError(
            f"{steps} sixteenths last {seconds:.0f} seconds at {bpm:g} bpm; {sound.LONGEST:.0f} at most are played"
        )


def perform(
    asked: AskedSample, composer: Any, commission: Any, parts: Any, progress: Callable[[int, int], None]
) -> tuple[Any, Any, tuple[str, ...]]:
    """Symbols and their log-probabilities, and what is to be said of them."""
    import jax
    import numpy as np

    from jaxseq.music import sampling
    from jaxseq.sample import request

    state = composer.state
    positions = commission.pattern.positions
    forced = np.repeat(commission.forced[None], asked.count, axis=0)
    cold, said = not composer.experiment.started, ()
    if cold and commission.forced[0, 0] == sampling.FREE:
        forced[:, 0, 0], said = request.first_notes(parts, asked.count, asked.seed)
    top_k, avoid = asked.top_k or sampling.VOCABULARY, asked.parallels == "avoid"
    manner = sampling.Manner(asked.temperature, top_k, asked.top_p, avoid)
    size = -(-asked.count // -(-asked.count // TOGETHER))  # of nearly equal chunks, one program does for all
    found = []
    for number, first in enumerate(range(0, asked.count, size)):
        key = jax.random.fold_in(jax.random.key(asked.seed), number)
        rows = forced[first : first + size]
        rows = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
        how = composer.model, state.params, state.stats, key, rows, positions, manner
        made = sampling.fill(*how, asked.sweeps) if _fills(composer) else sampling.compose(*how, not cold)
        found.append([np.asarray(part) for part in made])
        progress(min(first + size, asked.count), asked.count)
    symbols, log_probability = (np.concatenate(parts)[: asked.count] for parts in zip(*found, strict=True))
    given = np.repeat(commission.forced[None] != sampling.FREE, asked.count, axis=0)
    return symbols, np.where(given, np.nan, log_probability), said


def _fills(composer: Any) -> bool:
    from jaxseq.music.networks.fill_net import FillNet

    return isinstance(composer.model, FillNet)


def _settings(asked: AskedSample, fills: bool) -> dict[str, Any]:
    """What was asked for and mattered, as JSON can hold it."""
    idle = (
        {"run", "out", "score"}
        | (set() if fills else {"sweeps"})
        | ({"prime_bars"} if asked.prime == "none" else set())
    )
    return {name: value for name, value in dataclasses.asdict(asked).items() if name not in idle}


def show(console: Any, found: Any, said: tuple[str, ...], folder: Path) -> None:
    """The table and where everything is, on the screen."""
    from rich.table import Table

    from jaxseq.music.evaluation import coherence
    from jaxseq.sample import write

    head, *rows = coherence.rows(found.columns)
    table = Table(title="coherence; Bach's test part is the yardstick", title_justify="left", box=None, padding=(0, 1))
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for text in (write.memorised_words(found), *said):
        console.print(text, highlight=False, markup=False)
    console.print(f"{folder}: {write.REPORT}, {write.TABLE}, {write.SAMPLES}, the pieces", highlight=False)
