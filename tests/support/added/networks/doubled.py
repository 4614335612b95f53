"""A kind of network as somebody else adds it: each layer reads twice the outputs of the one below."""

from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.networks.base import Kind, any_use


class Doubled(Forecaster):
    """`Forecaster` whose later layers read larger numbers."""

    def _joined(self, number, below, outputs):
        return 2 * outputs


KIND = Kind("doubled", Doubled, any_use)
