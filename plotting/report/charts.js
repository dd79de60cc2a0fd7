// Draws what charts.py describes. plotly reads a little markup in its texts, so each is escaped before it gets there.
const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const hoverText = text => plain(text).replace(/\n/g, "<br>");
const RAMP = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121],
  [110, 206, 88], [181, 222, 43], [253, 231, 37]];
const isDark = () => {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const ramp = ([i, count], share = 1) => {
  // an order keeps clear of the paper's own lightness: no yellow on white, no violet on black
  const [from, to] = isDark() && !printing ? [0.34, 1] : [0, 0.82];
  const at = (from + (to - from) * (count > 1 ? i / (count - 1) : 0)) * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(at));
  const mixed = RAMP[low].map((v, c) => Math.round(v + (RAMP[low + 1][c] - v) * (at - low)));
  // a tint is opaque: bands that lie over each other must not mix into a third colour
  const paper = isDark() && !printing ? [22, 24, 27] : [255, 255, 255];
  return `rgb(${mixed.map((v, c) => Math.round(v * share + paper[c] * (1 - share))).join(",")})`;
};
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x"];
let printing = false;
const colour = trace => trace.order ? ramp(trace.order) : css(`--${trace.role || "blue"}`);

function toPlotly(trace, place) {
  const shade = colour(trace);
  const made = {
    type: "scatter", name: plain(trace.name), x: trace.x, y: trace.y, text: trace.hover.map(hoverText), customdata: trace.at,
    hovertemplate: "%{text}<extra></extra>", connectgaps: false, mode: trace.lines ? "lines+markers" : "markers",
    line: { color: shade, width: 2, dash: trace.dash ? "dash" : "solid", shape: trace.step ? "hv" : "linear" },
    marker: { color: shade, size: trace.dash ? 1 : trace.lines ? 7 : 8,
      symbol: (trace.order ? SYMBOLS[trace.order[0] % 7] : SYMBOLS[(trace.mark || 0) % 7]) + (trace.hollow ? "-open" : "") },
  };
  if (trace.steps) { made.mode = "lines"; made.line.shape = "hv"; }
  if (trace.bar) Object.assign(made, { type: "bar", marker: { color: shade } });
  if (trace.fill) { made.fill = "tozeroy"; made.fillcolor = ramp(trace.order, 0.38); }
  const spread = (ends, middle) => ({ type: "data", symmetric: false, color: shade, thickness: 1.4,
    array: ends[1].map((v, i) => v === null ? 0 : v - middle[i]), arrayminus: ends[0].map((v, i) => v === null ? 0 : middle[i] - v) });
  if (trace.bars) made.error_y = spread(trace.bars, trace.y);
  if (trace.xbars && trace.xbars[0].some(v => v !== null)) made.error_x = spread(trace.xbars, trace.x);
  return made;
}

const STATES = ["", "measured", "ERROR", "open", "FAILED", "PASSED"];
function heat(cells) {
  const fills = [css("--paper"), css("--okfill"), css("--errorfill"), css("--openfill"), css("--failfill"), css("--passfill")];
  const scale = fills.flatMap((fill, i) => [[i / fills.length, fill], [(i + 1) / fills.length, fill]]);
  const sign = { PASSED: "✓ ", FAILED: "✗ ", ERROR: "! ", open: "? " };
  return { type: "heatmap", x: cells.x, y: cells.y, z: cells.state.map(row => row.map(s => STATES.indexOf(s) + 0.5)),
    zmin: 0, zmax: fills.length, colorscale: scale, showscale: false, xgap: 2, ygap: 2, hoverinfo: "text",
    text: cells.state.map((row, y) => row.map((s, x) => hoverText((sign[s] || "") + cells.text[y][x]))),
    texttemplate: cells.x.length <= 16 ? "%{text}" : "", textfont: { color: css("--ink"), size: 11 },
    hovertext: cells.hover.map(row => row.map(hoverText)), customdata: cells.at };
}

function layout(panel) {
  const axis = title => ({ title: { text: plain(title), font: { size: 13 } }, gridcolor: css("--grid"), zerolinecolor: css("--grid"),
    linecolor: css("--soft"), automargin: true });
  const made = { xaxis: axis(panel.x), yaxis: axis(panel.y), paper_bgcolor: css("--paper"), plot_bgcolor: css("--paper"),
    font: { color: css("--ink"), size: 12 }, margin: { l: 60, r: 15, t: 28, b: 50 }, showlegend: false, hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: css("--shade"), font: { color: css("--ink") } }, shapes: panel.shapes || [],
    height: panel.rows ? Math.max(340, 90 + 17 * panel.rows.length) : panel.height || 360, dragmode: "zoom", bargap: 0 };
  if (panel.ticks && panel.ticks.length) Object.assign(made.xaxis, { tickvals: panel.ticks, ticktext: panel.ticks.map(t => t.toLocaleString("en")) });
  if (panel.category) Object.assign(made.xaxis, { type: "category", categoryarray: panel.category });
  if (panel.cells) { made.xaxis.type = made.yaxis.type = "category"; made.xaxis.showgrid = made.yaxis.showgrid = false; }
  else if (!panel.rows) made.yaxis.rangemode = "tozero";
  if (panel.xlog) made.xaxis.type = "log";
  if (panel.rows) Object.assign(made.yaxis, { type: "category", categoryorder: "array", categoryarray: [...panel.rows].reverse(), tickfont: { size: 10 } });
  if (panel.one) made.shapes = [{ type: "line", x0: 1, x1: 1, y0: 0, y1: 1, yref: "paper", line: { color: css("--ink"), width: 1 } }];
  return made;
}

const drawn = new Set();
const waiting = new Map();
const seen = new IntersectionObserver(entries => entries.forEach(e => e.isIntersecting && drawNow(e.target)), { rootMargin: "300px" });

function drawNow(box) {
  const panel = waiting.get(box);
  if (!panel) return;
  waiting.delete(box);
  seen.unobserve(box);
  box.panel = panel;
  drawn.add(box);
  Plotly.newPlot(box, panel.cells ? [heat(panel.cells)] : panel.traces.map(toPlotly), layout(panel),
    { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"], scrollZoom: false });
  box.on("plotly_click", event => { const at = event.points[0].customdata; if (at !== null && at !== undefined) openPoint(at); });
}
function redraw() {
  for (const box of drawn) {
    if (!box.isConnected) { drawn.delete(box); continue; }
    const visible = box.data.map(t => t.visible);
    const traces = box.panel.cells ? [heat(box.panel.cells)] : box.panel.traces.map(toPlotly);
    traces.forEach((t, i) => { t.visible = visible[i]; });
    Plotly.react(box, traces, layout(box.panel));
    box.parentNode.querySelectorAll(".swatch").forEach((s, i) => { s.style.background = colour(box.panel.traces[i]); });
  }
}

function zoom(box, factor) {
  if (factor === null) return Plotly.relayout(box, { "xaxis.autorange": true, "yaxis.autorange": true });
  const change = {};
  for (const name of ["xaxis", "yaxis"]) {
    const [low, high] = box._fullLayout[name].range.map(Number);
    const middle = (low + high) / 2;
    change[`${name}.range`] = [middle - (middle - low) * factor, middle + (high - middle) * factor];
  }
  return Plotly.relayout(box, change);
}

// Left and right walk through the points of a focused chart, Enter opens the point: hovering without a mouse.
function walk(event, box) {
  const spots = [];
  box.data.forEach((t, curve) => { if (t.visible !== false && t.type !== "heatmap") t.x.forEach((_, i) => t.y[i] !== null && spots.push([curve, i])); });
  if (!spots.length || !["ArrowLeft", "ArrowRight", "Enter"].includes(event.key)) return;
  event.preventDefault();
  if (event.key === "Enter") {
    const [curve, i] = spots[box.spot || 0];
    const at = (box.data[curve].customdata || [])[i];
    if (at !== null && at !== undefined) openPoint(at);
    return;
  }
  box.spot = ((box.spot === undefined ? -1 : box.spot) + (event.key === "ArrowRight" ? 1 : spots.length - 1) + spots.length) % spots.length;
  const [curve, i] = spots[box.spot];
  Plotly.Fx.hover(box, [{ curveNumber: curve, pointNumber: i }]);
  box.setAttribute("aria-label", box.panel.traces[curve].hover[i] || box.panel.traces[curve].name);
}

function panelBox(panel) {
  const box = el("div", { class: "plot", tabindex: 0, role: "group", "aria-label": `${panel.title || panel.y || panel.x}: arrow keys walk through the points` });
  box.style.minHeight = `${panel.rows ? Math.max(340, 90 + 17 * panel.rows.length) : panel.height || 360}px`;
  box.addEventListener("keydown", event => walk(event, box));
  const buttons = el("div", { class: "zoom" },
    el("button", { type: "button", title: "zoom in", "aria-label": "zoom in", onclick: () => zoom(box, 0.6) }, "+"),
    el("button", { type: "button", title: "zoom out", "aria-label": "zoom out", onclick: () => zoom(box, 1 / 0.6) }, "−"),
    el("button", { type: "button", title: "show all", "aria-label": "show all", onclick: () => zoom(box, null) }, "all"));
  const series = panel.traces.length > 1 && panel.traces.length <= 40 ? el("fieldset", { class: "series" }, el("legend", {}, "Series"),
    panel.traces.map((trace, i) => {
      const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = colour(trace);
      return el("label", {}, el("input", { type: "checkbox", checked: true, onchange: event => {
        drawNow(box);
        Plotly.restyle(box, { visible: event.target.checked }, [i]);
      } }), swatch, trace.name);
    })) : null;
  waiting.set(box, panel);
  seen.observe(box);
  return el("div", { class: "panel" }, panel.cells ? null : buttons, panel.title ? el("h3", {}, panel.title) : null, box, series);
}
const chartBox = chart => el("section", { id: `chart-${chart.id}`, "aria-label": chart.title }, el("h2", {}, chart.title),
  chart.note ? el("p", { class: "note" }, chart.note) : null, el("div", { class: "panels" }, chart.panels.map(panelBox)));
