"""Targets of a forecast: their kind, season and scale, chosen by the training rows where they are left open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.data import seasons, window_scales
from jaxseq.data.earlier import Earlier
from jaxseq.data.powers import NONE, PowerName
from jaxseq.data.scaling import ScaleOptions
from jaxseq.data.transforms import LINEAR, TRANSFORMS

AUTO = "auto"
"""Name of the choice that is left to the training rows."""
SEASONS_IN_WINDOW = 2
"""Least seasons in a window: with fewer, a part of the season has no change that the window shows."""

if TYPE_CHECKING:
    TargetChoice: TypeAlias = str
else:  # A type checker reads no list of names that is computed.
    TargetChoice = Literal[(AUTO, *TRANSFORMS)]
ScaleChoice: TypeAlias = Literal["auto", "series", "window", "window-mean", "window-median", "window-last"]
"""By what values are scaled: the training rows of their series, or each window by itself."""


class Target(NamedTuple):
    """Numbers that a model forecasts.

    kind          name of a transform
    earlier       values that a value is compared with: the last one, or those of one season or two before
    by_window     whether each window has a scale of its own
    window_scale  name of that scale; empty for the one of the target
    scale_input   whether the network reads that scale, or that of the series
    power         name of the power transform before all of it
    """

    kind: str
    earlier: Earlier = Earlier()
    by_window: bool = False
    window_scale: str = ""
    scale_input: bool = False
    power: str = NONE

    @property
    def options(self) -> ScaleOptions:
        """The target as options of its scaling."""
        return ScaleOptions(
            **self.earlier._asdict(),
            by_window=self.by_window,
            window_scale=self.window_scale,
            scale_input=self.scale_input,
            power=self.power,
        )

    @property
    def words(self) -> str:
        """The target as a note says it."""
        scaled = "by the training rows of its series"
        if self.by_window:
            scaled = "in each window by itself"
        if self.window_scale:
            scaled = f"by the {self.window_scale.partition('-')[2]} of each window"
        against = self.kind
        lag, longer, share = self.earlier
        if lag > 1:
            against = f"change from the value {lag} time steps before"
        if longer:
            against += f", and {share:g} of what that was {longer} before"
        if self.power != NONE:
            against = f"{against} after transform {self.power}"
        return f"target: {against}, scaled {scaled}"


class Options(NamedTuple):
    """A target as the user asks for it: `kind` may be "auto", as may `scale`."""

    kind: str = "change"
    scale: str = AUTO
    power: str = NONE
    scale_input: bool = False

    def check(self, where: str) -> None:
        """Raise `UsageError` for an unknown name, and for names that do not go together."""
        one_of((AUTO, *TRANSFORMS), where=where, target=self.kind)
        one_of(get_args(ScaleChoice), where=where, scale=self.scale)
        one_of(get_args(PowerName), where=where, transform=self.power)
        needed = f"--data.target {', '.join(LINEAR)} or {AUTO}"
        if self.kind not in (AUTO, *LINEAR):
            if self.power != NONE:
                raise UsageError(
                    f"does not go with --data.target {self.kind}",
                    where="--data.transform",
                    got=self.power,
                    needed=needed,
                )
            if self.scale in window_scales.SCALES:
                raise UsageError(
                    f"does not go with --data.target {self.kind}", where="--data.scale", got=self.scale, needed=needed
                )

    def choose(self, by_dates: int, training: Sequence[Float[np.ndarray, "_"]], window: int, horizon: int) -> Target:
        """Choose what is left open by the training rows of each series; NaN is a missing value.

        "auto" is the change from the value one season before where that is the better naive forecast of the training rows,
        else the change from the last value; of several seasons the best one is taken, for "seasons" the best two. A window
        scales a seasonal target.

        Raises `UsageError` for a target "season" without a season, for a window with fewer than two, for "seasons" without
        two that the window has the values of, and for a scale as an input that is the same in every window of the only
        series.
        """
        kind = self.kind
        earlier = Earlier()
        if kind in (AUTO, "season"):
            earlier = self._season(by_dates, training, window, horizon)
            kind = "season" if earlier.lag > 1 else "change"
        if kind == "seasons":
            earlier = _two_seasons(by_dates, training, window, horizon)
        is_measured = self.scale in window_scales.SCALES
        by_default = self.scale == AUTO and kind in TRANSFORMS and TRANSFORMS[kind].seasonal
        by_window = self.scale == "window" or is_measured or by_default
        if self.scale_input and not by_window and len(training) == 1:
            raise _same_scale(self.scale if self.scale != AUTO else f"{AUTO}, which is series for {kind}")
        return Target(
            kind,
            earlier,
            by_window,
            window_scale=self.scale if is_measured else "",
            scale_input=self.scale_input,
            power=self.power,
        )

    def _season(self, by_dates: int, training: Sequence[Float[np.ndarray, "_"]], window: int, horizon: int) -> Earlier:
        """Return the value of the best season, or the last value where "auto" does without."""
        candidates = seasons.plausible(by_dates, training)
        fitting = [Earlier(period) for period in candidates if SEASONS_IN_WINDOW * period <= window]
        if self.kind == AUTO:
            return seasons.best([Earlier(), *fitting], training, horizon)
        # A season that the user or the dates name, but that the rows are too few for.
        rows = min(map(len, training), default=0)
        if not candidates and 2 * by_dates > rows:
            raise UsageError(
                f"the season does not fit twice into the {rows} training rows of the shortest series",
                where="--data.target season",
                got=f"a season of {by_dates} time steps",
                needed=f"one of at most {rows // 2} (--data.period), or --data.target change",
            )
        if not candidates:
            raise UsageError(
                "no season fits twice into the training rows",
                where="--data.target",
                got=self.kind,
                needed="--data.period N, or --data.target change",
            )
        if not fitting:
            raise UsageError(
                f"shorter than {SEASONS_IN_WINDOW} seasons of {candidates[0]} time steps",
                where="--data.window",
                got=window,
                needed=f"at least {SEASONS_IN_WINDOW * candidates[0]} with --data.target season",
            )
        return seasons.best(fitting, training, horizon)


def _two_seasons(by_dates: int, training: Sequence[Float[np.ndarray, "_"]], window: int, horizon: int) -> Earlier:
    """Return the best pair of seasons. Raises `UsageError` where there are not two, or the window does not have them."""
    periods = seasons.plausible(by_dates, training)
    if len(periods) < 2:
        found = f"{periods[0]} time steps alone" if periods else "none"
        raise UsageError(
            "two seasons have to fit twice into the training rows",
            where="--data.target seasons",
            got=found,
            needed="--data.target season or change",
        )
    candidates = seasons.pairs(periods, window)
    if not candidates:
        raise UsageError(
            f"shorter than the seasons of {periods[0]} and {periods[1]} time steps together",
            where="--data.window",
            got=window,
            needed=f"at least {periods[0] + periods[1]} with --data.target seasons",
        )
    return seasons.best(candidates, training, horizon)


def _same_scale(scale: str) -> UsageError:
    return UsageError(
        "reads the scale of each window or series, and there is one alone",
        where="--data.scale-input",
        got=f"--data.scale {scale}",
        needed="--data.scale window",
    )
