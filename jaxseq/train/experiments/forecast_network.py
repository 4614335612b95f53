"""The network's options of experiments that forecast series."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from jaxseq import cells
from jaxseq.cells.chunks import Chunk
from jaxseq.cells.norm import Norm
from jaxseq.common.checks import count, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.nn import forecaster, heads, networks
from jaxseq.nn.heads import HeadName
from jaxseq.nn.networks import KindName
from jaxseq.train.experiments.base import CellName, NormName


@dataclass(frozen=True)
class Model:
    """A stack of recurrent layers and a dense head."""

    cell: CellName = "gru"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
    hidden: int = 50
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    norm: NormName = "none"
    """Layer norm of both projections (layer) or of their sum (layer-sum); batch norm within or between layers."""
    # Both defaults have their home in the norm: a layer that is built by hand is the one of the command line.
    epsilon: float = Norm._field_defaults["epsilon"]
    """Added to the variance in normalisation for numerical stability."""
    momentum: float = Norm._field_defaults["momentum"]
    """Momentum of the running moments of batch norm."""
    bidirectional: bool = False
    """Add a second, backward layer to each recurrent layer."""
    dropout: float = 0.0
    """Dropout rate between recurrent layers."""
    recurrent_dropout: float = 0.0
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""
    chunk: Chunk = "auto"
    """Time steps that the derivative computes again at once: less memory for long windows; None keeps all of them."""
    kind: KindName = networks.DEFAULT
    """Network around the cells: stacked, residual or dilated layers, below a convolution (convolved), of convolutions alone
    (wavenet), a decoder, or DeepAR (docs/forecasting.md)."""
    skip: bool = False
    """Add a linear map of the whole window to the forecast, the autoregressive part of LSTNet (Lai et al. 2018)."""
    head: HeadName = "point"
    """Forecast of each step: a point, quantiles, a distribution (counts take --data.target count, tweedie amount), or the
    direction, the probability of a rise."""
    quantiles: str = ""
    """Levels of --model.head quantile, with 0.5 and both ends of each interval: 0.05,0.5,0.95; empty takes seven."""
    components: int = heads.COMPONENTS
    """Normal distributions in --model.head mixture."""
    power: float = heads.POWER
    """Power of --model.head tweedie, between 1 (Poisson counts of one size) and 2 (gamma-distributed amounts)."""

    def __post_init__(self) -> None:
        cells.check_options(self.cell, self.norm not in ("none", "batch-between"), self.recurrent_dropout)
        count(1, hidden=self.hidden, layers=self.layers)
        if self.chunk not in (None, "auto"):
            count(chunk=self.chunk)
        one_of(get_args(NormName), norm=self.norm)
        one_of(get_args(HeadName), head=self.head)
        one_of(networks.KINDS, kind=self.kind)
        self._check_head()
        share(momentum=self.momentum, dropout=self.dropout, recurrent_dropout=self.recurrent_dropout)
        if not 0 < self.epsilon < math.inf:
            raise UsageError("not a positive number", where="model.epsilon", got=self.epsilon, needed="finite, above 0")
        if self.layers == 1:
            self._check_single_layer()

    def _check_head(self) -> None:
        """Raise `UsageError` for a setting of another head, and for levels or a number that a head cannot have."""
        count(1, components=self.components)
        if self.components > heads.MOST_COMPONENTS:
            raise UsageError(
                "too many", where="--model.components", got=self.components, needed=f"at most {heads.MOST_COMPONENTS}"
            )
        heads.levels_of(self.quantiles)
        # Near its ends the gamma distribution's shape, (2 - p) / (p - 1), leaves the range of float32's series.
        if not 1.05 <= self.power <= 1.95:
            raise UsageError("no compound distribution", where="--model.power", got=self.power, needed="1.05 to 1.95")
        # A setting that no head reads would be in the config as if it had been used.
        for option, value, head in (
            ("quantiles", self.quantiles, "quantile"),
            ("components", self.components, "mixture"),
            ("power", self.power, "tweedie"),
        ):
            if value != Model.__dataclass_fields__[option].default and self.head != head:
                raise UsageError(
                    f"is of another head than {self.head}",
                    where=f"--model.{option}",
                    got=value,
                    needed=f"--model.head {head}",
                )

    def _check_single_layer(self) -> None:
        """Raise `UsageError` for a setting that acts between two layers."""
        if self.norm == "batch-between":
            raise UsageError("acts between two layers", where="--model.norm", got=self.norm, needed="--model.layers 2")
        if self.dropout:
            raise UsageError(
                "acts between two layers", where="--model.dropout", got=self.dropout, needed="--model.layers 2"
            )

    def build(self, outputs: int, every_step: bool = False, beyond: int = 0, steps: int = 1) -> forecaster.Forecaster:
        """Build the Flax module with `outputs` numbers once, or after every time step.

        The last `beyond` time steps of its input lie beyond the window. `steps` are those of
        the horizon, for a network that decodes each of them.
        """
        kind = networks.named(self.kind)
        norm = norm_between = None
        if self.norm == "batch-between":
            norm_between = Norm(self.norm, self.epsilon, self.momentum)
        elif self.norm != "none":
            norm = Norm(self.norm, self.epsilon, self.momentum)

        network = kind.network(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            outputs=outputs,
            every_step=every_step,
            norm=norm,
            norm_between=norm_between,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            chunk=self.chunk,
            skip=self.skip,
            beyond=beyond,
        )
        if kind.decodes:
            return network.clone(steps=steps)
        return network
