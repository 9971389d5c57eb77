"use strict";
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const TURN = 2 * Math.PI;

  // Elements are made with textContent only, so nothing in the data can become markup.
  function add(parent, name, attributes = {}, text = null) {
    const made = parent.namespaceURI === SVG || name === "svg"
      ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    parent.appendChild(made);
    return made;
  }

  function scores() {
    const table = byId("scores");
    const head = add(add(table, "thead"), "tr");
    for (const name of ["", ...report.columns]) add(head, "th", { scope: "col" }, name);
    const body = add(table, "tbody");
    for (const row of report.rows) {
      const line = add(body, "tr", row.control ? { class: "control" } : {});
      for (const cell of [row.name, ...row.cells]) add(line, "td", {}, cell);
    }
    for (const note of report.notes) add(byId("notes"), "li", {}, note);
  }

  function ticks(high, wanted) {
    const rough = high / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const out = [];
    for (let t = 0; t <= high + 1e-9; t += step) out.push(t);
    return out;
  }

  function curves() {
    const drawn = report.curves.filter((curve) => curve.points.length);
    if (!drawn.length) { byId("curves-section").hidden = true; return; }
    const width = 760, height = 300, left = 46, right = 150, top = 30, bottom = 46;
    const last = Math.max(...drawn.flatMap((c) => c.points.map((p) => p[0])), 1);
    const x = (s) => left + (width - left - right) * s / last;
    const y = (v) => height - bottom - (height - top - bottom) * v / 100;
    const svg = add(byId("curves"), "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Learning curves" });
    for (const v of [0, 25, 50, 75, 100]) {
      add(svg, "line", { x1: left, x2: width - right, y1: y(v), y2: y(v), stroke: "#d7dce1" });
      add(svg, "text", { x: left - 8, y: y(v) + 4, "text-anchor": "end", fill: "#5b6570" }, v);
    }
    for (const t of ticks(last, 6)) {
      add(svg, "text", { x: x(t), y: height - bottom + 18, "text-anchor": "middle", fill: "#5b6570" }, t >= 10 ? Math.round(t) : t);
    }
    add(svg, "text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle", fill: "#5b6570" }, "seconds of training");
    add(svg, "text", { x: 4, y: 13, fill: "#5b6570" }, report.score);
    const labels = drawn.map((curve) => ({ curve, y: y(curve.points.at(-1)[1]) })).sort((a, b) => a.y - b.y);
    labels.forEach((label, i) => { if (i) label.y = Math.max(label.y, labels[i - 1].y + 17); });
    for (const { curve, y: at } of labels) {
      const way = curve.points.map((p) => `${x(p[0])},${y(p[1])}`).join(" ");
      add(svg, "polyline", { points: way, fill: "none", stroke: curve.colour, "stroke-width": 2.5 });
      for (const p of curve.points) add(svg, "circle", { cx: x(p[0]), cy: y(p[1]), r: 3, fill: curve.colour });
      add(svg, "text", { x: width - right + 10, y: at + 4, fill: curve.colour }, curve.name);
    }
  }

  // --- walks ---------------------------------------------------------------------------------

  const state = { episode: 0, walker: 0, step: 0 };
  const episode = () => report.episodes[state.episode];
  const walk = () => episode().walks[state.walker];
  const plan = () => report.plans[episode().scan];
  const decision = () => walk().decisions[state.step];

  function instruction() {
    const line = byId("instruction"), weights = decision().words;
    line.replaceChildren();
    const words = joined(episode().pieces, weights);
    const shares = prominence(words.map((word) => word.weight));
    words.forEach((word, i) => {
      if (word.space) line.append(" ");
      const span = add(line, "span", {}, word.text);
      const share = weights.length ? shares[i] : 0;
      if (share > 0.04) span.style.background = `rgba(255, 196, 0, ${(0.75 * share).toFixed(3)})`;
      if (weights.length) span.title = `attention ${(100 * word.weight).toFixed(1)}%`;
    });
  }

  // How far each weight stands out above even attention: 1 the most, 0 what is even or below.
  function prominence(weights) {
    const even = weights.reduce((sum, weight) => sum + weight, 0) / Math.max(1, weights.length);
    const top = Math.max(...weights) - even;
    return weights.map((weight) => (top > 0.25 * even ? Math.max(0, (weight - even) / top) : 0));
  }

  // Word pieces become words again; [CLS] and [SEP] are not shown.
  function joined(pieces, weights) {
    const words = [];
    pieces.forEach((piece, i) => {
      if (/^\[.*\]$/.test(piece)) return;
      const weight = weights[i] ?? 0, glued = piece.startsWith("##");
      const text = glued ? piece.slice(2) : piece;
      if (glued && words.length) { words.at(-1).text += text; words.at(-1).weight += weight; return; }
      const tight = /^[.,;:!?'’)-]$/.test(text) || /['’-]$/.test(words.at(-1)?.text ?? "");
      words.push({ text, weight, space: words.length > 0 && !tight });
    });
    words.forEach((word, i) => {
      if (i && !/^[.!?]$/.test(words[i - 1].text)) return;
      word.text = word.text[0].toUpperCase() + word.text.slice(1);
    });
    return words;
  }

  function floorOf(node) { return plan().nodes[node][2]; }

  function drawPlan() {
    const box = byId("plan"), here = decision().node, level = floorOf(here);
    box.replaceChildren();
    const floor = plan().floors[level], nodes = plan().nodes;
    const shown = nodes.map((_, i) => i).filter((i) => floorOf(i) === level);
    const view = floor
      ? [floor.west, floor.north, floor.width, floor.height]
      : frame(shown.map((i) => nodes[i]));
    const unit = Math.max(view[2], view[3]) / 100;
    const at = (i) => [nodes[i][0] - view[0], view[1] - nodes[i][1]];
    const svg = add(box, "svg", { viewBox: `0 0 ${view[2]} ${view[3]}`, role: "img", "aria-label": "Floor plan with paths" });
    if (floor) add(svg, "image", { href: floor.image, x: 0, y: 0, width: view[2], height: view[3], preserveAspectRatio: "none" });
    const line = (a, b, style) => {
      const [p, q] = [at(a), at(b)];
      add(svg, "line", { x1: p[0], y1: p[1], x2: q[0], y2: q[1], "stroke-linecap": "round", ...style });
    };
    const both = (a, b) => floorOf(a) === level || floorOf(b) === level;
    for (const [a, b] of plan().edges) if (floorOf(a) === level && floorOf(b) === level) line(a, b, { stroke: "#868e98", "stroke-width": unit * 0.25, opacity: 0.55 });
    const pairs = (path) => path.slice(1).map((b, i) => [path[i], b]).filter(([a, b]) => both(a, b));
    for (const [a, b] of pairs(episode().reference)) line(a, b, { stroke: "#0072b2", "stroke-width": unit * 2.6, opacity: 0.35 });
    episode().walks.forEach((other, number) => {
      if (number === state.walker) return;
      for (const [a, b] of pairs(other.path)) line(a, b, { stroke: other.colour, "stroke-width": unit * 0.7, "stroke-dasharray": `${unit * 1.6} ${unit * 1.3}` });
    });
    const walked = walk().path.slice(0, walk().reached[state.step]);
    for (const [a, b] of pairs(walked)) line(a, b, { stroke: walk().colour, "stroke-width": unit * 1.1 });
    for (const i of shown) {
      const [cx, cy] = at(i);
      add(svg, "circle", { cx, cy, r: unit * 0.75, fill: "#fff", stroke: "#868e98", "stroke-width": unit * 0.25 });
    }
    for (const [node, chance] of decision().options) {
      if (floorOf(node) !== level) continue;
      const [cx, cy] = at(node);
      add(svg, "circle", { cx, cy, r: unit * (0.75 + 2.2 * Math.sqrt(chance)), fill: walk().colour, opacity: 0.35 });
    }
    for (const goal of episode().goals) {
      if (floorOf(goal) !== level) continue;
      const [cx, cy] = at(goal);
      add(svg, "circle", { cx, cy, r: 3, fill: "#009e73", opacity: 0.1 });
      add(svg, "path", { d: star(cx, cy, unit * 2.3), fill: "#009e73", stroke: "#fff", "stroke-width": unit * 0.35 });
    }
    const [cx, cy] = at(here), look = decision().heading;
    const tip = (angle, r) => `${cx + r * Math.sin(angle)},${cy - r * Math.cos(angle)}`;
    add(svg, "polygon", { points: [tip(look, unit * 3.4), tip(look + 2.5, unit * 2), tip(look - 2.5, unit * 2)].join(" "), fill: walk().colour, stroke: "#fff", "stroke-width": unit * 0.4 });
    legend(level);
  }

  function star(x, y, r) {
    const spots = [...Array(10).keys()].map((i) => {
      const size = i % 2 ? r * 0.42 : r, angle = i * Math.PI / 5;
      return `${x + size * Math.sin(angle)},${y - size * Math.cos(angle)}`;
    });
    return `M${spots.join("L")}Z`;
  }

  function frame(nodes) {
    const xs = nodes.map((n) => n[0]), ys = nodes.map((n) => n[1]), margin = 1.5;
    const west = Math.min(...xs) - margin, north = Math.max(...ys) + margin;
    return [west, north, Math.max(...xs) + margin - west, north - Math.min(...ys) + margin];
  }

  function legend(level) {
    const line = byId("legend");
    line.replaceChildren();
    const key = (colour, text) => {
      const item = add(line, "span", { class: "key" });
      add(item, "i").style.background = colour;
      item.append(text);
    };
    key("#9cc7e2", "asked for");
    for (const other of episode().walks) key(other.colour, other.name);
    key("#009e73", "goal, 3 m around it");
    const levels = Math.max(...plan().nodes.map((n) => n[2])) + 1;
    if (levels > 1) add(line, "span", { class: "key" }, `storey ${level + 1} of ${levels}`);
  }

  function turn(angle) {
    let degrees = Math.round((((angle / TURN + 0.5) % 1 + 1) % 1 - 0.5) * 360);
    if (Math.abs(degrees) < 15) return "straight on";
    if (Math.abs(degrees) > 165) return "behind";
    return `${Math.abs(degrees)}° ${degrees < 0 ? "left" : "right"}`;
  }

  function options() {
    const box = byId("options"), now = decision();
    box.replaceChildren();
    const stop = { text: "stop here", chance: now.stop, taken: now.choice < 0 };
    const ways = now.options.map(([node, chance, heading]) => (
      { text: heading === null ? "back on the map" : turn(heading - now.heading), chance, taken: node === now.choice }));
    const all = [stop, ...ways].sort((a, b) => b.chance - a.chance || b.taken - a.taken);
    for (const option of all.slice(0, 8)) {
      const line = add(box, "div", { class: option.taken ? "option taken" : "option" });
      add(line, "span", {}, option.text);
      add(add(line, "div", { class: "track" }), "div", { class: "fill" }).style.width = `${100 * option.chance}%`;
      add(line, "span", { class: "number" }, `${Math.round(100 * option.chance)}%`);
    }
    const rest = all.slice(8).reduce((sum, option) => sum + option.chance, 0);
    if (all.length > 8) add(box, "p", { class: "keys" }, `${all.length - 8} more places on its map: ${Math.round(100 * rest)}% together`);
    const line = byId("outcome");
    line.replaceChildren();
    for (const other of episode().walks) {
      const item = add(line, "div");
      item.append(`${other.name}: ends ${other.error.toFixed(1)} m from the goal, `);
      add(item, "span", { class: other.success ? "yes" : "no" }, other.success ? "success" : "failure");
    }
  }

  function strip() {
    const figure = byId("strip-figure"), now = decision(), image = report.strips[`${episode().scan}/${now.node}`];
    figure.hidden = !image && !now.views.length;
    const box = byId("strip"), before = box.firstChild?.scrollLeft;
    box.replaceChildren();
    if (figure.hidden) return;
    const width = 1200, height = width / Math.PI; // 90 degrees high: tan 45 = 1 up and down
    const scroller = add(box, "div", { class: "scroller" });
    const svg = add(scroller, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "All around, and what it attended to" });
    const at = (heading) => width * ((((heading - now.heading) / TURN + 0.5) % 1 + 1) % 1);
    if (image) {
      const first = at(0) - width / 2; // where the picture's left edge, south, comes to lie
      for (const shift of [-width, 0, width]) add(svg, "image", { href: image, x: first + shift, y: 0, width: width + 0.5, height, preserveAspectRatio: "none" });
    }
    if (now.views.length) attention(svg, now, at, width, height);
    for (const [node, chance, heading] of now.options) {
      if (heading === null) continue;
      const x = at(heading), size = 9 + 16 * Math.sqrt(chance), y = height - 8;
      add(svg, "path", { d: `M${x},${y - 2 * size}L${x + size},${y}L${x - size},${y}Z`, fill: node === now.choice ? walk().colour : "#fff", stroke: walk().colour, "stroke-width": 3 });
      if (chance >= 0.01) add(svg, "text", { x, y: y - 2 * size - 6, "text-anchor": "middle", style: "font-size:19px;font-weight:600;paint-order:stroke;stroke:#fff;stroke-width:4px" }, `${Math.round(100 * chance)}%`);
    }
    if (before) scroller.scrollLeft = before;
    else scroller.scrollLeft = (scroller.scrollWidth - scroller.clientWidth) / 2;
    byId("strip-caption").textContent = (image ? "All around, straight ahead in the middle. " : "Directions around it, straight ahead in the middle. ")
      + (now.views.length ? "Yellow frames: the views it attended to more than evenly, thicker for more. " : "") + "Triangles: where it can step, with its chances; filled: its choice.";
  }

  // 36 views: three rows (down, level, up) of twelve headings, 30 degrees apart; or the level 12.
  function attention(svg, now, at, width, height) {
    const shares = prominence(now.views), low = Math.tan(Math.PI / 12);
    const edge = [1, low, -low, -1].map((t) => height / 2 * (1 + t)); // rows from below
    shares.forEach((share, view) => {
      if (share < 0.1) return;
      const row = shares.length > 12 ? Math.floor(view / 12) : 1, x = at((view % 12) * TURN / 12) - width / 24;
      for (const shift of [-width, 0, width]) {
        add(svg, "rect", { x: x + shift + 3, y: edge[row + 1] + 3, width: width / 12 - 6, height: edge[row] - edge[row + 1] - 6, rx: 6, fill: "#ffc400", "fill-opacity": 0.06 + 0.14 * share, stroke: "#ffc400", "stroke-width": 1 + 6 * share, "stroke-opacity": 0.25 + 0.75 * share });
      }
    });
  }

  function draw() {
    const last = walk().decisions.length - 1;
    state.step = Math.min(Math.max(state.step, 0), last);
    byId("viewer").style.setProperty("--own", walk().colour);
    byId("count").textContent = `step ${state.step + 1} of ${last + 1}`;
    byId("back").disabled = state.step === 0;
    byId("next").disabled = state.step === last;
    [...byId("walkers").children].forEach((button, i) => button.setAttribute("aria-pressed", i === state.walker));
    byId("episode").value = state.episode;
    instruction(); drawPlan(); options(); strip();
  }

  function go(change) { Object.assign(state, change); draw(); }

  function walkers() {
    const box = byId("walkers");
    box.replaceChildren();
    episode().walks.forEach((other, i) => {
      const button = add(box, "button", { type: "button" }, other.name);
      button.style.setProperty("--own", other.colour);
      button.onclick = () => go({ walker: i });
    });
  }

  function choose(number) {
    const count = report.episodes.length;
    state.episode = (number + count) % count;
    state.step = 0;
    state.walker = Math.min(state.walker, episode().walks.length - 1);
    walkers();
    draw();
  }

  function keys(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "SELECT") return;
    const acts = {
      ArrowLeft: () => go({ step: state.step - 1 }),
      ArrowRight: () => go({ step: state.step + 1 }),
      t: () => go({ walker: (state.walker + 1) % episode().walks.length }),
      n: () => choose(state.episode + 1),
    };
    if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
  }

  byId("title").textContent = report.title;
  byId("lead").textContent = report.lead;
  byId("foot").textContent = report.foot;
  scores();
  curves();
  if (report.episodes.length) {
    report.episodes.forEach((one, i) => add(byId("episode"), "option", { value: i }, `${one.name} (${one.split})`));
    byId("episode").onchange = (event) => choose(Number(event.target.value));
    byId("back").onclick = () => go({ step: state.step - 1 });
    byId("next").onclick = () => go({ step: state.step + 1 });
    document.addEventListener("keydown", keys);
    choose(0);
  } else {
    byId("viewer").hidden = true;
  }
})();
