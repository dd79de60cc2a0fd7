const D = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const MOST_ROWS = 1000;

// --- theme
const themeBox = document.getElementById("theme");
const setTheme = name => {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  redraw();
};
themeBox.addEventListener("change", () => { setTheme(themeBox.value); try { localStorage.setItem("bench-theme", themeBox.value); } catch { /* a file may have no storage */ } });
try { themeBox.value = localStorage.getItem("bench-theme") || "auto"; } catch { themeBox.value = "auto"; }
setTheme(themeBox.value || "auto");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let before = null;
addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; document.documentElement.dataset.theme = "light"; printing = true; [...waiting.keys()].forEach(drawNow); redraw(); });
addEventListener("afterprint", () => { printing = false; setTheme(before || "auto"); });

// --- verdict table
const many = D.runs.length > 1;
const repeated = D.points.some(p => p.rep > 1);
const complaint = p => p.verdict === "PASSED" ? "" : p.messages.join(" · ");
const COLUMNS = [
  many && { key: "run", name: "run", text: true, of: p => D.runs[p.run] },
  { key: "point", name: "point", text: true, of: p => p.id, link: true },
  { key: "isl", name: "ISL", of: p => p.isl }, { key: "osl", name: "OSL", of: p => p.osl }, { key: "conc", name: "conc", of: p => p.conc },
  repeated && { key: "rep", name: "repeat", of: p => p.rep },
  { key: "verdict", name: "verdict", text: true, of: p => p.verdict, verdict: true },
  { key: "n", name: "n", of: p => p.n }, { key: "failed", name: "failed", of: p => p.failed },
  ...D.columns.map(({ key, name, unit }) => ({ key, name, of: p => p.metrics[key] ?? null, show: unit === "s" ? time : number })),
  { key: "input", name: `input ${D.rate}`, of: p => p.input, show: number }, { key: "output", name: `output ${D.rate}`, of: p => p.output, show: number },
  // of a point that passed, the messages say only what held: they stand in its own section
  D.points.some(complaint) && { key: "message", name: "message", text: true, of: complaint, message: true },
].filter(Boolean);
const sorting = { column: null, down: false };
const filters = { text: "", verdict: "", isl: "", run: "" };
const body = el("tbody");
const status = el("p", { class: "note", role: "status", id: "shown" });

function rows() {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  let kept = D.points.map((point, at) => ({ point, at })).filter(({ point }) =>
    (!filters.verdict || point.verdict === filters.verdict) && (!filters.isl || point.isl === Number(filters.isl)) &&
    (!filters.run || point.run === Number(filters.run)) &&
    words.every(w => `${point.id} ${point.verdict} ${D.runs[point.run]} ${point.model} ${point.engine} ${point.messages.join(" ")}`.toLowerCase().includes(w)));
  if (sorting.column) {
    const of = sorting.column.of, sign = sorting.down ? -1 : 1;
    kept.sort((a, b) => {
      const x = of(a.point), y = of(b.point);
      if (x === null || x === undefined || y === null || y === undefined) return (x === null || x === undefined) - (y === null || y === undefined);
      return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
    });
  }
  return kept;
}
function fill() {
  const kept = rows();
  body.replaceChildren(...kept.slice(0, MOST_ROWS).map(({ point, at }) => el("tr", { "data-at": at }, COLUMNS.map(column => {
    const value = column.of(point);
    const shown = value === null || value === undefined ? "" : column.show ? column.show(value) : String(value);
    return el("td", { class: [column.text && "text", column.message && "message", column.verdict && point.verdict].filter(Boolean).join(" ") || null },
      column.link ? el("a", { href: `#p${at}`, onclick: () => openPoint(at) }, shown) : shown);
  }))));
  status.textContent = `${kept.length} of ${D.points.length} results` + (kept.length > MOST_ROWS ? `; the first ${MOST_ROWS} are listed, filter to see others` : "");
}
const heads = COLUMNS.map(column => {
  const head = el("th", { scope: "col", class: column.text ? "text" : null, "aria-sort": "none", "data-key": column.key });
  head.append(el("button", { type: "button", onclick: () => {
    sorting.down = sorting.column === column && !sorting.down;
    sorting.column = column;
    heads.forEach(h => h.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
    fill();
  } }, column.name));
  return head;
});
const choice = (name, key, options) => el("label", {}, `${name} `, el("select", { id: `filter-${key}`, onchange: e => { filters[key] = e.target.value; fill(); } },
  el("option", { value: "" }, "all"), options.map(([value, text]) => el("option", { value }, text))));
const unique = of => [...new Set(D.points.map(of))];
function tableSection() {
  const counts = unique(p => p.verdict).map(v => `${v}: ${D.points.filter(p => p.verdict === v).length}`).join(" · ");
  return el("section", { id: "verdicts", tabindex: -1, "aria-label": "Verdicts" }, el("h2", {}, "Verdicts"), el("p", {}, counts),
    el("div", { class: "filters" },
      el("label", {}, "Filter ", el("input", { id: "filter-text", type: "search", placeholder: "isl4096 conc16", oninput: e => { filters.text = e.target.value; fill(); } })),
      choice("Verdict", "verdict", unique(p => p.verdict).map(v => [v, v])),
      choice("ISL", "isl", unique(p => p.isl).filter(isl => isl !== null).sort((a, b) => a - b).map(v => [v, v.toLocaleString("en")])),
      many ? choice("Run", "run", D.runs.map((name, i) => [i, name])) : null),
    status, el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "verdict table" },
      el("table", { id: "table" }, el("thead", {}, el("tr", {}, heads)), body)));
}

// --- points not measured
function errorSection(verdict, id, heading) {
  const errors = D.points.map((p, at) => [p, at]).filter(([p]) => p.verdict === verdict);
  if (!errors.length) return null;
  return el("section", { class: "todo", id }, el("h2", {}, `${heading}: ${errors.length}, and what to do`),
    el("ul", {}, errors.slice(0, 100).map(([p, at]) => el("li", {}, el("a", { href: `#p${at}`, onclick: () => openPoint(at) }, many ? `${D.runs[p.run]}: ${p.id}` : p.id),
      p.messages.length ? `: ${p.messages.join(" · ")} ` : " ", p.advice.map(a => el("div", {}, "→ ", a))))));
}

// --- one section a point, built when it is opened
const facts = list => el("table", { class: "facts" }, el("tbody", {}, list.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([k, v]) =>
  el("tr", {}, el("th", { scope: "row" }, k), el("td", {}, v)))));
const grid = (heads, rows) => el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": heads.join(", ") }, el("table", {}, el("thead", {}, el("tr", {}, heads.map(h => el("th", { class: "text", scope: "col" }, h)))),
  el("tbody", {}, rows.map(row => el("tr", {}, row.map((v, i) => el("td", { class: i === row.length - 1 ? "text message" : "text" }, v)))))));
const PHASES = { "warm-up": "--orange", "steady state": "--green", drain: "--grey" };
function curves(c) {
  const panels = c.distribution.map(d => ({ title: d.metric, x: `${d.metric} (s, log scale)`, y: d.metric === "ITL" ? "share of gaps" : "share of requests", xlog: true, height: 300, traces: [
    { name: `${d.n} ${d.metric === "ITL" ? "gaps" : "requests"}`, x: d.x, y: d.share, hover: d.x.map((x, i) => `${(d.share[i] * 100).toFixed(1)} % took at most ${time(x)}`), role: "blue", steps: true, lines: true, at: [] },
    { name: `p50 ${time(d.p50)}, p99 ${time(d.p99)}`, x: [d.p50, d.p99], y: [0.5, 0.99], hover: [`p50 ${time(d.p50)}`, `p99 ${time(d.p99)}`], role: "red", at: [] }] }));
  const t = c.timeline;
  if (t) {
    const shapes = t.phases.map(([name, x0, x1]) => ({ type: "rect", x0, x1, y0: 0, y1: 1, yref: "paper", layer: "below", opacity: 0.16, line: { width: 0 }, fillcolor: css(PHASES[name]), label: { text: name, textposition: "top left", font: { size: 10, color: css("--ink") } } }));
    const x = "time since the first measured request (s)";
    panels.push({ title: "Requests running", x, y: "requests running", height: 280, shapes, traces: [{ name: "running", x: t.t, y: t.running, hover: t.t.map((v, i) => `${number(v)} s: ${t.running[i]} running`), role: "blue", steps: true, lines: true, at: [] }] });
    panels.push({ title: "Requests sent", x, y: `requests per ${time(t.bin)}`, height: 280, shapes, traces: [{ name: "sent", x: t.at, y: t.arrivals, hover: t.at.map((v, i) => `${number(v)} s: ${t.arrivals[i]} sent`), role: "orange", bar: true, at: [] }] });
    panels.push({ title: "Output tokens per second", x, y: "output tok/s", height: 280, shapes, traces: [{ name: "tokens/s", x: t.at, y: t.tokens, hover: t.at.map((v, i) => `${number(v)} s: ${number(t.tokens[i])} tok/s`), role: "green", steps: true, lines: true, at: [] }] });
    if (t.inStep.length) panels.push({ title: `In step: ${t.waves}`, x, y: "in step, 0 to 1", height: 280, shapes, traces: [
      { name: "in step", x: t.at, y: t.inStep, hover: t.at.map((v, i) => `${number(v)} s: ${t.inStep[i] === null ? "nothing in flight" : `${(t.inStep[i] * 100).toFixed(0)} % in step`}`), role: "blue", steps: true, lines: true, at: [] },
      { name: "independent streams", x: [t.at[0], t.at[t.at.length - 1]], y: [t.independent, t.independent], hover: ["1/√concurrency", "1/√concurrency"], role: "red", lines: true, at: [] }] });
  }
  return el("div", { class: "panels" }, panels.map(panelBox));
}
function pointBody(p) {
  const out = [facts([["verdict", p.verdict], ["run", many ? `${D.runs[p.run]}, repeat ${p.rep}` : p.rep], ["model", p.model], ["engine", p.engine], ["GPUs", p.gpus ?? "not stated"], ["simulated", p.simulated ? "SIMULATED server" : null], ["date", p.date], ["file", p.file], ["waves", p.curves && p.curves.timeline ? p.curves.timeline.waves : p.waves], ["SLO", p.slo.map(([m, l]) => `${(D.labels[m] || [m])[0]} ≤ ${/^(energy|avg_power|j_per|cost)_/.test(m) ? number(l) : time(l)}`).join(", ")]])];
  if (p.messages.length) out.push(el("h3", {}, "Messages"), el("ul", {}, p.messages.map(m => el("li", {}, m))));
  if (p.story.length) out.push(el("h3", {}, "Where the time went"), el("ul", {}, p.story.map(s => el("li", {}, s))));
  if (p.advice.length) out.push(el("h3", {}, "What to do"), el("ul", {}, p.advice.map(a => el("li", {}, a))));
  if (p.checks.length) out.push(el("h3", {}, `Validity: ${p.checks.length} checks made${p.notMade.length ? `, ${p.notMade.length} not made` : ""}`),
    grid(["check", "figure", "passed", "in words"], p.checks));
  if (p.notMade.length) out.push(el("h3", {}, "Checks that were not made"), grid(["check", "why"], p.notMade));
  const metrics = Object.entries(p.metrics);
  const shown = (k, v) => (D.labels[k] || ["", ""])[1] === "s" ? time(v) : `${number(v)} ${(D.labels[k] || ["", ""])[1]}`.trim();
  if (metrics.length) out.push(el("h3", {}, "Figures"), facts(metrics.map(([k, v]) => [(D.labels[k] || [k])[0], shown(k, v) + (p.intervals[k] ? ` (95 % interval ${shown(k, p.intervals[k][0])} ${p.intervals[k][1] === null ? "and up" : `to ${shown(k, p.intervals[k][1])}`})` : "")])));
  if (p.curves) out.push(curves(p.curves));
  for (const [name, part] of Object.entries(p.raw)) out.push(el("h3", {}, name), el("pre", { tabindex: 0 }, JSON.stringify(part, null, 1)));
  return out;
}
const sections = D.points.slice(0, MOST_ROWS).map((p, at) => {
  const box = el("details", { id: `p${at}` }, el("summary", {}, `${many ? `${D.runs[p.run]}: ` : ""}${p.id}${p.rep > 1 ? ` (repeat ${p.rep})` : ""}: `, el("span", { class: p.verdict }, p.verdict)));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(...pointBody(p)); });
  return box;
});
function openPoint(at) {
  const box = sections[at];
  if (!box) return;
  if (box.children.length === 1) box.append(...pointBody(D.points[at]));
  box.open = true;
  box.scrollIntoView({ block: "start" });
  box.querySelector("summary").focus({ preventScroll: true });
}

// --- the page
const groupBox = el("div", { id: "group" });
function showGroup(i) {
  const group = D.groups[i];
  const latency = group.charts.filter(c => c.id.startsWith("latency-"));
  const place = el("div");
  const pick = latency.length > 1 ? el("label", {}, "ISL ", el("select", { id: "latency-isl", onchange: e => place.replaceChildren(chartBox(latency[e.target.value])) },
    latency.map((c, at) => el("option", { value: at }, c.title.replace(/^.*ISL /, ""))))) : null;
  if (latency.length) place.append(chartBox(latency[0]));
  groupBox.replaceChildren(el("p", { class: "note" }, many ? `${D.runs[group.run]}: ` : "", group.caption),
    ...group.charts.filter(c => !c.id.startsWith("latency-") && c.id !== "verdicts").map(chartBox), el("div", {}, el("div", { class: "filters" }, pick), place),
    ...group.charts.filter(c => c.id === "verdicts").map(chartBox));
}
const groupPick = D.groups.length > 1 ? el("div", { class: "filters" }, el("label", {}, "Charts of ", el("select", { id: "group-pick", onchange: e => showGroup(e.target.value) },
  D.groups.map((g, i) => el("option", { value: i }, many ? `${D.runs[g.run]}: ${g.title}` : g.title))))) : null;
main.append(...[
  D.simulated ? el("p", { class: "simulated" }, "SIMULATED: these figures come, in whole or part, from a simulated server and say nothing about any hardware.") : null,
  ...(D.captions.length ? D.captions : D.groups.slice(0, 6).map(g => g.caption)).map(c => el("p", { class: "note" }, c)),
  D.source ? el("p", { class: "note" }, D.source) : null,
  D.against.length ? el("section", { id: "against" }, el("h2", {}, "Against the baseline"), el("ul", {}, D.against.map(n => el("li", {}, n)))) : null,
  ...D.decisions.map(d => el("section", { class: "decision" }, el("h2", {}, `For this SLO take that configuration${many ? `: ${D.runs[d.run]}` : ""} · ${d.title}`), el("p", { class: "note" }, d.note),
    grid(d.columns, d.rows), d.starts.length ? grid(["configuration", "start of the server"], d.starts) : null)),
  tableSection(), errorSection("ERROR", "errors", "Not measured"), errorSection("open", "left-open", "Verdicts left open"), D.compare ? chartBox(D.compare) : null, groupPick, groupBox,
  el("section", { id: "points" }, el("h2", {}, "Points"), sections),
  D.leftOut.length ? el("section", { id: "left-out" }, el("h2", {}, `Files left out: ${D.leftOut.length}`), el("ul", {}, D.leftOut.map(l => el("li", {}, `${l.file}: ${l.reason}`)))) : null,
  D.notes.length ? el("ul", { class: "note" }, D.notes.map(n => el("li", {}, n))) : null,
].filter(Boolean));
fill();
if (D.groups.length) showGroup(0);
const followHash = () => { const m = /^#p(\d+)$/.exec(location.hash); if (m) openPoint(Number(m[1])); };
addEventListener("hashchange", followHash);
followHash();
document.documentElement.dataset.ready = "yes";
