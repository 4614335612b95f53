"""DeepAR (Salinas et al. 2020, International Journal of Forecasting 36(3), sections 3.1 and 3.2).

Layers are trained to forecast the next value at every time step of the window, from the true ones before, and draw their
own inputs afterwards.

The network is a stack. Its loss is the likelihood of all steps, where another iterated network has that of the last alone.
"""

from __future__ import annotations

from jaxseq.common.errors import UsageError
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.networks.base import OPTION, Kind, Use, needs_task

NAME = "deepar"


def _check(use: Use) -> None:
    needs_task("iterated", "draws one step after the other", use)
    if not use.draws:
        raise UsageError(
            "draws from its forecast",
            where=OPTION,
            got="a point or quantiles",
            needed="--model.head gaussian, or counts",
        )


KIND = Kind(NAME, Forecaster, _check, teacher_forced=True)
