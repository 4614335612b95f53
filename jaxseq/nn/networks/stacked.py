"""Layers on top of each other: each reads the outputs of the one below."""

from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.networks.base import Kind, any_use

KIND = Kind("stacked", Forecaster, any_use)
