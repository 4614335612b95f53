"""Modules, arrays and losses from outside are trained as those of the commands are."""

import io
import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from quick_compilation import quick_compilation
from rich.console import Console

from jaxseq.cells import CELLS
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import ABSENT, Interrupted, UsageError
from jaxseq.nn import apply, plain_model
from jaxseq.nn.recurrent import Recurrent
from jaxseq.train import descriptions, epoch, fit, own_training
from jaxseq.train import restore as runs
from jaxseq.train.own_training import Parts

QUIET = Console(file=io.StringIO())
pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Tagger(nn.Module):
    units: int = 4

    @nn.compact
    def __call__(self, tokens, train=False):
        x = nn.Embed(10, 3)(tokens)
        _, x = Recurrent(CELLS["gru"], self.units, recurrent_dropout=0.2)(x, train=train)
        return nn.Dense(5)(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(1)(x))


def tagged(rows, seed):
    tokens = np.random.default_rng(seed).integers(0, 10, (rows, 6))
    return tokens, np.cumsum(tokens, axis=1) % 5


TRAIN, VALID = tagged(24, 0), tagged(8, 1)
LOSS = optax.softmax_cross_entropy_with_integer_labels


def train(out, rows=TRAIN, model=None, **options):
    options = {"valid": VALID, "loss": LOSS, "batch": 8, "epochs": 3, "console": QUIET, **options}
    return fit.train(model or Tagger(), rows, out=out, **options)


def updated(rule, gradient, state, params):
    """One step of optax, which mixes float32 with Python's numbers."""
    with jax.numpy_dtype_promotion("standard"):
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "windows_per_second")} for row in rows]


def same(left, right):
    return jax.tree.all(jax.tree.map(jnp.array_equal, left, right))


@pytest.mark.slow
def test_the_loop_is_that_of_optax_written_by_hand(tmp_path):
    """Full batches, no dropout: the order of rows within a batch plays no part."""
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    y = x @ np.float32([[1.0], [-2.0], [0.5]])
    module, rule = nn.Dense(1), optax.adamw(0.1)
    trained = train(
        tmp_path, (x, y), module, valid=(x, y), loss=optax.squared_error, batch=12, epochs=30, optimiser=rule
    )

    init_key, _ = jax.random.split(jax.random.key(0))
    params = module.init(init_key, x[:1])["params"]
    state = rule.init(params)
    for _ in range(30):
        gradient = jax.grad(lambda p: jnp.mean((module.apply({"params": p}, x) - y) ** 2))(params)
        params, state = updated(rule, gradient, state, params)

    assert trained.epoch == 30
    np.testing.assert_allclose(trained.predict(x), module.apply({"params": params}, x), rtol=1e-4, atol=1e-5)
    assert trained.history[-1]["valid_loss"] < 0.2 * trained.history[0]["valid_loss"]


def test_a_run_resumes_bit_for_bit(tmp_path):
    # JAX compiles an epoch again for another object.
    rule = optax.lion(1e-2)
    whole = train(tmp_path / "whole", optimiser=rule, epochs=4)
    train(tmp_path / "parts", optimiser=rule, epochs=2)
    resumed = train(tmp_path / "parts", optimiser=optax.lion(1e-2), epochs=4, resume=True)

    assert same(whole.params, resumed.params)
    assert without_times(whole.history) == without_times(resumed.history)
    assert checkpoint.main(["verify", str(tmp_path / "parts")]) == 0


def test_an_optimiser_by_its_name_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"optimiser: no rule of optax; got 'lion', needed such as optax\.adam"):
        train(tmp_path / "run", optimiser="lion")


def test_resume_begins_a_run_where_there_is_none(tmp_path):
    assert train(tmp_path / "new", resume=True, epochs=1).epoch == 1


BEGUN = {
    "rows": (TRAIN[0], np.eye(5, dtype=np.float32)[TRAIN[1]]),
    "valid": (VALID[0], np.eye(5, dtype=np.float32)[VALID[1]]),
    "loss": optax.softmax_cross_entropy,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A training of one epoch on one-hot targets."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    with quick_compilation():
        train(folder, **BEGUN)
    return folder


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": Tagger(5)}, "model"),
        ({"optimiser": optax.adam(0.5)}, "optimiser"),
        ({"loss": optax.losses.poly_loss_cross_entropy}, "loss"),
        ({"rows": tagged(24, 2)}, "rows_sha256"),
        ({"seed": 1}, "seed"),
    ],
)
def test_another_training_does_not_resume(tmp_path, begun, change, field):
    folder = shutil.copytree(begun, tmp_path / "run")
    if "rows" in change:
        change = {"rows": (change["rows"][0], BEGUN["rows"][1])}
    before = (folder / "metrics.jsonl").read_bytes()

    with pytest.raises(UsageError, match="a resumed run may only change") as caught:
        train(folder, **{**BEGUN, "epochs": 2, "resume": True, **change})
    assert caught.value.needed.startswith(f"{field} ")
    assert ("first batch" in str(caught.value)) == (field == "rows_sha256")
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_stopped_training_is_saved_and_resumes(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")

    def stop(self, row, *_, **options):
        if row["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("jaxseq.train.progress.EpochDisplay.show", stop)
        train(tmp_path / "stopped")
    assert same(whole.params, train(tmp_path / "stopped", resume=True).params)


def test_metrics_and_the_record_say_what_was_trained(tmp_path):
    def accuracy(logits, tags):
        return (logits.argmax(-1) == tags).astype(jnp.float32)

    trained = train(tmp_path, metrics={"accuracy": accuracy}, optimiser=optax.sgd(0.1, momentum=0.9), epochs=1)
    logits = trained.predict(VALID[0])
    assert trained.history[0]["valid_accuracy"] == pytest.approx((logits.argmax(-1) == VALID[1]).mean())

    config = json.loads((tmp_path / "config.json").read_text())
    assert config["optimiser"] == "chain(trace(decay=0.9, nesterov=False), scale(step_size=-0.1))"
    assert config["loss"].endswith("softmax_cross_entropy_with_integer_labels")
    assert "units = 4" in config["model"]
    assert "\n" not in repr(trained)
    page = trained._repr_html_()
    assert f"{trained.history[trained.epoch - 1]['valid_loss']:.5f}" in page and "data:image/png;base64," in page


class Embedded(nn.Module):
    has_moments: bool

    @nn.compact
    def __call__(self, tokens, train=False):
        x = nn.Embed(10, 3)(tokens)
        if self.has_moments:
            x = nn.BatchNorm(use_running_average=not train)(x)
        return x


@pytest.mark.parametrize("has_moments", [False, True])
def test_a_row_may_be_a_single_number(has_moments):
    tokens = np.arange(24) % 10
    rows = (tokens, np.eye(3, dtype=np.float32)[tokens % 3])
    job = own_training.job_of(Parts(Embedded(has_moments), optax.squared_error), rows, rows, None, {"batch": 8})
    # The trace is where a row without time steps would fail.
    state = jax.eval_shape(partial(epoch.init, job.setup), jax.random.key(0), job.data.train.x[:1])
    after, _ = jax.eval_shape(partial(epoch.epoch, job.setup, batch=8), state, job.data.train)
    assert after == state


class Mixed(nn.Module):
    by_first: bool

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x - (x[:1] if self.by_first else x.mean(0)))


def predictor(module):
    model = plain_model.of(module, jax.ShapeDtypeStruct((1, 2), np.float32))
    params, stats = apply.init(model, jax.random.key(0), jnp.zeros((1, 2)))
    return fit.Trained(Path("run"), 1, model, params, stats, ())


def test_a_module_that_mixes_rows_is_refused_and_one_that_does_not_is_asked_once(monkeypatch):
    x = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    for by_first, batch in ((False, 3), (True, 512)):
        with pytest.raises(UsageError, match="mixes rows"):
            predictor(Mixed(by_first)).predict(x, batch)

    sizes = []
    whole = epoch.predict
    monkeypatch.setattr(epoch, "predict", lambda *given: sizes.append(len(given[3])) or whole(*given))
    trained = predictor(nn.Dense(1, name="apart"))
    for rows in (x[:1], x, x):
        trained.predict(rows)
    # A single row has none beside it.
    assert sizes == [1, 7, 7, 7]


@pytest.mark.slow
def test_a_restored_module_predicts_the_same(tmp_path):
    trained = train(tmp_path)
    restored = fit.restore(tmp_path, Tagger())
    assert jnp.array_equal(restored.predict(VALID[0]), trained.predict(VALID[0]))
    # Batches are filled up, and their padding is cut off.
    np.testing.assert_allclose(restored.predict(VALID[0], batch=3), trained.predict(VALID[0]), rtol=1e-5, atol=1e-6)

    tokens, _ = tagged(40, 2)
    before = epoch.predict._cache_size()
    whole = trained.predict(tokens)
    for count in (1, 9, 10, *range(33, 40)):
        np.testing.assert_allclose(trained.predict(tokens[:count]), whole[:count], rtol=1e-5, atol=1e-6)
    # 1, 10 and 40.
    assert epoch.predict._cache_size() - before <= 3

    with pytest.raises(UsageError, match="another module was trained"):
        fit.restore(tmp_path, Tagger(7))
    with pytest.raises(UsageError, match="trained from Python"):
        runs.restore(tmp_path)

    # An epoch under another name takes nothing from the history of the others.
    first, *_, newest = sorted((tmp_path / "checkpoints").glob("[0-9]*"), key=lambda folder: int(folder.name))
    moved = newest.rename(newest.with_name("99"))
    assert fit.restore(tmp_path, Tagger(), int(first.name)).history == restored.history
    # The last epoch was the best.
    moved.rename(tmp_path / "aside")
    with pytest.raises(UsageError, match=rf"epoch {newest.name} of .*missing"):
        fit.restore(tmp_path, Tagger())
    (tmp_path / "aside").rename(newest)

    # The history is sealed as well: a row that is there twice, one that was edited, and a log that is gone.
    log = tmp_path / "metrics.jsonl"
    sound = log.read_text()
    log.write_text(sound + sound.splitlines(keepends=True)[-1])
    with pytest.raises(UsageError, match=r"metrics\.jsonl: damaged \(it has a second row of epoch"):
        fit.restore(tmp_path, Tagger())
    assert any("second row" in reason for reason in run_seal.damage(tmp_path))
    log.write_text(sound)
    log.write_text(log.read_text().replace('"valid_loss": ', '"valid_loss": 1', 1))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"metrics\.jsonl"):
            fit.restore(tmp_path, Tagger())
        log.unlink(missing_ok=True)


@pytest.mark.usefixtures("unannotated")
def test_numbers_may_be_those_of_numpy(tmp_path):
    options = {"epochs": np.int8(1), "batch": np.uint8(8), "seed": np.int64(3), "patience": np.int16(2)}
    trained = train(tmp_path / "run", **options)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config[name] for name in options} == options
    assert trained.predict(TRAIN[0], np.int8(7)).shape == (24, 6, 5)
    for x, batch, where in ((TRAIN[0][:0], 8, "x"), (TRAIN[0], 0, "batch"), (TRAIN[0], 1.5, "batch")):
        with pytest.raises(UsageError) as caught:
            trained.predict(x, batch)
        assert caught.value.where == where


def test_a_data_frame_is_rows_of_numbers(tmp_path):
    frame = pd.DataFrame({"a": np.arange(8.0), "b": np.ones(8)})
    target = frame[["a"]]
    trained = train(tmp_path, (frame, target), nn.Dense(1), valid=(frame, target), loss=optax.squared_error, epochs=1)
    assert trained.predict(frame.to_numpy()).shape == (8, 1)
    # It is pure, and may be a part of other programs.
    gradient = jax.grad(lambda x: jnp.sum(trained.predict(x)))(jnp.ones((3, 2)))
    np.testing.assert_allclose(gradient, np.repeat(trained.params["kernel"].T, 3, axis=0))


# Refusals -------------------------------------------------------------------------------------------------------------


def with_nan(rows):
    x, y = np.zeros((rows, 2), np.float32), np.zeros((rows, 1), np.float32)
    y[3] = np.nan
    return x, y


LONGER = (np.zeros((12, 2), np.float32), np.zeros((12, 1), np.float32))
FINITE = (np.zeros((8, 2), np.float32), np.zeros((8, 1), np.float32))


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("rows", "options", "where", "got"),
    [
        (with_nan(8), {}, "rows: y", "row 3 first"),
        (FINITE, {"valid": with_nan(8)}, "valid: y", "row 3 first"),
        (FINITE, {"valid": (np.zeros((8, 3), np.float32), FINITE[1])}, "valid: x", "float32[3]"),
        ((FINITE[0], FINITE[1][:5]), {}, "rows", "8 and 5"),
        ((FINITE[0][:0], FINITE[1][:0]), {}, "rows: x", "the shape (0, 2)"),
        ((np.full((8, 2), "a"), FINITE[1]), {}, "rows: x", "dtype <U1"),
        (FINITE, {"batch": 9}, "batch", 9),
        (FINITE, {"epochs": 0}, "epochs", 0),
        (FINITE, {"epochs": True}, "epochs", True),
        (FINITE, {"epochs": 1.0}, "epochs", 1.0),
        (FINITE, {"batch": 8.0}, "batch", 8.0),
        (FINITE, {"seed": 1.5}, "seed", 1.5),
        (FINITE, {"patience": True}, "patience", True),
        (iter([FINITE]), {"steps_per_epoch": 1.5}, "steps_per_epoch", 1.5),
        (FINITE, {"resume": True, "out": None}, "resume", "out=None"),
        (LONGER, {"model": Normed(), "batch": 8, "valid": LONGER}, "batch", "8 for 12 rows"),
        (iter([FINITE]), {}, "steps_per_epoch", ABSENT),
        ([], {}, "rows", ABSENT),
        ([FINITE], {"steps_per_epoch": 3}, "steps_per_epoch", 3),
        (FINITE, {"steps_per_epoch": 3}, "steps_per_epoch", 3),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, rows, options, where, got):
    options = {"model": nn.Dense(1), "valid": FINITE, "loss": optax.squared_error, "out": tmp_path / "run", **options}
    out = options.pop("out")
    with pytest.raises(UsageError) as caught:
        train(out, rows, **options)
    assert caught.value.where == where
    assert caught.value.got == got
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        # One number for all rows would weight a padded row like any other.
        (lambda p, y: jnp.mean((p - y) ** 2), FINITE[1]),
        # "b 1" against "b" would compare every row with every other.
        (lambda p, y: (p - y) ** 2, FINITE[1][:, 0]),
    ],
)
def test_a_loss_gives_a_number_for_each_row(tmp_path, loss, target):
    rows = (FINITE[0], target)
    with pytest.raises(UsageError, match="does not give a number for each row"):
        train(tmp_path / "run", rows, nn.Dense(1), valid=rows, loss=loss)


# Batches from outside -------------------------------------------------------------------------------------------------


def batches(number):
    order = np.random.default_rng(number).permutation(24)
    for index in np.array_split(order, 5):
        yield TRAIN[0][index], TRAIN[1][index]


class Loader:
    """As a loader of torch: each iteration has the next order of its own generator."""

    def __init__(self):
        self.number = 0

    def __iter__(self):
        self.number += 1
        return batches(self.number)


def generated():
    number = 0
    while True:
        number += 1
        yield from batches(number)


@pytest.mark.parametrize("kind", [pytest.param("function", marks=pytest.mark.slow), "generator"])
def test_a_stream_resumes_by_its_position(tmp_path, kind):
    def source():
        if kind == "function":
            return {"rows": batches}
        return {"rows": generated(), "steps_per_epoch": 5}

    whole = train(tmp_path / "whole", **source(), epochs=4)
    train(tmp_path / "parts", **source(), epochs=2)
    resumed = train(tmp_path / "parts", **source(), epochs=4, resume=True)
    assert same(whole.params, resumed.params)
    assert without_times(whole.history) == without_times(resumed.history)


@pytest.mark.slow
def test_a_function_and_a_generator_of_the_same_batches_train_the_same(tmp_path):
    by_function = train(tmp_path / "a", batches, epochs=2)
    by_generator = train(tmp_path / "b", generated(), epochs=2, steps_per_epoch=5)
    assert same(by_function.params, by_generator.params)


def test_a_loader_goes_on_with_the_order_that_it_would_have_had(tmp_path):
    """The first batch is looked at, which a loader counts as an iteration: both runs have looked once."""
    whole = train(tmp_path / "whole", Loader(), epochs=3)
    train(tmp_path / "parts", Loader(), epochs=1)
    assert same(whole.params, train(tmp_path / "parts", Loader(), epochs=3, resume=True).params)


@pytest.mark.slow
def test_a_smaller_batch_is_a_mean_over_fewer_rows(tmp_path):
    """By hand: a step on four rows, and one on two rows of a batch that has room for four."""
    x, y = np.float32([[1.0], [2.0], [3.0], [-1.0]]), np.float32([[1.0], [0.0], [5.0], [2.0]])
    source = [(x, y), (x[:2], y[:2])]
    trained = train(
        tmp_path, source, nn.Dense(1, use_bias=False), valid=(x, y), loss=optax.squared_error, batch=4, epochs=1
    )
    rule = own_training.ADAM
    params = nn.Dense(1, use_bias=False).init(jax.random.split(jax.random.key(0))[0], x[:1])["params"]
    state = rule.init(params)
    for part_x, part_y in source:
        gradient = jax.grad(lambda p, a, b: jnp.mean((a @ p["kernel"] - b) ** 2))(params, part_x, part_y)
        params, state = updated(rule, gradient, state, params)
    np.testing.assert_allclose(trained.params["kernel"], params["kernel"], rtol=1e-6)


def test_a_batch_that_grows_is_named(tmp_path):
    with pytest.raises(UsageError, match="more rows than in the first batch") as caught:
        train(tmp_path / "run", [(TRAIN[0][:4], TRAIN[1][:4]), (TRAIN[0][:6], TRAIN[1][:6])], batch=4)
    assert (caught.value.where, caught.value.got) == ("epoch 1, batch 2", 6)


def test_moments_see_no_row_that_fills_up_a_batch(tmp_path):
    source = [(x[:4], y[:4]) for x, y in (FINITE, FINITE)] + [(FINITE[0][:2], FINITE[1][:2])]
    with pytest.raises(UsageError, match="running moments need batches of one size") as caught:
        train(tmp_path / "run", source, Normed(), valid=FINITE, loss=optax.squared_error, batch=4)
    assert (caught.value.where, caught.value.got) == ("epoch 1, batch 3", 2)


def test_options_are_the_fields_of_a_training():
    names = set(fit.TrainingOptions.__annotations__)
    assert names == {field for field in own_training.Training.__dataclass_fields__ if field != "name"}


# Descriptions ---------------------------------------------------------------------------------------------------------


def made(limit):
    def rule(x):
        return min(x, limit)

    return rule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (optax.sgd(0.5), "chain(identity, scale(step_size=-0.5))"),
        (optax.chain(optax.clip(1.0), optax.scale(2.0)), "chain(clip(max_delta=1.0), scale(step_size=2.0))"),
    ],
)
def test_an_optimiser_is_described_by_its_rules_and_numbers(rule, text):
    assert descriptions.of_optimiser(rule) == text


def test_numbers_of_schedules_and_injected_ones_are_described():
    by_schedule = descriptions.of_optimiser(optax.adam(optax.cosine_decay_schedule(1e-3, 100)))
    assert "decay_steps=100" in by_schedule
    assert "init_value=0.001" in by_schedule
    injected = descriptions.of_optimiser(optax.inject_hyperparams(optax.adam)(learning_rate=0.25))
    assert "learning_rate: 0.25" in injected


def test_a_function_is_described_by_what_it_was_made_with():
    assert descriptions.of_function(made(3)).endswith("made(limit=3)")
    assert descriptions.of_function(made(3)) != descriptions.of_function(made(4))
