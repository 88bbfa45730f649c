// The equity curve on a canvas: round steps on both axes, the start as a dashed line, gains above it green and
// losses below it red. The pointer, or the arrow keys, read a single point.
import { amount, instant, signed, timeTicks, valueTicks } from "./format.js";

const LEFT = 2, TOP = 12, BOTTOM = 22;

export class EquityChart {
  #canvas;
  #readout;
  #points = [];
  #start = null;
  #chosen = null;    // index of the point that is read, null for none

  constructor(canvas, readout) {
    this.#canvas = canvas;
    this.#readout = readout;
    const style = getComputedStyle(document.documentElement);
    this.color = Object.fromEntries(["line", "quiet", "text", "accent", "up", "down", "card"].map(
      (name) => [name, style.getPropertyValue(`--${name}`).trim()],
    ));
    canvas.addEventListener("pointermove", (event) => this.#choose(this.#nearest(event.offsetX)));
    canvas.addEventListener("pointerleave", () => this.#choose(null));
    canvas.addEventListener("blur", () => this.#choose(null));
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  // Draw points {time, equity}; `start` is the equity the run began with.
  show(points, start) {
    this.#points = points;
    this.#start = start;
    if (this.#chosen !== null && this.#chosen >= points.length) this.#chosen = null;
    this.#draw();
  }

  #onKey(event) {
    const last = this.#points.length - 1;
    const step = event.shiftKey ? Math.max(Math.round(last / 20), 1) : 1;
    const at = this.#chosen ?? last;
    const next = { ArrowLeft: at - step, ArrowRight: at + step, Home: 0, End: last }[event.key];
    if (next === undefined || last < 0) {
      if (event.key === "Escape") this.#choose(null);
      return;
    }
    event.preventDefault();
    this.#choose(Math.min(Math.max(next, 0), last));
  }

  #choose(index) {
    this.#chosen = index;
    this.#draw();
  }

  #nearest(x) {
    if (this.#points.length < 2) return null;
    const from = this.#points[0].time, to = this.#points.at(-1).time;
    const time = from + (to - from) * (x - LEFT) / (this.#plotWidth - LEFT);
    let low = 0, high = this.#points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#points[middle].time < time) low = middle; else high = middle;
    }
    return time - this.#points[low].time < this.#points[high].time - time ? low : high;
  }

  #plotWidth = 0;

  #draw() {
    const canvas = this.#canvas, points = this.#points;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    if (points.length < 2) {
      this.#say(pen, width, height);
      return;
    }
    const base = this.#start ?? points[0].equity;
    let low = base, high = base;
    for (const { equity } of points) { low = Math.min(low, equity); high = Math.max(high, equity); }
    if (high - low < 1e-9) { low -= 1; high += 1; }
    const axis = valueTicks(low, high, Math.max(Math.floor(height / 48), 2));
    const labels = axis.ticks.map((value) => amount(value, axis.places));
    const room = Math.max(...labels.map((text) => pen.measureText(text).width), pen.measureText(amount(points.at(-1).equity)).width);
    this.#plotWidth = width - room - 16;
    const from = points[0].time, reach = points.at(-1).time - from || 1;
    const newest = points.at(-1).equity;
    const place = {
      x: (time) => LEFT + (this.#plotWidth - LEFT) * (time - from) / reach,
      y: (value) => TOP + (height - TOP - BOTTOM) * (high - value) / (high - low),
      right: this.#plotWidth, bottom: height - BOTTOM, width,
    };
    this.#grid(pen, place, axis.ticks, labels, from, from + reach);
    this.#curve(pen, place, base);
    this.#last(pen, place);
    this.#reading(pen, place, base);
    canvas.setAttribute("aria-label",
      `Equity from ${instant(from)} to ${instant(from + reach)}: lowest ${amount(low)}, highest ${amount(high)}, last ${amount(newest)}`);
  }

  #say(pen, width, height) {
    pen.fillStyle = this.color.quiet;
    pen.textAlign = "center";
    pen.fillText("no equity yet", width / 2, height / 2);
    pen.textAlign = "left";
    this.#readout.textContent = "";
  }

  #grid(pen, place, ticks, labels, from, to) {
    pen.lineWidth = 1;
    pen.strokeStyle = this.color.line;
    pen.fillStyle = this.color.quiet;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    const tabY = place.y(this.#points.at(-1).equity);
    ticks.forEach((value, i) => {
      const y = Math.round(place.y(value)) + 0.5;
      pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(place.right, y); pen.stroke();
      // The tab of the newest value stands over what is close to it.
      if (Math.abs(y - tabY) > 15) pen.fillText(labels[i], place.width - 6, y);
    });
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    for (const { time, text } of timeTicks(from, to, Math.max(Math.floor(place.right / 70), 1))) {
      const half = pen.measureText(text).width / 2;
      const x = place.x(time);
      pen.beginPath(); pen.moveTo(Math.round(x) + 0.5, place.bottom); pen.lineTo(Math.round(x) + 0.5, place.bottom + 4); pen.stroke();
      if (x - half >= 0 && x + half <= place.right + 8) pen.fillText(text, x, place.bottom + 16);
    }
    pen.textAlign = "left";
  }

  #curve(pen, place, base) {
    const points = this.#points;
    const line = new Path2D();
    points.forEach((p, i) => i ? line.lineTo(place.x(p.time), place.y(p.equity)) : line.moveTo(place.x(p.time), place.y(p.equity)));
    const area = new Path2D(line);
    area.lineTo(place.right, place.y(base));
    area.lineTo(LEFT, place.y(base));
    area.closePath();
    const zero = place.y(base);
    for (const [top, bottom, color] of [[0, zero, this.color.up], [zero, place.bottom + 1, this.color.down]]) {
      pen.save();
      pen.beginPath(); pen.rect(0, top, place.width, bottom - top); pen.clip();
      pen.globalAlpha = 0.1;
      pen.fillStyle = color;
      pen.fill(area);
      pen.restore();
    }
    pen.setLineDash([3, 4]);
    pen.strokeStyle = this.color.quiet;
    pen.beginPath(); pen.moveTo(LEFT, Math.round(zero) + 0.5); pen.lineTo(place.right, Math.round(zero) + 0.5); pen.stroke();
    pen.setLineDash([]);
    pen.strokeStyle = this.color.accent;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.stroke(line);
  }

  // The newest value as a tab on the axis.
  #last(pen, place) {
    const value = this.#points.at(-1).equity;
    const y = place.y(value), text = amount(value);
    pen.fillStyle = this.color.accent;
    pen.fillRect(place.right + 4, y - 9, place.width - place.right - 4, 18);
    pen.fillStyle = this.color.card;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillText(text, place.width - 6, y + 0.5);
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
  }

  #reading(pen, place, base) {
    const point = this.#chosen === null ? null : this.#points[this.#chosen];
    if (!point) {
      this.#readout.textContent = "";
      return;
    }
    const x = place.x(point.time);
    pen.strokeStyle = this.color.quiet;
    pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(Math.round(x) + 0.5, TOP - 6); pen.lineTo(Math.round(x) + 0.5, place.bottom); pen.stroke();
    pen.fillStyle = this.color.text;
    pen.beginPath(); pen.arc(x, place.y(point.equity), 3, 0, 7); pen.fill();
    this.#readout.textContent = `${instant(point.time)} UTC   ${amount(point.equity)}   ${signed(point.equity - base)}`;
  }
}
