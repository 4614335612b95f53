// Parts of every chart of the page: elements of a drawing, axes, lines with gaps, numbers in words.
const chartTools = (function () {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const LEFT = 64, RIGHT = 12, TOP = 12, BOTTOM = 30;

  function element(plot, name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    plot.appendChild(node);
    return node;
  }

  // Steps of 1, 2 or 5 times a power of ten, about five of them.
  function ticks(low, high) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const values = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) values.push(Number(tick.toPrecision(12)));
    return values;
  }

  // A gap where a value is not known.
  function path(values, first, x, y) {
    let pen = "M", line = "";
    values.forEach((value, at) => {
      if (value === null) { pen = "M"; return; }
      line += `${pen}${x(first + at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    return line;
  }

  const words = (value) => (value === null ? "unknown" : String(Number(value.toPrecision(5))));
  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  // The empty axes of a plot, with grid lines: where a place of `count` and a value lie, and the place that a pointer is nearest to.
  function axes(plot, height, low, high, count, suffix = "") {
    // In pixels of the screen, so that the words of a small chart can be read.
    const width = Math.max(280, plot.clientWidth);
    const left = LEFT, right = width - RIGHT, top = TOP, bottom = height - BOTTOM;
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.replaceChildren();
    const x = (at) => left + (right - left) * (count > 1 ? at / (count - 1) : 0.5);
    const y = (value) => bottom - (bottom - top) * (value - low) / (high - low);
    for (const tick of ticks(low, high)) {
      element(plot, "line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "chart-grid" });
      element(plot, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, `${words(tick)}${suffix}`);
    }
    const nearest = (event) => {
      const box = plot.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * width - left) / (right - left);
      return Math.max(0, Math.min(count - 1, Math.round(share * (count - 1))));
    };
    return { x, y, nearest, left, right, top, bottom };
  }

  return { element, axes, path, words, read };
})();
