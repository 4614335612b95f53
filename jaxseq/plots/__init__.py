"""Pictures of a run, by kind: the only room that knows matplotlib. Each function returns a figure; `save` writes it."""

from jaxseq.plots.benchmark import growth, ratios
from jaxseq.plots.diagnostics import errors
from jaxseq.plots.forecasts import fan, forecast
from jaxseq.plots.music import piano_roll, piano_rolls
from jaxseq.plots.style import save
from jaxseq.plots.training import loss

__all__ = ["errors", "fan", "forecast", "growth", "loss", "piano_roll", "piano_rolls", "ratios", "save"]
