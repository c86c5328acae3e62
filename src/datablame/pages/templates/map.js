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
    curve(card.querySelector("canvas.curve"), best);
    card.querySelector("p").textContent = facts.texts[best];
  });
  if (sheet.complete) paint(); else sheet.addEventListener("load", paint);
}
