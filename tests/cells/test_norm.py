"""Normalised cells: relations that pin them, torch's own layer norm as an oracle, and what padding may not touch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import GATED, close, draw, quickly, slots

from jaxseq.cells import CELLS, batch_norm, layer_norm, normalised
from jaxseq.cells import norm as norms
from jaxseq.cells.norm import Moments, Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows
from jaxseq.common.errors import UsageError

pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")
every_cell = pytest.mark.parametrize("name", GATED)
every_norm = pytest.mark.parametrize("kind", norms.NORMS)


def normalised_scan(cell, norm, params, weights, running, x, start, lengths, train, first):
    normalisation = Normalisation(norm, weights, running, train, first)
    return normalised.scan(cell, normalisation, params, x, start, Rows(lengths))


scan = quickly(normalised_scan, "cell", "norm", "train", "first")


def run(p, kind, x=None, start=None, lengths=None, train=True, made=None, first=0):
    norm, weights, running = made or slots(p, kind)
    x, start = p.x if x is None else x, p.start if start is None else start
    return scan(p.cell, norm, p.params, weights, running, x, start, lengths, train=train, first=first)


def test_layer_norm_is_torchs():
    torch = pytest.importorskip("torch")
    a, gain = (np.asarray(jax.random.normal(jax.random.key(k), s, jnp.float64)) for k, s in ((0, (5, 8)), (1, (8,))))
    theirs = torch.nn.functional.layer_norm(torch.tensor(a), (8,), torch.tensor(gain), eps=1e-5).numpy()
    close(layer_norm.layer_norm_gates(jnp.asarray(a), jnp.asarray(gain), (4,), 1e-5), theirs, 1e-13)


@every_cell
@every_norm
def test_normalised_cells_are_the_papers_written_with_torchs_layer_and_batch_norm(name, kind):
    torch = pytest.importorskip("torch")
    p = draw(name, b=5)
    norm, weights, running = slots(p, kind)
    h = p.sizes["h"]
    leaves = {f: torch.tensor(np.asarray(v), requires_grad=True) for f, v in p.params._asdict().items()}
    gains = {f: torch.tensor(np.asarray(v), requires_grad=True) for f, v in weights._asdict().items()}
    x = torch.tensor(np.asarray(p.x), requires_grad=True)
    states = [torch.tensor(np.asarray(s)) for s in p.start]

    def ln(a, gain):
        if kind == "batch":
            return torch.nn.functional.batch_norm(a, None, None, gain, training=True, eps=norm.epsilon)
        return torch.nn.functional.layer_norm(a, a.shape[-1:], gain, eps=norm.epsilon)

    def grouped(a, gain):
        sizes = [count * h for count in p.cell.groups]
        return torch.cat([ln(part, g) for part, g in zip(a.split(sizes, -1), gain.split(sizes), strict=True)], -1)

    outputs = []
    for row in x:
        z, u = row @ leaves["input_kernel"], states[0] @ leaves["recurrent_kernel"]
        if kind != "layer-sum":
            z, u = grouped(z, gains["x"]), grouped(u, gains["h"])
        z, u = z + leaves["bias"], u + leaves.get("recurrent_bias", 0)

        def total(a, part, last=kind == "layer-sum"):
            return ln(a, gains["total"][part]) + gains["shift"][part] if last else a

        if name == "rnn":
            states = [torch.tanh(total(z + u, slice(None)))]
        elif name == "lstm":
            i, f, g, o = total(z + u, slice(None)).chunk(4, -1)
            c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
            seen = ln(c, gains["c"]) + gains["c_shift"] if kind != "layer-sum" else c
            states = [torch.sigmoid(o) * torch.tanh(seen), c]
        else:
            r, update = torch.sigmoid(total((z + u)[:, : 2 * h], slice(0, 2 * h))).chunk(2, -1)
            n = torch.tanh(total(z[:, 2 * h :] + r * u[:, 2 * h :], slice(2 * h, None)))
            states = [(1 - update) * n + update * states[0]]
        outputs.append(states[0])
    theirs = torch.stack(outputs)
    (theirs * torch.tensor(np.asarray(p.mix))).sum().backward()

    def loss(params, weights, x):
        normalisation = Normalisation(norm, weights, running, train=True)
        _, outputs, _ = normalised.scan(p.cell, normalisation, params, x, p.start)
        return jnp.sum(outputs * p.mix), outputs

    ours, outputs = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(p.params, weights, p.x)
    close(outputs, theirs.detach().numpy(), 1e-12)
    expected = [leaves[f].grad for f in p.params._fields], [gains[f].grad for f in weights._fields], x.grad
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, other.numpy(), atol=1e-12, rtol=1e-11)


@every_cell
def test_batch_norm_gives_every_projection_of_every_step_mean_zero_and_the_gains_variance(name):
    p = draw(name, b=50)
    _, weights, _ = slots(p, "batch")
    a = p.x @ p.params.input_kernel
    moments = batch_norm.batch_moments(a, None)
    done = batch_norm.standardise(a, moments, weights.x, 0.0)
    np.testing.assert_allclose(done.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(done.var(axis=1), jnp.broadcast_to(weights.x**2, moments.mean.shape), rtol=1e-12)


@every_cell
def test_moments_are_kept_for_each_step_by_itself_and_follow_the_batch(name):
    p = draw(name, b=6)
    norm, weights, running = slots(p, "batch")
    _, _, after = run(p, "batch", made=(norm, weights, running))
    a = p.x @ p.params.input_kernel
    expected = 0.75 * running.x.mean + 0.25 * a.mean(axis=1)
    np.testing.assert_allclose(after.x.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(after.x.var, 0.75 * running.x.var + 0.25 * a.var(axis=1), rtol=1e-12)
    h_first = p.start.h @ p.params.recurrent_kernel
    np.testing.assert_allclose(after.h.mean[0], 0.75 * running.h.mean[0] + 0.25 * h_first.mean(axis=0), rtol=1e-12)
    assert np.abs(np.diff(np.asarray(after.h.mean - 0.75 * running.h.mean), axis=0)).min() > 0


@every_cell
def test_running_moments_that_are_the_batchs_own_give_what_training_gave(name):
    p = draw(name, b=6)
    norm, weights, running = slots(p, "batch")
    forget = norm._replace(momentum=0.0)
    last, outputs, moments = run(p, "batch", made=(forget, weights, running))
    seen = run(p, "batch", train=False, made=(forget, weights, moments))
    close((last, outputs), seen[:2])
    chex.assert_trees_all_equal(seen[2], moments)


@every_cell
def test_steps_beyond_the_trained_length_take_the_last_moments(name):
    p = draw(name, b=4)
    norm, weights, running = slots(p, "batch", t=3)
    longer = jax.tree.map(lambda m: jnp.concatenate([m, jnp.repeat(m[-1:], 4, axis=0)]), running)
    close(
        run(p, "batch", train=False, made=(norm, weights, running))[:2],
        run(p, "batch", train=False, made=(norm, weights, longer))[:2],
    )


@every_cell
def test_a_scan_that_goes_on_takes_the_moments_of_the_steps_it_is_at(name):
    p = draw(name, b=4)
    made = slots(p, "batch", t=5)
    last, outputs, _ = run(p, "batch", train=False, made=made)
    middle, before, _ = run(p, "batch", x=p.x[:3], train=False, made=made)
    end, after, _ = run(p, "batch", x=p.x[3:], start=middle, train=False, made=made, first=3)
    close((end, jnp.concatenate([before, after])), (last, outputs))


at_steps = jax.jit(batch_norm.at_steps, static_argnums=1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_the_first_step_may_have_any_dtype_and_is_limited_to_the_trained_ones(dtype):
    moments = Moments(*np.random.default_rng(3).normal(size=(2, 130, 1)))
    limits = np.iinfo(dtype)
    for first in (0, 3, 126, limits.max, limits.min):
        steps = np.clip(np.clip(first, 0, 129) + np.arange(5), 0, 129)
        close(at_steps(moments, 5, np.asarray(first, dtype)), Moments(moments.mean[steps], moments.var[steps]))


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("first", [-1, 1.5, True])
def test_a_first_step_that_cannot_be_is_refused(first):
    p = draw("gru", b=4)
    norm, weights, running = slots(p, "batch")
    with pytest.raises(UsageError) as error:
        normalised.scan(p.cell, Normalisation(norm, weights, running, first=first), p.params, p.x, p.start)
    assert (error.value.where, error.value.got, error.value.needed) == ("first", first, "at least 0")


@every_cell
@pytest.mark.parametrize("train", [True, False])
def test_rows_of_padding_change_nothing_of_the_others(name, train):
    p = draw(name, b=5)
    lengths = jnp.asarray([7, 0, 4, 6, 0])
    keep = np.flatnonzero(lengths)
    some = jax.tree.map(lambda s: s[keep], p.start)
    made = slots(p, "batch")
    x = jnp.where(jnp.arange(7)[:, None, None] < lengths[:, None], p.x, jnp.nan)
    last, outputs, moments = run(p, "batch", x=x, lengths=lengths, train=train, made=made)
    alone = run(p, "batch", x=p.x[:, keep], start=some, lengths=lengths[keep], train=train, made=made)
    close((jax.tree.map(lambda s: s[keep], last), outputs[:, keep], moments), alone)
    assert not np.asarray(outputs[:, 1]).any() and not np.asarray(outputs[4:, 2]).any()


@every_cell
def test_a_step_that_no_row_reaches_leaves_its_moments(name):
    p = draw(name, b=4)
    made = slots(p, "batch")
    _, _, moments = run(p, "batch", lengths=jnp.asarray([2, 3, 1, 2]), made=made)
    for new, old in zip(jax.tree.leaves(moments), jax.tree.leaves(made[2]), strict=True):
        np.testing.assert_array_equal(new[3:], old[3:])
        assert (new[:2] != old[:2]).any()


@every_cell
def test_gains_start_where_the_papers_start_them(name):
    memory = name == "lstm"
    for kind, start in (("layer", 1.0), ("layer-sum", 1.0), ("batch", 0.1)):
        weights = norms.init(Norm(kind), CELLS[name].gate_count, memory, 4)
        gain = {leaf.item() for f, v in weights._asdict().items() if "shift" not in f for leaf in v}
        assert gain == {np.float32(start).item()}
        assert ("c" in weights._fields) == (memory and kind != "layer-sum")


def test_batch_norm_in_training_needs_two_rows_and_moments():
    p = draw("lstm", b=1)
    with pytest.raises(ValueError, match=r"x has a batch of 1 row; batch norm in training expects at least 2"):
        run(p, "batch")
    norm, weights, _ = slots(p, "batch")
    with pytest.raises(ValueError, match=r"running is None"):
        run(p, "batch", made=(norm, weights, None))
