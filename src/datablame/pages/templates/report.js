// A map of curves: every image at its place; the one under the pointer is shown large, with its curve and what is known of it.
for (const box of document.querySelectorAll(".map")) {
  const facts = JSON.parse(box.querySelector("script").textContent), sheet = box.querySelector("img.atlas");
  const canvas = box.querySelector("canvas"), pen = canvas.getContext("2d"), card = box.querySelector(".card");
  const side = facts.side, dot = 18, edge = 2, size = canvas.width;
  const at = ([x, y]) => [edge + x * (size - dot - 2 * edge), edge + (1 - y) * (size - dot - 2 * edge)];
  const source = i => [(i % facts.columns) * side, Math.floor(i / facts.columns) * side, side, side];
  function paint() {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, size, size);
    facts.places.forEach((place, i) => {
      const [x, y] = at(place);
      pen.fillStyle = facts.colours[facts.kinds[i]];
      pen.fillRect(x - edge, y - edge, dot + 2 * edge, dot + 2 * edge);
      pen.drawImage(sheet, ...source(i), x, y, dot, dot);
    });
  }
  function curve(target, i) {
    const c = target.getContext("2d"), all = facts.curves, low = facts.low, high = facts.high, w = target.width, h = target.height;
    const y = v => h - 4 - (v - low) / (high - low || 1) * (h - 8);
    c.clearRect(0, 0, w, h);
    c.strokeStyle = "#c9ced8";
    c.beginPath(); c.moveTo(0, y(0)); c.lineTo(w, y(0)); c.stroke();
    c.strokeStyle = facts.colours[facts.kinds[i]];
    c.lineWidth = 2;
    c.beginPath();
    all[i].forEach((v, t) => c[t ? "lineTo" : "moveTo"](t / (all[i].length - 1 || 1) * w, y(v)));
    c.stroke();
  }
  canvas.addEventListener("mousemove", event => {
    const scale = size / canvas.clientWidth, px = event.offsetX * scale, py = event.offsetY * scale;
    let best = -1;
    facts.places.forEach((place, i) => {  // the last drawn lies on top
      const [x, y] = at(place);
      if (px >= x - edge && px <= x + dot + edge && py >= y - edge && py <= y + dot + edge) best = i;
    });
    if (best < 0) return;
    const big = card.querySelector("canvas.big").getContext("2d");
    big.imageSmoothingEnabled = false;
    big.drawImage(sheet, ...source(best), 0, 0, 128, 128);
    if (facts.curves) curve(card.querySelector("canvas.curve"), best);
    card.querySelector("p").textContent = facts.texts[best];
  });
  const list = box.querySelector("textarea");
  if (list) {  // a line drawn about some images lists their names
    let line = null;
    const here = event => { const scale = size / canvas.clientWidth; return [event.offsetX * scale, event.offsetY * scale]; };
    const inside = ([x, y]) => line.reduce((odd, [x1, y1], i) => { const [x2, y2] = line[(i + 1) % line.length]; return (y1 > y) !== (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 ? !odd : odd; }, false);
    canvas.addEventListener("pointerdown", event => { line = [here(event)]; canvas.setPointerCapture(event.pointerId); paint(); });
    canvas.addEventListener("pointermove", event => {
      if (!line) return;
      pen.strokeStyle = "#fff";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(...line.at(-1));
      line.push(here(event));
      pen.lineTo(...line.at(-1));
      pen.stroke();
    });
    canvas.addEventListener("pointerup", () => {
      if (line && line.length > 2) list.value = facts.names.filter((_, i) => { const [x, y] = at(facts.places[i]); return inside([x + dot / 2, y + dot / 2]); }).join("\n");
      line = null;
    });
  }
  if (sheet.complete) paint(); else sheet.addEventListener("load", paint);
}
// Suspects: by class or by cell of the noise matrix; each opens with its evidence. Without a script the page shows the worst sixty.
const known = document.getElementById("evidence"), evidence = known ? JSON.parse(known.textContent) : null;
const tiles = [...document.querySelectorAll("#worst-tiles > figure")], dialog = document.getElementById("image");
const make = (kind, text, type) => { const made = document.createElement(kind); if (text !== undefined) made.textContent = text; if (type) made.className = type; return made; };
let shown = tiles.filter(tile => !tile.hidden), open = -1;

function filter(given, proposed) {
  const any = given === "" && proposed === "";
  for (const tile of tiles) tile.hidden = any ? tile.dataset.more === "yes" : (given !== "" && tile.dataset.given !== given) || (proposed !== "" && tile.dataset.proposed !== proposed);
  shown = tiles.filter(tile => !tile.hidden);
  document.getElementById("filtered").textContent = any ? "" : `${shown.length} shown.`;
  document.getElementById("by-class").value = proposed === "" ? given : "";
}
function trace(curves) {
  const space = "http://www.w3.org/2000/svg", box = document.createElementNS(space, "svg");
  box.setAttribute("viewBox", "0 0 100 100");
  box.setAttribute("preserveAspectRatio", "none");
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", "probability of the given label, and of the likeliest other class, by epoch");
  for (const [which, values] of Object.entries(curves)) {
    const line = document.createElementNS(space, "polyline");
    line.setAttribute("class", which);
    line.setAttribute("points", values.map((v, i) => `${(100 * i / (values.length - 1 || 1)).toFixed(2)},${(98 - 96 * v).toFixed(2)}`).join(" "));
    box.append(line);
  }
  return box;
}
function enlarge(place) {
  if (place < 0 || place >= shown.length) return;
  open = place;
  const tile = shown[place], facts = evidence.rows[tile.dataset.row], picture = tile.querySelector("img");
  const image = dialog.querySelector("img"), text = dialog.querySelector("blockquote");
  image.hidden = !picture;
  text.hidden = !!picture;
  if (picture) { image.src = facts.large || (document.getElementById(`image-${tile.dataset.row}`)?.querySelector("img") || picture).src; image.alt = picture.alt; } else text.textContent = tile.querySelector("blockquote").textContent;
  dialog.querySelector("h3").replaceChildren(...[...tile.querySelector("figcaption .said-label").childNodes].map(node => node.cloneNode(true)));
  dialog.querySelector(".name").textContent = facts.name;
  dialog.querySelector("ul").replaceChildren(...facts.reasons.map(each => make("li", each)));
  const curves = dialog.querySelector(".curves");
  curves.replaceChildren(...(Object.keys(facts.trace).length ? [trace(facts.trace), make("p", "Red: the given label; green: the likeliest other class; by epoch, 0 to 100 %.", "soft")] : []));
  dialog.querySelector(".nears").replaceChildren(...facts.near.flatMap(([title, several]) => {
    const line = make("div", undefined, "near");
    line.append(...several.map(([row, label, same]) => {
      const box = make("span", undefined, same), small = evidence.thumbs[row];
      if (small) { const drawn = make("img"); drawn.src = small; drawn.alt = ""; box.append(drawn); }
      box.append(make("bdi", label));
      return box;
    }));
    return [make("p", title, "soft"), line];
  }));
  dialog.querySelector("table").replaceChildren(...Object.entries(facts.ranks).map(([signal, rank]) => { const line = make("tr"); line.append(make("th", signal), make("td", rank.toLocaleString("en"))); return line; }));
  if (!dialog.open) dialog.showModal();
}
if (evidence && dialog) {
  document.getElementById("filters").hidden = false;
  tiles.forEach(tile => tile.querySelector("a, button")?.addEventListener("click", event => { event.preventDefault(); enlarge(shown.indexOf(tile)); }));
  document.getElementById("by-class").addEventListener("change", event => filter(event.target.value, ""));
  document.getElementById("every").addEventListener("click", () => filter("", ""));
  for (const cell of document.querySelectorAll("button[data-given]")) cell.addEventListener("click", () => { filter(cell.dataset.given, cell.dataset.proposed); document.getElementById("worst").scrollIntoView(); });
  dialog.addEventListener("keydown", event => { if (event.key === "ArrowRight") enlarge(open + 1); if (event.key === "ArrowLeft") enlarge(open - 1); });
  dialog.querySelector("[data-go=before]").addEventListener("click", () => enlarge(open - 1));
  dialog.querySelector("[data-go=next]").addEventListener("click", () => enlarge(open + 1));
}
// The cut, moved: how many lie above it, and how many of these are wrong by expectation.
const slider = document.getElementById("cut");
if (slider) {
  const { count, wrong, score, all } = JSON.parse(document.getElementById("cuts").textContent), out = document.getElementById("cut-said");
  const say = () => {
    const i = Number(slider.value), percent = p => `${Math.round(100 * p)} %`;
    const of = count[i] ? `, ${percent(wrong[i] / count[i])} of these` : "";
    out.textContent = `The ${count[i].toLocaleString("en")} most suspect (scores from ${score[i].toFixed(2)} up): ${Math.round(wrong[i]).toLocaleString("en")} wrong by expectation${of}, and ${percent(all ? wrong[i] / all : 0)} of all wrong labels.`;
  };
  document.getElementById("cutting").hidden = false;
  slider.addEventListener("input", say);
  say();
}
// Tables that are sorted by a click on a column's head.
for (const table of document.querySelectorAll("table.sorted")) table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
  const rows = [...table.tBodies[0].rows], up = button.parentElement.getAttribute("aria-sort") === "descending";
  const value = row => { const cell = row.cells[column]; return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent; };
  rows.sort((a, b) => { const [x, y] = [value(a), value(b)]; return (typeof x === "number" ? x - y : x.localeCompare(y)) * (up ? 1 : -1); });
  table.tBodies[0].append(...rows);
  for (const head of table.querySelectorAll("th")) head.removeAttribute("aria-sort");
  button.parentElement.setAttribute("aria-sort", up ? "ascending" : "descending");
}));
