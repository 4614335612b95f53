"""A piece as sound: additive synthesis in a small church, stereo, with numpy alone."""

from __future__ import annotations

import functools
import io
import wave
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.music.instruments import ORGAN, Instrument
from jaxseq.music.notes import BPM, HOLD, Note, clock, lines
from jaxseq.music.piece import REST, Piece

RATE = 22_050
"""Samples a second: no partial that is played lies above its half."""
LONGEST = 600.0
"""Seconds that are put into one file."""
HIGHEST = 0.45 * RATE
"""Partials above this frequency are left out: beyond half the rate they would come back as false tones."""
PERIOD = 2**18
"""Samples of the one period that each tone is read from."""
LOUDNESS = (1.0, 0.8, 0.8, 0.95)
"""Of each voice."""
PAN = (-0.4, -0.15, 0.15, 0.4)
"""Where each voice stands, from -1 (left) to 1; its two tones stand `SPREAD` to both sides of that."""
SPREAD = 0.3
ECHO = 1.4
"""Seconds of the reverberation."""
ECHO_TIME = 0.3
"""Seconds in which it falls to 1/e."""
WET = 0.22
"""Share of the reverberation in the sound."""
SEED = 1685
"""Of the noise that the echo is made of."""
SOFT = 8
"""Samples over which the echo is smoothed: walls swallow high tones."""
PEAK = 0.89
"""The largest sample; 1 would clip."""


class Standing(NamedTuple):
    """Loudness of a voice and its place, from -1 (left) to 1."""

    loudness: float
    place: float


def sound(
    piece: Piece, bpm: float = BPM, hold: float = HOLD, instrument: Instrument = ORGAN
) -> Float[np.ndarray, "n 2"]:
    """Return samples from -1 to 1, left and right, `RATE` a second: the piece and its last echo.

    Equal pieces sound equal.

    Raises `UsageError` for what is no MIDI number, no tempo, or longer than `LONGEST`.
    """
    times = np.concatenate([[0.0], np.cumsum(clock(piece, bpm, hold))])
    if times[-1] > LONGEST:
        raise UsageError(
            f"{piece.name}: lasts {times[-1]:.0f} seconds at {bpm:g} bpm; {LONGEST:.0f} at most are played"
        )

    # The last note fades after the piece, and rounding takes a sample more at most.
    seconds = times[-1] + instrument.release
    dry = np.zeros((int(seconds * RATE) + 2, 2))
    for line, loudness, place in zip(lines(piece), LOUDNESS, PAN, strict=True):
        standing = Standing(loudness, place)
        for note in line:
            if note.pitch != REST:
                _play(dry, note, times, instrument=instrument, standing=standing)

    wet = _reverberated(dry)
    peak = np.abs(wet).max()
    # Silence stays silent.
    if not peak:
        return wet
    return wet * (PEAK / peak)


def wav(samples: Float[np.ndarray, "n 2"]) -> bytes:
    """Samples as the content of a WAV file: 16 bits, stereo, `RATE` a second."""
    # 16 bits, the lower byte first.
    frames = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(frames.tobytes())
    return content.getvalue()


def _play(
    dry: Float[np.ndarray, "n 2"],
    note: Note,
    times: Float[np.ndarray, "m"],
    instrument: Instrument,
    standing: Standing,
) -> None:
    """Add one note to the samples, where it sounds."""
    first = int(times[note.start] * RATE)
    last = int(times[note.end] * RATE)
    envelope = standing.loudness * _envelope(last - first, instrument)
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    sounding = dry[first : first + len(envelope)]

    # Two tones, to both sides of the voice's place, a little off the pitch.
    for side in (-1, 1):
        detuned = frequency * 2 ** (side * instrument.detune / 1200)
        tone = envelope * _tone(detuned, len(envelope), instrument.partials)
        # Equal power at every place: squares of cosine and sine sum to one.
        angle = np.pi / 4 * (1 + standing.place + side * SPREAD)
        sounding[:, 0] += np.cos(angle) * tone
        sounding[:, 1] += np.sin(angle) * tone


def _tone(frequency: float, n: int, partials: tuple[float, ...]) -> Float[np.ndarray, "n"]:
    """Return a steady tone that begins at zero."""
    audible = partials[: int(HIGHEST / frequency)]
    places = (frequency / RATE * PERIOD * np.arange(n)).astype(np.int64)
    return _period(audible)[places % PERIOD]


@functools.cache
def _period(partials: tuple[float, ...]) -> Float[np.ndarray, "n"]:
    """Return one period of the tone, in so many samples that the nearest is as good as the true one."""
    phase = 2 * np.pi / PERIOD * np.arange(PERIOD)
    period = np.zeros(PERIOD)
    for number, amplitude in enumerate(partials, start=1):
        period += amplitude * np.sin(number * phase)
    # Every caller gets the same array.
    period.flags.writeable = False
    return period


def _envelope(held: int, instrument: Instrument) -> Float[np.ndarray, "n"]:
    """Return the loudness of a note that is held for so many samples and then fades.

    It has no step anywhere, so that nothing clicks.
    """
    attack = int(instrument.attack * RATE)
    release = int(instrument.release * RATE)
    t = np.arange(held + release)
    rise = np.where(t < attack, 0.5 - 0.5 * np.cos(np.pi * t / attack), 1.0)
    decayed = np.exp(-np.maximum(t - attack, 0) / (instrument.decay * RATE))
    fall = instrument.sustain + (1 - instrument.sustain) * decayed
    fade = np.where(t < held, 1.0, 0.5 + 0.5 * np.cos(np.pi * (t - held) / release))
    return rise * fall * fade


def _reverberated(dry: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """The samples and their echo: convolved with noise that dies away, another one for each side."""
    n = int(ECHO * RATE)
    t = np.arange(n) / RATE
    fading = np.exp(-t / ECHO_TIME) * (0.5 + 0.5 * np.cos(np.pi * t / ECHO))
    noise = np.random.default_rng(SEED).normal(size=(2, n)) * fading
    noise *= WET / np.linalg.norm(noise, axis=1, keepdims=True)
    smoothing = np.ones(SOFT) / SOFT
    echo = np.stack([np.convolve(side, smoothing)[:n] for side in noise], axis=1)
    # The first sample is the sound itself.
    echo[0] += 1 - WET

    # A convolution as a product of spectra, of the next power of two.
    total = len(dry) + n - 1
    size = 1 << (total - 1).bit_length()
    sides = []
    for dry_side, echo_side in zip(dry.T, echo.T, strict=True):
        spectrum = np.fft.rfft(dry_side, size) * np.fft.rfft(echo_side, size)
        sides.append(np.fft.irfft(spectrum, size))
    return np.stack(sides, axis=1)[:total]
