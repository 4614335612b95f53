// Parts of every chart of the page: elements of a drawing, ticks of an axis, lines with gaps, numbers in words.
const chartTools = (function () {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";

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
  return { element, ticks, path, words, read };
})();
