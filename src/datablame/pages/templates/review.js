// The live part of the review page. Its address ends in the token, which goes into a header; nothing is kept elsewhere.
const $ = id => document.getElementById(id);
const token = location.hash.slice(1) || sessionStorage.getItem("datablame") || "";
sessionStorage.setItem("datablame", token);
if (location.hash) history.replaceState(null, "", location.pathname);

const SHEET = 30, AHEAD = 4, KEPT = 400;
let cell = false;  // was the cell of the sheet chosen by the page?
let cluster = "";  // of copies, on the sheet
let skipped = 0;  // of the sheet
let about = null, items = [], place = 0, left = 0, total = 0, current = null, scale = 0, sheet = false, busy = false;
const pictures = new Map(), examples = new Map(), reasons = new Map();

async function ask(path, body) {
  const options = { headers: { "x-datablame-token": token } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const joint = path.includes("?") ? "&" : "?";
  let answer;
  try { answer = await fetch(`api/${path}${joint}by=${encodeURIComponent($("by").value)}`, options); }
  catch { throw new Error("the review is no longer open: start it again, and open the address that it prints"); }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `it answered ${answer.status}`);
  return answer;
}
const told = async (path, body) => (await ask(path, body)).json();

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("message").hidden = true; }, 6000);
}
const guarded = work => async (...given) => { try { return await work(...given); } catch (error) { say(error.message); } };

function kept(map, key, make) {  // the last that were asked for
  if (!map.has(key)) {
    if (map.size >= KEPT) {
      const [old, value] = map.entries().next().value;
      map.delete(old);
      if (map === pictures) value.then(URL.revokeObjectURL, () => {});
    }
    const value = make();
    value.catch(() => map.delete(key));
    map.set(key, value);
  }
  return map.get(key);
}
const picture = (row, side) => kept(pictures, `${row}/${side}`, async () => URL.createObjectURL(await (await ask(`image/${row}?side=${side}`)).blob()));
const example = row => kept(examples, row, () => told(`example/${row}`));

const name = k => k >= 0 ? about.classes[k] : "no class";
const number = text => about.classes.indexOf(text);
const percent = p => `${Math.round(100 * p)} %`;

function element(kind, text, type) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (type) made.className = type;
  return made;
}
function between(...parts) {  // labels of any script beside each other
  return parts.map(([kind, text, type]) => { const made = element(kind); made.append(element("bdi", text)); if (type) made.className = type; return made; });
}

function asked(start, count) {
  const known = new URLSearchParams({ queue: $("queue").value, signal: $("signal").value, start, count, search: $("search").value });
  for (const key of ["given", "proposed"]) {
    const k = number($(key).value);
    if (k >= 0) known.set(key, k);
  }
  if (cluster !== "") known.set("cluster", cluster);
  return `queue?${known}`;
}

async function state() {
  about = await told("state");
  if (!$("classes").childElementCount && about.classes.length) {
    $("classes").replaceChildren(...about.classes.slice(0, 2000).map(each => { const option = element("option"); option.value = each; return option; }));
    $("signal").replaceChildren(...about.signals.map(each => element("option", each === "verdict" ? "the verdict" : each)));
    [...$("signal").options].forEach((option, i) => { option.value = about.signals[i]; });
    [...$("queue").options].forEach(option => { if (option.value === "certify") option.disabled = !about.can_certify; if (option.value === "copies") option.disabled = !about.can_copy; });
  }
  const { counts } = about;
  $("progress").textContent = `${about.settled.toLocaleString()} of ${about.examples.toLocaleString()} settled: ${counts.wrong} wrong, ${counts.right} right, ${counts.drop} left out, ${counts.unsure} cannot be told`
    + (about.conflicts ? `; ${about.conflicts} conflicts` : "") + `. ${about.suspects.toLocaleString()} suspects by the verdict.`;
}

// --- what is next ---

async function load(keep = 0) {
  await sending;
  gone();
  if ($("queue").value === "certify") return certified();
  $("certificate").hidden = true;
  skipped = 0;
  const found = await told(asked(0, SHEET));
  [items, left, total, place] = [found.items, found.left, found.total, Math.min(keep, Math.max(0, found.items.length - 1))];
  await show();
}

async function certified() {
  const found = await told("certify");
  $("certificate").hidden = false;
  if (!found.answered) $("certificate").textContent = "Answer in the order of the lot: after the first answers the number of wrong labels stands here, with its bounds.";
  else told("certificate").then(({ answered, certificate }) => { $("certificate").textContent = `${answered} answers: ${certificate.sentence}.`; }, error => say(error.message));
  items = found.next ? [found.next] : [];
  [left, total, place] = [items.length, items.length, 0];
  await show();
}

function gone() {  // nothing is shown that could be decided
  current = null;
  delete document.body.dataset.shown;
}

async function show() {
  const none = !items.length;
  $("empty").hidden = !none;
  $("one").hidden = none || sheet;
  $("many").hidden = none || !sheet;
  $("sheet").setAttribute("aria-pressed", sheet);
  if (none) {
    $("empty").textContent = total ? "All of this queue are settled." : "Nothing is in this queue.";
    return;
  }
  if (sheet) return tiles();
  const item = items[place], facts = await example(item.row);
  if (items[place] !== item) return;
  current = item;
  draw(item, facts);
  document.body.dataset.shown = item.row;
  for (const next of items.slice(place + 1, place + 1 + AHEAD)) {
    example(next.row).catch(() => {});
    if (about.drawn) picture(next.row, 1024).catch(() => {});
  }
}

function proposal(item) {  // what Enter does
  if (item.act === "drop") return { act: "drop" };
  const other = item.proposed >= 0 && item.proposed !== item.given;
  return other && (item.act === "fix" || (item.p_wrong ?? 0) > 0.5) ? { act: "wrong", label: item.proposed } : { act: "right" };
}
function called(choice) {
  return choice.act === "wrong" ? `it is ${name(choice.label)}` : choice.act === "drop" ? "leave it out" : "label is right";
}

function draw(item, facts) {
  const accept = document.querySelector("[data-act=accept]");
  accept.replaceChildren(element("bdi", called(proposal(item))), " ", element("kbd", "Enter"));
  const p = item.p_wrong === null ? [] : [["small", ` wrong with probability ${percent(item.p_wrong)}`]];
  const to = item.proposed >= 0 && item.proposed !== item.given ? [["b", name(item.proposed)]] : [];
  const parts = between([to.length || item.act === "drop" ? "s" : "b", name(item.given)], ...to, ...p);
  if (to.length) parts.splice(1, 0, document.createTextNode(" → "));
  $("labels").replaceChildren(...parts);
  $("name").textContent = item.name + (item.again ? " (asked about a second time)" : "");
  $("text").hidden = about.drawn;
  $("window").hidden = !about.drawn;
  if (about.drawn) enlarge(item); else $("text").textContent = facts.text || item.name;
  const choices = facts.likeliest.length ? facts.likeliest : [[item.given, null], ...(to.length ? [[item.proposed, item.probability]] : [])];
  $("choices").replaceChildren(...choices.slice(0, 9).map(([k, q], i) => {
    const line = element("li"), button = element("button"), label = element("span", name(k), k === item.given ? "given" : "");
    button.type = "button";
    button.dataset.label = k;
    button.append(element("kbd", i + 1), label, element("em", q === null ? "" : percent(q)));
    line.append(button);
    return line;
  }));
  $("reasons").replaceChildren(...facts.reasons.map(each => element("li", each)));
  $("before").textContent = item.decided.map(each => `${each.by || "somebody"} said: ${each.act === "wrong" && each.label >= 0 ? `it is ${name(each.label)}` : each.act}${each.note ? ` (${each.note})` : ""}`).join("; ");
  $("near-title").hidden = $("near").hidden = !facts.neighbours.length;
  $("near").replaceChildren(...facts.neighbours.map(each => others(item, each, `cosine ${each.cosine}`)));
  $("behind").hidden = !about.behind;
  behind(item);
  trace(facts.trace);
  $("ranks").replaceChildren(...Object.entries(facts.ranks).map(([signal, rank]) => {
    const line = element("tr"), head = element("th", signal);
    head.scope = "row";
    line.append(head, element("td", `${rank.toLocaleString()} of ${about.examples.toLocaleString()}`));
    return line;
  }));
}

function others(item, each, told) {  // another training image, beside this one
  const box = element("div", undefined, each.given === item.given ? "same" : each.given === item.proposed ? "other" : "");
  if (about.drawn) {
    const small = element("img");
    small.alt = "";
    picture(each.row, 96).then(url => { small.src = url; }, () => {});
    box.append(small);
  }
  box.append(element("bdi", name(each.given)));
  box.title = `${name(each.given)}, ${told}`;
  return box;
}

const behind = guarded(async item => {  // asked for only while it is open: it takes a model
  const box = $("behind-it");
  box.replaceChildren();
  if (!about.behind || !$("behind").open) return;
  box.replaceChildren(element("p", "asking the model ...", "soft"));
  const facts = await kept(reasons, item.row, () => told(`behind/${item.row}`));
  if (current !== item) return;
  const parts = [];
  const line = (title, several) => {
    if (!several?.length) return;
    const near = element("div", undefined, "near");
    near.append(...several.map(each => others(item, each, each.value)));
    parts.push(element("h3", title), near);
  };
  line(`pushed towards ${name(item.given)}`, facts.towards);
  line(`pushed away from ${name(item.given)}`, facts.away);
  if (facts.answer) parts.push(element("p", `By its memory the model says ${name(facts.answer[0])} (${percent(facts.answer[1])}).`));
  line("of its memory, examples: they get the same answer", facts.examples);
  line("of its memory, counterfactuals: they get another", facts.counterfactuals);
  if (about.heat) {
    const image = element("img", undefined, "heat");
    image.alt = "what the pixels of this image, of its best example and of its best counterfactual add to the answer";
    parts.push(image);
    kept(pictures, `heat/${item.row}`, async () => URL.createObjectURL(await (await ask(`heat/${item.row}`)).blob())).then(url => { image.src = url; }, error => say(error.message));
  }
  box.replaceChildren(...(parts.length ? parts : [element("p", "nothing stands out")]));
});

function trace(known) {
  const all = Object.entries(known).filter(([, values]) => values.length > 1);
  $("trace-title").hidden = $("trace").hidden = !all.length;
  if (!all.length) return;
  const space = "http://www.w3.org/2000/svg", box = document.createElementNS(space, "svg");
  box.setAttribute("viewBox", "0 0 100 100");
  box.setAttribute("preserveAspectRatio", "none");
  box.setAttribute("role", "img");
  const ends = all.map(([which, values]) => `${which === "given" ? "the given label" : "the likeliest other class"} ends at ${percent(values.at(-1))}`);
  box.setAttribute("aria-label", ends.join(", "));
  for (const [which, values] of all) {
    const line = document.createElementNS(space, "polyline");
    line.setAttribute("class", which);
    line.setAttribute("points", values.map((v, i) => `${(100 * i / (values.length - 1)).toFixed(2)},${(98 - 96 * v).toFixed(2)}`).join(" "));
    box.append(line);
  }
  const key = element("p");
  key.append(element("span", "given label", "given-key"), " and ", element("span", "the likeliest other class", "other-key"), `, ${all[0][1].length} epochs, 0 to 100 %`);
  $("trace").replaceChildren(box, key);
}

function enlarge(item) {
  const image = $("picture");
  image.alt = `${item.name}, given as ${name(item.given)}`;
  scale = 0;
  picture(item.row, 1024).then(url => {
    if (current !== item) return;
    image.onload = fit;
    image.src = url;
  }, error => { image.removeAttribute("src"); say(error.message); });
}
function fit() {
  const image = $("picture"), box = $("window");
  const whole = Math.min(box.clientWidth / image.naturalWidth, box.clientHeight / image.naturalHeight) * 0.98;
  const by = scale || whole;
  image.classList.toggle("small", by > 20);
  image.width = Math.max(1, Math.round(image.naturalWidth * by));
  image.height = Math.max(1, Math.round(image.naturalHeight * by));
  $("zoom").textContent = `${image.naturalWidth} x ${image.naturalHeight}, at ${percent(by)}`;
}
function zoom(by) {
  const image = $("picture");
  scale = by ? Math.min(32, Math.max(0.05, (scale || image.width / image.naturalWidth) * by)) : 0;
  fit();
}

// --- decisions ---

// The next image is shown at once; decisions are sent one after the other, and again where the answer was lost: a mark keeps them from counting twice.
let sending = Promise.resolve();
const decide = guarded(async choice => {
  if (!current) return;
  const item = current, said = { row: item.row, queue: $("queue").value, note: $("note").value, mark: mark(), ...choice };
  const sent = sending.then(() => twice("decide", said));
  sending = sent.catch(() => {});
  $("note").value = "";
  examples.delete(item.row);
  items.splice(place, 1);
  left -= 1;
  gone();
  const few = said.queue === "certify" || items.length <= AHEAD || (said.queue === "learn" && left % 20 === 0);
  if (!few) { place = Math.min(place, items.length - 1); await show(); }
  try { await sent; }
  catch (error) {  // it was not kept: what is asked is read anew
    $("note").value = said.note;
    await refill();
    throw error;
  }
  if (few) await refill();
  await state();
});
const mark = () => [...crypto.getRandomValues(new Uint8Array(12))].map(each => each.toString(16).padStart(2, "0")).join("");
async function twice(path, body) {
  try { return await told(path, body); }
  catch (error) { if (!/no longer open/.test(error.message)) throw error; return told(path, body); }
}
async function refill() {
  if ($("queue").value === "certify") return certified();
  if (cell) await worst();
  skipped = 0;
  const found = await told(asked(0, SHEET));
  [items, left, total, place] = [found.items, found.left, found.total, 0];
  await show();
}
const undo = guarded(async () => {
  await sending;
  const last = await told("undo", {});
  if (last.row === null) return say("nothing to undo");
  examples.delete(last.row);
  if ($("queue").value === "certify") { await state(); return certified(); }
  await state();
  await load();
  const at = items.findIndex(each => each.row === last.row);
  if (at > 0) { place = at; await show(); }
  say("taken back");
});
const move = guarded(async by => {
  if ($("queue").value === "certify") return say("these are answered in their order; u where you cannot tell");
  if (place + by >= items.length && items.length < left) {
    const more = await told(asked(items.length, SHEET));
    items.push(...more.items);
  }
  place = Math.min(Math.max(place + by, 0), items.length - 1);
  await show();
});

// --- the sheet ---

function tiles() {
  const copies = $("queue").value === "copies";
  document.querySelector("[data-all=copies]").hidden = !copies;
  const first = items[0], same = !copies && items.every(each => each.given === first.given && each.proposed === first.proposed);
  $("cell").textContent = copies ? `${left.toLocaleString()} copies of one picture are open` : same ? `given as ${name(first.given)}, proposed ${name(first.proposed)}: ${left.toLocaleString()} are open` : `${left.toLocaleString()} are open; choose a given and a proposed class to settle one cell at once`;
  $("tiles").replaceChildren(...items.slice(0, SHEET).map(item => {
    const button = element("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.dataset.row = item.row;
    if (about.drawn) {
      const small = element("img");
      small.alt = item.name;
      picture(item.row, 96).then(url => { small.src = url; }, () => {});
      button.append(small);
    }
    const line = element("span");
    line.append(...between([item.act === "fix" || item.act === "drop" ? "s" : "span", name(item.given)]), item.proposed >= 0 ? " → " : "", ...(item.proposed >= 0 ? between(["b", name(item.proposed)]) : []));
    button.append(line);
    button.addEventListener("click", () => button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true"));
    return button;
  }));
}
const settle = guarded(async act => {
  if (act === "more") {
    skipped = skipped + SHEET < left ? skipped + SHEET : 0;
    items = (await told(asked(skipped, SHEET))).items;
    place = 0;
    return show();
  }
  if (busy) return;
  busy = true;
  try {
    const chosen = new Set([...$("tiles").children].filter(each => each.getAttribute("aria-pressed") === "true").map(each => Number(each.dataset.row)));
    const some = items.filter(each => chosen.has(each.row));
    if (!some.length) return say("none is chosen");
    const queue = $("queue").value;
    if (act === "copies") some.shift();
    if (!some.length) return say("one alone is left");
    const choice = item => act === "accept" ? proposal(item) : act === "copies" ? { act: "drop" } : typeof act === "number" ? sure(item, act) : { act };
    await told("settle", { decisions: some.map(item => ({ row: item.row, queue, mark: mark(), ...choice(item) })) });
    some.forEach(item => examples.delete(item.row));
    say(`${some.length} settled`);
    await state();
    await refill();
  } finally { busy = false; }
});

// --- keys and buttons ---

const acts = { r: { act: "right" }, d: { act: "drop" }, w: { act: "wrong" }, u: { act: "unsure" } };
const typing = target => ["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName);
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return;  // a key that is held decides once
  if (typing(event.target)) { if (event.key === "Escape") { event.target.blur(); $("main").focus({ preventScroll: true }); } return; }
  if (event.key === "?") return $("keys").showModal();
  if (event.key === "z") return undo();
  if (event.key === "g") return turn();
  if (sheet) {
    const all = { a: "accept", r: "right", d: "drop", k: "copies", ArrowRight: "more" }[event.key];
    if (event.key === "/") { event.preventDefault(); $("every-class").focus(); }
    else if (all && !(all === "copies" && $("queue").value !== "copies")) { event.preventDefault(); settle(all); }
    return;
  }
  const onButton = event.target.tagName === "BUTTON" || event.target.tagName === "SUMMARY";
  if (event.key === "Enter" && !onButton && current) { event.preventDefault(); decide(proposal(current)); }
  else if (acts[event.key]) decide(acts[event.key]);
  else if (/^[1-9]$/.test(event.key)) { const button = $("choices").querySelectorAll("button")[event.key - 1]; if (button) chosen(Number(button.dataset.label)); }
  else if (event.key === "/") { event.preventDefault(); $("class").focus(); }
  else if (event.key === "ArrowRight") { event.preventDefault(); move(1); }
  else if (event.key === "ArrowLeft") { event.preventDefault(); move(-1); }
  else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") zoom(0);
});
const sure = (item, k) => k === item.given ? { act: "right" } : { act: "wrong", label: k };
const chosen = k => current && decide(sure(current, k));
$("acts").addEventListener("click", event => {
  const act = event.target.closest("button")?.dataset.act;
  if (act === "undo") undo(); else if (act && current) decide(act === "accept" ? proposal(current) : { act });
});
$("choices").addEventListener("click", event => { const button = event.target.closest("button"); if (button) chosen(Number(button.dataset.label)); });
for (const [form, field, work] of [["other", "class", chosen], ["all-class", "every-class", k => settle(k)]]) {
  $(form).addEventListener("submit", event => {
    event.preventDefault();
    const k = number($(field).value);
    if (k < 0) return say(`there is no class ${$(field).value.slice(0, 60)}`);
    $(field).value = "";
    $("main").focus({ preventScroll: true });
    work(k);
  });
  $(field).addEventListener("keydown", event => {  // a list of suggestions would swallow the first Enter
    if (event.key === "Enter") { event.preventDefault(); $(form).requestSubmit(); }
  });
}
$("all").addEventListener("click", event => { const act = event.target.closest("button")?.dataset.all; if (act) settle(act); });
const turn = guarded(async () => {
  if ($("queue").value === "certify") return say("these are answered one by one");
  sheet = !sheet;
  if (sheet && !$("given").value && !$("proposed").value) {
    cell = true;
    await worst();
    return load();
  }
  if (!sheet && cell) {
    cell = false;
    cluster = $("given").value = $("proposed").value = "";
    return load();
  }
  await show();
});
async function worst() {  // the cell, or the copies, of the most suspect that is open: it stays as long as there is something in it
  if ($("queue").value === "copies") {
    if (cluster !== "" && (await told(asked(0, 1))).items.length) return;
    cluster = "";
    const [next] = (await told(asked(0, 1))).items;
    cluster = next ? next.cluster : "";
    return;
  }
  if ($("given").value && (await told(asked(0, 1))).items.length) return;
  $("given").value = $("proposed").value = "";
  const [first] = (await told(asked(0, 1))).items;
  if (!first) return;
  $("given").value = name(first.given);
  $("proposed").value = first.proposed >= 0 ? name(first.proposed) : "";
}
$("sheet").addEventListener("click", turn);
$("behind").addEventListener("toggle", () => { if (current) behind(current); });
$("help").addEventListener("click", () => $("keys").showModal());
$("finish").addEventListener("click", guarded(async () => {
  await sending;  // what was decided is kept before
  await told("finish", {});
  document.body.replaceChildren(element("p", "The review is closed, every decision is kept. What to do with them stands in the terminal."));
}));
$("window").addEventListener("wheel", event => { if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2); } }, { passive: false });
addEventListener("resize", () => { if (current && about.drawn) fit(); });
for (const id of ["queue", "signal", "given", "proposed", "search"]) $(id).addEventListener("change", guarded(async () => {
  if ($("queue").value === "certify") sheet = false;
  if (id === "given" || id === "proposed") cell = false;
  const slow = setTimeout(() => say("this is computed once, and takes up to a minute"), 1500);
  try {
    if (id === "queue") {
      cluster = "";
      if ($("queue").value === "copies") examples.clear();  // they tell of copies from now on
      if (sheet && (cell || $("queue").value === "copies")) { cell = true; $("given").value = $("proposed").value = ""; await worst(); }
    }
    await load();
  } finally { clearTimeout(slow); }
  if (id === "queue") $("main").focus({ preventScroll: true });
}));
$("by").value = localStorage.getItem("datablame-by") || "";
$("by").addEventListener("change", guarded(async () => { localStorage.setItem("datablame-by", $("by").value); await state(); await load(); }));

guarded(async () => { await state(); await load(); document.body.dataset.ready = "yes"; })();
