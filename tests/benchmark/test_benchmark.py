"""The benchmark: everybody does the same work, and what it writes is what it measured."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseq.benchmark import __main__ as program
from jaxseq.benchmark import (
    compare,
    growth,
    heap,
    layers,
    lengths,
    machine,
    matmuls,
    peers,
    tables,
    turns,
    workloads,
)
from jaxseq.benchmark.workloads import Product, Workload
from jaxseq.cells import CELLS
from jaxseq.common.errors import UsageError

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


# Parameters of a layer beyond ours: torch and cuDNN have two biases at each gate, Flax and equinox less than two in a GRU.
EXTRA = {
    ("rnn", "torch"): 1,
    ("lstm", "torch"): 4,
    ("lstm", "cudnn"): 4,
    ("gru", "linen"): -2,
    ("gru", "nnx"): -3,
    ("gru", "equinox"): -2,
}


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("load", [LAST, TINY._replace(cell="gru"), TINY], ids=lambda load: load.cell)
def test_everybody_does_the_same_work(load: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn_by_reference(monkeypatch)
    start = peers.given(load)
    mine = peers.ours(load, start)
    ours = losses(mine)
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(peers.first_loss(load, start), ours[0], rtol=1e-6)
    for name, peer in peers.PEERS.items():
        # Keras chooses its backend when it is imported: it has a test of its own.
        if name == "keras" or peer.absent(load.cell, peer.devices[0]):
            continue
        trainer = peer.make(load, start)
        found = losses(trainer)
        assert np.float32(1e-40) * np.float32(0.5) > 0  # nobody leaves denormal numbers switched off
        np.testing.assert_allclose(found[0], ours[0], rtol=1e-5, err_msg=name)
        extra = EXTRA.get((load.cell, name), 0) * load.hidden * load.layers
        assert trainer.parameters == mine.parameters + extra, name
        # the same gradients and the same Adam; but a bias that is there twice learns twice as fast
        close = {"rtol": 0.3 if extra else 2e-3, "atol": 1e-6}
        np.testing.assert_allclose(np.diff(found), np.diff(ours), **close, err_msg=name)


KERAS = """
import sys
import jax, numpy as np
from jaxseq.benchmark import peers
from jaxseq.benchmark.workloads import Workload

for cell in ("rnn", "lstm", "gru"):
    load = Workload("", cell, 5, window=6, batch=3, features=2, steps=1, layers=2, outputs=2, every_step=cell != "gru")
    start = peers.given(load)
    ours, keras = (make(load, start) for make in (peers.ours, peers.PEERS["keras"].make))
    assert ours.parameters == keras.parameters
    found, wanted = ([trainer.work()[0] for _ in range(4)] for trainer in (keras, ours))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, err_msg=cell)
    np.testing.assert_allclose(np.diff(found), np.diff(wanted), rtol=2e-3, atol=1e-6, err_msg=cell)
print("same")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")
def test_keras_on_jax_does_the_same_work() -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", KERAS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.stdout == "same\n", done.stderr


def test_weights_of_equinox_are_ours() -> None:
    params = CELLS["gru"].init(jax.random.key(0), 3, 4)
    params = jax.tree.map(lambda leaf: np.random.default_rng(1).normal(size=leaf.shape), params)
    weights = layers.equinox_weights("gru", params)
    np.testing.assert_allclose(weights["weight_hh"].T, params.recurrent_kernel)
    # It adds the second bias of n inside the reset gate, and has one for r and z.
    np.testing.assert_allclose(weights["bias"][:8], (params.bias + params.recurrent_bias)[:8])
    np.testing.assert_allclose(weights["bias"][8:], params.bias[8:])
    np.testing.assert_allclose(weights["bias_n"], params.recurrent_bias[8:])


@pytest.mark.usefixtures("compiled_quickly")
def test_a_peer_with_another_loss_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(load, start, device="cpu"):
        head = {**start.state.params["head"], "bias": start.state.params["head"]["bias"] + 1}
        return peers.autodiff(
            load, start._replace(state=start.state._replace(params=start.state.params | {"head": head}))
        )

    monkeypatch.setattr(
        peers, "PEERS", {"wrong": peers.Peer("jax", "wrong", wrong), "autodiff": peers.PEERS["autodiff"]}
    )
    entrants = compare.entered(LAST, peers.given(LAST), compare.Settings())
    assert set(entrants.others) == {"autodiff"} and entrants.absent["wrong"].startswith("its first loss is ")
    assert entrants.apart["autodiff"] < 1e-6 < compare.SAME_LOSS < entrants.apart["wrong"]


@pytest.mark.usefixtures("compiled_quickly")
def test_each_step_of_a_turn_has_its_own_batch() -> None:
    load = LAST._replace(cell="gru", steps=3)
    start = peers.given(load)
    found = losses(peers.autodiff(load, start), 1)
    assert found.shape == (3,)
    if peers.PEERS["torch"].absent("gru", "cpu") is None:
        np.testing.assert_allclose(losses(peers.torch_layers(load, start), 1), found, rtol=1e-5)


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
def test_every_product_is_done_and_no_other(load: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[bool, tuple[int, ...], tuple[int, ...]]] = []

    def noted(name: str):
        real = getattr(matmuls, name)

        def multiply(left, right):
            done.append((name == "_in_a_scan", left.shape, right.shape))
            return real(left, right)

        return multiply

    for name in ("_in_a_scan", "_once"):
        monkeypatch.setattr(matmuls, name, noted(name))
    products = workloads.products(load)
    total = sum((left @ right)[..., 0, 0].sum() for left, right in map(matmuls.operands, products))
    np.testing.assert_allclose(matmuls.in_xla(products, 2)(), 2 * total, rtol=1e-5)
    wanted = [
        (many > 1, (many, rows, inner) if many > 1 else (rows, inner), (inner, columns + -columns % 32))
        for many, rows, inner, columns in products
    ]
    assert done == wanted


def test_torch_does_the_same_products(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    done = []
    real = torch.mm

    def noted(left, right, out):
        done.append(2 * left.shape[0] * left.shape[1] * right.shape[1])
        return real(left, right, out=out)

    monkeypatch.setattr(torch, "mm", noted)
    products = [Product(3, 4, 5, 32), Product(1, 6, 7, 64)]
    matmuls.in_torch(products, 2)()
    assert sum(done) == 2 * sum(product.flops for product in products) and len(done) == 2 * 4


def test_the_products_cannot_be_optimised_away() -> None:
    load = Workload("", "rnn", 96, 64, 64, 1, 1)
    work = matmuls.in_xla(workloads.products(load), 1)
    work()
    seconds = min(machine.milliseconds(work, 1, "cpu") for _ in range(5)) / 1e3
    assert workloads.flops(load) / seconds < 2e12  # no core does so many products a second


class Clock:
    """Seconds that pass only while somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, *durations: float):
        """A function whose calls take these seconds, and the last of them from then on."""
        left = list(durations)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


PACE = turns.Pace(turn_seconds=0.2, round_seconds=10, least_rounds=3, most_rounds=7)


def test_the_first_turn_is_thrown_away_and_every_turn_is_long_enough() -> None:
    clock = Clock()
    works = {"slow at first": turns.Work(clock.work(0.1, 0.05)), "slow": turns.Work(clock.work(0.5))}
    times = turns.measure(works, 5, PACE, clock)
    assert times["slow at first"].calls == 2 and times["slow"].calls == 1
    np.testing.assert_allclose(times["slow at first"].milliseconds, [10.0] * 7)
    np.testing.assert_allclose(times["slow"].milliseconds, [100.0] * 7)


def test_long_turns_have_fewer_rounds_and_no_peer_is_always_the_first() -> None:
    clock = Clock()
    order = []

    def noted(name: str):
        work = clock.work(1.0)
        return turns.Work(lambda: (order.append(name), work()))

    times = turns.measure({name: noted(name) for name in "abc"}, 1, PACE, clock)
    assert len(times["a"].milliseconds) == 3  # of 3 s each, in 10 s
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"ours": np.array([1.0, 2.0, 4.0]), "peer": np.array([5.0, 4.0, 4.0])}
    result = compare._figures(
        LAST, peers.Trainer(lambda: np.zeros(1), 7), times, {"peer": times["peer"] / times["ours"]}
    )
    assert result["ratio"] == {"peer": 2.0} and result["ratio_range"] == {"peer": [1.0, 5.0]}
    assert result["ms"] == {"ours": 2.0, "peer": 4.0} and result["rounds"] == 3
    assert result["ms_range"] == {"ours": [1.0, 4.0], "peer": [4.0, 5.0]}


HEAP = """
import sys
from jaxseq.benchmark import heap
print(heap.settle(sys.argv[1]))
import numpy as np
def faults():
    return int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[7])
np.ones(2**24)
before = faults()
for _ in range(8):
    np.ones(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(not heap.has_settings(), reason="not glibc")
def test_a_kept_heap_maps_no_large_buffer_anew() -> None:
    faults = {}
    for kind in ("kept", "default"):
        command = [sys.executable, "-c", HEAP, kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        settled, count = done.stdout.split()
        assert settled == kind
        faults[kind] = int(count)
    # 8 buffers of 128 MiB
    assert faults["kept"] < 100 < 200 < faults["default"]


def test_a_process_that_fails_is_named_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(command, **_):
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="Traceback\nValueError: no such layer\n")

    monkeypatch.setattr(subprocess, "run", process)
    with pytest.raises(UsageError, match=r"^GRU on 2 devices .*: ValueError: no such layer$"):
        machine.in_process("jaxseq.benchmark.devices", [], {}, title="GRU on 2 devices")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The program on tiny sizes without other libraries; the process keeps its cores and its environment."""
    real = importlib.util.find_spec
    gone = ("torch", "flax", "keras", "equinox")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else real(name, *rest))
    monkeypatch.setattr(machine, "prepare", lambda device, core, heap: machine.Place(0, heap))
    monkeypatch.setattr(workloads, "SMALL", (LAST,))
    monkeypatch.setattr(workloads, "NORMALISED", (LAST, LAST._replace(norm="layer", name="normalised")))
    return program.main([*words, "--turn-seconds", "1e-4"])


@pytest.mark.usefixtures("compiled_quickly")
def test_the_figures_are_shown_written_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    out, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    assert run(monkeypatch, "--quick", "--rounds", "2", "--out", str(out), "--plot", str(plot)) == 0
    found = json.loads(out.read_text())
    assert found["versions"]["jax"] and found["clock"] == "CPU time" and found["core"] == 0
    (result,), (normalised,) = found["results"], found["normalised"]
    assert Workload(**result["workload"]) == LAST and normalised["workload"]["norm"] == "layer"
    assert result["rounds"] == 2 and result["compile_s"] > 0 and result["memory_mib"] > 0
    assert found["heap"] == "kept" and found["not_reached"] == []
    assert result["absent"] == dict.fromkeys(["torch", "linen", "nnx", "keras", "equinox"], "not installed")
    assert set(result["ms"]) == {"ours", "autodiff"} and set(result["ratio"]) == {"autodiff"}
    assert set(result["products"]) == {"XLA"} and result["apart"]["autodiff"] < 1e-5
    assert set(normalised["ms"]) == {"ours", "plain"} and normalised["ratio"]["plain"] > 0
    assert normalised["parameters"] == result["parameters"] + 2 * LAST.hidden  # a gain for x W, another for h R
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    said = capsys.readouterr()
    assert said.err.splitlines() == ["normalised", "tiny"]
    assert "heap kept by the process" in said.out and "normalised / plain" in said.out
    assert "torch, fused Adam: not installed\n" in said.out


def test_what_does_not_fit_into_the_time_is_listed(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(compare, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(compare, "measure_normalised", lambda *_: pytest.fail("measured"))
    assert run(monkeypatch, "--quick", "--minutes", "0.01") == 0
    assert capsys.readouterr().out.count("not reached within --minutes 0.01: ") == 2


def test_the_table_is_markdown_and_names_who_is_ahead() -> None:
    def result(name: str, ratio: dict[str, float]) -> compare.Result:
        return {
            "workload": {"name": name},
            "ms": {"ours": 2.0},
            "ratio": ratio,
            "ratio_range": {peer: [value - 0.1, value + 0.1] for peer, value in ratio.items()},
            "products": {"XLA": 1.0, "torch": 0.5},
            "above_products": 2.0,
            "above_products_range": [1.9, 2.1],
            "absent": {"keras": "not installed"},
        }

    results = [result("one", {"torch": 1.5, "nnx": 1.2}), result("two", {"torch": 0.9, "nnx": 0.8, "autodiff": 0.5})]
    lines = tables.comparison(results, "cpu").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    rows = {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}
    assert set(lines[1]) == set("|-:") and len({len(line) for line in lines[:4]}) == 1
    assert rows["one"]["torch, fused Adam"] == "1.50 (1.40-1.60)" and rows["one"]["ahead"] == "jaxseq"
    assert rows["two"]["ahead"] == "flax nnx"  # autodiff is our own
    assert rows["one"]["our scan by autodiff"] == tables.ABSENT
    assert rows["one"]["fastest products, ms"] == "0.50 (torch)"
    assert lines[4:] == ["", "Keras on JAX: not installed"]


@pytest.mark.parametrize(
    ("words", "measured"),
    [
        (["--only", "gru 50"], ["LN-GRU 50", "GRU 50", "GRU 50, batch 256"]),
        (["--only", "GRU 512"], ["GRU 512"]),
        (["--only", "LN-"], ["LN-RNN 50", "LN-LSTM 50", "LN-GRU 50"]),
        (["--quick", "--only", "lstm"], ["LN-LSTM 50", "LSTM 50"]),
    ],
)
def test_only_the_workloads_that_are_named_are_measured(words, measured, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(machine, "prepare", lambda device, core, heap: machine.Place(0, heap))
    for name in ("measure", "measure_normalised"):
        monkeypatch.setattr(compare, name, lambda load, *_: done.append(load.name))
    for name in ("comparison", "costs", "normalised"):
        monkeypatch.setattr(tables, name, lambda results, *_: len(results))
    assert program.main(words) == 0
    assert done == measured


@pytest.mark.usefixtures("compiled_quickly")
def test_only_the_peers_that_are_named_are_timed() -> None:
    settings = compare.Settings(rounds=1, turn_seconds=1e-4, peers=frozenset(["none"]))
    assert compare.measure(LAST, settings)["ratio"] == {}
    assert peers.names("cpu", frozenset(["nnx", "torch"])) == ["torch", "nnx"]


def test_the_picture_shows_the_ratios_and_the_products() -> None:
    from jaxseq.benchmark import plots

    result = {
        "workload": {"name": "one"},
        "ms": {"ours": 2.0},
        "products": {"XLA": 0.5},
        "ratio": {"linen": 1.5, "torch": 3.0},
        "ratio_range": {"linen": [1.4, 1.7], "torch": [2.5, 3.5]},
    }
    less = {**result, "workload": {"name": "two"}, "ratio": {"linen": 0.5}, "ratio_range": {"linen": [0.4, 0.6]}}
    left, right = plots.ratios([result, less]).axes
    assert [bar.get_width() for bar in left.patches] == [1.5, 0.5, 3.0]
    assert [text.get_text() for text in left.get_yticklabels()] == ["one", "two"]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["flax linen", "torch, fused Adam"]
    products, ours = right.get_lines()[:2]
    assert list(products.get_xdata()) == [0.5, 0.5] and list(ours.get_xdata()) == [2.0, 2.0]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_a_long_sequence_is_timed_whole_and_in_chunks(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    load = LAST._replace(cell="gru", window=16, chunk=4)
    monkeypatch.setattr(lengths, "loads", lambda quick: [load])
    assert run(monkeypatch, "--lengths", "--rounds", "1", "--out", "/dev/stdout") == 0
    shown, _, record = capsys.readouterr().out.partition("{")
    (timing,) = json.loads("{" + record)["lengths"]
    assert timing["memory_mib"]["chunks"] < timing["memory_mib"]["whole"] and timing["automatic"] is None
    assert min(timing["ms"].values()) > 0 and shown.splitlines()[2].split()[1:7] == ["GRU", "5", "|", "16", "|", "4"]


def test_the_chunk_of_a_long_sequence_is_the_root_of_its_length() -> None:
    loads = lengths.loads(quick=False)
    assert len(loads) == 8 and {(load.window, load.chunk) for load in loads} == {(1024, 32), (4096, 64)}
    # "auto" keeps the residuals of every length that is timed; of one four times as long they are too large.
    longer = loads[-1]._replace(window=4 * 4096)
    assert lengths.automatic(loads[0]) is None and lengths.automatic(longer) == 128


@pytest.mark.usefixtures("compiled_quickly")
def test_every_loop_of_ones_own_does_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxseq.benchmark import loops

    load = LAST._replace(steps=3)
    start = peers.given(load)
    last = [jax.tree.leaves(make(load, start)())[-1] for make in loops.MAKERS.values()]
    last[-1] = last[-1][-1]  # the scan has the losses of all steps
    np.testing.assert_allclose(last, losses(peers.autodiff(load, start), 1)[-1], rtol=1e-5)


def test_loops_of_ones_own_are_timed_with_both_heaps(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    environments = []

    def process(command, env, **_):
        environments.append({name: env.get(name) for name in heap.ENVIRONMENT})
        times = [2.0, 4.0] if env.get("MALLOC_TOP_PAD_") is None else [1.0, 2.0]
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps({"scan": times}), stderr="")

    monkeypatch.setattr(subprocess, "run", process)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    assert program.main(["--loop", "--quick", "--rounds", "2"]) == 0
    assert environments == [dict.fromkeys(heap.ENVIRONMENT), dict(heap.ENVIRONMENT)] * 2
    assert "| LSTM 50 | scan | 3.00 (2.00-4.00) |" in " ".join(capsys.readouterr().out.split())


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
            "jaxseq.benchmark: --sweep: does not go with this option; got '--only', needed --quick, --rounds, ",
        ),
        (
            ["--only", "LN-", "--plot", "b.png"],
            "jaxseq.benchmark: --plot draws the plain workloads, and --only LN- leaves none",
        ),
        (["--together", "--cell", "rnn"], "jaxseq.benchmark: --together: does not go with this option; got '--cell', "),
        (["--peers", "jax"], "jaxseq.benchmark: --peers: no such peer; got 'jax', needed one of torch, linen, "),
        (["--minutes", "nan"], "jaxseq.benchmark: --minutes: not a time; got nan, needed a positive number"),
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
        points.append(growth.Point(axis, load, growth.Cost(cost, cost**0.5)))
    found = growth.gather("gru", points)["axes"]
    for axis, exponent in {"window": 1.0, "batch": 0.5, "hidden": 1.7}.items():
        at = found[axis]
        np.testing.assert_allclose(
            [at["slope"], at["last_slope"], at["products_slope"]], [exponent, exponent, exponent / 2]
        )


def test_a_sweep_moves_one_size_at_a_time() -> None:
    loads = list(growth.loads("rnn"))
    assert len(loads) == 4 + 3 + 5
    for axis, load in loads:
        assert all(getattr(load, other) == size for other, size in growth.MIDDLE.items() if other != axis)
        assert getattr(load, axis) in growth.AXES[axis] and 4 <= load.steps <= 60


def test_a_sweep_is_shown_written_and_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(growth, "measure", lambda load, settings: growth.Cost(2.0 * load.window**2, 1.0 * load.window))
    out, plot = tmp_path / "sweep.json", tmp_path / "sweep.png"
    words = ["--sweep", "--cell", "rnn", "--rounds", "1", "--out", str(out), "--plot", str(plot)]
    assert run(monkeypatch, *words) == 0
    found = json.loads(out.read_text())["sweep"]
    at = found["axes"]["window"]
    assert found["cell"] == "rnn" and at["sizes"] == [25, 50, 100, 200] and at["ms"]["products"] == at["sizes"]
    np.testing.assert_allclose([at["slope"], at["products_slope"]], [2, 1])
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 12 and "rnn, window 25\n" in said.err
    (row,) = [line for line in said.out.splitlines() if "80000.00" in line]
    assert row.replace("|", "").split() == ["window", "200", "80000.00", "200.00", "400.00", "2.00", "2.00", "1.00"]


def test_a_point_of_a_sweep_is_our_step_and_its_products() -> None:
    cost = growth.measure(LAST, compare.Settings(rounds=1, turn_seconds=1e-4))
    assert cost.ours > 0 and cost.products > 0


def test_a_gpu_is_timed_by_the_wall_and_a_cpu_by_its_own_time() -> None:
    assert machine.CLOCKS["cpu"][1] is time.process_time and machine.CLOCKS["gpu"][1] is time.perf_counter
    asleep = {device: machine.milliseconds(lambda: time.sleep(0.05), 1, device) for device in machine.CLOCKS}
    assert asleep["gpu"] >= 50 > 40 > asleep["cpu"]


def test_on_a_gpu_cudnn_is_a_peer_of_the_lstm_only() -> None:
    assert set(peers.names("gpu")) - set(peers.names("cpu")) == {"cudnn"}
    assert peers.PEERS["cudnn"].absent("lstm", "gpu") is None
    assert peers.PEERS["cudnn"].absent("gru", "gpu") == "no GRU"
    assert peers.PEERS["cudnn"].absent("lstm", "cpu") == "not on a CPU"


def test_without_a_gpu_the_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "--device", "gpu") == 2
    assert capsys.readouterr().err.startswith("jaxseq.benchmark: --device gpu: JAX found no GPU, only cpu; pip install")


@pytest.mark.slow
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


def test_everybody_computes_in_float32_and_compiles_anew_where_jax_is_imported_already() -> None:
    # The check of the options imports JAX for the names of the cells.
    script = """
        from jaxseq.benchmark import machine
        from jaxseq.benchmark.__main__ import Options, check
        check(Options())
        machine.prepare("gpu", None, heap="default")
        import jax
        print(jax.config.jax_default_matmul_precision, jax.config.jax_enable_compilation_cache)
        machine.prepare("cpu", None, heap="default")
        print(jax.config.jax_platforms)
        """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={name: value for name, value in os.environ.items() if not name.startswith("JAX_")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["highest", "False", "cpu"]
