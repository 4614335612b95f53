"""The results as they stand in the JSON file."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class PeerRecord(TypedDict):
    """Times of a peer, milliseconds of one repetition; `apart` is its relative difference from the first peer."""

    ms: float
    ms_range: list[float]
    ms_rounds: list[float]
    calls: int
    compile_s: float | None
    check: list[float]
    apart: NotRequired[float]


class ErrorRecord(TypedDict):
    """Worst relative errors of a kernel, with the arrays that have them."""

    value: float
    value_leaf: str
    gradient: float
    gradient_leaf: str


class Record(TypedDict, total=False):
    """An item of the run: its cost in seconds, and an error, times, or errors of kernels.

    absent  the reason why a peer has no times
    errors  by kernel and precision; a text is the reason why there are none
    """

    name: str
    seconds: float
    error: str
    load: dict[str, str | int]
    steps: int
    peers: dict[str, PeerRecord]
    absent: dict[str, str]
    cell: str
    norm: str
    size: dict[str, str | int]
    errors: dict[str, dict[str, ErrorRecord | str]]


class Header(TypedDict):
    """Machine, versions and conditions of a run."""

    schema: int
    device: str
    gpu_before: dict[str, str]
    versions: dict[str, str]
    environment: dict[str, str | None]
    clock: str
    cores: int | None
    minutes: float


class Results(Header):
    """All of a run."""

    rows: list[Record]
    parity: list[Record]
    generation: list[Record]
    not_reached: list[dict[str, str]]
    seconds: NotRequired[float]
    gpu_after: NotRequired[dict[str, str]]
