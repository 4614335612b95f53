"""Checkpoints: what comes back is what was saved, or it is named as damaged."""

import contextlib
import io
import logging
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import checkpoint_manager
from orbax.checkpoint._src.serialization import tensorstore_utils

from jaxseq.checkpoint import __main__ as command
from jaxseq.checkpoint import leaves, orbax_calls, records, store
from jaxseq.checkpoint.orbax_calls import bytes_uncounted
from jaxseq.checkpoint.retention import CLEARING
from jaxseq.checkpoint.writer import PROBE, Writer
from jaxseq.common import formats
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import RUN_ID, DamagedError


class Cell(NamedTuple):
    input_kernel: Any
    bias: Any


class State(NamedTuple):
    step: Any
    params: Any
    stats: Any
    opt: Any
    key: Any


def init(seed: int = 0, hidden: int = 8, dtype: Any = jnp.float32) -> State:
    key = jax.random.key(seed)
    cell = Cell(jax.random.normal(key, (40, 4 * hidden), dtype), jnp.ones(4 * hidden, jnp.bfloat16))
    params = {"recurrent_0": {"cell": cell}, "head": {"kernel": jax.random.normal(key, (hidden, 1))}}
    return State(jnp.int32(seed), params, {}, optax.adam(1e-3).init(params), key)


def little(seed: int = 0) -> State:
    """A state of few leaves, for the tests that load it often."""
    whole = init(seed)
    return whole._replace(params=whole.params["recurrent_0"]["cell"].input_kernel, opt=())


LIKE, LITTLE = jax.eval_shape(init), jax.eval_shape(little)
KERNEL = "params/recurrent_0/cell/input_kernel"


def write(folder: Path, losses: dict[int, float], make: Callable[[int], State] = init, **config: Any) -> Path:
    with Writer(folder, config, best="loss") as writer:
        for step, loss in losses.items():
            writer.save(step, make(step), {"rate": 1e-3, "loss": loss})
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps 1 and 2 of one run; copied, never changed."""
    return write(tmp_path_factory.mktemp("run") / "checkpoints", {1: 0.5, 2: 0.4}, experiment="aapl")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run" / "checkpoints"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `saved`, with few leaves."""
    return write(tmp_path_factory.mktemp("few") / "checkpoints", {1: 0.5, 2: 0.4}, make=little)


def hashes(state: Any) -> list[str]:
    return [leaf.sha256 for leaf in leaves.fingerprints(state).values()]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def stored_values(folder: Path, step: int) -> Path:
    """The file that holds the arrays."""
    return max(files(folder / str(step) / "state"), key=lambda path: path.stat().st_size * ("d" in path.parent.name))


# What comes back -------------------------------------------------------------------------------------------------------


def test_a_whole_state_comes_back_bit_for_bit(folder: Path) -> None:
    step, state = store.restore(folder, LIKE)
    assert step == 2
    assert jax.tree.structure(state) == jax.tree.structure(init(2))
    assert isinstance(state.params["recurrent_0"]["cell"], Cell)
    assert leaves.fingerprints(state) == leaves.fingerprints(init(2))
    assert hashes(state) != hashes(init(1))
    assert (jax.random.uniform(state.key) == jax.random.uniform(jax.random.key(2))).all()


def test_a_given_step_comes_back_instead_of_the_newest(folder: Path) -> None:
    step, state = store.restore(folder, LIKE, epoch=1)
    assert step == 1 and hashes(state) == hashes(init(1))


def test_the_leaves_come_back_without_the_model(folder: Path) -> None:
    arrays = store.load_leaves(folder, 2)
    assert list(arrays) == list(leaves.fingerprints(init(2)))
    np.testing.assert_array_equal(arrays[KERNEL], init(2).params["recurrent_0"]["cell"].input_kernel)
    np.testing.assert_array_equal(arrays["key"], jax.random.key_data(jax.random.key(2)))


def test_every_generator_empty_arrays_and_several_keys_come_back(tmp_path: Path) -> None:
    state = {
        "keys": jax.random.split(jax.random.key(7, impl="rbg"), 3),
        "none": jnp.zeros((0, 4)),
        "flag": jnp.array(True),
    }
    with Writer(tmp_path / "odd", {}, best="loss") as writer:
        writer.save(1, state, {"loss": 1.0})
    restored = store.restore(tmp_path / "odd", jax.eval_shape(lambda: state))[1]
    assert leaves.fingerprints(restored) == leaves.fingerprints(state)
    assert restored["none"].shape == (0, 4)
    assert leaves.fingerprints(state)["keys"].dtype == "key<rbg>"


def test_quick_epochs_are_held_and_the_best_and_the_last_two_are_on_disk_after_a_wait(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    losses = {1: 0.9, 2: 0.3, 3: 0.8, 4: 0.7, 5: 0.6}
    step = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf, state), donate_argnums=0)
    with Writer(folder, {}, "loss", pause=60.0) as writer:
        for epoch, loss in losses.items():
            state = init(epoch)
            writer.save(epoch, state, {"loss": loss})
            jax.block_until_ready(step(state))
        writer._finish_pending()
        assert records.epochs(folder) == [1], "the first is saved at once"
        writer.wait()
        assert records.epochs(folder) == [2, 4, 5]
    for epoch in (2, 4, 5):
        assert records.best_until(folder, epoch) == 2
        _, state = store.restore(folder, LIKE, epoch)
        assert hashes(state) == hashes(init(epoch))


@pytest.mark.exact_versions
def test_the_best_epoch_is_saved_before_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a kill comes, the newest epoch's best one is there."""
    clock = [0.0]
    monkeypatch.setattr("jaxseq.checkpoint.writer.time.monotonic", lambda: clock[0])
    saved: list[int] = []
    start = Writer._start
    monkeypatch.setattr(Writer, "_start", lambda self, held: (saved.append(held.epoch), start(self, held))[1])
    with Writer(tmp_path / "checkpoints", {}, "loss", pause=1.0) as writer:
        for epoch, loss in {1: 0.9, 2: 0.3, 3: 0.8, 4: 0.7}.items():
            clock[0] = 0.4 * epoch
            writer.save(epoch, init(epoch), {"loss": loss})
        assert saved == [1, 2, 4]
    assert saved == [1, 2, 4, 3], "the last two are there at the end"
    assert records.epochs(tmp_path / "checkpoints") == [2, 3, 4]
    assert records.best_epoch(tmp_path / "checkpoints") == 2


def test_a_large_state_is_saved_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxseq.checkpoint.writer.MOST_HELD", 100)
    with Writer(tmp_path / "checkpoints", {}, "loss", pause=60.0) as writer:
        for epoch in (1, 2):
            writer.save(epoch, init(epoch), {"loss": 1.0})
        writer._finish_pending()
        assert records.epochs(tmp_path / "checkpoints") == [1, 2]


def test_the_state_may_be_donated_right_after_the_save(tmp_path: Path) -> None:
    overwrite = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = {"kernel": jnp.arange(1_000_000.0), "step": jnp.int32(1)}
    like, expected = jax.eval_shape(lambda: state), hashes(state)
    with Writer(tmp_path / "donated", {}, best="loss") as writer:
        writer.save(1, state, {"loss": 1.0})
        after = jax.block_until_ready(overwrite(state))
        for leaf in state.values():  # a CPU buffer that is still being read is copied instead of donated
            leaf.delete()
    assert float(after["kernel"][1]) == 2.0
    assert hashes(store.restore(tmp_path / "donated", like)[1]) == expected


def test_a_state_on_several_devices_comes_back_to_the_sharding_asked_for(tmp_path: Path) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with Writer(tmp_path / "mesh", {}, best="loss") as writer:
        writer.save(1, jax.jit(init, static_argnums=0, out_shardings=everywhere)(5), {"loss": 1.0})
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), LIKE)
    spread, single = (store.restore(tmp_path / "mesh", tree)[1] for tree in (like, LIKE))
    assert {leaf.sharding for leaf in jax.tree.leaves(spread)} == {everywhere}
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(single))
    assert hashes(spread) == hashes(single)
    assert single.params["head"]["kernel"].shape == (8, 1)


def test_metrics_and_configuration_are_read_without_the_arrays(folder: Path) -> None:
    shutil.rmtree(folder / "2" / "state" / "d")
    assert records.metrics(folder, 2) == {"rate": 1e-3, "loss": 0.4}
    assert records.config(folder) == {"experiment": "aapl"}
    assert (records.latest_epoch(folder), records.best_epoch(folder)) == (2, 2)


# Which steps stay ------------------------------------------------------------------------------------------------------


def test_the_last_two_steps_and_the_best_stay(tmp_path: Path) -> None:
    losses = {1: 0.5, 2: 0.1, 3: 0.3, 4: float("nan"), 5: 0.2, 6: 0.4}
    write(tmp_path / "many", losses)
    assert records.epochs(tmp_path / "many") == [2, 5, 6]
    assert records.best_epoch(tmp_path / "many") == 2
    write(tmp_path / "many", {7: 0.6})
    assert records.epochs(tmp_path / "many") == [2, 6, 7], "another process forgot which step was best"
    write(tmp_path / "many", {8: 0.05, 9: 0.6, 10: 0.6})
    assert records.epochs(tmp_path / "many") == [8, 9, 10]


def test_a_folder_that_is_not_there_has_no_steps(tmp_path: Path) -> None:
    assert records.epochs(tmp_path / "no") == []
    assert records.latest_epoch(tmp_path / "no") is None and records.best_epoch(tmp_path / "no") is None
    with pytest.raises(UsageError, match=": no checkpoints"):
        store.restore(tmp_path / "no", LIKE)


def test_a_save_needs_the_metric_that_decides(tmp_path: Path) -> None:
    with Writer(tmp_path / "x", {}, best="loss") as writer, pytest.raises(ValueError, match="lack loss, they are rate"):
        writer.save(1, init(), {"rate": 1.0})


def test_a_leaf_that_is_no_array_is_refused_by_name(tmp_path: Path) -> None:
    with Writer(tmp_path / "x", {}, best="loss") as writer, pytest.raises(TypeError, match="opt/rate is a float"):
        writer.save(1, {"opt": {"rate": 0.1}}, {"loss": 1.0})


@pytest.mark.exact_versions
def test_an_epoch_of_another_run_does_not_say_which_one_is_best(tmp_path: Path) -> None:
    for run, losses in (("mine", {1: 0.1, 2: 0.3, 3: 0.2}), ("other", {1: 0.3, 2: 0.1, 3: 0.2})):
        write(tmp_path / run, losses, make=little, **{RUN_ID: run})
    shutil.rmtree(tmp_path / "mine" / "3")
    shutil.copytree(tmp_path / "other" / "3", tmp_path / "mine" / "3")
    assert records.best_until(tmp_path / "mine", 2) == 1
    with pytest.raises(DamagedError, match=r"epoch 3 of .*another run"):
        records.best_epoch(tmp_path / "mine")


@pytest.mark.exact_versions
def test_of_equal_steps_the_newest_is_best_and_nan_is_never(tmp_path: Path) -> None:
    write(tmp_path / "nan", {1: float("nan"), 2: 0.3, 3: 0.3}, make=little)
    assert records.best_epoch(tmp_path / "nan") == 3
    write(tmp_path / "only", {1: float("nan"), 2: float("nan")}, make=little)
    assert records.best_epoch(tmp_path / "only") == 2


# Damage ----------------------------------------------------------------------------------------------------------------


def restored_or_named(folder: Path) -> str:
    """`harmless` or `detected`, and `verify` says the same; anything else fails the test."""
    said: list[str] = []
    step, state = store.restore(folder, LITTLE, report=said.append)
    assert hashes(state) == hashes(little(step)), "wrong values came back"
    with contextlib.redirect_stdout(io.StringIO()) as told:
        status = command.main(["verify", str(folder), "--epoch", "2"])
    if step == 2:
        assert not said and (status, told.getvalue()) == (0, "epoch 2: sound\n")
        return "harmless"
    assert step == 1 and len(said) == 1 and "epoch 2 of " in said[0] and said[0].endswith("using epoch 1")
    assert status == 1 and told.getvalue().startswith("epoch 2: damaged: "), told.getvalue()
    return "detected"


def save_again(folder: Path) -> None:
    """As a run does that was taken up from step 1."""
    with contextlib.redirect_stdout(io.StringIO()):
        write(folder, {2: 0.3}, make=little)
        assert records.epochs(folder) == [1, 2] and restored_or_named(folder) == "harmless"
        assert (folder / "damaged-2").is_dir()


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def flip_anywhere(folder: Path, seed: int) -> str:
    choose = random.Random(seed)
    path = choose.choice([path for path in files(folder / "2") if path.stat().st_size])
    flip(path, choose.randrange(path.stat().st_size), choose.randrange(8))
    return restored_or_named(folder)


@pytest.mark.exact_versions
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_a_flipped_bit_anywhere_is_harmless_or_detected(few: Path, tmp_path: Path, seed: int) -> None:
    folder = Path(shutil.copytree(few, tmp_path / "checkpoints"))
    if flip_anywhere(folder, seed) == "detected":
        with pytest.raises(DamagedError, match="epoch 2"):
            store.restore(folder, LITTLE, epoch=2)


@pytest.mark.slow
def test_many_flipped_bits_are_harmless_or_detected(few: Path, tmp_path: Path) -> None:
    found = []
    for seed in range(100, 500):
        folder = Path(shutil.copytree(few, tmp_path / str(seed)))
        found.append(flip_anywhere(folder, seed))
        if found[-1] == "detected" and seed < 200:
            save_again(folder)
    print(f"{len(found)} flipped bits: {found.count('detected')} detected, {found.count('harmless')} harmless")
    assert found.count("detected") > 100


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_flipped_byte_is_named_and_the_older_step_is_used(folder: Path, seed: int) -> None:
    path = stored_values(folder, 2)
    flip(path, random.Random(seed).randrange(path.stat().st_size // 4, path.stat().st_size // 2), seed)
    said: list[str] = []
    step, state = store.restore(folder, LIKE, report=said.append)
    assert step == 1 and hashes(state) == hashes(init(1))
    assert any(leaf in said[0] for leaf in leaves.fingerprints(init())), said


@pytest.mark.exact_versions
def test_values_changed_with_the_right_form_are_named_by_leaf(folder: Path, tmp_path: Path) -> None:
    other = init(2)._replace(step=jnp.int32(7))
    with Writer(tmp_path / "other", {}, best="loss") as writer:
        writer.save(2, other, {"loss": 0.4})
    shutil.rmtree(folder / "2" / "state")
    shutil.copytree(tmp_path / "other" / "2" / "state", folder / "2" / "state")
    assert store.damage(folder, 2) == ["step: sha256 differs"]
    with pytest.raises(DamagedError, match=r"epoch 2 of .*: damaged \(step: sha256 differs\)"):
        store.restore(folder, LIKE, epoch=2)


def test_each_leaf_that_cannot_be_read_has_a_reason_that_is_its_own(few: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(few, tmp_path / "checkpoints"))
    flip(folder / "2" / "state" / "manifest.ocdbt", 40, 0)
    reasons = dict(line.split(": ", 1) for line in store.damage(folder, 2))
    assert reasons.keys() == records.saved_leaves(folder, 2).keys()
    for leaf, reason in reasons.items():
        assert f'"{leaf}/' in reason and "DamagedError" not in reason


DAMAGES = ("deleted", "emptied", "truncated")


def damage_file(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.write_bytes(content[: len(content) // 2])


def damage_each_file(few: Path, tmp_path: Path, ways: Sequence[str]) -> list[str]:
    """Damage one file of a copy after another, in these ways by turns; what was found of each."""
    found = []
    for number, name in enumerate(path.relative_to(few) for path in files(few / "2")):
        folder = Path(shutil.copytree(few, tmp_path / str(number)))
        damage_file(folder / name, ways[number % len(ways)])
        found.append(restored_or_named(folder))
    return found


@pytest.mark.slow
def test_every_broken_file_is_harmless_or_detected(few: Path, tmp_path: Path) -> None:
    found = damage_each_file(few, tmp_path, DAMAGES)
    assert found.count("detected") >= 4


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
def test_every_file_broken_in_every_way_is_harmless_or_detected(few: Path, tmp_path: Path, how: str) -> None:
    found = damage_each_file(few, tmp_path, [how])
    print(f"{len(found)} files {how}: {found.count('detected')} detected, {found.count('harmless')} harmless")
    assert found.count("detected") >= 4


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt"])
def test_a_description_that_has_grown_is_refused_unread(few: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(few, tmp_path / "checkpoints"))
    # Read once for each leaf, half a gigabyte takes minutes.
    os.truncate(folder / "2" / "state" / name, 2**29)
    began = time.monotonic()
    (reason,) = store.damage(folder, 2)
    assert name in reason and time.monotonic() - began < 5


class Planted:
    """Whoever unpickles this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def plant_code(few: Path, tmp_path: Path, contents: int, every: int = 1) -> None:
    """Plant code in one file of a copy after another: a pickle and a script by turns, `contents` of them in each.

    every  files from one that is planted to the next
    """
    mark = tmp_path / "run"
    code = pickle.dumps(Planted(mark))
    pickle.loads(code)
    assert mark.exists(), "the plant does nothing"
    mark.unlink()

    script = f"open({str(mark)!r}, 'w')\n".encode()
    names = [path.relative_to(few) for path in files(few) if "1" not in path.relative_to(few).parts]
    for number, name in enumerate(names[::every]):
        for content in [code, script, code][number % 2 :][:contents]:
            folder = Path(shutil.copytree(few, tmp_path / f"{number}-{len(content)}"))
            (folder / name).write_bytes(content)
            for beside in ("2/state/d/x.pkl", "2/__init__.py", "metadata/x.pkl", "2/state/x.npy"):
                (folder / beside).write_bytes(script if beside.endswith("py") else code)
            restored_or_named(folder)
    assert not mark.exists()


@pytest.mark.exact_versions
def test_code_that_was_planted_is_never_run(few: Path, tmp_path: Path) -> None:
    plant_code(few, tmp_path, contents=1, every=3)


@pytest.mark.slow
def test_a_pickle_and_a_script_planted_in_every_file_are_never_run(few: Path, tmp_path: Path) -> None:
    plant_code(few, tmp_path, contents=2)


@pytest.mark.slow
@pytest.mark.exact_versions
@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt"])
def test_a_damaged_step_can_be_saved_again(few: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(few, tmp_path / "checkpoints"))
    (folder / "2" / name).write_bytes(b"")
    save_again(folder)


def test_a_key_that_orbax_does_not_know_keeps_nobody_from_going_on(few: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(few, tmp_path / "checkpoints"))
    file = folder / "2" / "_CHECKPOINT_METADATA"
    file.write_text(file.read_text().replace("commit_timestamp", "commitWtimestamp"))
    save_again(folder)


@pytest.mark.exact_versions
def test_a_damaged_best_epoch_is_set_aside_with_a_word_and_none_stands_in_for_it(folder: Path) -> None:
    write(folder, {3: 0.6, 4: 0.6, 5: 0.6})
    assert (records.epochs(folder), records.best_epoch(folder)) == ([2, 4, 5], 2)
    path = stored_values(folder, 2)
    flip(path, path.stat().st_size // 3, 1)
    said: list[str] = []
    Writer(folder, {}, "loss", said.append).close()
    assert said == [f"epoch 2 of {folder.resolve()} is damaged: set aside as damaged-2"]
    assert records.epochs(folder) == [4, 5]
    with pytest.raises(DamagedError, match="the best epoch is missing"):
        records.best_epoch(folder)

    write(folder, {6: 0.7})
    assert (records.epochs(folder), records.best_epoch(folder)) == ([5, 6], 5)


def test_a_damaged_newest_record_leaves_the_best_epoch_unknown(folder: Path) -> None:
    write(folder, {3: 0.6})
    assert records.best_epoch(folder) == 2
    (folder / "3" / "_CHECKPOINT_METADATA").write_bytes(b"{}")
    with pytest.raises(DamagedError, match="epoch 3"):
        records.best_epoch(folder)
    assert records.best_until(folder, 2) == 2


def test_a_renamed_epoch_is_not_taken_for_another(folder: Path) -> None:
    (folder / "1").rename(folder / "3")
    assert store.damage(folder, 3) == ["the folder holds epoch 1"]
    said: list[str] = []
    epoch, _ = store.restore(folder, jax.eval_shape(init), report=said.append)
    assert epoch == 2 and len(said) == 1 and "epoch 3" in said[0]


@pytest.mark.exact_versions
def test_an_epoch_of_another_run_is_damage_and_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    ours, theirs = {RUN_ID: "a"}, {RUN_ID: "b"}
    for name, config in (("ours", ours), ("theirs", theirs)):
        with Writer(tmp_path / name, config, "loss") as writer:
            for epoch in (1, 2):
                writer.save(epoch, init(epoch), {"loss": 1.0 / epoch})
    with pytest.raises(UsageError, match="another run"):
        Writer(tmp_path / "theirs", ours, "loss")
    assert records.epochs(tmp_path / "theirs") == [1, 2]

    shutil.rmtree(tmp_path / "ours" / "2")
    shutil.copytree(tmp_path / "theirs" / "2", tmp_path / "ours" / "2")
    assert store.damage(tmp_path / "ours", 2, ours) == ["it belongs to another run than config.json"]
    said: list[str] = []
    epoch, _ = store.restore(tmp_path / "ours", jax.eval_shape(init), report=said.append, config=ours)
    assert epoch == 1 and "it belongs to another run" in said[0]


def test_changed_metrics_are_found(folder: Path) -> None:
    record = folder / "2" / "_CHECKPOINT_METADATA"
    record.write_text(record.read_text().replace('"loss": 0.4', '"loss": 0.1'))
    with pytest.raises(DamagedError, match=r"epoch 2 of .*_CHECKPOINT_METADATA: sha256 differs"):
        records.metrics(folder, 2)
    with pytest.raises(DamagedError, match="epoch 2"):
        records.best_epoch(folder)


def test_a_failing_load_says_nothing_on_its_own(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "2" / "state" / "manifest.ocdbt").unlink()
    (folder / "1" / "_CHECKPOINT_METADATA").write_text("{")
    with pytest.raises(DamagedError, match=r"every epoch .*epoch 2 of .*and 1 more"):
        store.restore(folder, LIKE)
    captured = capfd.readouterr()
    assert captured.out == captured.err == "" and not caplog.records


def test_a_save_that_was_killed_leaves_the_earlier_steps(folder: Path) -> None:
    shutil.copytree(folder / "2", folder / "7.orbax-checkpoint-tmp")
    (folder / f"{PROBE}x7").mkdir()
    assert store.restore(folder, LIKE)[0] == 2
    write(folder, {3: 0.3})
    assert {path.name for path in folder.iterdir()} == {"2", "3", "metadata"}


@pytest.mark.exact_versions
def test_half_a_step_that_was_being_cleared_away_goes_and_a_whole_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "run", {1: 0.1, 2: 0.2, 3: 0.3})
    for step in (1, 2):
        (folder / f"{CLEARING}{step}").touch()
    (folder / "1" / "_CHECKPOINT_METADATA").unlink()
    assert command.main(["verify", str(folder)]) == 0
    assert "epoch 1: was being deleted" in capsys.readouterr().out
    said: list[str] = []
    with Writer(folder, {}, best="loss", report=said.append):
        assert {path.name for path in folder.iterdir()} == {"2", "3", "metadata"}
    assert not said


@pytest.mark.exact_versions
def test_a_step_that_goes_is_marked_until_it_is_gone(tmp_path: Path) -> None:
    seen: list[set[str]] = []
    folder = write(tmp_path / "run", {1: 0.1, 2: 0.2, 3: 0.3})
    with Writer(folder, {}, best="loss") as writer:
        writer.save(4, init(4), {"loss": 0.4})
        seen.append({path.name for path in folder.glob(f"{CLEARING}*")})
        writer.wait()
        seen.append({path.name for path in folder.glob(f"{CLEARING}*")})
    assert seen == [{f"{CLEARING}2"}, set()] and records.epochs(folder) == [1, 3, 4]


def test_a_damaged_root_leaves_the_steps_usable_and_is_written_again(folder: Path) -> None:
    (folder / "metadata" / "_ROOT_METADATA").write_text("{")
    with pytest.raises(DamagedError, match="configuration"):
        records.config(folder)
    assert store.restore(folder, LIKE)[0] == 2
    write(folder, {3: 0.3}, experiment="again")
    assert records.config(folder) == {"experiment": "again"}


@pytest.mark.exact_versions
@pytest.mark.parametrize(
    "then", [pytest.param("wait", marks=pytest.mark.slow), "save", pytest.param("close", marks=pytest.mark.slow)]
)
def test_a_save_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "full", {1: 0.5}, make=little)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {"kernel": jax.random.normal(jax.random.key(0), (300, 300))}
    writer = Writer(folder, {}, best="loss")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        writer.save(2, big, {"loss": 0.1})
        time.sleep(0.3)  # whatever its threads have to say, they say now
        with pytest.raises(UsageError, match=f"cannot write a checkpoint to {folder}"):
            writer.save(3, big, {"loss": 0.1}) if then == "save" else getattr(writer, then)()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert records.epochs(folder) == [1] and store.restore(folder, LITTLE)[0] == 1
    write(folder, {2: 0.4}, make=little)
    assert records.epochs(folder) == [1, 2] and store.restore(folder, LITTLE)[0] == 2


@pytest.mark.exact_versions
def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match=r"cannot write a checkpoint to .*file"):
        Writer(tmp_path / "file", {}, best="loss")
    with Writer(tmp_path / "gone", {}, best="loss") as writer:
        shutil.rmtree(tmp_path / "gone")
        with pytest.raises(UsageError, match=r"cannot write a checkpoint to .*gone \(FileNotFoundError"):
            writer.save(1, init(), {"loss": 0.1})


# Orbax for everybody else ----------------------------------------------------------------------------------------------


def test_orbax_is_unchanged_outside_of_a_save(tmp_path: Path) -> None:
    def functions() -> tuple[Any, Any]:
        return checkpoint_manager._create_root_directory, tensorstore_utils.get_tensorstore_raw_bytes

    originals = functions()
    seen: list[bool] = []
    with Writer(tmp_path / "run", {}, best="loss") as writer:
        assert functions() == originals
        for epoch in range(1, 4):
            writer.save(epoch, little(epoch), {"loss": 0.1})
            seen.append(functions() == originals)
    wait_until = time.monotonic() + 10
    while functions() != originals and time.monotonic() < wait_until:
        time.sleep(0.01)
    assert functions() == originals
    assert not all(seen), "no save was seen with its replacement"


def test_a_replacement_ends_with_its_last_user() -> None:
    original = tensorstore_utils.get_tensorstore_raw_bytes
    first, second = bytes_uncounted(), bytes_uncounted()
    first.__enter__()
    second.__enter__()
    assert tensorstore_utils.get_tensorstore_raw_bytes is not original
    first.__exit__(None, None, None)
    assert tensorstore_utils.get_tensorstore_raw_bytes() == 0
    second.__exit__(None, None, None)
    assert tensorstore_utils.get_tensorstore_raw_bytes is original


def test_another_orbax_is_refused_when_it_is_imported() -> None:
    # 0.12.4 has no such function, and ended a training at its first save.
    with pytest.raises(
        ImportError, match=r"orbax-checkpoint [\d.]+ has no count_bytes; jaxseq needs 0\.12\.8 or newer"
    ):
        orbax_calls._Replacement(tensorstore_utils, "count_bytes", lambda: 0)


# Another model, another format -----------------------------------------------------------------------------------------


def test_another_model_is_refused_with_both_shapes(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"input_kernel is float32\[40, 32\] there and float32\[40, 64\] here"
    ) as caught:
        store.restore(folder, jax.eval_shape(lambda: init(hidden=16)))
    assert not isinstance(caught.value, DamagedError)


def test_another_dtype_is_refused_and_not_cast(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"is float32\[40, 32\] there and float16\[40, 32\] here"):
        store.restore(folder, jax.eval_shape(lambda: init(dtype=jnp.float16)))


def test_missing_and_additional_leaves_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"stats is missing there and float32\[2\] here"):
        store.restore(folder, LIKE._replace(stats=jax.ShapeDtypeStruct((2,), jnp.float32)))
    with pytest.raises(UsageError, match=r"key is key<threefry2x32>\[\] there and missing here"):
        store.restore(folder, LIKE._replace(key=()))


def test_a_newer_format_is_refused_by_every_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMAT", formats.FORMAT + 1)
    folder = write(tmp_path / "newer", {1: 0.5})
    monkeypatch.undo()
    for read in (
        lambda: store.restore(folder, LIKE),
        lambda: store.load_leaves(folder, 1),
        lambda: records.config(folder),
        lambda: Writer(folder, {}, best="loss"),
    ):
        with pytest.raises(UsageError, match="the format is newer") as caught:
            read()
        assert (caught.value.got, caught.value.needed) == (formats.FORMAT + 1, f"at most {formats.FORMAT}")
        assert not isinstance(caught.value, DamagedError)


# The command line ------------------------------------------------------------------------------------------------------


def test_show_tells_metrics_steps_and_parameters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["show", str(folder.parent)]) == 0
    out = capsys.readouterr().out
    assert "aapl: epoch 2, rate 0.001, loss 0.4" in out and "epochs 1, 2; the best is 2" in out
    row = next(line for line in out.splitlines() if KERNEL in line).split()
    kernel = np.asarray(init(2).params["recurrent_0"]["cell"].input_kernel, np.float64)
    assert (
        row[1:4] == ["40x32", "float32", "1,280"]
        and row[4] == f"{kernel.mean():.4g}"
        and row[6] == f"{np.linalg.norm(kernel):.4g}"
    )
    assert row[-1] == leaves.fingerprints(init(2))[KERNEL].sha256[:8]
    assert "1,320 parameters in 3 leaves" in out and "besides: opt, 2,641 values in 7 leaves" in out
    assert "opt/0/mu" not in out
    assert command.main(["show", str(folder), "--epoch", "1", "--all"]) == 0
    out = capsys.readouterr().out
    assert "opt/0/mu" in out and "epoch 1, rate 0.001, loss 0.5" in out


def test_show_names_the_axes_that_the_configuration_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "axes", {1: 0.5}, axes={KERNEL: "d g"})
    assert command.main(["show", str(tmp_path / "axes")]) == 0
    assert f"{KERNEL} d g 40x32" in " ".join(capsys.readouterr().out.split())


@pytest.mark.exact_versions
def test_verify_passes_sound_steps_and_names_a_damaged_leaf(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify", str(folder.parent)]) == 0
    assert capsys.readouterr().out == "epoch 1: sound\nepoch 2: sound\n"
    stored_values(folder, 2).unlink()
    assert command.main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "epoch 1: sound" in out and "epoch 2: damaged: " in out and KERNEL in out
    assert command.main(["verify", str(folder), "--epoch", "1"]) == 0


def test_diff_finds_equal_bits_and_the_largest_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["diff", str(folder), str(folder.parent)]) == 0
    assert "all 12 leaves equal bit for bit" in capsys.readouterr().out
    assert command.main(["diff", str(folder), str(folder), "--epoch-a", "1"]) == 1
    out = capsys.readouterr().out
    a, b = (np.asarray(init(seed).params["head"]["kernel"], np.float64) for seed in (1, 2))
    row = next(line.split() for line in out.splitlines() if "params/head/kernel" in line)
    assert row[2] == f"{np.abs(a - b).max():.4g}" and row[-1] == "differ"
    assert "equal" in next(line for line in out.splitlines() if "params/recurrent_0/cell/bias" in line)


def test_diff_names_other_shapes_and_leaves_on_one_side_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Writer(tmp_path / "b", {}, best="loss") as writer:
        writer.save(1, {"step": jnp.zeros(2), "more": jnp.zeros(2)}, {"loss": 1.0})
    assert command.main(["diff", str(folder), str(tmp_path / "b")]) == 1
    out = capsys.readouterr().out
    assert "int32[] against float32[2]" in out and "only in the first" in out and "only in the second" in out


@pytest.mark.parametrize("word", ["show", "verify"])
def test_a_users_mistake_is_one_line_and_exit_status_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, told in [
        ([str(tmp_path / "nowhere")], "nowhere: no such folder"),
        ([str(tmp_path / "empty")], ": no checkpoints"),
        ([str(folder), "--epoch", "9"], "no checkpoint of this epoch; got 9"),
    ]:
        assert command.main([word, *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and told in captured.err
    assert "needed one of 1, 2" in captured.err


@pytest.mark.exact_versions
def test_step_is_still_accepted_for_epoch_with_a_hint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [
        (["show", str(folder), "--step", "1"], ["show", str(folder), "--epoch", "1"]),
        (["verify", str(folder), "--step=1"], ["verify", str(folder), "--epoch=1"]),
        (["diff", str(folder), str(folder), "--step-a", "1"], ["diff", str(folder), str(folder), "--epoch-a", "1"]),
    ]
    for old, new in pairs:
        old_status = command.main(old)
        old_output = capsys.readouterr()
        assert old_status == command.main(new)
        assert old_output.out == capsys.readouterr().out
        assert old_output.err.count("\n") == 1 and "--epoch" in old_output.err


def test_the_command_is_there(folder: Path) -> None:
    command = [sys.executable, "-m", "jaxseq.checkpoint", "verify", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.count("\n")) == (0, 2), done.stderr


def test_help_teaches_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for word, told in [("show", "axes"), ("verify", "exit status 1"), ("diff", "largest absolute")]:
        with pytest.raises(SystemExit) as caught:
            command.main([word, "--help"])
        assert caught.value.code == 0 and told in " ".join(capsys.readouterr().out.split())
