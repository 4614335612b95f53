// The piano roll and the engraved score of a piece; both show the same place and tell which place was clicked.
const playerView = function (data, seek, report) {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const AHEAD = 0.35;
  const roll = document.getElementById("player-roll"), score = document.getElementById("player-score");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let piece = null, line = null, cursor = null, heads = [], places = [], step = -1, lit = [];

  function element(parent, name, attributes) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.appendChild(node);
    return node;
  }

  const length = () => piece.times[piece.times.length - 1];

  // The last step that has begun.
  function stepAt(seconds) {
    let low = 0, high = piece.times.length - 1;
    while (low + 1 < high) {
      const middle = (low + high) >> 1;
      if (piece.times[middle] <= seconds) low = middle; else high = middle;
    }
    return low;
  }

  function drawRoll() {
    roll.replaceChildren();
    const pitches = piece.voices.flat().map((note) => note[2]);
    const low = Math.min(...pitches, 60) - 1, high = Math.max(...pitches, 60) + 1;
    const height = high - low, width = 1000;
    roll.setAttribute("viewBox", `0 0 ${width} ${height}`);
    roll.setAttribute("preserveAspectRatio", "none");
    const x = (at) => width * piece.times[at] / length();
    for (const [start] of piece.bars) element(roll, "line", { x1: x(start), x2: x(start), y1: 0, y2: height });
    piece.voices.forEach((notes, number) => {
      const { colour, thick } = data.voices[number];
      for (const [start, end, pitch] of notes) {
        const node = element(roll, "rect", {
          x: x(start), width: Math.max(0.5, x(end) - x(start) - 0.6), y: high - pitch - thick / 2, height: thick, fill: colour,
        });
        heads.push({ node, start, end, colour: null });
      }
    });
    line = element(roll, "line", { x1: 0, x2: 0, y1: 0, y2: height, class: "player-line" });
  }

  // The SVG lies in the page as base64 of zlib's format.
  async function unpacked(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new DOMParser().parseFromString(await new Response(stream).text(), "image/svg+xml").documentElement;
  }

  // Where each step lies in the score: at the leftmost of the notes that begin with it.
  function measure() {
    const left = score.getBoundingClientRect().left + score.clientLeft - score.scrollLeft;
    const byStep = new Map();
    let right = 0;
    for (const node of score.querySelectorAll("[id^=v]")) {
      const match = /^v(\d)s(\d+)n(\d+)$/.exec(node.id);
      if (!match) continue;
      const box = (node.querySelector(".notehead") || node).getBoundingClientRect(), start = Number(match[2]);
      byStep.set(start, Math.min(box.left - left, byStep.get(start) ?? Infinity));
      right = Math.max(right, box.right - left);
    }
    byStep.set(piece.times.length - 1, right + 10);
    places = [...byStep].sort((first, second) => first[0] - second[0]);
  }

  async function drawScore() {
    const shown = piece;
    score.hidden = shown.score === null;
    roll.classList.toggle("player-alone", score.hidden);
    score.replaceChildren();
    cursor = null;
    places = [];
    if (score.hidden) return;
    let drawing;
    try {
      drawing = await unpacked(shown.score);
    } catch (error) {
      report(`this browser cannot unpack the score: ${error.message}`);
      return;
    }
    // Another piece may have been chosen in the meantime.
    if (shown !== piece) return;
    const [, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
    drawing.style.aspectRatio = `${width} / ${height}`;
    score.replaceChildren(document.importNode(drawing, true));
    cursor = score.appendChild(Object.assign(document.createElement("div"), { className: "player-cursor" }));
    for (const node of score.querySelectorAll("g.note[id^=v]")) {
      const [, voice, start, steps] = /^v(\d)s(\d+)n(\d+)$/.exec(node.id).map(Number);
      heads.push({ node, start, end: start + steps, colour: data.voices[voice].colour });
    }
    measure();
  }

  // The place in the score at a time, between the notes around it.
  function placeAt(seconds) {
    const after = places.findIndex(([at]) => piece.times[at] > seconds);
    if (after === -1) return places[places.length - 1][1];
    if (after === 0) return places[0][1];
    const [[first, from], [second, to]] = [places[after - 1], places[after]];
    const share = (seconds - piece.times[first]) / (piece.times[second] - piece.times[first]);
    return from + share * (to - from);
  }

  function light(now) {
    if (now === step) return;
    step = now;
    for (const head of lit) {
      head.node.classList.remove("player-sounding");
      head.node.style.removeProperty("color");
      head.node.style.removeProperty("fill");
    }
    lit = heads.filter((head) => head.start <= now && now < head.end);
    for (const head of lit) {
      head.node.classList.add("player-sounding");
      if (head.colour !== null) {
        head.node.style.color = head.colour;
        head.node.style.fill = head.colour;
      }
    }
  }

  function show(seconds, playing) {
    const x = 1000 * seconds / length();
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    // Nothing sounds before the piece is played.
    light(playing || seconds > 0 ? stepAt(seconds) : -1);
    if (cursor === null) return;
    const place = placeAt(seconds);
    cursor.style.left = `${place}px`;
    if (!playing) return;
    const outside = place < score.scrollLeft || place > score.scrollLeft + 0.9 * score.clientWidth;
    if (!calm.matches || outside) score.scrollLeft = place - AHEAD * score.clientWidth;
  }

  async function draw(shown) {
    piece = shown;
    heads = [];
    lit = [];
    step = -1;
    drawRoll();
    await drawScore();
    if (shown !== piece) return;
    // The notes of the score are lit with the next call.
    step = null;
    score.scrollLeft = 0;
  }

  function reveal(seconds) {
    if (cursor !== null) score.scrollLeft = placeAt(seconds) - AHEAD * score.clientWidth;
  }

  roll.addEventListener("pointerdown", (event) => {
    const box = roll.getBoundingClientRect();
    seek(length() * (event.clientX - box.left) / box.width);
  });
  score.addEventListener("click", (event) => {
    if (!places.length) return;
    const at = event.clientX - score.getBoundingClientRect().left - score.clientLeft + score.scrollLeft;
    const before = places.filter(([, place]) => place <= at + 4).pop() || places[0];
    seek(piece.times[before[0]]);
  });
  window.addEventListener("resize", () => { if (cursor !== null) measure(); });
  return { draw, show, stepAt, length, reveal };
};
