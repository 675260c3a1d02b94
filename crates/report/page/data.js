"use strict";
// The data of a run: columns of numbers, and for each lane what is needed to draw any part of it at
// any scale without looking at all spans.

/** The first place in `values`, from `low` to `high`, whose value is above `wanted`. */
function firstAbove(values, wanted, low, high) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > wanted) high = middle; else low = middle + 1;
  }
  return low;
}

/** What `count` spans use of something over time: a step function, and its integral. */
function stepFunction(count, start, end, amount) {
  const byEnd = Uint32Array.from({ length: count }, (_, at) => at).sort((a, b) => end[a] - end[b]);
  const time = [0], value = [0], integral = [0];
  let level = 0, next = 0;
  const add = (at, change) => {
    const last = time.length - 1;
    if (at > time[last]) {
      integral.push(integral[last] + (at - time[last]) * level);
      time.push(at);
      value.push(0);
    }
    level += change;
    value[time.length - 1] = level;
  };
  const endUntil = (at) => {
    while (next < count && end[byEnd[next]] <= at) {
      add(end[byEnd[next]], -amount(byEnd[next]));
      next += 1;
    }
  };
  for (let span = 0; span < count; span += 1) {
    // What takes no time uses nothing, and must not be given back before it was taken.
    if (end[span] === start[span]) continue;
    endUntil(start[span]);
    add(start[span], amount(span));
  }
  endUntil(Infinity);
  return {
    time: Float64Array.from(time), value: Float64Array.from(value), integral: Float64Array.from(integral),
    max: value.reduce((a, b) => Math.max(a, b), 0),
  };
}

/** The integral of a step function up to a time. */
function integralAt(steps, at) {
  if (at <= 0) return 0;
  const place = firstAbove(steps.time, at, 0, steps.time.length) - 1;
  return steps.integral[place] + (at - steps.time[place]) * steps.value[place];
}

/** Takes a run of the page's data apart. */
function readRun(names, raw) {
  const count = raw.start.length;
  const start = new Float64Array(count), end = new Float64Array(count);
  let at = 0;
  for (let span = 0; span < count; span += 1) {
    at += raw.start[span];
    start[span] = at;
    end[span] = at + raw.length[span];
  }
  const digits = (text) => Uint8Array.from(text, (digit) => digit.charCodeAt(0) - 48);
  const kind = digits(raw.kind), verdict = digits(raw.verdict);
  const after = Int32Array.from(raw.after, (place) => place - 1);
  const critical = new Uint8Array(count);
  for (const span of raw.chain) critical[span] = 1;
  const lanes = [], groups = [];
  for (const [name, lane, size, counts] of raw.groups) {
    groups.push({ name, first: lanes.length, size });
    for (let number = 1; number <= size; number += 1) {
      lanes.push({ label: size === 1 && lane === name ? name : `${lane} ${number}`, group: groups.length - 1, counts, spans: [] });
    }
  }
  const more = new Map(raw.more);
  for (let span = 0; span < count; span += 1) {
    lanes[raw.lane[span]]?.spans.push(span);
    for (const lane of more.get(span) ?? []) lanes[lane]?.spans.push(span);
  }
  for (const lane of lanes) indexLane(lane, start, end, verdict, critical);
  const width = (span) => 1 + (more.get(span)?.length ?? 0);
  const counted = (span) => lanes[raw.lane[span]]?.counts ? width(span) : 0;
  const run = {
    names, count, start, end, kind, verdict, after, critical, lanes, groups, width,
    name: raw.name, lane: raw.lane, cpu: raw.cpu ?? null, memory: raw.memory ?? null,
    chain: raw.chain, symbol: raw.symbol, capacity: raw.capacity, last: raw.end, memoryIs: raw.memoryIs,
    // The sides of the picture stay free, also of a run that took no time.
    extent: Math.max(raw.end, 1),
    used: stepFunction(count, start, end, counted),
  };
  run.memoryUsed = run.memory && stepFunction(count, start, end, (span) => run.memory[span] ?? 0);
  run.wait = (span) => start[span] - (after[span] < 0 ? 0 : end[after[span]]);
  return run;
}

/** What a lane's drawing needs: where spans begin and end, and sums up to each. */
function indexLane(lane, start, end, verdict, critical) {
  const size = lane.spans.length;
  lane.spans = Uint32Array.from(lane.spans);
  lane.ends = new Float64Array(size);
  lane.busy = new Float64Array(size + 1);
  lane.failed = new Uint32Array(size + 1);
  lane.critical = new Uint32Array(size + 1);
  let last = 0;
  for (let place = 0; place < size; place += 1) {
    const span = lane.spans[place];
    // Spans of a lane do not overlap; should data say so all the same, the search still holds.
    last = Math.max(last, end[span]);
    lane.ends[place] = last;
    lane.busy[place + 1] = lane.busy[place] + end[span] - start[span];
    lane.failed[place + 1] = lane.failed[place] + (verdict[span] === 1 ? 1 : 0);
    lane.critical[place + 1] = lane.critical[place] + critical[span];
  }
}

/** A number with three figures that count. */
function figures(value) {
  if (Number.isInteger(value) || Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3);
}

/** A time in millionths, for people. */
function showTime(millionths, symbol) {
  if (symbol !== "s") return figures(millionths / 1e6);
  const size = Math.abs(millionths);
  if (size === 0) return "0 s";
  if (size < 1e3) return `${figures(millionths)} µs`;
  if (size < 1e6) return `${figures(millionths / 1e3)} ms`;
  if (size < 6e7) return `${figures(millionths / 1e6)} s`;
  const seconds = Math.floor(millionths / 1e6);
  const two = (number) => String(number).padStart(2, "0");
  if (size < 3.6e9) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds % 3600 / 60))} min`;
}

/** A number of bytes, for people. */
function showBytes(count) {
  let name = 0;
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (count >= 1024 && name + 1 < names.length) {
    count /= 1024;
    name += 1;
  }
  return `${figures(count)} ${names[name]}`;
}
