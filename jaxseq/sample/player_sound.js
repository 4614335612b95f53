// Sounds a piece by oscillators, as `music.sound` does by sums of sines: two detuned tones a note, beside each other.
const playerSound = function (data) {
  "use strict";
  const START = 0.08, AHEAD = 1.5, EVERY = 200, LOUDNESS = 0.055;
  const { instrument, echo } = data;
  const SIDES = [-1, 1];
  const volumes = data.voices.map(() => 1);
  let context = null, wave = null, voices = [], timer = null;
  let piece = null, began = 0, next = [], sounding = [];

  // Noise that dies away, another one on each side; its first sample is the sound itself.
  function church() {
    const rate = context.sampleRate, size = Math.round(echo.seconds * rate), buffer = context.createBuffer(2, size, rate);
    for (let side = 0; side < 2; side += 1) {
      const samples = buffer.getChannelData(side);
      let power = 0;
      for (let at = 0; at < size; at += 1) {
        const noise = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
        samples[at] = noise * Math.exp(-at / rate / echo.fade) * (0.5 + 0.5 * Math.cos(Math.PI * at / size));
        power += samples[at] ** 2;
      }
      const scale = echo.wet / Math.sqrt(power);
      for (let at = 0; at < size; at += 1) samples[at] *= scale;
      samples[0] += 1 - echo.wet;
    }
    const node = context.createConvolver();
    node.normalize = false;
    node.buffer = buffer;
    return node;
  }

  // A browser lets a page make sound only after a click or a key.
  function open() {
    context = new AudioContext();
    const room = church(), limit = context.createDynamicsCompressor();
    room.connect(limit).connect(context.destination);
    const sines = Float32Array.from([0, ...instrument.partials]);
    wave = context.createPeriodicWave(new Float32Array(sines.length), sines, { disableNormalization: true });
    voices = data.voices.map((voice, number) => {
      const gain = context.createGain();
      gain.gain.value = volumes[number];
      gain.connect(room);
      const sides = SIDES.map((side) => {
        const place = context.createStereoPanner();
        place.pan.value = Math.max(-1, Math.min(1, voice.pan + side * data.spread));
        place.connect(gain);
        return place;
      });
      return { gain, sides };
    });
  }

  function tone(number, pitch, from, to) {
    const peak = LOUDNESS * data.voices[number].loudness, { attack, decay, sustain, release } = instrument;
    const held = to - from;
    // A note that ends while it still rises fades from where it is.
    const level = held < attack ? held / attack : sustain + (1 - sustain) * Math.exp(-(held - attack) / decay);
    SIDES.forEach((side, place) => {
      const source = context.createOscillator(), envelope = context.createGain();
      source.setPeriodicWave(wave);
      source.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
      source.detune.value = side * instrument.detune;
      envelope.gain.setValueAtTime(0, from);
      envelope.gain.linearRampToValueAtTime(peak * Math.min(1, held / attack), from + Math.min(held, attack));
      if (held > attack) envelope.gain.setTargetAtTime(peak * sustain, from + attack, decay);
      envelope.gain.setValueAtTime(peak * level, to);
      envelope.gain.linearRampToValueAtTime(0, to + release);
      source.connect(envelope).connect(voices[number].sides[place]);
      source.start(from);
      source.stop(to + release);
      sounding.push(source);
      source.onended = () => { sounding = sounding.filter((other) => other !== source); };
    });
  }

  // Notes are handed over shortly before they sound, so that a pause has little to take back.
  function schedule() {
    const now = context.currentTime;
    piece.voices.forEach((notes, number) => {
      while (next[number] < notes.length) {
        const [start, end, pitch] = notes[next[number]];
        if (began + piece.times[start] > now + AHEAD) break;
        const from = Math.max(began + piece.times[start], now), to = began + piece.times[end];
        if (to > from) tone(number, pitch, from, to);
        next[number] += 1;
      }
    });
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    for (const source of sounding) {
      source.onended = null;
      source.stop();
      source.disconnect();
    }
    sounding = [];
  }

  async function play(shown, seconds) {
    if (context === null) open();
    stop();
    if (context.state !== "running") await context.resume();
    piece = shown;
    began = context.currentTime + START - seconds;
    next = piece.voices.map(() => 0);
    schedule();
    // Another click may have begun while the browser was asked for sound.
    clearInterval(timer);
    timer = setInterval(schedule, EVERY);
  }

  function volume(number, value) {
    volumes[number] = value;
    if (context !== null) voices[number].gain.gain.setTargetAtTime(value, context.currentTime, 0.02);
  }

  // What is heard now was handed over a little earlier.
  const position = () => Math.max(0, context.currentTime - (context.outputLatency || 0) - began);
  return { play, stop, volume, position, playing: () => timer !== null };
};
