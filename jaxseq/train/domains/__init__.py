"""The domains of experiments: forecasts, chorales and pianoroll, each a module with the functions of `Domain`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from jaxseq.train.domains.base import AnyExperiment, Domain


def of(experiment: AnyExperiment) -> Domain[AnyExperiment, object]:
    """Return the domain of an experiment. It is imported here, so that --help does not wait for JAX and pandas.

    The domain of an experiment from outside the package may be one, too: it is named by its whole path.
    """
    name = experiment.domain
    if "." not in name:
        name = f"{__name__}.{name}"
    module = importlib.import_module(name)
    return cast("Domain[AnyExperiment, object]", module)


if TYPE_CHECKING:
    # A type checker compares the modules with `Domain` here.
    from jaxseq.common.arrays import Splits
    from jaxseq.data.dataset import Dataset
    from jaxseq.music.corpora.pianoroll import RollSplits
    from jaxseq.train.domains import chorales, forecasts, pianoroll
    from jaxseq.train.experiments.chorales import ChoraleExperiment
    from jaxseq.train.experiments.forecasts import ForecastExperiment
    from jaxseq.train.experiments.pianoroll import PianorollExperiment

    _FORECASTS: Domain[ForecastExperiment, Dataset] = forecasts
    _CHORALES: Domain[ChoraleExperiment, Splits] = chorales
    _PIANOROLL: Domain[PianorollExperiment, RollSplits] = pianoroll
