// Draws one window of one series: the values before it, what came, the forecast with its intervals, and simple forecasts.
(function () {
  "use strict";
  const HEIGHT = 320;
  const data = chartTools.read("chart-data");
  const byId = (id) => document.getElementById(id);
  const plot = byId("chart-plot"), picker = byId("chart-series"), slider = byId("chart-window"), readout = byId("chart-readout");
  let drawn = null;

  const { axes, path, words } = chartTools;
  const element = (name, attributes, text) => chartTools.element(plot, name, attributes, text);

  function draw() {
    const series = data.series[Number(picker.value)];
    const shown = series.windows[Number(slider.value)];
    const before = shown.past.length, count = before + shown.times.length;
    const curves = [shown.past, shown.actual, shown.forecast, shown.reference, ...shown.low, ...shown.high];
    const known = curves.flat().filter((value) => value !== null);
    let low = Math.min(...known), high = Math.max(...known);
    const margin = 0.04 * (high - low) || Math.abs(high) || 1;
    low -= margin;
    high += margin;
    const frame = axes(plot, HEIGHT, low, high, count), { x, y, top, bottom } = frame;

    const last = before ? [shown.past[before - 1]] : [], start = before - last.length;
    shown.low.forEach((bound, level) => {
      const there = path([...last, ...bound], start, x, y);
      const back = path([...last, ...shown.high[level]].reverse(), 0, (at) => x(count - 1 - at), y).replace("M", "L");
      if (there && back) element("path", { d: `${there}${back}Z`, class: "chart-band" });
    });
    if (before) element("line", { x1: x(before - 1), x2: x(before - 1), y1: top, y2: bottom, class: "chart-origin" });
    element("path", { d: path([...last, ...shown.reference], start, x, y), class: "chart-line chart-reference" });
    element("path", { d: path([...shown.past, ...shown.actual], 0, x, y), class: "chart-line chart-actual" });
    element("path", { d: path([...last, ...shown.forecast], start, x, y), class: "chart-line chart-forecast" });
    const ends = [[0, "start"], [shown.times.length - 1, "end"]];
    // The words of both would lie on each other at the end of a short forecast.
    const apart = x(count - 1) - x(before) > 16 * shown.times[0].length;
    for (const [at, anchor] of apart ? ends : ends.slice(1)) {
      element("text", { x: x(before + at), y: HEIGHT - 8, "text-anchor": anchor }, shown.times[at]);
    }
    const cursor = element("line", { y1: top, y2: bottom, class: "chart-cursor" });
    cursor.style.display = "none";
    drawn = { shown, before, frame, cursor };
    readout.textContent = `${series.name}${series.name ? ": " : ""}forecast of ${shown.times[0]} to ${shown.times[shown.times.length - 1]}`;
  }

  function tell(event) {
    const { shown, before, frame, cursor } = drawn;
    const at = Math.max(before, frame.nearest(event)), step = at - before;
    cursor.setAttribute("x1", frame.x(at));
    cursor.setAttribute("x2", frame.x(at));
    cursor.style.display = "";
    const intervals = data.levels.map((level, of) => `${level} % ${words(shown.low[of][step])} to ${words(shown.high[of][step])}`);
    const values = [`actual ${words(shown.actual[step])}`, `forecast ${words(shown.forecast[step])}`,
      `${data.reference} ${words(shown.reference[step])}`, ...intervals];
    readout.textContent = `${shown.times[step]}: ${values.join(", ")}`;
  }

  data.series.forEach((series, number) => picker.add(new Option(series.label, String(number))));
  // The last window of a series is the one that a reader knows best.
  function pick() {
    const windows = data.series[Number(picker.value)].windows;
    slider.max = String(windows.length - 1);
    slider.value = slider.max;
    slider.parentElement.hidden = windows.length < 2;
    draw();
  }

  picker.addEventListener("change", pick);
  slider.addEventListener("input", draw);
  plot.addEventListener("pointermove", tell);
  plot.addEventListener("pointerdown", tell);
  window.addEventListener("resize", draw);
  picker.parentElement.hidden = data.series.length < 2;
  pick();
})();
