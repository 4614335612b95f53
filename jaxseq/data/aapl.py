"""Daily prices of one share, 2000 to 2013, shipped with the package: the data set that needs no network.

Apple Inc. (AAPL) from the Quandl WIKI Prices set, which Quandl declared to be in the public domain with leave to pass
it on (https://web.archive.org/web/20150411011214/https://www.quandl.com/data/WIKI); taken from `bokeh_sampledata`
2026.1, with the spelling of every value unchanged. 3,270 trading days from 2000-03-01 to 2013-03-01. `close` is the
price as traded and has two breaks that are share splits (2000-06-21 and 2005-02-28); `adj_close` is adjusted for splits
and dividends, so it is what to forecast. The fall by 52 % on 2000-09-29 did happen.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import pandas as pd

from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData
from jaxseq.data.windows import Series, check_series

FILE = Path(__file__).with_name("aapl.csv.gz")
SHA256 = "41514a8f20809bfa000b1f5b5c3d14fe6e74b7a9a84a9db2b177be26d7e1fdb2"
Column = Literal["adj_close", "close"]


@dataclass(frozen=True)
class Prices(PanelData):
    """AAPL's daily price, 2000-03-01 to 2013-03-01.

    The parts are chronological, 70 / 15 / 15 %: one day ahead there are 491 test days, from 2011-03-18.
    """

    column: Column = "adj_close"
    """Price adjusted for splits and dividends, or as traded."""

    unit: ClassVar[str] = "USD"

    def __post_init__(self) -> None:
        """Raise `UsageError` for an invalid field."""
        super().__post_init__()
        one_of(get_args(Column), where=self.name, column=self.column)

    @property
    def name(self) -> str:
        """The share's symbol."""
        return "AAPL"

    def series(self) -> Series:
        """Return the dates and the price of each, in USD. Raises `UsageError` for a damaged file."""
        return _read(FILE, self.column)

    def panel(self) -> Panel:
        """Return the series on its business days."""
        return Panel((self.name,), (self.series(),), describe("B"))


@functools.cache
def _read(file: Path, column: Column) -> Series:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; it is part of the package: install jaxseq again") from error

    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256:
        raise UsageError(
            f"{file}: damaged: sha256 is {sha256[:12]}…, {SHA256[:12]}… was shipped ({len(content)} bytes); "
            "install jaxseq again"
        )

    table = pd.read_csv(io.BytesIO(gzip.decompress(content)))
    times = table["date"].to_numpy(dtype="datetime64[D]")
    series = check_series(times, table[column].to_numpy(dtype=np.float64), file.name)

    # All callers share the cached arrays.
    for array in series:
        array.flags.writeable = False
    return series
