"""Music from models that read forward: what a sampler says of its notes is what the network says of them, read whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import quickly
from scipy import stats as statistics

from jaxseq.cells import CELLS
from jaxseq.cells.norm import Norm
from jaxseq.common import row_counts
from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.cadences import CADENCES, ENDING, Place
from jaxseq.music.evaluation import voice_leading
from jaxseq.music.networks import inputs
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.sampling import (
    FREE,
    UNCHANGED,
    Guide,
    SamplingOptions,
    ancestral,
    by_note,
    choose,
    filling,
    gibbs,
    weights,
)
from jaxseq.music.sampling.choose import draw
from jaxseq.music.sampling.rules import parallel
from jaxseq.music.transposition import Key
from jaxseq.nn import apply

pytestmark = pytest.mark.usefixtures("compiled_quickly")

STEPS, ROWS = 6, 3


def positions_of(steps):
    """Sixteenths since the bar line, of pieces that begin with an upbeat."""
    return (3 + np.arange(steps)) % 16


POSITIONS = positions_of(STEPS)
SIZES = {"hidden": 7, "embedding": 4}


def note_net(symbols=tokens.VOCABULARY + 1, **options):
    return NoteNet(symbols=symbols, **{"cell": CELLS["lstm"], "convolutions": (5, 6, 4)} | SIZES | options)


def chord_net(**options):
    return ChordNet(voice_hidden=5, **{"cell": CELLS["gru"]} | SIZES | options)


NETS = {
    "notes": (note_net(places=True), True),
    "notes of windows, two layers": (note_net(tokens.VOCABULARY, layers=2), False),
    "notes, batch norm, no convolutions": (note_net(convolutions=(), norm=Norm("batch")), True),
    "chords": (chord_net(), True),
    "chords by intervals": (chord_net(relative=True, voice_dropout=0.2), True),
    "chords of windows, two layers of lstm": (chord_net(cell=CELLS["lstm"], layers=2, dropout=0.3), False),
}
FEW = ("notes of windows, two layers", "notes, batch norm, no convolutions", "chords by intervals")
"""One with each thing that the others have; the others are `slow` where they would be compiled once more."""
quick_apply = quickly(apply.apply, "model")


every_net = pytest.mark.parametrize("name", NETS)
every_net_few_quickly = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in NETS]
)


@functools.cache
def made(name):
    """A network whose numbers are all random, moments too, and whether its pieces begin with a start symbol."""
    model, started = NETS[name]
    x = jnp.asarray(read(model, free(), started).x)
    like = jax.eval_shape(lambda key: apply.init(model, key, x), jax.random.key(0))
    source = np.random.default_rng(5)
    params = jax.tree.map(lambda p: jnp.asarray(source.normal(0, 0.5, p.shape), p.dtype), like[0])
    stats = jax.tree.map(lambda m: jnp.asarray(source.uniform(0.5, 1.5, m.shape), m.dtype), like[1])
    return model, params, stats, started


def read(model, notes, started):
    way = inputs.notes if isinstance(model, NoteNet) else inputs.chords
    return inputs.pad([way(np.maximum(row, 0), positions_of(len(row)), not started) for row in notes])


def free(**given):
    """Nothing but the first note is given; keywords such as ``step2=30`` give a soprano's note."""
    forced = np.full((ROWS, STEPS, 4), FREE)
    forced[:, 0, 0] = 20
    for name, note in given.items():
        forced[:, int(name.removeprefix("step")), 0] = note
    return forced


def whole(model, params, stats, notes, started):
    """log p of everything that could stand in the place of each note, after those before it, read at once: "b t 4 v"."""
    logits = quick_apply(model, params, stats, jnp.asarray(read(model, notes, started).x))
    log_p = np.asarray(jax.nn.log_softmax(logits)).reshape(len(notes), -1, tokens.VOCABULARY)
    notes = np.asarray(notes)
    missing = notes[0].size - log_p.shape[1]
    return np.pad(log_p, ((0, 0), (missing, 0), (0, 0))).reshape(*notes.shape, -1)


def composed(name, options=UNCHANGED, seed=0, forced=None):
    model, params, stats, started = made(name)
    given = free() if forced is None else forced
    found = ancestral(model, {"params": params, **stats}, jax.random.key(seed), given, POSITIONS, options, started)
    return (
        np.asarray(found.tokens),
        np.asarray(found.log_probability),
        whole(model, params, stats, found.tokens, started),
    )


@every_net_few_quickly
@pytest.mark.parametrize("options", [SamplingOptions(), SamplingOptions(0.7, 9, 0.8)], ids=["as it is", "sharpened"])
def test_a_note_s_probability_is_that_of_the_network_that_reads_the_piece_whole(name, options):
    notes, log_p, log_all = composed(name, options)
    expected = np.take_along_axis(log_all, notes[..., None], axis=-1)[..., 0]
    given = (slice(None), 0, 0)
    if not NETS[name][1]:
        assert np.isnan(log_p[given]).all()
        expected[given] = np.nan
    np.testing.assert_allclose(log_p, expected, atol=1e-5)
    assert len(np.unique(notes)) > 5  # a network that says one thing only would prove little


@every_net_few_quickly
@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(temperature=1e-9),
        SamplingOptions(temperature=1e-42),
        SamplingOptions(top_k=1),
        SamplingOptions(top_p=1e-6),
    ],
)
def test_the_coldest_and_the_narrowest_choice_is_the_likeliest_note(name, options):
    notes, _, log_all = composed(name, options)
    likeliest = log_all.argmax(-1)
    likeliest[:, 0, 0] = 20
    np.testing.assert_array_equal(notes, likeliest)


@every_net
def test_what_is_forced_stays_and_counts(name):
    forced = free(step2=31, step5=3)
    forced[1, 3] = 11, 12, 13, 0
    notes, log_p, log_all = composed(name, forced=forced)
    np.testing.assert_array_equal(np.where(forced == FREE, FREE, notes), forced)
    np.testing.assert_allclose(log_p[:, 2, 0], log_all[:, 2, 0, 31], atol=1e-5)
    other, _, _ = composed(name)
    assert (other[:, 3:] != notes[:, 3:]).any()


@every_net_few_quickly
def test_equal_keys_are_equal_music_and_other_keys_other_music(name):
    first, second, third = (composed(name, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()
    assert (first[0] != first[1]).any()  # rows are drawn by themselves


@every_net_few_quickly
def test_avoided_parallels_are_none_by_the_measure_and_all_else_is_as_likely_as_it_was(name):
    model, params, stats, started = made(name)
    forced = np.full((40, 12, 4), FREE)
    forced[:, 0] = 20, 13, 8, 1  # a fifth between neighbours, as parallels need it
    counts = {}
    for avoid in (False, True):
        how = SamplingOptions(avoid_parallels=avoid)
        found = ancestral(
            model, {"params": params, **stats}, jax.random.key(3), forced, positions_of(12), how, started=started
        )
        pieces = [tokens.decode(row) for row in np.asarray(found.tokens)]
        counts[avoid] = sum(voice_leading.parallels(piece, interval) for piece in pieces for interval in (0, 7))
    assert counts[True] == 0 < counts[False]
    expected = np.take_along_axis(whole(model, params, stats, found.tokens, started), found.tokens[..., None], -1)[
        ..., 0
    ]
    np.testing.assert_allclose(found.log_probability[:, 1:], expected[:, 1:], atol=1e-4)


def test_parallels_are_the_notes_that_a_hand_would_strike_out():
    before, now = jnp.array([[27, 23]]), jnp.array([[29, 24]])  # up a tone, up a semitone
    out = np.asarray(parallel(jnp.array([15]), before, now))[
        0
    ]  # an octave below the first: parallel if it goes up a tone
    assert np.flatnonzero(out).tolist() == [17]
    assert not np.asarray(parallel(jnp.array([15]), before, before)).any()  # what stays is no parallel
    assert not np.asarray(parallel(jnp.array([0]), before, now)).any()


def test_going_on_is_reading_the_beginning_again():
    """A piece whose first half is forced, with the notes that were composed, goes on as it did: by the likeliest notes."""
    for name in ("notes", "chords by intervals"):
        once, _, _ = composed(name, SamplingOptions(top_k=1))
        forced = once.copy()
        forced[:, STEPS // 2 :] = FREE
        again, _, _ = composed(name, SamplingOptions(top_k=1), seed=9, forced=forced)
        np.testing.assert_array_equal(again, once)


def test_a_model_of_windows_is_not_asked_for_the_first_note():
    model, params, stats, _ = made("notes of windows, two layers")
    with pytest.raises(ValueError, match="whose first note is given"):
        ancestral(
            model,
            {"params": params, **stats},
            jax.random.key(0),
            np.full((1, 2, 4), FREE),
            POSITIONS[:2],
            started=False,
        )


PROBABILITIES = np.array([0.4, 0.2, 0.05, 0.25, 0.1])


def drawn(options, count=20_000):
    log_p = jnp.broadcast_to(jnp.log(jnp.asarray(PROBABILITIES, jnp.float32)), (count, 5))
    noise = jax.random.gumbel(jax.random.key(3), log_p.shape)
    found = draw(log_p, noise, options.truncates, options.thresholds)
    return np.bincount(np.asarray(found), minlength=5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (SamplingOptions(), PROBABILITIES),
        (SamplingOptions(temperature=0.5), PROBABILITIES**2),
        (SamplingOptions(temperature=2.0), PROBABILITIES**0.5),
        (SamplingOptions(top_k=2), [0.4, 0, 0, 0.25, 0]),
        (SamplingOptions(top_p=0.4), [1, 0, 0, 0, 0]),
        (SamplingOptions(top_p=0.41), [0.4, 0, 0, 0.25, 0]),
        (SamplingOptions(top_p=0.86), [0.4, 0.2, 0, 0.25, 0.1]),
        (
            SamplingOptions(top_k=3, top_p=0.7),
            [0.4, 0, 0, 0.25, 0],
        ),  # of 0.4, 0.25 and 0.2 renormalised, the first two are 0.76
        (SamplingOptions(temperature=0.5, top_p=0.55), [1, 0, 0, 0, 0]),  # 0.16 of 0.275 is 0.58: it is sharpened first
    ],
)
def test_notes_are_drawn_as_often_as_they_should_be(options, expected):
    counts, expected = drawn(options), np.asarray(expected) / np.sum(expected)
    assert not counts[expected == 0].any()
    kept = expected > 0
    if kept.sum() > 1:
        assert statistics.chisquare(counts[kept], counts.sum() * expected[kept]).pvalue > 1e-3


def test_of_equal_notes_top_k_keeps_k():
    log_p = jnp.log(jnp.full((4000, 8), 1 / 8))
    found = draw(log_p, jax.random.gumbel(jax.random.key(0), log_p.shape), True, SamplingOptions(top_k=3).thresholds)
    np.testing.assert_array_equal(np.unique(found), [0, 1, 2])


@pytest.mark.parametrize("name", ["notes", "chords of windows, two layers of lstm"])
def test_the_first_notes_are_as_frequent_as_the_network_says(name):
    """Many rows of one step: the soprano of a started piece, else the alto."""
    model, params, stats, started = made(name)
    voice = 0 if started else 1
    forced = np.full((1500, 1, 4), FREE)
    if not started:
        forced[:, 0, 0] = 20
    found = ancestral(model, {"params": params, **stats}, jax.random.key(1), forced, POSITIONS[:1], started=started)
    notes = np.asarray(found.tokens)
    log_all = whole_of_first(model, params, stats, notes[:1], started)[0, 0, voice]
    counts, expected = np.bincount(notes[:, 0, voice], minlength=tokens.VOCABULARY), 1500 * np.exp(np.float64(log_all))
    as_often(counts, expected)


def as_often(counts, expected):
    """A chi-square test, the rare ones taken together."""
    common = expected > 5
    assert common.sum() > 3
    counts, expected = (np.append(values[common], values[~common].sum()) for values in (counts, expected))
    there = expected > 0
    counts, expected = counts[there], expected[there]
    assert statistics.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue > 1e-3


def whole_of_first(model, params, stats, notes, started):
    way = inputs.notes if isinstance(model, NoteNet) else inputs.chords
    x = way(notes[0], POSITIONS[:1], not started).x[None]
    log_p = np.asarray(jax.nn.log_softmax(quick_apply(model, params, stats, jnp.asarray(x, jnp.int32))))
    log_p = log_p.reshape(1, -1, tokens.VOCABULARY)
    return np.pad(log_p, ((0, 0), (4 - log_p.shape[1], 0), (0, 0))).reshape(1, 1, 4, -1)


def test_one_program_serves_every_temperature():
    composed("notes", SamplingOptions(0.9, 10, 0.9))
    compiled = by_note.by_note._cache_size()
    composed("notes", SamplingOptions(1.3, 20, 0.5), seed=4)
    assert by_note.by_note._cache_size() == compiled > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["notes of windows, two layers", "fill"])
def test_numbers_of_pieces_share_a_program_and_are_drawn_as_by_themselves(name, monkeypatch):
    program = filling._sweeps if name == "fill" else by_note.by_note

    def of(count):
        forced = np.repeat(free()[:1], count, axis=0)
        if name != "fill":
            return composed(name, forced=forced)[:2]
        model, params = fill_net()
        return gibbs(model, {"params": params}, jax.random.key(0), forced, POSITIONS, SamplingOptions(sweeps=8))

    before = program._cache_size()
    shared = {count: of(count) for count in (9, 10)}
    assert program._cache_size() == before + 1
    monkeypatch.setattr(row_counts, "shared", lambda count: count)
    for part, by_itself in zip(shared[9], of(9), strict=True):
        assert part.shape == (9, STEPS, 4)
        np.testing.assert_array_equal(part, by_itself)


def fill_net():
    """A network that fills gaps, its numbers all random."""
    model = FillNet(CELLS["gru"], voice_hidden=5, **SIZES)
    like = jax.eval_shape(lambda key: apply.init(model, key, jnp.zeros((1, STEPS, 5), jnp.int32)), jax.random.key(0))
    source = np.random.default_rng(5)
    return model, jax.tree.map(lambda p: jnp.asarray(source.normal(0, 0.5, p.shape), p.dtype), like[0])


def filled(forced, options=UNCHANGED, seed=0, sweeps=5):
    model, params = fill_net()
    found = gibbs(model, {"params": params}, jax.random.key(seed), forced, POSITIONS, options._replace(sweeps=sweeps))
    return np.asarray(found.tokens), np.asarray(found.log_probability)


def hidden(notes, forced):
    """log p of every symbol in the place of the free notes, all of them hidden: "b t 4 v"."""
    model, params = fill_net()
    places = np.broadcast_to(POSITIONS[:, None], (*notes.shape[:2], 1))
    x = np.concatenate([np.where(forced == FREE, tokens.MASKED, notes), places], axis=-1)
    return np.asarray(jax.nn.log_softmax(quick_apply(model, params, {}, jnp.asarray(x, jnp.int32))))


def kept():
    forced = np.full((ROWS, STEPS, 4), FREE)
    forced[:, :, 0] = 20 + np.arange(STEPS)
    forced[1, 2] = 9, 8, 0, 7
    return forced


def test_filling_leaves_what_is_kept_and_fills_the_rest():
    forced = kept()
    notes, log_p = filled(forced)
    np.testing.assert_array_equal(np.where(forced == FREE, FREE, notes), forced)
    assert (notes >= 0).all() and (notes < tokens.VOCABULARY).all()
    np.testing.assert_array_equal(np.isnan(log_p), forced != FREE)
    again, other = filled(forced)[0], filled(forced, seed=1)[0]
    np.testing.assert_array_equal(again, notes)
    assert (other != notes).any()


def test_the_first_sweep_draws_all_free_notes_from_what_is_given():
    forced = kept()
    notes, log_p = filled(forced, SamplingOptions(top_k=1), sweeps=1)
    log_all = hidden(notes, forced)
    free = forced == FREE
    np.testing.assert_array_equal(notes[free], log_all.argmax(-1)[free])
    np.testing.assert_allclose(log_p[free], log_all.max(-1)[free], atol=1e-5)


def test_a_single_gap_is_drawn_as_often_as_the_network_says():
    """Gibbs sampling of one note is drawing it from its distribution given all others, however many sweeps there are."""
    model, params = fill_net()
    forced = np.tile(kept()[1:2], (1500, 1, 1))
    forced = np.where(forced == FREE, 12, forced)
    forced[:, 3, 2] = FREE
    found = gibbs(model, {"params": params}, jax.random.key(2), forced, POSITIONS, SamplingOptions(sweeps=3))
    log_p = hidden(forced[:1], forced[:1])[0, 3, 2]
    counts = np.bincount(np.asarray(found.tokens)[:, 3, 2], minlength=tokens.VOCABULARY)
    as_often(counts, 1500 * np.exp(np.float64(log_p)))


def test_a_filling_network_is_told_of_what_comes_after_and_not_of_what_it_hides():
    forced = kept()
    before = hidden(np.where(forced == FREE, 5, forced), forced)
    other = forced.copy()
    other[:, STEPS - 1, 0] = 33
    assert (hidden(np.where(forced == FREE, 6, forced), forced) == before).all()
    assert np.abs(hidden(np.where(other == FREE, 5, other), other) - before)[:, 0].max() > 1e-4


def test_sweeps_draw_all_notes_first_and_few_at_the_end():
    shares = np.array([float(filling._share(jnp.int32(number), 100)) for number in range(100)])
    assert shares[0] == 1 and (np.diff(shares[:75]) < 0).all()
    np.testing.assert_allclose(shares[75:], filling.LAST_SHARE)
    np.testing.assert_allclose(shares[30], 1 - 30 / 75 * (1 - filling.LAST_SHARE), rtol=1e-6)


def test_how_long_a_chord_has_lasted_is_told_up_to_a_bar():
    model, params, stats, started = made("chords")
    steps = 19
    held = np.full((1, steps, 4), 12)
    found = ancestral(model, {"params": params, **stats}, jax.random.key(0), held, np.arange(steps) % 16)
    x = inputs.chords(held[0], np.arange(steps) % 16).x[None]
    assert x[0, -1, 8] == inputs.LONGEST
    log_p = jax.nn.log_softmax(quick_apply(model, params, stats, jnp.asarray(x, jnp.int32)))
    np.testing.assert_allclose(found.log_probability, log_p[..., 12], atol=1e-5)
    assert started


def test_a_note_temperature_keeps_the_chance_that_a_voice_moves_and_sharpens_where_it_moves_to():
    log_p = jax.nn.log_softmax(jnp.asarray(np.random.default_rng(3).normal(0, 2, (5, 9))))
    stays = jnp.arange(9) == jnp.array([0, 3, 8, 99, 4])[:, None]
    sharper = choose._with_sharper_moves(log_p, stays, jnp.float32(0.5))
    before, after = np.exp(log_p), np.exp(sharper)
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(after[stays], before[stays], rtol=1e-5)
    for row in range(5):
        moves = ~np.asarray(stays[row])
        expected = before[row, moves] ** 2
        np.testing.assert_allclose(after[row, moves], expected * before[row, moves].sum() / expected.sum(), rtol=1e-4)
    # At 1, and where there is nothing to move to, it changes nothing.
    np.testing.assert_allclose(choose._with_sharper_moves(log_p, stays, jnp.float32(1)), log_p, atol=1e-6)
    alone = jnp.where(stays, 0.0, -jnp.inf)
    np.testing.assert_array_equal(choose._with_sharper_moves(alone[:3], stays[:3], jnp.float32(0.5)), alone[:3])


@pytest.mark.parametrize("name", ["notes of windows, two layers", "chords by intervals"])
def test_voices_that_cannot_move_stay_and_a_coldest_move_is_the_likeliest(name):
    model, params, stats, started = made(name)
    steps = 8
    still = weights.none(steps)
    still.moving[1:] = -np.inf
    # Enough pieces that some voice stays somewhere.
    forced = np.full((12, steps, 4), FREE)
    forced[:, 0, 0] = 20
    variables = {"params": params, **stats}

    def drawn(options, leaning=None):
        found = ancestral(
            model,
            variables,
            jax.random.key(2),
            forced,
            positions_of(steps),
            options,
            started,
            guide=Guide(weights=leaning),
        )
        return np.asarray(found.tokens)

    notes = drawn(UNCHANGED, still)
    np.testing.assert_array_equal(notes, np.repeat(notes[:, :1], steps, axis=1))
    np.testing.assert_array_equal(drawn(UNCHANGED, weights.none(steps)), drawn(UNCHANGED))

    notes = drawn(SamplingOptions(note_temperature=1e-6))
    log_all = whole(model, params, stats, notes, started)[:, 1:]
    before, after = notes[:, :-1], notes[:, 1:]
    np.put_along_axis(log_all, before[..., None], -np.inf, axis=-1)
    moved = before != after
    assert moved.any() and not moved.all()
    np.testing.assert_array_equal(np.argmax(log_all, axis=-1)[moved], after[moved])


def test_a_piece_does_not_depend_on_the_pieces_beside_it():
    model, params, stats, started = made("chords by intervals")
    key = jax.random.key(4)
    variables = {"params": params, **stats}

    def drawn(numbers):
        forced = np.full((len(numbers), STEPS, 4), FREE)
        return np.asarray(
            ancestral(
                model, variables, key, forced, POSITIONS, started=started, guide=Guide(numbers=np.array(numbers))
            ).tokens
        )

    together = drawn([0, 1, 2, 3])
    np.testing.assert_array_equal(drawn([3, 1]), together[[3, 1]])
    assert (together[0] != together[1]).any()


def test_weights_lean_towards_a_key_and_keep_ranges_and_cadences():
    ranges = np.array([[60, 81], [53, 74], [48, 69], [36, 64]])
    steps = 6
    none = weights.none(steps)
    symbols = np.arange(tokens.VOCABULARY)
    pitches = symbols + tokens.LOWEST - 1

    within = weights.within_ranges(none, ranges).notes
    for voice, (low, high) in enumerate(ranges):
        allowed = (symbols == 0) | ((pitches >= low) & (pitches <= high))
        np.testing.assert_array_equal(np.isfinite(within[0, 3, voice]), allowed)

    leaning = weights.in_keys(none, [Key(0, True), None], 2.0).notes
    a_minor = leaning[:1]
    assert not leaning[1].any() and not none.notes.any()
    in_scale = np.isin(pitches % 12, [9, 11, 0, 2, 4, 5, 6, 7, 8]) | (symbols == 0)
    np.testing.assert_array_equal(a_minor[0, 3, 1], np.where(in_scale, 0, -2))
    in_triad = np.isin(pitches % 12, [9, 0, 4]) | (symbols == 0)
    np.testing.assert_array_equal(a_minor[0, 0, 1], np.where(in_triad, 0, -2))

    cadence = weights.to_cadences(none, [Key(1, False), Key(0, True)], [Place(ENDING, steps - 4, steps)])
    assert cadence.notes.shape == (2, steps, 4, tokens.VOCABULARY)
    assert not cadence.notes[:, : steps - 4].any()
    bass = np.isfinite(cadence.notes[:, -1, 3])
    np.testing.assert_array_equal(bass[0], (symbols > 0) & (pitches % 12 == 7))
    np.testing.assert_array_equal(bass[1], (symbols > 0) & (pitches % 12 == 9))
    alto = np.isfinite(cadence.notes[1, -1, 1])
    np.testing.assert_array_equal(alto, (symbols > 0) & np.isin(pitches % 12, [9, 0, 1, 4]))
    np.testing.assert_array_equal(cadence.moving, [0, 0, 0, -np.inf, -np.inf, -np.inf])


def test_a_cadence_goes_before_a_range_that_has_no_note_of_it():
    high = np.array([[60, 81], [55, 74], [50, 69], [44, 52]])
    in_range = weights.within_ranges(weights.none(STEPS), high)
    leaning = weights.to_cadences(in_range, [Key(1, False), Key(4, False)], [Place(ENDING, STEPS - 4, STEPS)])
    pitches = np.arange(tokens.VOCABULARY) + tokens.LOWEST - 1
    possible = np.isfinite(leaning.notes[:, -1, 3])
    # The bass has no G from 44 to 52, and one E, which it keeps to.
    assert set(pitches[possible[0]] % 12) == {7} and pitches[possible[1]].tolist() == [52]
    assert pitches[np.isfinite(leaning.notes[0, -1, 0])].tolist() == [62, 67, 71, 74, 79]


NOISES = jnp.asarray(np.random.default_rng(0).gumbel(size=(20, 1, tokens.VOCABULARY)))
# The pitch classes of the chord before a cadence and of its own, root first, in G major and A minor.
HELD = {
    "authentic": [([2, 6, 9, 0], [7, 11, 2]), ([4, 8, 11, 2], [9, 0, 4])],
    "half": [(range(12), [2, 6, 9]), (range(12), [4, 8, 11])],
    "plagal": [([0, 4, 7], [7, 11, 2]), ([2, 5, 9], [9, 0, 4])],
    "deceptive": [([2, 6, 9, 0], [4, 7, 11]), ([4, 8, 11, 2], [5, 9, 0])],
}


@pytest.mark.parametrize("name", CADENCES)
def test_a_cadence_is_a_chord_in_root_position_that_another_leads_to(name):
    steps = 12
    places = [Place(CADENCES[name], 5, 9)]
    leaning = weights.to_cadences(weights.none(steps), [Key(1, False), Key(0, True)], places)
    classes = (np.arange(tokens.VOCABULARY) + tokens.LOWEST - 1) % 12
    for piece, (before, chord) in enumerate(HELD[name]):
        for step, allowed in ((3, before), (4, before), (5, chord), (8, chord)):
            possible = np.isfinite(leaning.notes[piece, step])
            assert set(classes[possible[0]]) == set(allowed)
            in_bass = set(allowed) if len(allowed) == 12 else {allowed[0]}
            assert set(classes[possible[3]]) == in_bass
    assert not leaning.notes[:, [0, 1, 2, 9, 10, 11]].any()
    np.testing.assert_array_equal(np.flatnonzero(leaning.moving), [6, 7, 8])


def test_cadences_that_follow_each_other_leave_notes_to_every_voice():
    key = [Key(1, False)]
    # The second is given first, and the first one's chord stands where the dominant would lead to the second.
    places = [Place(CADENCES["authentic"], 8, 12), Place(CADENCES["half"], 1, 7)]
    notes = weights.to_cadences(weights.none(12), key, places).notes[0]
    assert np.isfinite(notes).any(axis=-1).all()
    classes = (np.arange(tokens.VOCABULARY) + tokens.LOWEST - 1) % 12
    basses = [set(classes[np.isfinite(notes[step, 3])]) for step in (1, 6, 7, 8, 11)]
    assert basses == [{2}, {2}, {2}, {7}, {7}]
    assert set(classes[np.isfinite(notes[6, 0])]) == {2, 6, 9}

    with pytest.raises(UsageError, match="overlap") as raised:
        weights.to_cadences(weights.none(12), key, [Place(CADENCES["half"], 0, 8), Place(CADENCES["half"], 7, 12)])
    assert (raised.value.got, raised.value.needed) == ("step 7", "8 or later")


def test_a_cadence_goes_before_the_rule_of_parallels_where_all_of_its_notes_break_it():
    allowed = np.full((1, tokens.VOCABULARY), -np.inf, np.float32)
    allowed[0, [10, 22]] = 0.0
    leaning = choose.Leaning(jnp.asarray(allowed), jnp.asarray(0.0))

    def chosen(*parallel):
        excluded = jnp.isin(jnp.arange(tokens.VOCABULARY), jnp.array(parallel))[None]
        logits = jnp.zeros((1, tokens.VOCABULARY))
        bounds = choose.Bounds(excluded=excluded, leaning=leaning)
        notes = [
            choose.choose(logits, noise, choose.Program(False), UNCHANGED.thresholds, bounds).note for noise in NOISES
        ]
        return {int(note[0]) for note in notes}

    assert chosen(10) == {22}
    assert chosen(10, 22) == {10, 22}


def test_gaps_are_filled_within_ranges():
    ranges = np.array([[70, 72], [60, 62], [50, 52], [40, 42]])
    model, params = fill_net()
    forced = np.full((2, STEPS, 4), FREE)
    leaning = weights.within_ranges(weights.none(STEPS), ranges)
    found = gibbs(
        model,
        {"params": params},
        jax.random.key(0),
        forced,
        POSITIONS,
        SamplingOptions(sweeps=4),
        guide=Guide(weights=leaning),
    )
    notes = np.array([tokens.decode(piece) for piece in np.asarray(found.tokens)])
    assert ((notes == 0) | ((notes >= ranges[:, 0]) & (notes <= ranges[:, 1]))).all()
    assert notes.any()
