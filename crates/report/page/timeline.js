// The timeline: a canvas on which each lane is drawn in time that depends on its width in pixels,
// not on how many spans there are. Below it, on the same axis, what was used over time.

const GUTTER = 124;
const AXIS = 26;
const RIGHT = 12;
const LANES_MAX = 560;

/** A row of pixels, each with what share of it spans take that are narrower than it. */
class Bins {
  constructor(size) {
    this.size = size;
    this.share = new Float32Array(size);
    this.rank = new Uint8Array(size);
    this.sought = new Uint8Array(size);
    this.word = new Uint32Array(size);
  }

  /** Adds to a pixel; what is of the highest rank gives it its colour. */
  add(at, share, rank, sought, word) {
    if (at >= this.size) return;
    this.share[at] += share;
    if (sought) this.sought[at] = 1;
    if (rank > this.rank[at]) {
      this.rank[at] = rank;
      this.word[at] = word;
    }
  }

  image() {
    const words = new Uint32Array(this.size);
    for (let at = 0; at < this.size; at += 1) {
      if (!this.rank[at]) continue;
      // What is rare and matters is seen however short it is.
      const strength = this.rank[at] > 1 ? 1 : Math.min(1, Math.max(0.25, this.share[at]));
      words[at] = this.word[at] | Math.round(255 * strength * (this.sought[at] ? 1 : 0.2)) << 24;
    }
    return new ImageData(new Uint8ClampedArray(words.buffer), this.size, 1);
  }
}

class Timeline {
  constructor(section, run) {
    this.section = section;
    this.run = run;
    this.box = section.querySelector(".lanes");
    this.canvas = this.box.querySelector("canvas");
    this.usage = section.querySelector("canvas.usage");
    this.memoryCanvas = section.querySelector(".memory canvas");
    this.tip = section.querySelector(".tip");
    this.from = 0;
    this.to = run.extent;
    this.hits = null;
    this.hit = -1;
    this.chosen = -1;
    this.pathOnly = false;
    const lanes = run.lanes.length;
    this.row = lanes <= 24 ? 22 : lanes <= 60 ? 14 : lanes <= 200 ? 8 : 5;
    if (run.memoryUsed && run.memoryUsed.max > 0) {
      section.querySelector(".memory").hidden = false;
      section.querySelector(".memory h3").textContent = run.memoryIs;
    }
    this.legend();
    this.listen();
    this.layout();
  }

  /** Takes the sizes and colours that the page has now. */
  layout() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = {
      text: colour("text"), faint: colour("faint"), line: colour("line"), panel: colour("panel"), band: colour("band"),
      kinds: [colour("build"), colour("fetch"), colour("hook")],
      failed: colour("failed"), cancelled: colour("cancelled"), path: colour("path"), onPath: colour("on-path"),
      label: colour("label"), area: colour("area"), chosen: colour("text"),
    };
    const wanted = AXIS + this.run.lanes.length * this.row + 6;
    const height = Math.min(wanted, LANES_MAX);
    this.box.style.height = `${height}px`;
    this.box.querySelector(".space").style.height = `${wanted}px`;
    this.box.style.overflowY = wanted > height ? "scroll" : "hidden";
    this.width = Math.max(this.box.clientWidth, GUTTER + RIGHT + 1);
    this.height = height;
    this.size(this.canvas, height);
    this.size(this.usage, 84);
    if (this.memoryCanvas) this.size(this.memoryCanvas, 84);
    this.draw();
  }

  size(canvas, height) {
    const ratio = Math.max(window.devicePixelRatio || 1, this.printing ? 2 : 1);
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${this.width}px`;
    canvas.style.height = `${height}px`;
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** Draws soon, once for all that changes until then. */
  invalidate() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  x(time) {
    return GUTTER + (time - this.from) / (this.to - this.from) * (this.width - GUTTER - RIGHT);
  }

  time(x) {
    return this.from + (x - GUTTER) / (this.width - GUTTER - RIGHT) * (this.to - this.from);
  }

  draw() {
    if (this.width <= GUTTER + RIGHT + 1) return;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const ticks = this.ticks();
    context.save();
    context.beginPath();
    context.rect(0, AXIS, this.width, this.height - AXIS);
    context.clip();
    this.drawLanes(context, ticks);
    context.restore();
    this.drawAxis(context, ticks);
    const capacity = this.run.capacity || this.run.used.max;
    this.drawArea(this.usage, ticks, this.run.used, capacity, (value) => figures(value));
    if (this.run.memoryUsed && this.run.memoryUsed.max > 0) {
      this.drawArea(this.memoryCanvas, ticks, this.run.memoryUsed, this.run.memoryUsed.max, showBytes);
    }
  }

  /** Where the axis has marks: at round numbers, some 90 pixels apart. */
  ticks() {
    const room = Math.max(1, (this.width - GUTTER - RIGHT) / 90);
    const least = (this.to - this.from) / room;
    const seconds = this.run.symbol === "s";
    const minutes = [6e7, 12e7, 3e8, 6e8, 9e8, 18e8, 3.6e9, 7.2e9, 1.44e10, 2.16e10, 4.32e10, 8.64e10];
    let step = seconds && least > 3e7 ? minutes.find((it) => it >= least) : undefined;
    if (!step) {
      const power = 10 ** Math.floor(Math.log10(least));
      step = [1, 2, 5, 10].map((it) => it * power).find((it) => it >= least * 0.999);
    }
    const marks = [];
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) marks.push(at);
    return { step, marks };
  }

  tickLabel(at, step) {
    if (this.run.symbol === "s" && step >= 6e7) return showTime(at, "s").replace(/ 00 (s|min)$/, "");
    const [unit, name] = this.run.symbol !== "s" ? [1e6, ""]
      : step >= 1e5 ? [1e6, " s"] : step >= 100 ? [1e3, " ms"] : [1, " µs"];
    const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step / unit) + 1e-9)));
    return (at / unit).toFixed(digits) + name;
  }

  drawAxis(context, { step, marks }) {
    const { text, faint, line } = this.colours;
    context.fillStyle = line;
    context.fillRect(0, AXIS - 1, this.width, 1);
    context.textAlign = "center";
    context.fillStyle = faint;
    for (const at of marks) {
      const x = this.x(at);
      const label = this.tickLabel(at, step);
      const half = context.measureText(label).width / 2;
      if (x - half > GUTTER - 40 && x + half < this.width) context.fillText(label, x, AXIS / 2);
    }
    context.textAlign = "left";
    context.fillStyle = text;
  }

  drawLanes(context, { marks }) {
    const { run, row } = this;
    const { text, faint, line, band } = this.colours;
    const scroll = this.box.scrollTop;
    const first = Math.max(0, Math.floor(scroll / row));
    const last = Math.min(run.lanes.length, Math.ceil((scroll + this.height - AXIS) / row));
    for (let at = first; at < last; at += 1) {
      const y = AXIS + at * row - scroll;
      if (run.groups.length > 1 ? run.lanes[at].group % 2 : at % 2) {
        context.fillStyle = band;
        context.fillRect(0, y, this.width, row);
      }
    }
    context.fillStyle = line;
    for (const at of marks) context.fillRect(Math.round(this.x(at)), AXIS, 1, this.height);
    for (let at = first; at < last; at += 1) this.drawLane(context, run.lanes[at], AXIS + at * row - scroll);
    if (this.pathOnly || this.chosen >= 0 || run.count <= 2000) this.drawLinks(context, scroll);
    context.textAlign = "left";
    let free = -Infinity;
    for (let at = first; at < last; at += 1) {
      const lane = run.lanes[at], y = AXIS + at * row - scroll;
      const group = run.groups[lane.group];
      const begins = at === first || group.first === at;
      const middle = row >= 14 ? y + row / 2 : Math.max(y + row / 2, AXIS + 8);
      const numbered = run.groups.length > 1 && group.size > 1;
      // Lanes that are thinner than a line of text have the name of their group instead.
      const label = row >= 14 && !numbered ? lane.label : begins ? group.name : "";
      if (numbered && row >= 14) {
        context.fillStyle = faint;
        context.textAlign = "right";
        context.fillText(at - group.first + 1, GUTTER - 8, middle);
        context.textAlign = "left";
      }
      if (!label || middle < free) continue;
      context.fillStyle = text;
      context.fillText(this.short(context, label, GUTTER - (numbered && row >= 14 ? 36 : 14)), 8, middle);
      free = row >= 14 ? free : middle + 13;
    }
  }

  short(context, label, room) {
    if (context.measureText(label).width <= room) return label;
    let kept = label.length;
    while (kept > 1 && context.measureText(`${label.slice(0, kept)}…`).width > room) kept -= 1;
    return `${label.slice(0, kept)}…`;
  }

  colour(span) {
    const { run, colours } = this;
    if (run.verdict[span] === 1) return colours.failed;
    if (run.critical[span]) return colours.onPath;
    if (this.pathOnly) return colours.cancelled;
    return run.verdict[span] === 2 ? colours.cancelled : colours.kinds[run.kind[span]];
  }

  /** Spans that are wide enough are drawn one by one, the others together as what share of a pixel
   * they take. From one pixel to the next it is searched, not walked. */
  drawLane(context, lane, y) {
    const { run, row, from, to } = this;
    const { spans, ends } = lane;
    const size = spans.length;
    const pixel = (to - from) / (this.width - GUTTER - RIGHT);
    const inner = Math.max(2, row - (row >= 8 ? 3 : 1));
    const top = y + (row - inner) / 2;
    let place = firstAbove(ends, from, 0, size);
    // What took no time stands at its instant.
    while (place > 0 && ends[place - 1] === from) place -= 1;
    const bins = new Bins(this.width - GUTTER - RIGHT);
    const wide = [];
    while (place < size) {
      const span = spans[place];
      const start = run.start[span];
      if (start > to) break;
      if (run.end[span] - start >= 2 * pixel) {
        wide.push(span);
        place += 1;
        continue;
      }
      const x = Math.max(GUTTER, Math.floor(this.x(start)));
      const until = this.time(x + 1);
      // All that ends before the next whole pixel; or one that ends in it, or in the one behind it.
      const next = Math.max(place + 1, firstAbove(ends, until, place, size));
      const rank = lane.failed[next] > lane.failed[place] ? 3 : lane.critical[next] > lane.critical[place] ? 2 : 1;
      const sought = this.isSought(place, next, lane);
      const colour = rank === 3 ? this.colours.failed : rank === 2 ? this.colours.onPath : this.colour(span);
      if (run.end[span] <= until) {
        bins.add(x - GUTTER, (lane.busy[next] - lane.busy[place]) / pixel, rank, sought, this.word(colour));
      } else {
        for (let at = x; at < this.x(run.end[span]); at += 1) {
          const share = (Math.min(run.end[span], this.time(at + 1)) - Math.max(start, this.time(at))) / pixel;
          bins.add(at - GUTTER, share, rank, sought, this.word(colour));
        }
      }
      place = next;
    }
    this.drawBins(context, bins, top, inner);
    for (const span of wide) this.drawSpan(context, span, top, inner);
  }

  /** A row of pixels, made as high as the lane: one call, however many there are. */
  drawBins(context, bins, top, height) {
    this.strip ??= document.createElement("canvas");
    if (this.strip.width !== bins.size) [this.strip.width, this.strip.height] = [bins.size, 1];
    this.strip.getContext("2d").putImageData(bins.image(), 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.strip, GUTTER, top, bins.size, height);
  }

  /** A colour as the word that a pixel of it is, without its opacity. */
  word(colour) {
    this.words ??= new Map();
    let word = this.words.get(colour);
    if (word === undefined) {
      const rgb = parseInt(colour.slice(1), 16);
      word = (rgb & 255) << 16 | rgb & 0xff00 | rgb >> 16;
      this.words.set(colour, word);
    }
    return word;
  }

  /** Whether one of these was searched for, or nothing was. */
  isSought(place, next, lane) {
    if (!this.hits) return true;
    for (; place < next && place < lane.spans.length; place += 1) {
      if (this.hits.has(lane.spans[place])) return true;
    }
    return false;
  }

  drawSpan(context, span, top, height) {
    const { run } = this;
    const left = Math.max(GUTTER, this.x(run.start[span]));
    const right = Math.min(this.width - RIGHT + 1, this.x(run.end[span]));
    const width = Math.max(1, right - left - (right - left > 4 ? 1 : 0));
    const plain = !this.hits || this.hits.has(span);
    context.globalAlpha = plain ? 1 : 0.2;
    context.fillStyle = this.colour(span);
    context.fillRect(left, top, width, height);
    if (run.verdict[span] === 1 && width > 6) this.hatch(context, left, top, width, height);
    if (span === this.chosen || this.hits && this.hit >= 0 && this.hitList[this.hit] === span) {
      context.strokeStyle = this.colours.chosen;
      context.lineWidth = 2;
      context.strokeRect(left + 1, top + 1, Math.max(1, width - 2), height - 2);
    }
    const name = run.names[run.name[span]];
    if (height >= 11 && width > 28 && (width > 56 || context.measureText(name).width < width - 7)) {
      context.save();
      context.beginPath();
      context.rect(left, top, width - 3, height);
      context.clip();
      context.fillStyle = this.pathOnly && !run.critical[span] ? this.colours.text : this.colours.label;
      context.textAlign = "left";
      context.fillText(name, left + 4, top + height / 2 + 0.5);
      context.restore();
    }
    context.globalAlpha = 1;
  }

  /** Failures are told by their pattern as well as by their colour. */
  hatch(context, left, top, width, height) {
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.strokeStyle = "rgba(0, 0, 0, 0.2)";
    context.lineWidth = 2;
    context.beginPath();
    for (let x = left - height; x < left + width; x += 7) {
      context.moveTo(x, top + height);
      context.lineTo(x + height, top);
    }
    context.stroke();
    context.restore();
  }

  /** Lines from each step of a chain to the next: of the critical path, or back from what was
   * chosen. */
  drawLinks(context, scroll) {
    const { run } = this;
    let chain = run.chain;
    if (this.chosen >= 0) {
      chain = [];
      for (let span = this.chosen; span >= 0; span = run.after[span]) chain.unshift(span);
    }
    const middle = (span) => AXIS + (run.lane[span] + 0.5) * this.row - scroll;
    context.save();
    context.beginPath();
    context.rect(GUTTER, AXIS, this.width - GUTTER - RIGHT, this.height);
    context.clip();
    context.strokeStyle = this.chosen >= 0 ? this.colours.chosen : this.colours.path;
    context.lineWidth = 1.5;
    context.beginPath();
    for (let at = 1; at < chain.length; at += 1) {
      const [before, span] = [chain[at - 1], chain[at]];
      if (run.end[before] > this.to || run.start[span] < this.from) continue;
      context.moveTo(this.x(run.end[before]), middle(before));
      context.lineTo(this.x(run.start[span]), middle(span));
    }
    context.stroke();
    context.restore();
  }

  /** A step function, as its mean in each pixel. */
  drawArea(canvas, { marks }, steps, most, show) {
    const context = canvas.getContext("2d");
    const height = 84, base = height - 8, top = 10;
    context.clearRect(0, 0, this.width, height);
    context.fillStyle = this.colours.line;
    for (const at of marks) context.fillRect(Math.round(this.x(at)), 0, 1, base);
    const y = (value) => base - (base - top) * (most > 0 ? value / most : 0);
    context.fillStyle = this.colours.area;
    const end = this.width - RIGHT;
    let before = integralAt(steps, this.from);
    let left = GUTTER, last = base;
    for (let x = GUTTER; x <= end; x += 1) {
      const [from, to] = [this.time(x), this.time(x + 1)];
      const sum = integralAt(steps, to);
      const at = x < end ? Math.round(2 * y((sum - before) / (to - from))) / 2 : NaN;
      if (at !== last) {
        context.fillRect(left, last, x - left, base - last);
        [left, last] = [x, at];
      }
      before = sum;
    }
    context.fillStyle = this.colours.line;
    context.fillRect(GUTTER, base, end - GUTTER, 1);
    context.fillRect(GUTTER, top, end - GUTTER, 1);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.fillStyle = this.colours.faint;
    context.fillText(show(most), GUTTER - 8, top + 1);
    context.fillText("0", GUTTER - 8, base - 2);
    context.textAlign = "left";
  }

  zoom(factor, x = (GUTTER + this.width - RIGHT) / 2) {
    const at = this.time(Math.min(Math.max(x, GUTTER), this.width - RIGHT));
    const least = Math.max(1e-6, this.run.extent / 1e9);
    const length = Math.min(this.run.extent, Math.max(least, (this.to - this.from) * factor));
    const share = (at - this.from) / (this.to - this.from);
    this.show(at - length * share, length);
  }

  /** Shows that part of the time, moved so that it lies within the run. */
  show(from, length) {
    this.from = Math.min(Math.max(0, from), this.run.extent - length);
    this.to = this.from + length;
    this.invalidate();
  }

  move(share) {
    const length = this.to - this.from;
    this.show(this.from + length * share, length);
  }

  fit() {
    this.show(0, this.run.extent);
  }

  /** Brings a span into sight. */
  reveal(span) {
    const { run } = this;
    const length = Math.max(run.end[span] - run.start[span], run.extent / 1e9);
    const shown = this.to - this.from;
    const wide = length / shown * (this.width - GUTTER) < 12 ? Math.min(run.extent, length * 40) : Math.max(shown, length * 1.2);
    this.show(run.start[span] + length / 2 - Math.min(wide, run.extent) / 2, Math.min(wide, run.extent));
    const y = run.lane[span] * this.row;
    if (y < this.box.scrollTop || y + this.row > this.box.scrollTop + this.height - AXIS) {
      this.box.scrollTop = y - this.height / 2;
    }
  }

  /** The span at a place of the canvas, or -1; a wide one, or the first of those in the pixel. */
  at(x, y) {
    if (x < GUTTER || y < AXIS) return -1;
    const lane = this.run.lanes[Math.floor((y - AXIS + this.box.scrollTop) / this.row)];
    if (!lane) return -1;
    const time = this.time(x);
    const pixel = this.time(x + 1) - time;
    const place = firstAbove(lane.ends, time - pixel, 0, lane.spans.length);
    for (let near = place; near < Math.min(place + 3, lane.spans.length); near += 1) {
      const span = lane.spans[near];
      if (this.run.start[span] <= time + pixel && this.run.end[span] >= time - pixel) return span;
    }
    return -1;
  }

  search(text) {
    const wanted = text.trim().toLowerCase();
    const { run } = this;
    this.hit = -1;
    this.hits = null;
    this.hitList = [];
    if (wanted) {
      const names = run.names.map((name) => name.toLowerCase().includes(wanted));
      for (let span = 0; span < run.count; span += 1) if (names[run.name[span]]) this.hitList.push(span);
      this.hits = new Set(this.hitList);
    }
    this.section.querySelector(".hits").textContent = wanted ? `${this.hitList.length} found` : "";
    this.invalidate();
  }

  nextHit(step) {
    if (!this.hits || !this.hitList.length) return;
    const count = this.hitList.length;
    this.hit = this.hit < 0 ? (step > 0 ? 0 : count - 1) : (this.hit + step + count) % count;
    this.section.querySelector(".hits").textContent = `${this.hit + 1} of ${count}`;
    this.reveal(this.hitList[this.hit]);
  }
}
