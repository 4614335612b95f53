"""`python -m jaxseq.benchmark`: one training step of ours against other people's, and against its own matrix products.

Everybody takes turns in one process on one core, and a ratio is the median over the rounds of peer / ours: it holds where
the machine's speed drifts. All start from the same weights, see the same rows and do the same work. The whole comparison
takes about ten minutes and 4 GiB of memory, most of it for 512 units; --quick and --sweep a minute.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxseq.benchmark import machine, workloads
from jaxseq.common import command_line
from jaxseq.common.errors import UsageError
from jaxseq.common.files import cannot_write, write_json


@dataclass(frozen=True)
class Options:
    """Time a training step against the same one by autodiff, by flax's cells and by torch, as far as installed."""

    quick: bool = False
    """Only the small workloads, of the normalised cells only the LSTM, and 3 rounds: less than a minute."""
    only: str | None = None
    """Only the workloads whose name contains this, in whatever case: "GRU 512"."""
    rounds: int = 7
    """Turns that everybody takes; the median is shown. The 512-unit workloads take 3 at most."""
    sweep: bool = False
    """How our step's cost grows with window, batch and units, in the place of the comparison."""
    sampling: bool = False
    """256 notes composed by the chorales' network of notes, against stateful loops of torch's, in the place of it."""
    scaling: bool = False
    """A step on 1, 2 and 4 devices, and what limits it, in the place of it; with --quick one workload alone."""
    cell: str = "gru"
    """The cell of --sweep: rnn, lstm or gru."""
    device: Literal["cpu", "gpu"] = "cpu"
    """cpu: one core and CPU time. gpu: wall time, and cuDNN's LSTM beside the others."""
    core: int | None = None
    """CPU core to stay on; the last one that this process may use if not given."""
    out: Path | None = None
    """JSON file to write the figures to."""
    plot: Path | None = None
    """PNG file to draw the figures in."""


def check(options: Options) -> None:
    """Raises `UsageError` for what cannot be done, before anything is measured."""
    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds}: at least 1 is needed")
    if options.cell not in workloads.GATES:
        raise UsageError(f"--cell {options.cell}: choose one of {', '.join(workloads.GATES)}")
    if options.only is not None:
        _check_only(options)
    if options.plot is not None and options.plot.suffix != ".png":
        raise UsageError(f"--plot {options.plot}: a name that ends in .png is needed")
    if options.sampling and (options.plot is not None or options.sweep or options.only is not None):
        raise UsageError("--sampling stands alone: leave out --plot, --sweep and --only")
    if options.scaling and (options.plot is not None or options.sweep or options.only is not None or options.sampling):
        raise UsageError("--scaling stands alone: leave out --plot, --sweep, --sampling and --only")
    if options.scaling and (options.device != "cpu" or options.core is not None):
        raise UsageError("--scaling takes all cores of the CPU: leave out --device and --core")
    for path in (options.out, options.plot):
        if path is not None:
            _check_writable(path)


def _check_only(options: Options) -> None:
    if options.sweep:
        raise UsageError("--only chooses workloads of the comparison; --sweep has none of them")
    loads, normalised = _chosen(options)
    if not loads + normalised:
        every = ", ".join(load.name for part in _loads(options.quick) for load in part)
        raise UsageError(f'--only "{options.only}": no workload has that in its name; there are {every}')
    if options.plot is not None and not loads:
        raise UsageError(f"--plot draws the plain workloads, and --only {options.only} leaves none")


def _check_writable(path: Path) -> None:
    """Opens the file to find out; what is in it stays, and one that was not there is not left behind."""
    there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise cannot_write(path, error) from error
    if not there:
        path.unlink()


def run(options: Options) -> None:
    """Measure, show and write."""
    check(options)
    if options.scaling:
        return _write(options, _scaling(options))
    core = machine.prepare(options.device, options.core)
    from jaxseq.benchmark import compare

    if options.device == "gpu":
        import jax

        machine.check_gpu(jax.default_backend())
    if not options.sampling:
        print(compare.header(options.device, core), flush=True)
    rounds = min(options.rounds, 3) if options.quick else options.rounds
    if options.sampling:
        figures = _sampling(options, rounds)
    else:
        figures = _sweep(options, rounds) if options.sweep else _compare(options, rounds)
    _write(options, {"device": options.device, "core": core, "clock": machine.CLOCKS[options.device][0]} | figures)


def _write(options: Options, found: dict[str, Any]) -> None:
    """The JSON file and the picture, where they are asked for."""
    if options.out is not None:
        packages = ("jax", "jaxlib", "flax", "torch")
        versions = {name: importlib.metadata.version(name) for name in packages if importlib.util.find_spec(name)}
        write_json(options.out, {"versions": versions, **found})
        print(f"{options.out} written")
    if options.plot is not None:
        from jaxseq.benchmark import plots
        from jaxseq.common import figures

        figure = plots.growth(found["sweep"]) if options.sweep else plots.ratios(found["results"])
        figures.save(figure, options.plot)
        print(f"{options.plot} written")


def _compare(options: Options, rounds: int) -> dict[str, Any]:
    from jaxseq.benchmark import compare, notenet

    plain, normed = _chosen(options)
    ways = {workloads.CHORALE.name: notenet.measure}
    results = [ways.get(load.name, compare.measure)(_told(load, rounds), rounds, options.device) for load in plain]
    normalised = [compare.measure_normalised(_told(load, rounds), rounds, options.device) for load in normed]
    if results:
        _print(compare.table(results, options.device))
    if normalised:
        _print(compare.normalised_table(normalised))
    return {"results": results, "normalised": normalised}


def _loads(quick: bool) -> tuple[tuple[workloads.Workload, ...], tuple[workloads.Workload, ...]]:
    """The workloads that are compared with other people's, and the normalised ones."""
    if quick:
        return workloads.SMALL, workloads.NORMALISED[1:2]
    return workloads.SMALL + workloads.LARGE, workloads.NORMALISED


def _chosen(options: Options) -> tuple[list[workloads.Workload], list[workloads.Workload]]:
    """`_loads`, as far as --only has them."""
    wanted = (options.only or "").casefold()
    plain, normed = ([load for load in part if wanted in load.name.casefold()] for part in _loads(options.quick))
    return plain, normed


def _sweep(options: Options, rounds: int) -> dict[str, Any]:
    from jaxseq.benchmark import growth as sweep

    points = [
        (axis, load, sweep.measure(_told(load, rounds), rounds, options.device))
        for axis, load in sweep.loads(options.cell)
    ]
    found = sweep.gather(options.cell, points)
    _print(sweep.table(found))
    return {"sweep": found}


def _sampling(options: Options, rounds: int) -> dict[str, Any]:
    from jaxseq.benchmark import sampling

    found = [sampling.measure(rows, rounds, options.device) for rows in sampling.ROWS]
    _print(sampling.table(found))
    print(f"{machine.CLOCKS[options.device][0]}; median of {rounds} rounds in turn (least-most); above 1 we are faster")
    return {"sampling": found}


def _scaling(options: Options) -> dict[str, Any]:
    from jaxseq.benchmark import devices as scaling

    found = scaling.measure(options.quick, min(options.rounds, 3) if options.quick else options.rounds)
    _print(scaling.table(found))
    print("\n".join(scaling.words(found)))
    return {"device": "cpu", "clock": "wall time", "scaling": found}


def _told(load: workloads.Workload, rounds: int) -> workloads.Workload:
    """The workload, after a line of progress."""
    print(f"{load.name}: {min(rounds, load.rounds)} rounds of {load.steps} steps", file=sys.stderr, flush=True)
    return load


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return command_line.run(
        "jaxseq.benchmark", lambda: run(_parsed(argv)), "stopped; nothing was written", "workload: --only"
    )


def _parsed(argv: list[str] | None) -> Options:
    import tyro

    return tyro.cli(Options, args=argv, prog="python -m jaxseq.benchmark", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
