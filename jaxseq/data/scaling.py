"""Scaling of series for a model, and its inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypedDict, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxseq.common.arrays import namespace
from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data import powers, window_scales
from jaxseq.data.categories import Categories
from jaxseq.data.earlier import Earlier
from jaxseq.data.transforms import TRANSFORMS, Transform, Values, check_readable
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Windows

LAID_OUT = 2**22
"""Numbers of windows that are laid out at once in float64: 32 MiB."""
LEAST_SHARE = 0.1
"""Least scale of a window by itself, relative to that of its series: a window that happens to be still has no other."""


ShiftAndScale: TypeAlias = tuple[Float[np.ndarray, "n 1"], Float[np.ndarray, "n 1"]]
"""Shift and scale of each window."""


class ScaleOptions(TypedDict, total=False):
    """Options of a `Scaling`, which has their defaults."""

    lag: int
    longer: int
    share: float
    by_window: bool
    window_scale: str
    scale_input: bool
    power: str


@dataclass(frozen=True)
class Scaling:
    """Shift and scale of each series, fitted on its training rows; `dataclasses.asdict` saves it as JSON.

    `kind` is a name of `jaxseq.data.transforms.TRANSFORMS`. With v_t a value of the window, v its last one and w_k the
    value k steps later:

        change       x_t = (v_t - v_{t-1}) / scale            y_k = (w_k - v) / scale
        log-return   x_t = log(v_t / v_{t-1}) / scale         y_k = log(w_k / v) / scale
        season       x_t = (v_t - v_{t-m}) / scale            y_k = (w_k - that of the same season) / scale
        seasons      likewise, compared with the values of two seasons (`jaxseq.data.earlier`)
        level        x_t = (v_t - shift) / scale              y_k = (w_k - shift) / scale
        count        x_t = log(1 + v_t)                       y_k = w_k
        amount       x_t = log(1 + v_t / scale)               y_k = w_k / scale

    In the first two the window's first x is 0, y = 0 is the naive forecast, and nothing depends on how high the series
    has risen; on the level, a series that has left its training range is outside of all values the model has seen. There,
    too, y_1 is the next x, so that a forecast one step ahead can be fed back; for counts and amounts `Transform.as_input`
    makes it one. For "season", with m = `lag`, y = 0 is the seasonal naive forecast, the first m x are 0, and
    (v_t - v) / scale stands beside them: it has the course of a season, which their differences lack. For "seasons",
    `longer` and `share` are those of the second season. All arithmetic is float64.

    With `by_window`, shift and scale of a row are those of its own window (`Transform.fit_rows`), the scale at least
    `LEAST_SHARE` of that of its series: series of any size weigh alike, and one that grows stays in sight.

    `window_scale` names another one of `window_scales.SCALES`. With `scale_input`, log(own scale / that of the series)
    stands beside x at each time step; without a scale of the window log(scale of the series / `scale_centre`), which is
    the geometric mean of the scales of the training's series.

    With a `power`, all v and w are those of `jaxseq.data.powers`, by the exponent of each series. The inverse of a
    forecast that is a mean is then a median, if the errors are symmetric: nothing is corrected.

    Covariates stand beside x as (c - mean) / standard deviation of their training rows, over all series. Where values
    were missing in training, a mask stands beside them: 1 where a value is filled in, else 0. `masks` are the numbers of
    the columns that have one: 0 is the value, 1 the first covariate. Raises `UsageError` for another `kind`.

    The `category_...` are the fields of `categories`, which are part of the covariates.

    Covariates that are known ahead come last, those of the row after each time step; those of the horizon's later rows
    follow the window as time steps of their own, in which everything else is 0.
    """

    kind: str
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    covariate_shift: tuple[float, ...] = ()
    covariate_scale: tuple[float, ...] = ()
    masks: tuple[int, ...] = ()
    lag: int = 1
    by_window: bool = False
    category_columns: tuple[str, ...] = ()
    category_texts: tuple[str, ...] = ()
    category_shares: tuple[float, ...] = ()
    window_scale: str = ""
    scale_input: bool = False
    scale_centre: float = 1.0
    power: str = powers.NONE
    exponents: tuple[float, ...] = ()
    longer: int = 0
    share: float = 0.0

    def __post_init__(self) -> None:
        one_of(TRANSFORMS, target=self.kind)
        one_of(get_args(powers.PowerName), transform=self.power)
        if self.window_scale:
            one_of(window_scales.SCALES, scale=self.window_scale)
        columns = len(self.category_columns)
        texts = len(self.category_texts)
        shares = len(self.category_shares)
        if not columns == texts == shares:
            raise UsageError(
                "of each category a column, a text and a share",
                where="categories",
                got=(columns, texts, shares),
                needed="as many",
            )
        if self.by_window and self.transform.fit_rows is None:
            raise UsageError(f"a {self.kind} has no scale of its window", where="scale", got="window", needed="series")

    @property
    def transform(self) -> Transform:
        """The transform, whose shift and scale these are."""
        return TRANSFORMS[self.kind]

    @property
    def earlier(self) -> Earlier:
        """Earlier values that a value is compared with, where the transform compares at all."""
        return Earlier(self.lag, self.longer, self.share)

    @property
    def categories(self) -> Categories:
        """Texts of the covariates in the training rows, each of which has a column."""
        return Categories(self.category_columns, self.category_texts, self.category_shares)

    @property
    def options(self) -> ScaleOptions:
        """The options by which the scaling of another series would be like this one."""
        return ScaleOptions(
            lag=self.lag,
            longer=self.longer,
            share=self.share,
            by_window=self.by_window,
            window_scale=self.window_scale,
            scale_input=self.scale_input,
            power=self.power,
        )

    @property
    def features(self) -> int:
        """Number of the model's inputs in each time step."""
        return 1 + self.transform.seasonal + self.scale_input + len(self.covariate_shift) + len(self.masks)

    @property
    def covariate_shifts(self) -> Float[np.ndarray, " c"]:
        """Mean of each covariate, of those that are known ahead as well."""
        return np.asarray(self.covariate_shift, np.float64)

    @property
    def covariate_scales(self) -> Float[np.ndarray, " c"]:
        """Standard deviation of each covariate."""
        return np.asarray(self.covariate_scale, np.float64)

    def without_numbers(self) -> Scaling:
        """Return the options of the maps alone, which compiled functions of all series share."""
        return Scaling(self.kind, (), (), **self.options)

    def inputs(self, windows: Windows) -> Float[np.ndarray, "n t d"]:
        """Return the model's inputs: x, the covariates beside it, masks of missing values, and what is known ahead.

        Raises `UsageError` for another number of covariates than in training.
        """
        past = windows.covariates.shape[2]
        given = past + windows.known.shape[2]
        fitted = len(self.covariate_shift)
        if given != fitted:
            raise UsageError(f"{counted(given, 'covariate')} given, where there were {fitted} in training")

        check_readable(self.transform, windows.inputs)
        shift_of_rows, scale_of_rows = self.of_rows(windows)
        x = np.asarray(self.columns(self.bent(windows.inputs, windows.series), shift_of_rows, scale_of_rows))
        # No column of it is the usual case.
        relative = self.relative(windows, scale_of_rows)
        x = np.concatenate([x, np.broadcast_to(relative[:, None], (*x.shape[:2], relative.shape[1]))], axis=2)
        # Over all series together: a covariate such as a holiday means the same in each.
        covariates = (windows.covariates - self.covariate_shifts[:past]) / self.covariate_scales[:past]
        inputs = np.concatenate([x, covariates, self.masks_of(windows.filled)], axis=2)
        if not windows.known.shape[2]:
            return inputs

        # Nothing is known of the first row's past, and all of the last step's target.
        ahead = self.ahead(windows)[:, 1:]
        beyond = ahead.shape[1] - inputs.shape[1]
        return np.concatenate([np.pad(inputs, ((0, 0), (0, beyond), (0, 0))), ahead], axis=2)

    def ahead(self, windows: Windows) -> Float[np.ndarray, "n u s"]:
        """Return the covariates that are known ahead as the model reads them, of the window's rows and of later ones."""
        past = windows.covariates.shape[2]
        return (windows.known - self.covariate_shifts[past:]) / self.covariate_scales[past:]

    def relative(self, windows: Windows, scale: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "n r"]:
        """Return the scale of each window relative to that of its series, or of the series relative to the others.

        As the model reads it; r is 0 if it does not.
        """
        if not self.scale_input:
            return np.zeros((len(scale), 0))
        of_series = self._of(self.scale, windows.series)
        if self.by_window:
            return np.log(scale / of_series)
        # A scale that all windows of a series share tells how large that is beside the others.
        return np.log(of_series / self.scale_centre)

    def columns(self, values: Values, shift: Values, scale: Values) -> Values:
        """Return the inputs "n t c" of the values "n t" of windows, by shift and scale of each row, "n 1" or "1 1".

        As all arithmetic of a transform, in the namespace of its arrays.
        """
        columns = [self.transform.inputs(values, self.earlier.inside(values), shift, scale)]
        if self.transform.seasonal:
            columns.append(self.transform.inputs(values, values[:, -1:], shift, scale))
        return namespace(values).stack(columns, axis=-1)

    def known(self, values: Values, horizon: int) -> Values:
        """Return the value of each window "n t" that the steps of the horizon are compared with, "n k" or "n 1"."""
        return self.earlier.ahead(lambda ages: values[:, -ages], self._compared_steps(horizon))

    def fit_rows(self, values: Values, shift: Values, scale: Values) -> tuple[Values, Values]:
        """Return shift and scale of windows "n t", given those of their series, "n 1" or "1 1"."""
        if not self.by_window:
            return shift, scale
        if self.window_scale:
            own_shift, own_scale = window_scales.SCALES[self.window_scale](np.asarray(values))
        else:
            assert self.transform.fit_rows is not None, "checked when it was made"
            own_shift, own_scale = self.transform.fit_rows(values, self.lag)
        return own_shift, namespace(values).maximum(own_scale, LEAST_SHARE * scale)

    def of_rows(self, windows: PartWindows) -> ShiftAndScale:
        """Return shift and scale of each window. Raises `UsageError` for what is no series of the training."""
        shift = self._of(self.shift, windows.series)
        scale = self._of(self.scale, windows.series)
        if not self.by_window:
            return shift, scale
        shifts = []
        scales = []
        first = 0
        # In pieces: what a scale is computed by has the size of all windows.
        for piece in windows.pieces(max(1, LAID_OUT // windows.steps)):
            rows = slice(first, first + len(piece.origins))
            values = self.bent(piece.inputs, piece.series)
            own_shift, own_scale = self.fit_rows(values, shift[rows], scale[rows])
            shifts.append(np.asarray(own_shift))
            scales.append(np.asarray(own_scale))
            first = rows.stop
        return np.concatenate(shifts), np.concatenate(scales)

    def bent(self, values: Float[np.ndarray, "n t"], series: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n t"]:
        """Return values as the power of each row's series has them; as they are without one."""
        if self.power == powers.NONE:
            return values
        powers.check_positive(values, self.power)
        return powers.bend(values, self._of(self.exponents, series))

    def masks_of(self, filled: Bool[np.ndarray, "*n m"]) -> Float[np.ndarray, "*n q"]:
        """Return the masks that the model reads, of what is filled in."""
        # Data without a missing value come without a mask, which is the same as one of zeros.
        if not self.masks or not filled.shape[-1]:
            return np.zeros((*filled.shape[:-1], len(self.masks)))
        return filled[..., list(self.masks)].astype(np.float64)

    def targets(self, windows: PartWindows) -> Float[np.ndarray, "n k"]:
        """Return the model's targets y, NaN where they are not known."""
        return self.scaled(windows.targets, windows)

    def scaled(
        self, values: Float[np.ndarray, "n k"], windows: PartWindows, of_rows: ShiftAndScale | None = None
    ) -> Float[np.ndarray, "n k"]:
        """Return values in the series' units as targets of these windows; `of_rows` are theirs, if they are known."""
        bent = self.bent(values, windows.series)
        return self._targets(bent, self._known_of(windows, values.shape[1]), *(of_rows or self.of_rows(windows)))

    def _known_of(self, windows: PartWindows, horizon: int) -> Float[np.ndarray, "n _"]:
        """Return the values that the steps of the horizon are compared with, `known` of whole windows."""
        return self.earlier.ahead(
            lambda ages: self.bent(windows.values_ago(ages), windows.series), self._compared_steps(horizon)
        )

    def _compared_steps(self, horizon: int) -> int:
        """Return how many steps of a horizon are compared with values of their own: all, or one for the last value."""
        return horizon if self.transform.seasonal else 1

    def targets_at_every_step(self, windows: Windows) -> Float[np.ndarray, "n t k"]:
        """Return the targets after each step of the window: the k values that follow that step, NaN if not known.

        Raises `UsageError` for a scaling that looks back a season, or at the whole window: the first steps have neither.
        """
        if self.transform.seasonal or self.by_window:
            raise UsageError(
                "are scaled by what the first steps of a window do not know",
                where="targets after every step",
                needed="a change, log-return, level or count by the scale of the series",
            )
        inputs = windows.inputs
        if windows.filled.shape[2]:
            # A value that was filled in is an input, but no target.
            inputs = np.where(windows.filled[..., 0], np.nan, inputs)
        paths = np.concatenate([inputs, windows.targets], axis=1)
        ahead = np.lib.stride_tricks.sliding_window_view(paths[:, 1:], windows.targets.shape[1], axis=1)
        rows, steps, horizon = ahead.shape

        series = np.repeat(windows.series, steps)
        shift = self._of(self.shift, series)
        scale = self._of(self.scale, series)
        flat = self._targets(
            self.bent(ahead.reshape(-1, horizon), series),
            self.bent(windows.inputs.reshape(-1, 1), series),
            shift,
            scale,
        )
        return flat.reshape(rows, steps, horizon)

    def invert(
        self, y: Float[np.ndarray, "*m n k"], windows: PartWindows, of_rows: ShiftAndScale | None = None
    ) -> Float[np.ndarray, "*m n k"]:
        """Return a model's outputs in the series' units: the inverse of `scaled`, for the inputs of these windows."""
        numbers = np.asarray(y, np.float64)
        known = self._known_of(windows, numbers.shape[-1])
        values = np.asarray(self.transform.invert(numbers, known, *(of_rows or self.of_rows(windows))))
        if self.power == powers.NONE:
            return values
        return powers.unbend(values, self._of(self.exponents, windows.series))

    def add_up(self, steps: Float[np.ndarray, "*m n k"]) -> Float[np.ndarray, "*m n k"]:
        """Turn one-step outputs that were fed back into outputs of 1 to k steps: changes add up, values stay."""
        if not self.transform.adds_up:
            return np.asarray(steps)
        return np.cumsum(np.asarray(steps, np.float64), axis=-1)

    def _of(self, numbers: tuple[float, ...], series: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 1"]:
        """Return the number of each row's series. Raises `UsageError` for what is no series of the training."""
        _check_numbers(series, len(numbers))
        return np.asarray(numbers, np.float64)[series][:, None]

    def _targets(
        self,
        values: Float[np.ndarray, "n k"],
        known: Float[np.ndarray, "n _"],
        shift: Float[np.ndarray, "n 1"],
        scale: Float[np.ndarray, "n 1"],
    ) -> Float[np.ndarray, "n k"]:
        transform = self.transform
        # A relative target is one of its last value, too; a count that is forecast need not be whole.
        if transform.relative:
            check_readable(transform, values)
            check_readable(transform, known)
        return np.asarray(transform.targets(values, known, shift, scale))


def _check_numbers(series: Int[np.ndarray, " n"], count: int) -> None:
    """Raise `UsageError` for numbers of rows' series that are no integers from 0 to `count` - 1."""
    # numpy would take truth values for a choice of rows, and count negative numbers from the end.
    if series.dtype.kind not in "iu":
        raise UsageError("no integers", where="series", got=f"{series.dtype}", needed="the number of each row's series")
    outside = (series < 0) | (series >= count)
    if outside.any():
        row = int(np.argmax(outside))
        raise UsageError(
            "no series of the training", where=f"series[{row}]", got=int(series[row]), needed=f"0 to {count - 1}"
        )


def rows_at_once(windows: PartWindows, scaling: Scaling) -> int:
    """Return how many windows are laid out together in float64."""
    return max(1, LAID_OUT // (windows.steps * scaling.features))
