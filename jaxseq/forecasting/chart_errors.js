// Draws errors and coverage in the groups that the reader chooses: steps of the horizon, series, places in the season.
(function () {
  "use strict";
  const { element, ticks, path, words, read } = chartTools;
  const LEFT = 64, RIGHT = 12, TOP = 12, BOTTOM = 30, ERRORS = 230, COVERAGE = 150, LABEL = 70;
  const data = read("errors-data");
  const byId = (id) => document.getElementById(id);
  const picker = byId("errors-kind"), readout = byId("errors-readout"), plots = [byId("errors-plot"), byId("coverage-plot")];
  const series = byId("chart-series");
  let drawn = null;

  // The axes of one plot; returns where a value lies.
  function axes(plot, height, low, high, count, suffix) {
    const width = Math.max(280, plot.clientWidth);
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.replaceChildren();
    const x = (at) => LEFT + (width - LEFT - RIGHT) * (count > 1 ? at / (count - 1) : 0.5);
    const y = (value) => height - BOTTOM - (height - TOP - BOTTOM) * (value - low) / (high - low);
    for (const tick of ticks(low, high)) {
      element(plot, "line", { x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick), class: "chart-grid" });
      element(plot, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, `${words(tick)}${suffix}`);
    }
    return { x, y, width };
  }

  // As many names as there is room for; those of series are told on pointing at them.
  function label(plot, kind, height, x, width) {
    const count = kind.groups.length, every = Math.ceil(count * LABEL / (width - LEFT - RIGHT));
    kind.groups.forEach((name, at) => {
      if (kind.ordered && at % every === 0) {
        const anchor = at === 0 ? "start" : at === count - 1 ? "end" : "middle";
        element(plot, "text", { x: x(at), y: height - 8, "text-anchor": anchor }, name);
      }
    });
    if (!kind.ordered) element(plot, "text", { x: LEFT, y: height - 8 }, "the worst beside the reference first");
  }

  function marks(plot, values, x, y, look, ordered) {
    if (ordered) element(plot, "path", { d: path(values, 0, x, y), class: `chart-line ${look}` });
    values.forEach((value, at) => {
      if (value !== null) element(plot, "circle", { cx: x(at), cy: y(value), r: ordered ? 2.5 : 3.5, class: `errors-dot ${look}` });
    });
  }

  function draw() {
    const kind = data.kinds[Number(picker.value)], count = kind.groups.length;
    const errors = [...kind.error, ...kind.reference].filter((value) => value !== null);
    const top = axes(plots[0], ERRORS, 0, 1.05 * Math.max(...errors) || 1, count, "");
    marks(plots[0], kind.reference, top.x, top.y, "chart-reference", kind.ordered);
    marks(plots[0], kind.error, top.x, top.y, "chart-forecast", kind.ordered);
    label(plots[0], kind, ERRORS, top.x, top.width);
    plots[1].style.display = data.levels.length ? "" : "none";
    const below = axes(plots[1], COVERAGE, 0, 100, count, " %");
    data.levels.forEach((level, number) => {
      element(plots[1], "line", { x1: LEFT, x2: below.width - RIGHT, y1: below.y(level), y2: below.y(level), class: "errors-nominal" });
      marks(plots[1], kind.covered[number], below.x, below.y, "chart-forecast", kind.ordered);
    });
    label(plots[1], kind, COVERAGE, below.x, below.width);
    drawn = { kind, x: top.x, width: top.width };
    readout.textContent = `${data.measure} of the forecast and of ${data.reference}, by ${kind.name}`;
  }

  function place(event, plot) {
    const box = plot.getBoundingClientRect(), { kind, width } = drawn, count = kind.groups.length;
    const share = ((event.clientX - box.left) / box.width * width - LEFT) / (width - LEFT - RIGHT);
    return Math.max(0, Math.min(count - 1, Math.round(share * (count - 1))));
  }

  function tell(event, plot) {
    const at = place(event, plot), { kind } = drawn;
    const covered = data.levels.map((level, number) => `${level} % interval covers ${words(kind.covered[number][at])} %`);
    const errors = [`${data.measure} ${words(kind.error[at])}`, `${data.reference} ${words(kind.reference[at])}`];
    readout.textContent = `${kind.name} ${kind.groups[at]}: ${[...errors, ...covered].join(", ")}`;
  }

  // A series that is chosen here is shown in the chart of forecasts.
  function choose(event, plot) {
    const { kind } = drawn;
    if (kind.ordered) return;
    series.value = String(place(event, plot));
    series.dispatchEvent(new Event("change"));
  }

  data.kinds.forEach((kind, number) => picker.add(new Option(kind.name, String(number))));
  picker.parentElement.hidden = data.kinds.length < 2;
  picker.addEventListener("change", draw);
  window.addEventListener("resize", draw);
  for (const plot of plots) {
    plot.addEventListener("pointermove", (event) => tell(event, plot));
    plot.addEventListener("pointerdown", (event) => { tell(event, plot); choose(event, plot); });
  }
  draw();
})();
