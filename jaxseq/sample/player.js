// The controls of the player: which piece, from where, how loud each voice.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("player-data").textContent);
  const byId = (id) => document.getElementById(`player-${id}`);
  const picker = byId("piece"), button = byId("play"), place = byId("place"), time = byId("time");
  const report = (text) => { byId("problem").textContent = text; };
  const sound = playerSound(data), view = playerView(data, seek, report);
  const sliders = data.voices.map(slider);
  let piece = data.pieces[0], seconds = 0, request = 0;

  const clock = (value) => `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, "0")}`;

  function show() {
    place.value = String(seconds);
    const bar = piece.bars.filter(([start]) => start <= view.stepAt(seconds)).pop();
    time.textContent = `${clock(seconds)} of ${clock(view.length())}, bar ${bar ? bar[1] : 0}`;
    view.show(seconds, sound.playing());
  }

  function frame() {
    if (!sound.playing()) return;
    seconds = sound.position();
    if (seconds >= view.length()) {
      halt();
      seconds = 0;
      view.reveal(0);
    }
    show();
    request = requestAnimationFrame(frame);
  }

  async function play() {
    try {
      await sound.play(piece, seconds);
    } catch (error) {
      report(`this browser plays no sound: ${error.message}`);
      return;
    }
    button.textContent = "Pause";
    // Whoever seeks while a piece plays has a frame under way already.
    cancelAnimationFrame(request);
    request = requestAnimationFrame(frame);
  }

  function halt() {
    sound.stop();
    button.textContent = "Play";
  }

  function pause() {
    halt();
    show();
  }

  const toggle = () => (sound.playing() ? pause() : play());

  function seek(to) {
    seconds = Math.max(0, Math.min(view.length(), to));
    if (sound.playing()) play();
    show();
  }

  // To the beginning of this bar, or of one before or after it.
  function skip(bars) {
    const starts = piece.bars.map(([start]) => piece.times[start]);
    const now = starts.filter((start) => start <= seconds + 0.01).length - 1;
    const late = bars < 0 && now >= 0 && seconds - starts[now] > 0.5;
    seek(starts[now + (late ? 0 : bars)] ?? (bars < 0 ? 0 : view.length()));
    view.reveal(seconds);
  }

  async function pick(number) {
    const playing = sound.playing();
    halt();
    picker.value = String(Math.max(0, Math.min(data.pieces.length - 1, number)));
    piece = data.pieces[Number(picker.value)];
    seconds = 0;
    byId("facts").textContent = piece.facts.join(", ");
    byId("files").replaceChildren(...piece.files.map(link));
    byId("previous").disabled = picker.value === "0";
    byId("next").disabled = Number(picker.value) === data.pieces.length - 1;
    const drawn = view.draw(piece);
    place.max = String(view.length());
    show();
    await drawn;
    show();
    if (playing) play();
  }

  function link(name) {
    const text = name.startsWith(piece.name) ? name.slice(piece.name.length).replace(/^[.-]/, "") : name;
    return Object.assign(document.createElement("a"), { href: encodeURIComponent(name), textContent: text });
  }

  function slider({ name, colour }, number) {
    const label = document.createElement("label");
    const swatch = Object.assign(document.createElement("span"), { className: "player-swatch" });
    swatch.style.background = colour;
    const input = Object.assign(document.createElement("input"), { type: "range", min: "0", max: "1", step: "0.01", value: "1" });
    input.style.accentColor = colour;
    input.addEventListener("input", () => sound.volume(number, Number(input.value)));
    label.append(swatch, name, input);
    byId("voices").append(label);
    return input;
  }

  function silence(number) {
    const input = sliders[number];
    input.value = Number(input.value) > 0 ? "0" : "1";
    sound.volume(number, Number(input.value));
  }

  const KEYS = {
    " ": toggle,
    ArrowLeft: () => skip(-1),
    ArrowRight: () => skip(1),
    Home: () => { seek(0); view.reveal(0); },
    n: () => pick(Number(picker.value) + 1),
    p: () => pick(Number(picker.value) - 1),
  };
  data.voices.forEach((_, number) => { KEYS[String(number + 1)] = () => silence(number); });

  // Lists have keys of their own, so have sliders the arrows, buttons and links the space bar.
  function isTaken({ key, target }) {
    if (target.closest("select")) return true;
    if (target.closest("input")) return key.length > 1;
    return key === " " && target.closest("button, a") !== null;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || isTaken(event)) return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  });
  button.addEventListener("click", toggle);
  byId("previous").addEventListener("click", () => pick(Number(picker.value) - 1));
  byId("next").addEventListener("click", () => pick(Number(picker.value) + 1));
  picker.addEventListener("change", () => pick(Number(picker.value)));
  place.addEventListener("input", () => { seek(Number(place.value)); view.reveal(seconds); });
  byId("copy").addEventListener("click", async () => {
    const command = byId("command");
    // Pages of a file have no clipboard in some browsers; selected text can be copied by hand.
    getSelection().selectAllChildren(command);
    if (!navigator.clipboard) return;
    await navigator.clipboard.writeText(command.textContent).catch((error) => report(`not copied: ${error.message}`));
  });

  data.pieces.forEach(({ name, facts }, number) => picker.add(new Option([name, facts[0]].join(": "), String(number))));
  pick(0);
})();
