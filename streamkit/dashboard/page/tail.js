// The live tail of one stream.

import { aboutIt, clock, count, make, plural, pretty, say, shownAs, sync } from "./parts.js";

const $ = (id) => document.getElementById(id);
const MOST = 300;
const QUIET_MS = 300;

let source = null;
let stream = "";
let contains = "";
let paused = false;
let records = [];
let held = [];
let notLookedAt = 0;
let notShown = 0;
let state = "";

export function streamsOf(overview) {
  const select = $("tail-stream");
  const names = overview.streams.map((each) => each.name);
  sync(select, names, (name) => name, (name) => {
    const node = make("option", "", name);
    node.value = name;
    return { node, update() {} };
  });
  if (!names.includes(stream)) follow(names[0] ?? "");
}

function follow(name) {
  stream = name;
  $("tail-stream").value = name;
  clear();
  connect();
}

function connect() {
  source?.close();
  source = null;
  if (stream === "") return show("no stream to follow");
  if (document.hidden) return show("not followed while nobody looks");
  show("connecting");
  // The browser asks again by itself, from where it was, whenever an answer ends.
  source = new EventSource(`api/tail?${new URLSearchParams({ stream, contains })}`);
  source.addEventListener("open", () => show("following"));
  source.addEventListener("records", (event) => take(JSON.parse(event.data)));
  source.addEventListener("failed", (event) => {
    show(JSON.parse(event.data).error);
    source.close();
    setTimeout(connect, 5000);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      show("refused; trying again");
      setTimeout(connect, 5000);
    } else if (state !== "following") show("connection lost; trying again");
    else state = "again"; // An answer has an end, and the next is there at once: that is nothing to tell.
  });
}

const keyOf = (record) => `${record.shard} ${record.number} ${record.sub} ${record.arrival_ms}`;

function take(event) {
  notLookedAt += event.not_looked_at;
  notShown += event.not_shown;
  // A tail that begins anew begins with the newest there are: those that are here already are no new ones.
  const known = new Set([...held, ...records].map(keyOf));
  const newest = event.records.reverse().filter((record) => !known.has(keyOf(record)));
  if (paused) held = [...newest, ...held].slice(0, MOST);
  else records = [...newest, ...records].slice(0, MOST);
  draw();
}

function draw() {
  sync($("tail-list"), records, keyOf, row);
  show(state);
}

function show(now) {
  state = now;
  const parts = [now];
  if (stream !== "") parts[0] += ` ${stream}`;
  if (records.length) parts.push(plural(records.length, "record"));
  if (notLookedAt) parts.push(`${count(notLookedAt)} came too fast to look at`);
  if (notShown) parts.push(`${count(notShown)} more not shown`);
  if (paused) parts.push(`paused: ${plural(held.length, "new record")}${held.length >= MOST ? " or more" : ""} held back`);
  say($("tail-status"), parts.join(" · ").replace(/^again/, "following"));
}

function clear() {
  records = [];
  held = [];
  notLookedAt = notShown = 0;
  draw();
}

function row(record) {
  const body = make("pre", "payload");
  const head = make(
    "summary",
    "",
    make("time", "", `${clock(record.arrival_ms)}.${String(record.arrival_ms % 1000).padStart(3, "0")}`),
    make("span", "shard", record.shard.replace(/^shardId-0*(?=\d)/, "#")),
    make("span", "key", record.key),
    make("code", "", record.data.text.slice(0, 300)),
  );
  const node = make("details", "record", head);
  node.addEventListener("toggle", () => {
    if (!node.open || body.isConnected) return;
    say(body, record.data.is_text && record.data.is_whole ? pretty(record.data.text) : shownAs(record.data));
    node.append(make("p", "muted", `${record.shard} · sequence number ${record.number} · key ${record.key} · ${aboutIt(record.data)}`), body);
  });
  return { node, update() {} };
}

export function begin() {
  $("tail-stream").addEventListener("change", (event) => follow(event.target.value));
  let waiting = 0;
  $("tail-contains").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      contains = event.target.value;
      follow(stream);
    }, QUIET_MS);
  });
  $("tail-pause").addEventListener("click", (event) => {
    paused = !paused;
    event.target.setAttribute("aria-pressed", String(paused));
    say(event.target, paused ? "Go on" : "Pause");
    if (!paused) {
      records = [...held, ...records].slice(0, MOST);
      held = [];
    }
    draw();
  });
  $("tail-clear").addEventListener("click", clear);
  document.addEventListener("visibilitychange", connect);
}
