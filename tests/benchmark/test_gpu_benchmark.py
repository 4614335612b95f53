"""The GPU benchmark, on a CPU: the same code with tiny sizes, its budget by a fake clock, and failing peers."""

import json
import math
from functools import partial

import numpy as np
import pytest

from jaxseq.benchmark import __main__ as program
from jaxseq.benchmark import turns
from jaxseq.benchmark.budget import FIRST_GUESS, Budget
from jaxseq.benchmark.gpu import layers, loads, parity, run, table, torch_peers
from jaxseq.benchmark.gpu import turns as gpu_turns
from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.start import draw
from jaxseq.common.errors import UsageError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TINY = Load("step", "lstm", hidden=8, batch=4, time_steps=6)
FEW = frozenset(["jaxseq scan", "flax linen", "flax nnx", "torch", "torch graph", "jaxseq step", "torch cells"])
NOTHING = run.Settings(device="cpu", rows=(), parity=(), generation=(), peers=FEW)


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def _same_environment(monkeypatch):
    monkeypatch.setattr(run, "ENVIRONMENT", {})
    # Short turns: the times themselves are of no interest here.
    monkeypatch.setattr(gpu_turns, "PACE", gpu_turns.PACE._replace(turn_seconds=1e-4))


def measured(**changes):
    return run.run(NOTHING._replace(**changes))


@pytest.mark.slow
@pytest.mark.parametrize(
    "load",
    [TINY, TINY._replace(task="layer", cell="gru"), TINY._replace(task="layer", cell="rnn")],
    ids=lambda load: load.name,
)
def test_all_peers_compute_the_same(load):
    pytest.importorskip("torch")

    (row,) = measured(rows=(load,))["rows"]

    assert row["absent"] == {"torch graph": "UsageError: a CUDA graph needs a GPU"}
    assert set(row["peers"]) == {"jaxseq scan", "flax linen", "flax nnx", "torch"}
    for name, peer in row["peers"].items():
        # torch has two biases, which learn twice as fast; the first number is that before any step.
        np.testing.assert_allclose(peer["check"][0], row["peers"]["jaxseq scan"]["check"][0], rtol=1e-5, err_msg=name)
        assert peer["apart"] < 5e-3, name
        assert peer["ms_range"][0] <= peer["ms"] <= peer["ms_range"][1]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_normalised_loop_of_torch_is_our_cell(cell):
    pytest.importorskip("torch")
    load = TINY._replace(task="layer", cell=cell, norm="layer")

    (row,) = measured(rows=(load,), peers=frozenset(["jaxseq scan", "torch"]))["rows"]

    assert row["peers"]["torch"]["apart"] < 1e-5


def test_the_results_are_written_after_every_item(tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"
    lengths = []
    write = run._write
    monkeypatch.setattr(
        run, "_write", lambda path, results: lengths.append(len(results["rows"])) or write(path, results)
    )
    rows = (TINY, TINY)

    measured(out=out, rows=rows, peers=frozenset(["jaxseq scan", "jaxseq trainer"]))

    assert lengths == [1, 2, 2]
    results = json.loads(out.read_text())
    assert {"schema", "device", "versions", "gpu_before", "gpu_after", "clock", "minutes", "seconds"} <= set(results)
    assert Load(**results["rows"][0]["load"]) == TINY
    assert results["rows"][0]["peers"]["jaxseq trainer"]["check"] == []


def test_generation_feeds_outputs_back():
    pytest.importorskip("torch")

    (result,) = measured(generation=(TINY._replace(cell="gru"),))["generation"]

    assert set(result["peers"]) == {"jaxseq step", "torch cells"}
    assert result["peers"]["torch cells"]["apart"] < 1e-4


def test_a_peer_that_raises_is_listed_and_the_others_are_timed(monkeypatch):
    def broken(load, start):
        raise RuntimeError("no such kernel\nand more lines")

    monkeypatch.setattr(layers, "MAKERS", {"broken": broken, "jaxseq scan": partial(layers.ours, "scan")})

    results = measured(rows=(TINY,), peers=frozenset(["broken", "jaxseq scan"]))

    (row,) = results["rows"]
    assert row["absent"] == {"broken": "RuntimeError: no such kernel"}
    assert set(row["peers"]) == {"jaxseq scan"}
    assert "broken: RuntimeError: no such kernel" in table.text(results)


def test_a_row_that_raises_costs_no_other_row(monkeypatch):
    monkeypatch.setattr(run, "measure_row", lambda load, settings, budget: {} if load == TINY else 1 / 0)

    results = measured(rows=(TINY._replace(batch=3), TINY))

    assert results["rows"][0]["error"] == "ZeroDivisionError: division by zero"
    assert "error" not in results["rows"][1]


def test_what_does_not_fit_into_the_budget_is_listed_and_cheaper_items_follow(monkeypatch):
    clock = Clock()

    def measure_row(load, settings, budget):
        clock.now += 20 * load.weight
        return {"peers": {}}

    monkeypatch.setattr(run, "measure_row", measure_row)
    long = TINY._replace(time_steps=16384)
    rows = (TINY, TINY._replace(batch=2), long, TINY._replace(batch=1))

    results = measured(rows=rows, minutes=75 / 60, clock=clock)

    assert [row["name"] for row in results["rows"]] == [rows[0].name, rows[1].name, rows[3].name]
    assert results["not_reached"] == [{"kind": "row", "name": long.name, "why": run.NOT_REACHED}]
    assert long.name in table.text(results).split(run.NOT_REACHED)[1]


def test_peers_that_the_budget_has_no_time_for_are_listed():
    clock = Clock()
    budget = Budget(10.0, clock)
    clock.now = 11.0

    absent = {}
    collected = run._collect({"late": lambda: pytest.fail("made")}, absent, budget)

    assert collected == {} and absent == {"late": run.NOT_REACHED}


def test_costs_of_earlier_items_are_the_estimate():
    budget = Budget(100.0, Clock())
    assert budget.estimate("row", 2.0) == 2 * FIRST_GUESS["row"]

    budget.spent("row", 1.0, 4.0)
    budget.spent("row", 6.0, 36.0)

    assert budget.estimate("row", 3.0) == 15


def test_a_turn_is_divided_by_its_calls_and_repetitions():
    clock = Clock()
    calls = []

    def call():
        calls.append(1)
        clock.now += 1e-5

    times = turns.measure({"peer": turns.Work(call)}, steps=5, pace=gpu_turns.PACE, clock=clock)

    assert times["peer"].calls == 10
    np.testing.assert_allclose(times["peer"].milliseconds, [1e-5 * 1e3 / 5] * gpu_turns.PACE.most_rounds)
    assert len(calls) == 1 + 10 * gpu_turns.PACE.most_rounds


def test_slow_peers_have_fewer_rounds():
    clock = Clock()

    def call():
        clock.now += 3.0

    times = turns.measure({"slow": turns.Work(call)}, steps=1, pace=gpu_turns.PACE, clock=clock)

    assert times["slow"].milliseconds == [3000.0] * gpu_turns.PACE.least_rounds


def test_loads_are_ordered_once_each_and_fit_a_call():
    ordered = list(loads.ordered())

    assert tuple(ordered[: len(loads.FIRST)]) == loads.FIRST
    assert len(set(ordered)) == len(ordered)
    for load in ordered:
        numbers = load.steps * load.time_steps * load.batch * load.features
        assert 1 <= load.steps <= loads.MOST_STEPS
        assert load.steps == 1 or numbers <= loads.NUMBERS_A_CALL


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["", "layer"])
def test_parity_finds_our_scan_right(norm):
    size = parity.SIZE._replace(hidden=5, batch=3, time_steps=4)

    errors = parity.measure("gru", norm, size)["errors"]["scan"]

    assert 0 < errors["float32"]["value"] < 1e-5
    assert 0 < errors["float32"]["gradient"] < 1e-4


def test_parity_finds_a_wrong_gradient_and_nan():
    reference = parity.Outcome(
        parity.Results(np.ones(2), np.ones(3)),
        parity.Inputs(np.ones(2), None, np.full((1, 1, 2), 4.0), np.ones(1)),
    )
    wrong = reference._replace(gradient=reference.gradient._replace(x=np.array([[[4.0, 5.0]]])))
    nan = wrong._replace(results=wrong.results._replace(outputs=np.array([1.0, math.nan, 1.0])))

    assert parity._errors(wrong, reference)["gradient"] == 0.25
    assert parity._errors(wrong, reference)["gradient_leaf"] == ".x"
    assert math.isnan(parity._errors(nan, reference)["value"])


def test_warm_up_before_a_graph_leaves_weights_and_optimiser_as_they_were():
    torch = pytest.importorskip("torch")
    start = draw(TINY)
    work = torch_peers.training(torch_peers.library_layer(TINY, start, "cpu"), start, "cpu")
    weights = [tensor.detach().clone() for tensor in work.state()]

    with torch_peers._unchanged(work):
        first = work.run(*work.inputs[0])
        work.run(*work.inputs[1])

    state = work.state()
    assert len(state) == 4 * len(weights)  # a step's number and two moments of each weight
    for tensor, before in zip(state, weights, strict=False):
        assert torch.equal(tensor, before)
    assert all(not tensor.any() for tensor in state[len(weights) :])
    assert torch.equal(work.run(*work.inputs[0]), first)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--sweep"], "--gpu"),
        (["--plot", "a.png"], "--gpu"),
        (["--minutes", "0"], "--minutes"),
        (["--minutes", "nan"], "--minutes"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_measured(words, where, monkeypatch, capsys):
    monkeypatch.setattr(run, "run", lambda settings: pytest.fail("measured"))

    assert program.main(["--gpu", *words]) == 2

    assert capsys.readouterr().err.startswith(f"jaxseq.benchmark: {where}: ")


def test_the_command_measures_on_the_gpu_for_the_minutes(monkeypatch, tmp_path):
    runs = []
    monkeypatch.setattr(run, "run", runs.append)
    out = tmp_path / "gpu.json"

    assert program.main(["--gpu", "--minutes", "2.5", "--out", str(out)]) == 0

    assert runs == [run.Settings(minutes=2.5, out=out)]


def test_items_and_peers_are_chosen_by_name(monkeypatch):
    monkeypatch.setattr(run, "measure_row", lambda load, settings, budget: {"peers": {}, "chosen": settings.peers})
    wide = TINY._replace(hidden=9)

    results = measured(rows=(TINY, wide), only="9 Units", peers=frozenset({"torch"}))

    assert [row["name"] for row in results["rows"]] == [wide.name] and results["rows"][0]["chosen"] == {"torch"}
    assert results["not_reached"] == []


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"only": "gpu"}, f'--only "gpu": no item has that in its name; there are {TINY.name}'),
        ({"peers": frozenset({"tensorflow"})}, "--peers: no such peer; got 'tensorflow', needed one of jaxseq scan, "),
    ],
)
def test_items_and_peers_that_there_are_none_of_are_refused(chosen, message):
    with pytest.raises(UsageError) as caught:
        measured(rows=(TINY,), **chosen)
    assert str(caught.value).startswith(message)


def test_without_a_gpu_the_command_says_so(capsys):
    assert program.main(["--gpu"]) == 2
    assert "JAX found no GPU" in capsys.readouterr().err
