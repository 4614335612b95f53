"""Quantities that are forecast, and so how forecasts are judged, told and drawn: values, or whether they rise."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.quantities import directions, values
from jaxseq.forecasting.quantities.base import Quantity
from jaxseq.nn.heads import Head
from jaxseq.nn.heads.base import QuantityName

__all__ = ["QUANTITIES", "Quantity", "check_values", "of"]

_BY_NAME: dict[QuantityName, Quantity] = {"value": values, "direction": directions}
QUANTITIES: Mapping[QuantityName, Quantity] = MappingProxyType(_BY_NAME)
"""Quantities by the name that heads give them."""


def of(head: Head) -> Quantity:
    """Return the quantity that a head forecasts."""
    return QUANTITIES[head.quantity]


def check_values(head: Head, where: str) -> None:
    """Raise `UsageError`, which names the option, for a head that forecasts no values in the series' unit."""
    if of(head).IS_VALUE:
        return
    raise UsageError(
        "is of forecasts of values", where=where, got=f"--model.head {head.name}", needed="another --model.head"
    )
