"""Time a training step against the same step of other libraries, and against its matrix products alone.

All libraries take turns in one process on one core, and a ratio is the median over the rounds of peer / ours, so that it
holds where the machine's speed drifts. All start from the same weights, see the same rows and do the same work. The whole
comparison takes about 10 minutes and 4 GiB of memory, most of it for 512 units; --quick and --sweep take a minute.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxseq.benchmark import machine, workloads
from jaxseq.common import command_line
from jaxseq.common.errors import UsageError
from jaxseq.common.files import STDOUT, check_output, with_user_paths, write_json


@dataclass(frozen=True)
class Options:
    """Time a training step against the same step by autodiff, flax and torch, as far as they are installed."""

    quick: bool = False
    """Time only the small workloads and one normalised cell, in 3 rounds; under a minute."""
    only: str | None = None
    """Time only the workloads whose name contains this text, in any case: "GRU 512"."""
    rounds: int = 7
    """Rounds in which each library has one turn; the median is reported. Workloads of 512 units take at most 3."""
    sweep: bool = False
    """Measure how the cost of our step grows with window, batch and units, instead of the comparison."""
    sampling: bool = False
    """Time the sampling of 256 notes against stateful loops in torch, instead of the comparison."""
    scaling: bool = False
    """Time a step on 1, 2 and 4 devices, and name its limits, instead of the comparison; with --quick one workload only."""
    together: bool = False
    """Time an epoch of 5 seeds in one program (train --together) against one after the other, instead of the comparison."""
    gpu: bool = False
    """Measure layers, training steps, generation and errors on one GPU within --minutes, instead of the comparison."""
    minutes: float = 6.0
    """Time budget of --gpu; what does not fit into it is listed as not reached."""
    cell: str = "gru"
    """Cell that --sweep measures, one of `jaxseq.cells.CELLS`."""
    device: Literal["cpu", "gpu"] = "cpu"
    """cpu: one core and CPU time. gpu: wall time, with cuDNN's LSTM among the peers."""
    core: int | None = None
    """CPU core to run on; by default the last one that this process may use."""
    out: Path | None = None
    """JSON file for the results; /dev/stdout prints them."""
    plot: Path | None = None
    """PNG file for a figure of the comparison or of --sweep."""
    overwrite: bool = False
    """Replace the files of --out and --plot if they exist."""


def check(options: Options) -> None:
    """Check that the options fit together and the files can be written. Raises `UsageError`, before any measurement."""
    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds}: at least 1 is needed")
    # Here, for the help is there before JAX is.
    from jaxseq.cells import CELLS

    if options.cell not in CELLS:
        raise UsageError(f"--cell {options.cell}: choose one of {', '.join(CELLS)}")
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
    if options.together:
        _check_together_alone(options)
    if options.gpu:
        _check_gpu_alone(options)
    for option, path in (("--out", options.out), ("--plot", options.plot)):
        # The results of --gpu are written after every item, which on stdout would be no JSON.
        is_screen = path == STDOUT and option == "--out" and not options.gpu
        if path is not None and not is_screen:
            check_output(path, option, options.overwrite)


def _check_together_alone(options: Options) -> None:
    others = {
        "--only": options.only is not None,
        "--sweep": options.sweep,
        "--sampling": options.sampling,
        "--scaling": options.scaling,
        "--plot": options.plot is not None,
    }
    for name, is_given in others.items():
        if is_given:
            raise UsageError(
                "stands alone", where="--together", got=name, needed="--rounds, --device and --out at most"
            )


def _check_gpu_alone(options: Options) -> None:
    others = {
        "--quick": options.quick,
        "--only": options.only is not None,
        "--sweep": options.sweep,
        "--sampling": options.sampling,
        "--scaling": options.scaling,
        "--together": options.together,
        "--core": options.core is not None,
        "--plot": options.plot is not None,
    }
    other_options = [name for name, is_given in others.items() if is_given]
    if other_options:
        raise UsageError("stands alone", where="--gpu", got=other_options[0], needed="--minutes and --out at most")
    if not 0 < options.minutes < math.inf:
        raise UsageError("not a time budget", where="--minutes", got=options.minutes, needed="a positive number")


def _check_only(options: Options) -> None:
    if options.sweep:
        raise UsageError("--only chooses workloads of the comparison; --sweep has none of them")
    loads, normalised = _chosen(options)
    if not loads + normalised:
        every = ", ".join(load.name for part in _loads(options.quick) for load in part)
        raise UsageError(f'--only "{options.only}": no workload has that in its name; there are {every}')
    if options.plot is not None and not loads:
        raise UsageError(f"--plot draws the plain workloads, and --only {options.only} leaves none")


def run(options: Options) -> None:
    """Measure, show and write."""
    options = with_user_paths(options)
    check(options)
    if options.gpu:
        from jaxseq.benchmark.gpu import run as gpu_run

        gpu_run.run(gpu_run.Settings(minutes=options.minutes, out=options.out))
        return None
    if options.scaling:
        return _write(options, _scaling(options))
    core = machine.prepare(options.device, options.core)
    from jaxseq.benchmark import compare

    if options.device == "gpu":
        import jax

        machine.check_gpu(jax.default_backend())
    if not options.sampling and not options.together:
        print(compare.header(options.device, core), flush=True)
    rounds = min(options.rounds, 3) if options.quick else options.rounds
    if options.together:
        figures = _together(options, rounds)
    elif options.sampling:
        figures = _sampling(options, rounds)
    else:
        figures = _sweep(options, rounds) if options.sweep else _compare(options, rounds)
    _write(options, {"device": options.device, "core": core, "clock": machine.CLOCKS[options.device][0]} | figures)


def _write(options: Options, results: dict[str, Any]) -> None:
    """Write the JSON file and the figure, if the options name them."""
    if options.out is not None:
        packages = ("jax", "jaxlib", "flax", "torch")
        versions = {name: importlib.metadata.version(name) for name in packages if importlib.util.find_spec(name)}
        record = {"versions": versions, **results}
        if options.out == STDOUT:
            print(json.dumps(record, indent=2))
        else:
            write_json(options.out, record)
            print(f"{options.out} written")
    if options.plot is not None:
        from jaxseq.benchmark import plots
        from jaxseq.common import figures

        figure = plots.growth(results["sweep"]) if options.sweep else plots.ratios(results["results"])
        figures.save(figure, options.plot)
        print(f"{options.plot} written")


def _compare(options: Options, rounds: int) -> dict[str, Any]:
    from jaxseq.benchmark import compare, notenet

    plain, normed = _chosen(options)
    special = {workloads.CHORALE.name: notenet.measure}
    results = [
        special.get(load.name, compare.measure)(_announced(load, rounds), rounds, options.device) for load in plain
    ]
    normalised = [compare.measure_normalised(_announced(load, rounds), rounds, options.device) for load in normed]
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
    text = (options.only or "").casefold()
    plain, normed = ([load for load in part if text in load.name.casefold()] for part in _loads(options.quick))
    return plain, normed


def _sweep(options: Options, rounds: int) -> dict[str, Any]:
    from jaxseq.benchmark import growth

    points = [
        (axis, load, growth.measure(_announced(load, rounds), rounds, options.device))
        for axis, load in growth.loads(options.cell)
    ]
    sweep = growth.gather(options.cell, points)
    _print(growth.table(sweep))
    return {"sweep": sweep}


def _sampling(options: Options, rounds: int) -> dict[str, Any]:
    from jaxseq.benchmark import sampling

    results = [sampling.measure(rows, rounds, options.device) for rows in sampling.ROWS]
    _print(sampling.table(results))
    print(f"{machine.CLOCKS[options.device][0]}; median of {rounds} rounds in turn (least-most); above 1 we are faster")
    return {"sampling": results}


def _together(options: Options, rounds: int) -> dict[str, object]:
    from jaxseq.benchmark import together

    results = []
    for size in together.sizes(options.quick):
        print(f"{size.cell} {size.hidden}: {rounds} rounds", file=sys.stderr, flush=True)
        results.append(together.measure(size, rounds, options.device))
    _print(together.table(results))
    print(
        f"{machine.CLOCKS[options.device][0]}; median of {rounds} rounds in turn (least-most); above 1 together is faster"
    )
    return {"together": [result._asdict() for result in results]}


def _scaling(options: Options) -> dict[str, Any]:
    from jaxseq.benchmark import devices

    rounds = min(options.rounds, 3) if options.quick else options.rounds
    results = devices.measure(options.quick, rounds)
    _print(devices.table(results))
    print("\n".join(devices.words(results)))
    return {"device": "cpu", "clock": "wall time", "scaling": results}


def _announced(load: workloads.Workload, rounds: int) -> workloads.Workload:
    """Print a line of progress; return the workload."""
    print(f"{load.name}: {min(rounds, load.rounds)} rounds of {load.steps} steps", file=sys.stderr, flush=True)
    return load


def _print(table: object) -> None:
    from jaxseq.common.console import terminal

    terminal(narrowest=150).print(table)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return command_line.run(
        "jaxseq.benchmark", lambda: run(_parsed(argv)), "stopped; nothing was written", "workload: --only"
    )


def _parsed(argv: list[str] | None) -> Options:
    words = argv
    if words is None:
        words = sys.argv[1:]
    return command_line.parse(Options, words, program="python -m jaxseq.benchmark", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
