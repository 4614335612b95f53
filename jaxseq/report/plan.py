"""What a report is made of: the paper's rows and the book's as recipes, with sizes and epochs for each budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from jaxseq import cells
from jaxseq.common.checks import MOST_RUNS, count
from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.download import FetchError
from jaxseq.forecasting.baselines import LEAST_SQUARES, NAIVE
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.train.experiments import named
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.chorale_networks import Notes
from jaxseq.train.experiments.forecasts import Model

CELLS = {name: cells.named(name).about.title for name in ("rnn", "lstm", "gru")}
"""The cells that the paper compares, and their titles."""
NORMS = {"none": "no normalisation", "batch": "batch norm", "layer": "layer norm"}
LEVEL, CHANGE, CELL, NORM, ONE, TEN, BOOK = (
    "aapl-level",
    "aapl-change",
    "cells",
    "norms",
    "one-step",
    "ten-steps",
    "conv-lstm",
)


MUSIC21 = "music21"
"""Word in the place of the archive's path that asks for the edition of the installed music21."""
EDITIONS = {
    Jsb.name: "the benchmark edition, 229 / 76 / 77 pieces",
    Chorales.name: "music21's edition, not the paper's, with whose figures none on Bach can be compared",
}
"""Editions of Bach's chorales by the name of their data set."""


class Budget(NamedTuple):
    """How much is trained.

    aapl, waves, bach, book   epochs, at the most, of the share price, the waves, the tables on Bach, the network with
                              convolutions
    hidden, book_hidden       units of the recurrent layer in the tables on Bach, and in the network with convolutions
    aapl_hidden               the paper has 50
    seeds, book_seeds         of the tables, and of the network with convolutions
    samples, bars             what that network composes
    rounds                    turns in which epochs are timed
    to_plateau                whether training ends by `PLATEAU`, apart from the waves, whose 20 epochs are the book's
    own_rates                 whether every row of the claims is trained with its own best learning rate, too
    words                     what a reader has to know
    """

    aapl: int
    waves: int
    bach: int
    book: int
    hidden: int
    book_hidden: int
    aapl_hidden: int
    seeds: int
    book_seeds: int
    samples: int
    bars: int
    rounds: int
    to_plateau: bool
    own_rates: bool
    words: str


PLATEAU = MappingProxyType({"min_gain": 0.005, "gain_epochs": 30, "min_epochs": 100})
"""Fixed before any run was looked at: training ends where the best training loss fell by less than 0.5 % over 30 epochs, at
epoch 100 at the earliest."""
BUDGETS = {
    "quick": Budget(
        aapl=3, waves=2, bach=2, book=1, hidden=16, book_hidden=16, aapl_hidden=8, seeds=2, book_seeds=1, samples=2, bars=4,
        rounds=3, to_plateau=False, own_rates=False,
        words="This is a smoke run: a few epochs of small networks. It shows that everything works, and says nothing "
        "about the paper.",
    ),
    "standard": Budget(
        aapl=100, waves=20, bach=20, book=20, hidden=128, book_hidden=256, aapl_hidden=50, seeds=5, book_seeds=1, samples=4,
        bars=8, rounds=7, to_plateau=False, own_rates=False,
        words="Sizes and epochs are chosen to fit into 75 minutes on two cores: the share price and the waves as the paper "
        "and the book have them; on Bach 20 epochs, of 128 units in the tables and of 256 in the network with "
        "convolutions, where the paper has 600 epochs.",
    ),
    "paper": Budget(
        aapl=600, waves=20, bach=600, book=600, hidden=128, book_hidden=256, aapl_hidden=50, seeds=5, book_seeds=3,
        samples=8, bars=16, rounds=7, to_plateau=True, own_rates=True,
        words="The networks are those of the standard report, trained for 600 epochs (the paper's on Bach; it trained the "
        "share price for 100), or until the best training loss falls by less than 0.5 % over 30 epochs, at epoch 100 at "
        "the earliest; this rule was fixed before any run was looked at. The waves have the book's 20 epochs.",
    ),
}  # fmt: skip


Rates: TypeAlias = Literal["shared", "own"]
"""Whether all rows of a table have one learning rate, or each has its own best."""


class Row(NamedTuple):
    """A row of a table: runs that differ in their seed alone."""

    group: str
    label: str
    recipe: Any
    seeds: int
    rates: Rates = "shared"

    def runs(self) -> list[Experiment]:
        """One recipe a seed."""
        return [dataclasses.replace(self.recipe, seed=self.recipe.seed + k) for k in range(self.seeds)]


class Published(NamedTuple):
    """What the paper says of a row on Bach: no split, no seed, no spread; the loss looks like a training loss."""

    loss: float
    accuracy: float | None = None
    seconds: float | None = None


PUBLISHED = {
    (NORM, "no normalisation"): Published(0.35, 0.856),
    (NORM, "batch norm"): Published(0.28, 0.902),
    (NORM, "layer norm"): Published(0.30, 0.895),
    (CELL, "RNN"): Published(0.42, seconds=120.0),
    (CELL, "LSTM"): Published(0.25, seconds=98.0),
    (CELL, "GRU"): Published(0.26, seconds=85.0),
}
"""Saberi 2024, tables I and II."""
BOOK_MSE = {
    (ONE, "RNN, one unit"): 0.010882,
    (ONE, "RNN 20-20"): 0.002624,
    (TEN, "RNN 20-20, one step fed back"): 0.0275,
    (TEN, "RNN 20-20, all ten at once"): 0.0085,
    (TEN, "RNN 20-20, ten at every step"): 0.0096,
    (TEN, "likewise, batch norm between layers"): 0.0164,
    (TEN, "likewise, layer norm in the cell"): 0.0121,
    (TEN, "LSTM 20-20, ten at every step"): 0.008561,
    (TEN, "GRU 20-20, ten at every step"): 0.010263,
    (TEN, "GRU 20-20 below a convolution"): 0.0080,
    (TEN, "WaveNet, 8 layers, ten at every step"): 0.0072,
}
"""Géron 2019, chapter 15: validation MSE in his notebook, one seed."""
BOOK_BASELINES = {
    (ONE, NAIVE): 0.020211,
    (ONE, LEAST_SQUARES): 0.004168,
}
"""The same notebook: the last value, and a linear model of 20 epochs beside our least squares."""


def rows(budget: str, seeds: int | None = None, chorales: str | None = None) -> list[Row]:
    """Return all rows, in the order in which they are trained: the short ones come first.

    `chorales` is the archive of the benchmark edition, None to download it, or `MUSIC21` for that edition. Raises
    `UsageError` for an unknown budget or no seed.
    """
    if budget not in BUDGETS:
        raise UsageError(f"unknown budget {budget!r}: choose one of {', '.join(BUDGETS)}")
    if seeds is not None:
        count(most=MOST_RUNS, **{"--seeds": seeds})
    size = BUDGETS[budget]
    seed_count = size.seeds if seeds is None else seeds
    data: Jsb | Chorales = Jsb(path=chorales)
    if chorales == MUSIC21:
        data = Chorales()
    recipes = [*_prices(size), *_waves(size), *_bach(size, data)]
    book_seeds = min(size.book_seeds, seed_count)
    return [Row(group, label, recipe, book_seeds if group == BOOK else seed_count) for group, label, recipe in recipes]


Recipes = list[tuple[str, str, Experiment]]


def _ending(size: Budget) -> Mapping[str, float]:
    """Return the fields of early stopping."""
    return PLATEAU if size.to_plateau else {}


def _prices(size: Budget) -> Recipes:
    """The share price as the paper has it, scaled to 0..1 by its training part; and as changes."""
    rows = []
    for group, target in ((LEVEL, "level"), (CHANGE, "change")):
        for cell, words in CELLS.items():
            model = Model(cell, size.aapl_hidden)
            # The claims compare whole learning curves: no early stopping.
            prices = Prices(target=target)
            recipe = named("aapl", data=prices, model=model, epochs=size.aapl, patience=None, **_ending(size))
            rows.append((group, words, recipe))
    return rows


def _waves(size: Budget) -> Recipes:
    """The book's chapter 15."""

    def one(hidden: int, layers: int) -> Experiment:
        model = Model("rnn", hidden, layers)
        return named("waves", model=model, epochs=size.waves, lr=1e-3, schedule="constant", clip=None)

    def ten(
        cell: str,
        task: str = "every-step",
        norm: str = "none",
        kind: str = "stacked",
        layers: int = 2,
        **fields: object,
    ) -> Experiment:
        model = Model(cell, 20, layers, norm, kind=kind)  # pyrefly: ignore[bad-argument-type]
        return named("waves-book", model=model, task=task, epochs=size.waves, **fields)  # pyrefly: ignore[bad-argument-type]

    return [
        (ONE, "RNN, one unit", one(1, 1)),
        (ONE, "RNN 20-20", one(20, 2)),
        (TEN, "RNN 20-20, one step fed back", ten("rnn", "iterated")),
        (TEN, "RNN 20-20, all ten at once", ten("rnn", "direct")),
        (TEN, "RNN 20-20, ten at every step", ten("rnn", lr=0.01)),
        (TEN, "likewise, batch norm between layers", ten("rnn", norm="batch-between", lr=0.01)),
        (TEN, "likewise, layer norm in the cell", ten("rnn", norm="layer-sum")),
        (TEN, "LSTM 20-20, ten at every step", ten("lstm")),
        (TEN, "GRU 20-20, ten at every step", ten("gru")),
        (TEN, "GRU 20-20 below a convolution", ten("gru", kind="convolved")),
        (TEN, "WaveNet, 8 layers, ten at every step", ten("gru", kind="wavenet", layers=8)),
    ]


def check_chorales(rows: Sequence[Row]) -> str:
    """Return a sentence on the edition of the rows' chorales, after reading them.

    Raises `UsageError` where they cannot be had, with what can be given in their place.
    """
    data = rows[-1].recipe.data
    try:
        data.load()
    except FetchError as error:
        instead = f"give jsb_chorales.tgz with --chorales PATH, or --chorales {MUSIC21} for music21's edition"
        raise UsageError(f"{error.reason}: {instead}") from error
    return EDITIONS[data.name]


def _bach(size: Budget, data: Jsb | Chorales) -> Recipes:
    """The paper's tables by the recurrent layer alone, and its network with convolutions."""

    def net(cell: str, norm: str = "none") -> Experiment:
        model = Notes(cell, size.hidden, convolutions=(), norm=norm)  # pyrefly: ignore[bad-argument-type]
        return named(data.name, data=data, model=model, epochs=size.bach, schedule="constant", **_ending(size))

    # A schedule that ends with the last epoch has no plateau to wait for.
    schedule = "constant" if size.to_plateau else "cosine"
    book = named(
        data.name,
        data=data,
        model=Notes(hidden=size.book_hidden),
        epochs=size.book,
        schedule=schedule,
        **_ending(size),
    )
    return [
        *((CELL, label, net(cell)) for cell, label in CELLS.items()),
        *((NORM, label, net("lstm", norm)) for norm, label in NORMS.items()),
        (BOOK, "convolutions and LSTM", book),
    ]
