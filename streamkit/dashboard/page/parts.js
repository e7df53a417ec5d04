// What the page is made of. Everything that comes from elsewhere becomes text by textContent, and never markup.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function drawn(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Only what differs is touched: what somebody reads or has selected stays.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function look(node, className) {
  if (node.className !== className) node.className = className;
}

export function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

// One child for each item, by key: those that stay are updated and not replaced, so that nothing jumps or closes.
export function sync(parent, items, keyOf, create) {
  const known = (parent.known ??= new Map());
  const wanted = new Set();
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    let part = known.get(key);
    if (!part) known.set(key, (part = create(item)));
    part.update(item);
    const next = before ? before.nextSibling : parent.firstChild;
    if (next !== part.node) parent.insertBefore(part.node, next);
    before = part.node;
  }
  for (const [key, part] of known) {
    if (!wanted.has(key)) {
      part.node.remove();
      known.delete(key);
    }
  }
}

// A row of cells with names; with `body` it opens.
export function row(labels, withBody) {
  const head = make(withBody ? "summary" : "div", "cells");
  const cells = labels.map(([label, kind]) => {
    const value = make("span", "value");
    head.append(make("span", `cell ${kind ?? ""}`.trim(), make("span", "label", label), value));
    return value;
  });
  if (!withBody) return { node: make("div", "row", head), cells };
  const body = make("div", "body");
  const node = make("details", "row", head, body);
  return { node, cells, body };
}

export function heads(list, labels) {
  if (list.previousElementSibling?.classList.contains("heads")) return;
  const cells = labels.map(([label, kind]) => make("span", `cell ${kind ?? ""}`.trim(), label));
  const head = make("div", `heads ${list.className}`, make("div", "cells", ...cells));
  head.setAttribute("aria-hidden", "true");
  list.before(head);
}

// ---- numbers

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const count = (n) => (n < 100000 ? whole.format(n) : short.format(n));
export const rate = (n) => (n === 0 ? "0" : n < 10 ? fine.format(n) : short.format(n));
export const plural = (n, one, many = `${one}s`) => `${whole.format(n)} ${n === 1 ? one : many}`;

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024 || unit === "GiB") return `${n < 10 && unit !== "B" ? fine.format(n) : whole.format(n)} ${unit}`;
    n /= 1024;
  }
}

export function age(ms) {
  const s = ms / 1000;
  if (s < 10) return `${fine.format(s)} s`;
  if (s < 120) return `${whole.format(s)} s`;
  if (s < 7200) return `${whole.format(s / 60)} min`;
  if (s < 172800) return `${fine.format(s / 3600)} h`;
  return `${whole.format(s / 86400)} days`;
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB", { hour12: false });
}

export function moment(ms) {
  const at = new Date(ms);
  const day = at.toLocaleDateString("sv-SE");
  return day === new Date().toLocaleDateString("sv-SE") ? clock(ms) : `${day} ${clock(ms)}`;
}

// ---- plots

// A line of values, whose scale is its own; what it says is its text as well.
export function sparkline(className) {
  const area = drawn("path", { class: "area" });
  const line = drawn("path", { class: "line" });
  const title = drawn("title", {});
  const node = drawn(
    "svg",
    { class: `spark ${className}`, viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img" },
    title,
    area,
    line,
  );
  return {
    node,
    update(values, text) {
      say(title, text);
      const top = Math.max(...values, 1e-9);
      const step = 100 / Math.max(1, values.length - 1);
      const points = values.map((v, i) => `${(i * step).toFixed(1)} ${(22.5 - (v / top) * 21).toFixed(1)}`);
      const path = points.length ? `M${points.join("L")}` : "M0 22.5";
      line.setAttribute("d", path);
      area.setAttribute("d", `${path}L100 24L0 24Z`);
    },
  };
}

export const STATES = ["ALARM", "INSUFFICIENT_DATA", "OK"];

// [state, from, to] of an alarm, the oldest first, from its changes, the newest first.
export function spans(changes, state, now) {
  const found = [];
  let end = now;
  let held = state;
  for (const each of changes) {
    found.unshift([each.state ?? held, each.at_ms, end]);
    end = each.at_ms;
    held = each.previous;
  }
  if (changes.length === 0) found.push([state, null, now]);
  return found;
}

// How an alarm's state went, as a strip.
export function strip() {
  const title = drawn("title", {});
  const parts = drawn("g", {});
  const node = drawn("svg", { class: "day", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img" }, title, parts);
  return {
    node,
    update(held, from, now, text) {
      say(title, text);
      parts.replaceChildren(
        ...held.map(([state, start, end]) => {
          const x = start === null ? 0 : Math.max(0, ((start - from) / (now - from)) * 100);
          const until = Math.max(x, ((end - from) / (now - from)) * 100);
          return drawn("rect", { class: `held ${state}`, x, y: 0, width: Math.max(until - x, 0.6), height: 10 });
        }),
      );
    },
  };
}

// The same as steps between three levels, with the time below.
export function steps() {
  const node = drawn("svg", { class: "steps", viewBox: "0 0 600 96", role: "img" });
  return {
    node,
    update(held, from, now, text) {
      const x = (at) => 120 + Math.max(0, (at - from) / Math.max(1, now - from)) * 470;
      const y = (state) => 18 + STATES.indexOf(state) * 26;
      const shown = [drawn("title", {}, text)];
      for (const state of STATES) {
        const name = state === "INSUFFICIENT_DATA" ? "no data" : state;
        shown.push(
          drawn("text", { x: 110, y: y(state) + 4, "text-anchor": "end" }, name),
          drawn("line", { class: "grid", x1: 120, x2: 590, y1: y(state), y2: y(state) }),
        );
      }
      let before = null;
      for (const [state, start, end] of held) {
        if (end < from) continue;
        const left = start === null ? 120 : x(start);
        if (before !== null) shown.push(drawn("line", { class: "rise", x1: left, x2: left, y1: y(before), y2: y(state) }));
        shown.push(drawn("line", { class: `level ${state}`, x1: left, x2: Math.max(x(end), left + 1), y1: y(state), y2: y(state) }));
        before = state;
      }
      shown.push(
        drawn("text", { x: 120, y: 92 }, moment(from)),
        drawn("text", { x: 590, y: 92, "text-anchor": "end" }, "now"),
      );
      node.replaceChildren(...shown);
    },
  };
}

// ---- texts

// JSON on several lines, with every digit as it is: a number that JavaScript would round is not read as one.
export function pretty(text) {
  try {
    if (typeof JSON.parse(text) !== "object") return text;
  } catch {
    return text;
  }
  let out = "";
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      out += c === "\\" ? c + text[++i] : c;
      if (c === '"') quoted = false;
    } else if (c === '"') {
      out += c;
      quoted = true;
    } else if (c === "{" || c === "[") {
      const close = /^\s*[}\]]/.exec(text.slice(i + 1, i + 50));
      if (close) {
        out += c + close[0].trim();
        i += close[0].length;
      } else out += `${c}\n${"  ".repeat(++depth)}`;
    } else if (c === "}" || c === "]") out += `\n${"  ".repeat(--depth)}${c}`;
    else if (c === ",") out += `,\n${"  ".repeat(depth)}`;
    else if (c === ":") out += ": ";
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}

export function shownAs(payload) {
  if (payload.size === 0) return "(empty)";
  return payload.text + (payload.is_whole ? "" : " …");
}

export function aboutIt(payload) {
  return `${bytes(payload.size)}${payload.is_text ? "" : ", not UTF-8: hexadecimal"}${payload.is_whole ? "" : ", its beginning"}`;
}
