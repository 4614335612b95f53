"""The benchmark: everybody does the same work, and what it writes is what it measured."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxseq.benchmark import __main__ as program
from jaxseq.benchmark import compare, floors, growth, machine, peers, workloads
from jaxseq.benchmark.workloads import Product, Workload
from jaxseq.cells import CELLS

TINY = Workload("tiny", "lstm", 5, 6, 3, 2, 1, layers=2, outputs=2, every_step=True)
LAST = TINY._replace(cell="rnn", layers=1, every_step=False)


def losses(trainer: peers.Trainer, turns: int = 4) -> np.ndarray:
    return np.concatenate([trainer.work() for _ in range(turns)])


def cudnn_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX's own LSTM on the weights as it reads them out of cuDNN's order."""
    from jax.experimental import rnn

    def lstm(x, h, c, weights, lengths, inputs, hidden, layers, dropout, both_ways, precision):
        parts = rnn.unpack_lstm_weights(weights, inputs, hidden, layers, both_ways)
        return rnn.lstm_ref(x, h, c, *parts, lengths, inputs, hidden, layers, dropout, both_ways)

    monkeypatch.setattr(rnn, "lstm", lstm)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("load", [LAST, TINY._replace(cell="gru"), TINY], ids=lambda load: load.cell)
def test_everybody_does_the_same_work(load: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn_by_reference(monkeypatch)
    start = peers.given(load)
    mine = peers.ours(load, start)
    ours = losses(mine)
    assert ours[-1] < ours[0]
    biases = load.hidden * load.layers  # cuDNN and torch have two at each gate; flax's GRU has one at r and z, not two
    twice = {"rnn": biases, "lstm": 4 * biases, "gru": 0}[load.cell]
    beside = {"autodiff": 0, "flax": -2 * biases * (load.cell == "gru"), "torch": twice, "cudnn": twice}
    for name in machine.PEERS["gpu"]:
        if machine.absent(name, load.cell, "cpu") is None:
            peer = peers.MAKERS[name](load, start)
            found = losses(peer)
            assert np.float32(1e-40) * np.float32(0.5) > 0  # nobody leaves denormal numbers switched off
            np.testing.assert_allclose(found[0], ours[0], rtol=1e-5, err_msg=name)
            assert peer.parameters == mine.parameters + beside[name], name
            # the same gradients and the same Adam; but a bias that is there twice learns twice as fast
            close = {"rtol": 0.3 if beside[name] else 2e-3, "atol": 1e-6}
            np.testing.assert_allclose(np.diff(found), np.diff(ours), **close, err_msg=name)


@pytest.mark.usefixtures("compiled_quickly")
def test_each_step_of_a_turn_has_its_own_batch() -> None:
    load = LAST._replace(cell="gru", steps=3)
    start = peers.given(load)
    found = losses(peers.autodiff(load, start), 1)
    assert found.shape == (3,)
    if machine.absent("torch", "gru", "cpu") is None:
        np.testing.assert_allclose(losses(peers.torch(load, start), 1), found, rtol=1e-5)


def test_the_products_of_a_step_are_counted_by_hand() -> None:
    small = {load.name: workloads.flops(load) / 64e6 for load in workloads.SMALL}  # ms at 64 GF/s
    head = 2 * 2 * 32 * 50 / 64e6 + 2 * 32 * 50 / 64e6
    wanted = {"RNN 50": 0.375, "LSTM 50": 1.5, "GRU 50": 1.125, "RNN 20-20, every step": 0.21}
    for name, ms in wanted.items():
        np.testing.assert_allclose(small[name] - (head if "50" in name else 0), ms, rtol=1e-12)
    wide = LAST._replace(cell="gru", hidden=7, features=11)
    assert Product(1, 18, 11, 21) in workloads.products(wide) and Product(1, 11, 18, 21) in workloads.products(wide)
    assert Product(1, 18, 21, 11) not in workloads.products(wide)  # nobody asks for the gradient of the data


@pytest.mark.parametrize("load", [TINY, LAST], ids=["every step", "last state"])
def test_the_floor_does_every_product_and_no_other(load: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[bool, tuple[int, ...], tuple[int, ...]]] = []

    def noted(name: str):
        real = getattr(floors, name)

        def way(left, right):
            done.append((name == "_in_a_scan", left.shape, right.shape))
            return real(left, right)

        return way

    for name in ("_in_a_scan", "_once"):
        monkeypatch.setattr(floors, name, noted(name))
    load = load._replace(steps=2)
    total = sum((left @ right)[..., 0, 0].sum() for left, right in map(floors._operands, workloads.products(load)))
    np.testing.assert_allclose(floors.floor(load)(), 2 * total, rtol=1e-5)
    wanted = [
        (many > 1, (many, rows, inner) if many > 1 else (rows, inner), (inner, columns + -columns % 32))
        for many, rows, inner, columns in workloads.products(load)
    ]
    assert done == wanted


def test_the_floor_cannot_be_optimised_away() -> None:
    load = Workload("", "rnn", 96, 64, 64, 1, 1)
    work = floors.floor(load)
    work()
    seconds = min(machine.milliseconds(work, 1, "cpu") for _ in range(5)) / 1e3
    assert workloads.flops(load) / seconds < 2e12  # no core does so many products a second


def test_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 5.0, 2.0, 4.0, 4.0, 4.0])  # three rounds of us and of a peer
    monkeypatch.setattr(machine, "milliseconds", lambda work, steps, device: next(times))
    found = compare.in_turn({"ours": lambda: None, "peer": lambda: None}, LAST, 3, "cpu")
    result = compare._figures(
        LAST, peers.Trainer(lambda: np.zeros(1), 7), found, {"peer": found["peer"] / found["ours"]}
    )
    assert result["ratio"] == {"peer": 2.0} and result["ratio_range"] == {"peer": [1.0, 5.0]}
    assert result["ms"] == {"ours": 2.0, "peer": 4.0} and result["rounds"] == 3


def test_a_big_workload_takes_no_more_rounds_than_it_may() -> None:
    turns = []
    compare.in_turn({"ours": lambda: turns.append(1)}, LAST._replace(rounds=2), 7, "cpu")
    assert len(turns) == 1 + 2  # one to warm up


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The program on tiny sizes without torch and flax; the process keeps its cores and its environment."""
    real = importlib.util.find_spec
    gone = ("torch", "flax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else real(name, *rest))
    monkeypatch.setattr(machine, "prepare", lambda device, core: 0)
    monkeypatch.setattr(workloads, "SMALL", (LAST,))
    monkeypatch.setattr(workloads, "NORMALISED", (LAST, LAST._replace(norm="layer", name="normalised")))
    return program.main(list(words))


@pytest.mark.usefixtures("compiled_quickly")
def test_the_figures_are_shown_written_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    out, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    assert run(monkeypatch, "--quick", "--rounds", "2", "--out", str(out), "--plot", str(plot)) == 0
    found = json.loads(out.read_text())
    assert found["versions"]["jax"] and found["clock"] == "CPU time" and found["core"] == 0
    (result,), (normalised,) = found["results"], found["normalised"]
    assert Workload(**result["workload"]) == LAST and normalised["workload"]["norm"] == "layer"
    assert result["rounds"] == 2 and result["compile_s"] > 0 and result["memory_mib"] > 0
    assert result["absent"] == {"flax": "not installed", "torch": "not installed"}
    assert set(result["ms"]) == {"ours", "floor", "autodiff"} and set(result["ratio"]) == {"autodiff"}
    assert set(normalised["ms"]) == {"ours", "plain"} and normalised["ratio"]["plain"] > 0
    assert normalised["parameters"] == result["parameters"] + 2 * LAST.hidden  # a gain for x W, another for h R
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"{name}: 2 rounds of 1 steps" for name in ("tiny", "normalised")]
    assert "memory: what XLA plans" in said.out and "normalised / plain" in said.out
    (row,) = [line for line in said.out.splitlines() if "tiny" in line]
    assert row.count("not installed") == 2


@pytest.mark.parametrize(
    ("words", "measured"),
    [
        (["--only", "gru 50"], ["GRU 50", "GRU 50, batch 256", "LN-GRU 50"]),
        (["--only", "GRU 512"], ["GRU 512"]),
        (["--only", "LN-"], ["LN-RNN 50", "LN-LSTM 50", "LN-GRU 50"]),
        (["--quick", "--only", "lstm"], ["LSTM 50", "LN-LSTM 50"]),
    ],
)
def test_only_the_workloads_that_are_named_are_measured(words, measured, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(machine, "prepare", lambda device, core: 0)
    for name in ("measure", "measure_normalised"):
        monkeypatch.setattr(compare, name, lambda load, *_: done.append(load.name))
    for name in ("table", "normalised_table"):
        monkeypatch.setattr(compare, name, lambda results, *_: len(results))
    assert program.main(words) == 0
    assert done == measured


def test_the_picture_shows_the_ratios_and_the_floor() -> None:
    from jaxseq.benchmark import plots

    result = {
        "workload": {"name": "one"},
        "ms": {"ours": 2.0, "floor": 0.5},
        "ratio": {"flax": 1.5, "torch": 3.0},
        "ratio_range": {"flax": [1.4, 1.7], "torch": [2.5, 3.5]},
    }
    less = {**result, "workload": {"name": "two"}, "ratio": {"flax": 0.5}, "ratio_range": {"flax": [0.4, 0.6]}}
    left, right = plots.ratios([result, less]).axes
    assert [bar.get_width() for bar in left.patches] == [1.5, 0.5, 3.0]
    assert [text.get_text() for text in left.get_yticklabels()] == ["one", "two"]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["flax", "torch"]
    floor, ours = right.get_lines()[:2]
    assert list(floor.get_xdata()) == [0.5, 0.5] and list(ours.get_xdata()) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--out", "nowhere/bench.json"],
            "jaxseq.benchmark: --out nowhere/bench.json: cannot be written; got 'nowhere'",
        ),
        (
            ["--plot", "nowhere/bench.png"],
            "jaxseq.benchmark: --plot nowhere/bench.png: cannot be written; got 'nowhere'",
        ),
        (["--plot", "bench.jpeg"], "jaxseq.benchmark: --plot bench.jpeg: a name that ends in .png is needed"),
        (["--out", "."], "jaxseq.benchmark: --out .: is a folder"),
        (["--rounds", "0"], "jaxseq.benchmark: --rounds 0: at least 1 is needed"),
        (["--sweep", "--cell", "foo"], f"jaxseq.benchmark: --cell foo: choose one of {', '.join(CELLS)}"),
        (
            ["--only", "GRU 513"],
            'jaxseq.benchmark: --only "GRU 513": no workload has that in its name; there are RNN 50, LSTM 50, ',
        ),
        (
            ["--quick", "--only", "512"],
            'jaxseq.benchmark: --only "512": no workload has that in its name; there are RNN 50, ',
        ),
        (
            ["--sweep", "--only", "GRU"],
            "jaxseq.benchmark: --only chooses workloads of the comparison; --sweep has none of them",
        ),
        (
            ["--only", "LN-", "--plot", "b.png"],
            "jaxseq.benchmark: --plot draws the plain workloads, and --only LN- leaves none",
        ),
        (["--together", "--sweep"], "jaxseq.benchmark: --together: stands alone; got '--sweep', needed --rounds, "),
        (["--core", "999"], "jaxseq.benchmark: --core 999: this process may use "),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_is_measured(words, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("JAX_PLATFORMS", "JAX_ENABLE_COMPILATION_CACHE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(compare, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(growth, "measure", lambda *_: pytest.fail("measured"))
    assert program.main(words) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.startswith(said) and found.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_survives_the_check(tmp_path: Path) -> None:
    old = tmp_path / "bench.json"
    old.write_text("old")
    program.check(program.Options(out=old, plot=tmp_path / "new.png", overwrite=True))
    assert old.read_text() == "old" and list(tmp_path.iterdir()) == [old]


def test_the_slope_of_a_power_is_its_exponent() -> None:
    points = []
    for axis, load in growth.loads("gru"):
        cost = 3e-4 * load.window**1.0 * load.batch**0.5 * load.hidden**1.7
        points.append((axis, load, {"ours": cost, "floor": cost**0.5}))
    found = growth.gather("gru", points)["axes"]
    for axis, exponent in {"window": 1.0, "batch": 0.5, "hidden": 1.7}.items():
        at = found[axis]
        np.testing.assert_allclose(
            [at["slope"], at["last_slope"], at["floor_slope"]], [exponent, exponent, exponent / 2]
        )


def test_a_sweep_moves_one_size_at_a_time() -> None:
    loads = list(growth.loads("rnn"))
    assert len(loads) == 4 + 3 + 5
    for axis, load in loads:
        assert all(getattr(load, other) == size for other, size in growth.MIDDLE.items() if other != axis)
        assert getattr(load, axis) in growth.AXES[axis] and 4 <= load.steps <= 60


def test_a_sweep_is_shown_written_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    def planted(load: Workload, rounds: int, device: str) -> dict[str, float]:
        return {"ours": 2.0 * load.window**2, "floor": 1.0 * load.window}

    monkeypatch.setattr(growth, "measure", planted)
    out, plot = tmp_path / "sweep.json", tmp_path / "sweep.png"
    words = ["--sweep", "--cell", "rnn", "--rounds", "1", "--out", str(out), "--plot", str(plot)]
    assert run(monkeypatch, *words) == 0
    found = json.loads(out.read_text())["sweep"]
    at = found["axes"]["window"]
    assert found["cell"] == "rnn" and at["sizes"] == [25, 50, 100, 200] and at["ms"]["floor"] == at["sizes"]
    np.testing.assert_allclose([at["slope"], at["floor_slope"]], [2, 1])
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 12 and "rnn, window 25: 1 rounds of 60 steps" in said.err
    (row,) = [line for line in said.out.splitlines() if "80000.00" in line]
    assert row.replace("│", "").split() == ["200", "80000.00", "200.00", "400.00", "2.00", "2.00", "1.00"]


def test_a_point_of_a_sweep_is_our_step_and_its_floor() -> None:
    found = growth.measure(LAST, 1, "cpu")
    assert set(found) == {"ours", "floor"} and found["ours"] > 0 and found["floor"] > 0


def test_a_gpu_is_timed_by_the_wall_and_a_cpu_by_its_own_time() -> None:
    assert machine.CLOCKS["cpu"][1] is time.process_time and machine.CLOCKS["gpu"][1] is time.perf_counter
    asleep = {device: machine.milliseconds(lambda: time.sleep(0.05), 1, device) for device in machine.CLOCKS}
    assert asleep["gpu"] >= 50 > 40 > asleep["cpu"]


def test_on_a_gpu_cudnn_is_a_peer_of_the_lstm_only() -> None:
    assert set(machine.PEERS["gpu"]) - set(machine.PEERS["cpu"]) == {"cudnn"}
    assert machine.absent("cudnn", "lstm", "gpu") is None
    assert machine.absent("cudnn", "gru", "gpu") == "LSTM only"


def test_without_a_gpu_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "--device", "gpu") == 2
    assert capsys.readouterr().err.startswith("jaxseq.benchmark: --device gpu: JAX found no GPU, only cpu; pip install")


def test_every_module_of_the_benchmark_is_importable_without_its_peers() -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        "sys.modules.update(torch=None, keras=None)\n"  # an import of either fails
        "import jaxseq.benchmark as room\n"
        "names = [module.name for module in pkgutil.iter_modules(room.__path__)]\n"
        "for name in names: importlib.import_module(f'jaxseq.benchmark.{name}')\n"
        "print(len(names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) >= 10


def test_help_is_quick_and_loads_no_framework() -> None:
    code = (
        "import sys\nfrom jaxseq.benchmark import __main__ as program\n"
        "try:\n    program.main(['--help'])\nexcept SystemExit:\n    print({'jax', 'torch', 'flax'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert "--sweep" in found.stdout and found.stdout.endswith("set()\n")
