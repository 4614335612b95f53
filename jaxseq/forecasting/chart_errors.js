// Draws errors and coverage in the groups that the reader chooses: steps of the horizon, series, places in the season.
(function () {
  "use strict";
  const { element, axes, path, words, read } = chartTools;
  const ERRORS = 230, COVERAGE = 150, LABEL = 70;
  const data = read("errors-data");
  const byId = (id) => document.getElementById(id);
  const picker = byId("errors-kind"), readout = byId("errors-readout"), plots = [byId("errors-plot"), byId("coverage-plot")];
  const series = byId("chart-series");
  let drawn = null;

  // As many names as there is room for; those of series are told on pointing at them.
  function label(plot, kind, height, frame) {
    const count = kind.groups.length, every = Math.ceil(count * LABEL / (frame.right - frame.left));
    kind.groups.forEach((name, at) => {
      if (kind.ordered && at % every === 0) {
        const anchor = at === 0 ? "start" : at === count - 1 ? "end" : "middle";
        element(plot, "text", { x: frame.x(at), y: height - 8, "text-anchor": anchor }, name);
      }
    });
    if (!kind.ordered) element(plot, "text", { x: frame.left, y: height - 8 }, "the worst beside the reference first");
  }

  function marks(plot, values, { x, y }, look, ordered) {
    if (ordered) element(plot, "path", { d: path(values, 0, x, y), class: `chart-line ${look}` });
    values.forEach((value, at) => {
      if (value !== null) element(plot, "circle", { cx: x(at), cy: y(value), r: ordered ? 2.5 : 3.5, class: `errors-dot ${look}` });
    });
  }

  function draw() {
    const kind = data.kinds[Number(picker.value)], count = kind.groups.length;
    const errors = [...kind.error, ...kind.reference].filter((value) => value !== null);
    const top = axes(plots[0], ERRORS, 0, 1.05 * Math.max(...errors) || 1, count);
    marks(plots[0], kind.reference, top, "chart-reference", kind.ordered);
    marks(plots[0], kind.error, top, "chart-forecast", kind.ordered);
    label(plots[0], kind, ERRORS, top);
    plots[1].style.display = data.levels.length ? "" : "none";
    const below = axes(plots[1], COVERAGE, 0, 100, count, " %");
    data.levels.forEach((level, number) => {
      element(plots[1], "line", { x1: below.left, x2: below.right, y1: below.y(level), y2: below.y(level), class: "errors-nominal" });
      marks(plots[1], kind.covered[number], below, "chart-forecast", kind.ordered);
    });
    label(plots[1], kind, COVERAGE, below);
    drawn = { kind, frames: [top, below] };
    readout.textContent = `${data.measure} of the forecast and of ${data.reference}, by ${kind.name}`;
  }

  function tell(at) {
    const { kind } = drawn;
    const covered = data.levels.map((level, number) => `${level} % interval covers ${words(kind.covered[number][at])} %`);
    const errors = [`${data.measure} ${words(kind.error[at])}`, `${data.reference} ${words(kind.reference[at])}`];
    readout.textContent = `${kind.name} ${kind.groups[at]}: ${[...errors, ...covered].join(", ")}`;
  }

  // A series that is chosen here is shown in the chart of forecasts.
  function choose(at) {
    if (drawn.kind.ordered) return;
    series.value = String(at);
    series.dispatchEvent(new Event("change"));
  }

  data.kinds.forEach((kind, number) => picker.add(new Option(kind.name, String(number))));
  picker.parentElement.hidden = data.kinds.length < 2;
  picker.addEventListener("change", draw);
  window.addEventListener("resize", draw);
  plots.forEach((plot, number) => {
    const nearest = (event) => drawn.frames[number].nearest(event);
    plot.addEventListener("pointermove", (event) => tell(nearest(event)));
    plot.addEventListener("pointerdown", (event) => { tell(nearest(event)); choose(nearest(event)); });
  });
  draw();
})();
