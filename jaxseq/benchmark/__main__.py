"""Time a training step against the same step of other libraries, and against its matrix products alone.

All libraries take turns in one process on one core with one heap, and a ratio is the median over the rounds of peer /
jaxseq, so that it holds where the machine's speed drifts. All start from the same weights and see the same rows; a peer
whose first loss is another one is left out. The tables are Markdown. The comparison ends within --minutes and takes about
4 GiB of memory, most of it for 512 units.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

from jaxseq.benchmark import machine, workloads
from jaxseq.benchmark.heap import Heap
from jaxseq.benchmark.machine import Place
from jaxseq.benchmark.workloads import Workload
from jaxseq.common import command_line
from jaxseq.common.console import say
from jaxseq.common.errors import UsageError
from jaxseq.common.files import STDOUT, check_output, with_user_paths, write_json

if TYPE_CHECKING:
    from jaxseq.benchmark.compare import Figures, Result, Settings

NO_PEERS = "none"
"""Word of --peers for our step alone."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "keras", "equinox")


@dataclass(frozen=True)
class Options:
    """Time a training step against the same step by torch, flax, Keras and equinox, as far as they are installed."""

    quick: bool = False
    """Time only the small workloads and one normalised cell, in 3 rounds; one to two minutes."""
    only: str | None = None
    """Time only the workloads whose name contains this text, in any case: "GRU 512"."""
    peers: tuple[str, ...] = ()
    """Time only these peers: torch, linen, nnx, keras, equinox, autodiff, cudnn; `none` times jaxseq alone. With --gpu they
    are the columns of its table: "jaxseq pallas", "flax nnx", "torch graph"."""
    rounds: int = 7
    """Most rounds, in each of which every library has one turn; the median is reported."""
    turn_seconds: float = 0.2
    """Least length of a turn in seconds."""
    minutes: float = 8.0
    """Time budget of the comparison and of --gpu; workloads that do not fit into it are listed as not reached."""
    heap: Heap = "kept"
    """kept: the process keeps its memory, so that large buffers are not mapped anew at each use. default: as glibc does."""
    sweep: bool = False
    """Measure how the cost of our step grows with window, batch and units, instead of the comparison."""
    sampling: bool = False
    """Time the sampling of 256 notes against stateful loops in torch, instead of the comparison."""
    scaling: bool = False
    """Time a step on 1, 2 and 4 devices, and name its limits, instead of the comparison; with --quick one workload only."""
    together: bool = False
    """Time an epoch of 5 seeds in one program (train --together) against one after the other, instead of the comparison."""
    lengths: bool = False
    """Time long sequences with and without chunks that the derivative computes again, instead of the comparison."""
    loop: bool = False
    """Time a training loop of one's own, by a call for each step and by a scan over batches, with both heaps."""
    gpu: bool = False
    """Measure layers, training steps, generation and errors on one GPU within --minutes, instead of the comparison."""
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


EVERY_MODE = ("out", "overwrite")
TIMED_HERE = ("quick", "rounds", "turn_seconds", "heap", "device", "core")
MODES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "gpu": ("minutes", "only", "peers"),
        "sweep": (*TIMED_HERE, "cell", "plot"),
        "sampling": TIMED_HERE,
        "together": ("quick", "rounds", "heap", "device", "core"),
        "lengths": TIMED_HERE,
        "loop": ("quick", "rounds", "core"),
        "scaling": ("quick", "rounds"),
    }
)
"""Other measurements than the comparison, and the options that each reads."""


# Checks ----------------------------------------------------------------------------------------------------------------


def check(options: Options) -> None:
    """Check that the options fit together and the files can be written. Raises `UsageError`, before any measurement."""
    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds}: at least 1 is needed")
    for name, value in (("--minutes", options.minutes), ("--turn-seconds", options.turn_seconds)):
        if not 0 < value < math.inf:
            raise UsageError("not a time", where=name, got=value, needed="a positive number")
    # Here, as the command prints its help before JAX is imported.
    from jaxseq.cells import CELLS

    if options.cell not in CELLS:
        raise UsageError(f"--cell {options.cell}: choose one of {', '.join(CELLS)}")
    _check_mode(options)
    # --gpu has rows and peers of its own.
    if _mode(options) is None:
        _check_choice(options)

    if options.plot is not None and options.plot.suffix != ".png":
        raise UsageError(f"--plot {options.plot}: a name that ends in .png is needed")
    for option, path in (("--out", options.out), ("--plot", options.plot)):
        # The results of --gpu are written after every item, which on stdout would be no JSON.
        is_screen = path == STDOUT and option == "--out" and not options.gpu
        if path is not None and not is_screen:
            check_output(path, option, options.overwrite)


def _mode(options: Options) -> str | None:
    """Return the measurement that is asked for, None for the comparison."""
    for name in MODES:
        if getattr(options, name):
            return name
    return None


def _check_mode(options: Options) -> None:
    """Refuse options that a measurement does not read."""
    mode = _mode(options)
    if mode is None:
        return
    reads = (mode, *MODES[mode], *EVERY_MODE)
    for field in dataclasses.fields(options):
        if field.name not in reads and getattr(options, field.name) != field.default:
            raise UsageError(
                "does not go with this option",
                where=f"--{mode}",
                got=_option(field.name),
                needed=", ".join(map(_option, reads[1:])),
            )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_choice(options: Options) -> None:
    """Refuse workloads and peers that there are none of."""
    for name in options.peers:
        known = _peer_names(options)
        if name not in (*known, NO_PEERS):
            raise UsageError(
                "no such peer", where="--peers", got=name, needed=f"one of {', '.join((*known, NO_PEERS))}"
            )
    if options.only is None:
        return
    chosen = _chosen(options)
    if not chosen.plain + chosen.normalised:
        every_name = ", ".join(load.name for part in _loads(options.quick) for load in part)
        raise UsageError(f'--only "{options.only}": no workload has that in its name; there are {every_name}')
    if options.plot is not None and not chosen.plain:
        raise UsageError(f"--plot draws the plain workloads, and --only {options.only} leaves none")


def _peer_names(options: Options) -> list[str]:
    from jaxseq.benchmark import peers

    return peers.names(options.device)


# Runs ------------------------------------------------------------------------------------------------------------------


def run(options: Options) -> None:
    """Measure, show and write."""
    options = with_user_paths(options)
    check(options)
    # It sets the environment itself, as it also runs without this command, and writes its file after every item.
    if options.gpu:
        from jaxseq.benchmark.gpu import run as gpu_run

        gpu_run.run(
            gpu_run.Settings(
                minutes=options.minutes,
                out=options.out,
                only=options.only or "",
                peers=_chosen_peers(options),
            )
        )
        return
    # Both have processes of their own, each with its cores and its heap.
    if options.scaling:
        return _write(options, _scaling(options))
    if options.loop:
        return _write(options, _loop(options))

    place = machine.prepare(options.device, options.core, options.heap)
    if options.device == "gpu":
        import jax

        machine.check_gpu(jax.default_backend())
    record = {
        "device": options.device,
        "core": place.core,
        "heap": place.heap,
        "clock": machine.CLOCKS[options.device][0],
    }
    _write(options, {**record, **_measured(options, place)})


def _measured(options: Options, place: Place) -> Mapping[str, object]:
    """Measure in this process; return the results by the kind of measurement."""
    settings = _settings(options)
    if options.sweep:
        return _sweep(options, settings)
    if options.sampling:
        return _sampling(settings)
    if options.together:
        return _together(options, settings)
    if options.lengths:
        return _lengths(options, settings)
    return _compare(options, settings, place)


def _settings(options: Options) -> Settings:
    from jaxseq.benchmark.compare import Settings

    return Settings(options.device, _rounds(options), options.turn_seconds, _chosen_peers(options))


def _chosen_peers(options: Options) -> frozenset[str] | None:
    if not options.peers:
        return None
    return frozenset(options.peers)


def _rounds(options: Options) -> int:
    # A user may have asked for fewer still.
    if options.quick:
        return min(options.rounds, 3)
    return options.rounds


def _write(options: Options, results: Mapping[str, object]) -> None:
    """Write the JSON file, if the options name one."""
    if options.out is None:
        return
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    record = {"versions": versions, **results}
    if options.out == STDOUT:
        print(json.dumps(record, indent=2))
        return
    write_json(options.out, record)
    say(f"{options.out} written")


# The comparison --------------------------------------------------------------------------------------------------------


class Loads(NamedTuple):
    """Workloads that are compared with other libraries, and normalised ones."""

    plain: tuple[Workload, ...]
    normalised: tuple[Workload, ...]


def _loads(quick: bool) -> Loads:
    if quick:
        return Loads(workloads.SMALL, workloads.NORMALISED[1:2])
    return Loads(workloads.SMALL + workloads.LARGE, workloads.NORMALISED)


def _chosen(options: Options) -> Loads:
    """Return the workloads that --only leaves."""
    text = (options.only or "").casefold()
    chosen = []
    for part in _loads(options.quick):
        chosen.append(tuple(load for load in part if text in load.name.casefold()))
    return Loads(*chosen)


class Comparison(TypedDict):
    """The figures of a comparison, as they stand in the JSON file, with the names of the workloads without any."""

    results: list[Result]
    normalised: list[Figures]
    not_reached: list[str]


def _compare(options: Options, settings: Settings, place: Place) -> Mapping[str, object]:
    from jaxseq.benchmark import tables

    print(tables.header(options.device, place), flush=True)
    comparison = _compared(options, settings)
    _show(comparison, options)
    results = comparison["results"]
    if options.plot is not None and results:
        from jaxseq.benchmark import plots
        from jaxseq.common import figures

        figures.save(plots.ratios(results), options.plot)
        say(f"{options.plot} written")
    return comparison


def _compared(options: Options, settings: Settings) -> Comparison:
    """Measure the workloads that fit into the time."""
    from jaxseq.benchmark import compare, notenet
    from jaxseq.benchmark.budget import Budget

    comparison = Comparison(results=[], normalised=[], not_reached=[])
    budget = Budget(options.minutes * 60, time.perf_counter)
    chosen = _chosen(options)
    # The normalised cells are small, the last plain workloads are not.
    for load in (*chosen.normalised, *chosen.plain):
        weight = compare.expected_seconds(load, settings)
        # A later workload may be cheaper, so the others are still tried.
        if budget.estimate("workload", weight) > budget.left():
            comparison["not_reached"].append(load.name)
            continue

        print(load.name, file=sys.stderr, flush=True)
        before = budget.used()
        if load in chosen.normalised:
            comparison["normalised"].append(compare.measure_normalised(load, settings))
        # Its layers below the recurrent one are in no other library but torch.
        elif load == workloads.CHORALE:
            comparison["results"].append(notenet.measure(load, settings))
        else:
            comparison["results"].append(compare.measure(load, settings))
        budget.spent("workload", weight, budget.used() - before)
    return comparison


def _show(comparison: Comparison, options: Options) -> None:
    """Print the tables, and a line for each workload that was not reached."""
    from jaxseq.benchmark import tables

    results = comparison["results"]
    if results:
        print(f"\n{tables.comparison(results, options.device)}\n\n{tables.costs(results)}")
    if comparison["normalised"]:
        print(f"\n{tables.normalised(comparison['normalised'])}")
    for name in comparison["not_reached"]:
        print(f"not reached within --minutes {options.minutes:g}: {name}")


# Other measurements ----------------------------------------------------------------------------------------------------


def _sweep(options: Options, settings: Settings) -> Mapping[str, object]:
    from jaxseq.benchmark import growth

    points = []
    for axis, load in growth.loads(options.cell):
        print(load.name, file=sys.stderr, flush=True)
        points.append(growth.Point(axis, load, growth.measure(load, settings)))
    sweep = growth.gather(options.cell, points)
    print(growth.table(sweep))
    if options.plot is not None:
        from jaxseq.benchmark import plots
        from jaxseq.common import figures

        figures.save(plots.growth(sweep), options.plot)
        say(f"{options.plot} written")
    return {"sweep": sweep}


def _sampling(settings: Settings) -> Mapping[str, object]:
    from jaxseq.benchmark import sampling

    results = [sampling.measure(rows, settings) for rows in sampling.ROWS]
    print(sampling.table(results))
    print(f"\n{_conditions(settings)}; above 1 jaxseq is faster")
    return {"sampling": results}


def _together(options: Options, settings: Settings) -> Mapping[str, object]:
    from jaxseq.benchmark import together

    results = []
    for size in together.sizes(options.quick):
        print(f"{size.cell} {size.hidden}: {settings.rounds} rounds", file=sys.stderr, flush=True)
        results.append(together.measure(size, settings.rounds, settings.device))
    print(together.table(results))
    print(f"\n{_conditions(settings)}; above 1 together is faster")
    return {"together": [result._asdict() for result in results]}


def _lengths(options: Options, settings: Settings) -> Mapping[str, object]:
    from jaxseq.benchmark import lengths

    results = []
    for load in lengths.loads(options.quick):
        print(load.name, file=sys.stderr, flush=True)
        results.append(lengths.measure(load, settings))
    print(lengths.table(results))
    print(f"\n{_conditions(settings)}; above 1 chunks are faster; memory as XLA plans it")
    return {"lengths": results}


def _conditions(settings: Settings) -> str:
    return f"{machine.CLOCKS[settings.device][0]}; median of at most {settings.rounds} rounds in turn (least-most)"


def _loop(options: Options) -> Mapping[str, object]:
    from jaxseq.benchmark import own_loop

    # The rounds are those of each process.
    results = own_loop.measure(options.quick, _rounds(options), options.core)
    print(own_loop.table(results))
    print("\nCPU time of a step, median of the rounds (least-most)")
    return {"device": "cpu", "clock": "CPU time", "loop": results}


def _scaling(options: Options) -> Mapping[str, object]:
    from jaxseq.benchmark import devices

    results = devices.measure(options.quick, _rounds(options))
    print(devices.table(results))
    print()
    print("\n".join(devices.words(results)))
    return {"device": "cpu", "clock": "wall time", "scaling": results}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
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
