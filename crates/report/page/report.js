// What the reader does with the page: pointer and keys in the timeline, tabs, tables to sort.

Timeline.prototype.legend = function legend() {
  const { run } = this;
  const all = [
    ["build", "built or run", (span) => run.kind[span] === 0 && run.verdict[span] === 0],
    ["fetch", "fetched", (span) => run.kind[span] === 1],
    ["hook", "built by a hook", (span) => run.kind[span] === 2],
    ["on-path", "on the critical path", () => run.chain.length > 1],
    ["failed", "failed", (span) => run.verdict[span] === 1],
    ["cancelled", "ended early", (span) => run.verdict[span] === 2],
  ];
  const legend = this.section.querySelector(".legend");
  for (const [name, label, shown] of all) {
    let some = false;
    for (let span = 0; span < run.count && !some; span += 1) some = shown(span);
    if (!some) continue;
    const item = document.createElement("span");
    const mark = document.createElement("i");
    mark.className = name;
    item.append(mark, label);
    legend.append(item);
  }
};

Timeline.prototype.listen = function listen() {
  const { box, section } = this;
  let drag = null;
  const place = (event) => {
    const rect = this.canvas.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  };
  box.addEventListener("wheel", (event) => {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      event.preventDefault();
      this.move(sideways / this.width);
    } else if (event.ctrlKey || event.metaKey || document.activeElement === box) {
      event.preventDefault();
      this.zoom(Math.exp(Math.min(Math.max(event.deltaY, -300), 300) * 0.002), place(event)[0]);
    }
  }, { passive: false });
  box.addEventListener("scroll", () => this.invalidate());
  this.canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    box.focus({ preventScroll: true });
    drag = { x: event.clientX, y: event.clientY, from: this.from, top: box.scrollTop, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  });
  this.canvas.addEventListener("pointermove", (event) => {
    if (!drag) return this.hover(event, ...place(event));
    const across = event.clientX - drag.x;
    drag.moved ||= Math.abs(across) > 3 || Math.abs(event.clientY - drag.y) > 3;
    if (!drag.moved) return undefined;
    this.tip.hidden = true;
    box.classList.add("moving");
    const length = this.to - this.from;
    box.scrollTop = drag.top - (event.clientY - drag.y);
    return this.show(drag.from - across / (this.width - GUTTER - RIGHT) * length, length);
  });
  this.canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) {
      this.chosen = this.at(...place(event));
      this.invalidate();
    }
    drag = null;
    box.classList.remove("moving");
  });
  this.canvas.addEventListener("pointercancel", () => { drag = null; });
  this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
  this.canvas.addEventListener("dblclick", (event) => {
    const span = this.at(...place(event));
    if (span < 0) return;
    const length = Math.max(this.run.end[span] - this.run.start[span], this.run.extent / 1e9) * 1.4;
    const shown = Math.min(length, this.run.extent);
    this.show(this.run.start[span] - length / 7, shown);
  });
  box.addEventListener("keydown", (event) => this.key(event));
  for (const button of section.querySelectorAll("button[data-do]")) {
    button.addEventListener("click", () => this.act(button.dataset.do));
  }
  const search = section.querySelector("input[type=search]");
  search.addEventListener("input", () => this.search(search.value));
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") this.nextHit(event.shiftKey ? -1 : 1);
  });
};

Timeline.prototype.act = function act(what) {
  if (what === "in") this.zoom(0.5);
  if (what === "out") this.zoom(2);
  if (what === "fit") this.fit();
  if (what === "path") {
    this.pathOnly = !this.pathOnly;
    this.section.querySelector("[data-do=path]").setAttribute("aria-pressed", String(this.pathOnly));
    this.invalidate();
  }
};

Timeline.prototype.key = function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    "+": () => this.zoom(0.7), "=": () => this.zoom(0.7), w: () => this.zoom(0.7),
    "-": () => this.zoom(1 / 0.7), s: () => this.zoom(1 / 0.7),
    ArrowLeft: () => this.move(-0.15), a: () => this.move(-0.15),
    ArrowRight: () => this.move(0.15), d: () => this.move(0.15),
    PageUp: () => this.move(-0.9), PageDown: () => this.move(0.9),
    0: () => this.fit(), Home: () => this.fit(), c: () => this.act("path"),
    n: () => this.nextHit(1), N: () => this.nextHit(-1),
    Escape: () => { this.chosen = -1; this.invalidate(); },
    "/": () => this.section.querySelector("input[type=search]").focus(),
  };
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
};

/** What is known of the span below the pointer. */
Timeline.prototype.hover = function hover(event, x, y) {
  const span = this.at(x, y);
  const { run, tip } = this;
  tip.hidden = span < 0;
  if (span < 0) return;
  const line = (label, value) => {
    const row = document.createElement("div");
    const name = document.createElement("span");
    name.textContent = label;
    row.append(name, value);
    return row;
  };
  const title = document.createElement("b");
  title.textContent = run.names[run.name[span]];
  const time = (value) => showTime(value, run.symbol);
  const rows = [title];
  const end = ["", "failed", "ended early"][run.verdict[span]];
  if (end) rows.push(line("End", end));
  rows.push(line("Time", time(run.end[span] - run.start[span])), line("From", time(run.start[span])));
  if (run.width(span) > 1) rows.push(line("Lanes", String(run.width(span))));
  if (run.wait(span) > 0) rows.push(line("Waited", time(run.wait(span))));
  if (run.after[span] >= 0) rows.push(line("After", run.names[run.name[run.after[span]]]));
  if (run.cpu?.[span] != null) rows.push(line("Processor", showTime(run.cpu[span], "s")));
  if (run.memory?.[span] != null) rows.push(line("Memory", showBytes(run.memory[span])));
  if (run.critical[span]) rows.push(line("", "on the critical path"));
  tip.replaceChildren(...rows);
  const room = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, room - tip.offsetWidth - 12))}px`;
  const below = event.clientY + 18 + tip.offsetHeight < window.innerHeight;
  tip.style.top = `${below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 10}px`;
};

const views = [];

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const articles = [...document.querySelectorAll("article.run")];
  const tabs = [...document.querySelectorAll(".tabs button")];

  /** A run is read when it is first looked at. */
  function show(chosen) {
    articles.forEach((article, at) => { article.classList.toggle("hidden", at !== chosen); });
    tabs.forEach((tab, at) => tab.setAttribute("aria-selected", String(at === chosen)));
    const section = articles[chosen]?.querySelector(".timeline");
    if (!section) return;
    if (views[chosen]) {
      views[chosen].layout();
    } else {
      const run = readRun(data.names, data.runs[chosen]);
      views[chosen] = new Timeline(section, run);
      sortable(articles[chosen].querySelector("table.slowest"), run);
    }
  }

  /** A table of spans: whatever it is sorted by, the first of all spans are shown. */
  function sortable(table, run) {
    const heads = [...table.tHead.rows[0].cells];
    const groups = run.groups;
    const place = (span) => {
      const lane = run.lanes[run.lane[span]];
      if (!lane) return "";
      return groups.length > 1 ? `${groups[lane.group].name}, ${lane.label}` : lane.label;
    };
    const time = (value) => showTime(value, run.symbol);
    const known = (value, text) => value == null ? "–" : text(value);
    const columns = {
      name: [(span) => run.names[run.name[span]], (span) => run.names[run.name[span]]],
      lane: [(span) => run.lane[span], place],
      start: [(span) => run.start[span], (span) => time(run.start[span])],
      length: [(span) => run.end[span] - run.start[span], (span) => time(run.end[span] - run.start[span])],
      wait: [run.wait, (span) => time(run.wait(span))],
      cpu: [(span) => run.cpu?.[span] ?? -1, (span) => known(run.cpu?.[span], (it) => showTime(it, "s"))],
      memory: [(span) => run.memory?.[span] ?? -1, (span) => known(run.memory?.[span], showBytes)],
      verdict: [(span) => run.verdict[span], (span) => ["", "failed", "ended early"][run.verdict[span]]],
    };
    sortBy(heads, ["name", "lane", "start"].map((it) => heads.findIndex((head) => head.dataset.by === it)), (head, sign) => {
      const value = columns[head.dataset.by][0];
      const order = Array.from({ length: run.count }, (_, at) => at);
      order.sort((a, b) => compare(value(a), value(b)) * sign || a - b);
      const rows = order.slice(0, 100).map((span) => {
        const row = document.createElement("tr");
        for (const column of heads) {
          const cell = row.insertCell();
          cell.textContent = columns[column.dataset.by][1](span);
          cell.className = column.dataset.by === "name" ? "name" : column.className;
        }
        row.addEventListener("click", () => {
          const view = views.find((it) => it?.run === run);
          view.chosen = span;
          view.reveal(span);
          view.section.scrollIntoView({ block: "nearest", behavior: "smooth" });
        });
        return row;
      });
      table.tBodies[0].replaceChildren(...rows);
    });
    heads.find((head) => head.dataset.by === "length").firstChild.click();
  }

  const compare = (a, b) => typeof a === "string" ? a.localeCompare(b) : a - b;

  /** Makes heads of columns buttons; `ascending` are those that begin with the least. */
  function sortBy(heads, ascending, sort) {
    heads.forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.removeAttribute("aria-sort");
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const up = was ? was === "descending" : ascending.includes(at);
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(head, up ? 1 : -1);
      });
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const texts = heads.map((head, at) => head.classList.contains("n") ? -1 : at);
    sortBy(heads, texts, (head, sign) => {
      const value = (row) => {
        const cell = row.cells[head.cellIndex];
        return cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort);
      };
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(value(a), value(b)) * sign);
      table.tBodies[0].replaceChildren(...rows);
    });
  }

  tabs.forEach((tab, at) => tab.addEventListener("click", () => show(at)));
  document.documentElement.classList.add("scripted");
  if (articles.length) show(0);
  const again = () => { for (const view of views) view?.layout(); };
  window.addEventListener("resize", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  const print = (printing) => () => {
    document.documentElement.classList.toggle("printing", printing);
    for (const view of views) if (view) view.printing = printing;
    again();
  };
  window.addEventListener("beforeprint", print(true));
  window.addEventListener("afterprint", print(false));
})();
