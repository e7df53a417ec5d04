// Streams, queues, mappings, alarms, tables and services.

import { ask } from "./asking.js";
import { age, bytes, count, heads, hide, look, make, moment, plural, rate, row, say, sparkline, spans, steps, strip, sync } from "./parts.js";

const $ = (id) => document.getElementById(id);

function fill(list, items, create, labels, nothing) {
  list.nothing ??= nothingNode(list, nothing);
  hide(list.nothing, items.length > 0);
  if (items.length && labels) heads(list, labels);
  const head = list.previousElementSibling;
  if (head?.classList.contains("heads")) hide(head, items.length === 0);
  sync(list, items, (item) => item.name, create);
}

function nothingNode(list, text) {
  const node = make("p", "nothing", text);
  list.after(node);
  return node;
}

const sum = (items, of) => items.reduce((total, item) => total + of(item), 0);

// ---- streams

const STREAM = [["Stream", "name"], ["Records/s", "plot"], ["Bytes/s", "plot"], ["Kept", "number"], ["Shards", "number"], ["Behind", "wide"]];

export function streams(overview, throughput) {
  const items = overview.streams.map((stream) => ({ ...stream, throughput: throughput[stream.name] }));
  fill($("streams-list"), items, streamRow, STREAM, "No streams yet: kit.create_stream(...) makes one.");
}

function streamRow() {
  const part = row(STREAM, true);
  const [name, records, size, kept, shards, behind] = part.cells;
  const plots = [sparkline("records"), sparkline("bytes")];
  const texts = [make("b"), make("b")];
  records.append(texts[0], plots[0].node);
  size.append(texts[1], plots[1].node);
  const about = make("p", "muted");
  const shardList = make("div", "list of-shards");
  const consumers = make("div", "list of-consumers");
  part.body.append(about, make("h3", "", "Consumers"), consumers, make("h3", "", "Shards"), shardList);
  return {
    node: part.node,
    update(stream) {
      say(name, stream.name);
      say(texts[0], rate(stream.records_per_second));
      say(texts[1], bytes(stream.bytes_per_second));
      const { period, records: perSecond, bytes: bytesPerSecond } = stream.throughput ?? { period: 0, records: [], bytes: [] };
      const span = `the last ${age(period * perSecond.length * 1000)}, ${period} s a point`;
      plots[0].update(perSecond, `${stream.name}: at most ${rate(Math.max(0, ...perSecond))} records a second in ${span}`);
      plots[1].update(bytesPerSecond, `${stream.name}: at most ${bytes(Math.max(0, ...bytesPerSecond))} a second in ${span}`);
      say(kept, count(sum(stream.shards, (shard) => shard.records)));
      const open = stream.shards.filter((shard) => shard.is_open).length;
      say(shards, open === stream.shards.length ? count(open) : `${count(open)} + ${count(stream.shards.length - open)} closed`);
      say(about, `${stream.mode === "ON_DEMAND" ? "On demand" : "Provisioned"}, records stay ${stream.retention_ms === null ? "for ever" : age(stream.retention_ms)}. The plots are of ${span}.`);
      const lags = stream.consumers.map((consumer) => ({ ...consumer, ...total(consumer.lag) }));
      sync(behind, lags.length ? lags : [{ name: "", nobody: true }], (lag) => lag.name, chip);
      if (!part.node.open) return;
      fill(consumers, lags, consumerRow, CONSUMER, "Nobody reads it yet.");
      const shown = stream.shards.map((shard) => ({ ...shard, name: shard.shard_id, lags }));
      fill(shardList, shown, shardRow, SHARD, "There are none.");
    },
  };
}

// A mapping reads under its own name.
const reader = (name) => name.replace(/^mapping:(.*)$/, "$1 (mapping)");

function total(lag) {
  return {
    records: sum(lag.shards, (shard) => shard.records),
    millis: Math.max(0, ...lag.shards.map((shard) => shard.millis_behind)),
    trimmed: sum(lag.shards, (shard) => shard.trimmed),
  };
}

function behindText(lag) {
  const lost = lag.trimmed ? `, ${count(lag.trimmed)} trimmed before it` : "";
  return (lag.records ? `${count(lag.records)} · ${age(lag.millis)}` : "caught up") + lost;
}

function chip() {
  const name = make("span", "who");
  const text = make("span", "lag");
  const node = make("span", "chip", name, " ", text);
  return {
    node,
    update(lag) {
      if (lag.nobody) {
        look(node, "chip none");
        say(text, "nobody reads it");
        return;
      }
      look(node, lag.trimmed ? "chip bad" : lag.records ? "chip behind" : "chip fine");
      say(name, reader(lag.name));
      say(text, behindText(lag));
    },
  };
}

const CONSUMER = [["Consumer", "name"], ["Records behind", "number"], ["Age", "number"], ["Trimmed", "number"], ["Workers", "wide"]];

function consumerRow() {
  const { node, cells } = row(CONSUMER);
  return {
    node,
    update(lag) {
      say(cells[0], reader(lag.name));
      say(cells[1], count(lag.records));
      say(cells[2], lag.millis ? age(lag.millis) : "–");
      say(cells[3], lag.trimmed ? count(lag.trimmed) : "–");
      // Those that streamkit makes up are long, and their beginnings tell them apart.
      say(cells[4], lag.workers.map((id) => id.replace(/\b([0-9a-f]{8})[0-9a-f]{24}\b/g, "$1…")).join(", ") || "–");
      cells[4].title = lag.workers.join("\n");
    },
  };
}

const SHARD = [["Shard", "name"], ["State", ""], ["Of the keys", "number"], ["Kept", "number"], ["Behind", "wide"]];

function shardRow() {
  const { node, cells } = row(SHARD);
  return {
    node,
    update(shard) {
      say(cells[0], shard.shard_id);
      say(cells[1], shard.is_open ? "open" : "closed");
      say(cells[2], `${(shard.hash_keys * 100).toFixed(1)} %`);
      say(cells[3], count(shard.records));
      const found = shard.lags
        .map((lag) => [lag.name, lag.lag.shards.find((each) => each.shard_id === shard.shard_id)])
        .filter(([, each]) => each?.records)
        .map(([name, each]) => `${reader(name)} ${count(each.records)}`);
      say(cells[4], found.join(", ") || "–");
    },
  };
}

// ---- queues

const QUEUE = [["Queue", "name"], ["Depth", "plot"], ["In flight", "number"], ["Delayed", "number"], ["Oldest", "number"], ["Dead letters to", "wide"]];
const LOOKS = 60;

export function queues(overview) {
  fill($("queues-list"), overview.queues, queueRow, QUEUE, "No queues yet: kit.create_queue(...) makes one.");
}

function queueRow() {
  const { node, cells } = row(QUEUE);
  const [name, depth, flight, delayed, oldest, dead] = cells;
  const text = make("b");
  const plot = sparkline("depth");
  depth.append(text, plot.node);
  const label = make("span");
  const badges = make("span", "badges");
  name.append(label, badges);
  const depths = [];
  return {
    node,
    update(queue) {
      say(label, queue.name);
      const kinds = [queue.fifo && "FIFO", queue.dead_letters_of.length && "dead letters"].filter(Boolean);
      sync(badges, kinds, (kind) => kind, (kind) => ({ node: make("span", "badge", kind), update() {} }));
      say(text, count(queue.visible));
      depths.push(queue.visible);
      if (depths.length > LOOKS) depths.shift();
      plot.update(depths, `${queue.name}: ${plural(queue.visible, "visible message")}, at most ${count(Math.max(...depths))} while this page was open`);
      say(flight, count(queue.in_flight));
      say(delayed, count(queue.delayed));
      say(oldest, queue.oldest_age_ms === null ? "–" : age(queue.oldest_age_ms));
      say(dead, queue.dead_letter_queue === null ? "–" : `${queue.dead_letter_queue} after ${plural(queue.maximum_receives, "receive")}`);
    },
  };
}

// ---- mappings

const MAPPING = [["Mapping", "name"], ["From", ""], ["State", "state"], ["Read", "number"], ["Filtered out", "number"], ["Calls", "number"], ["Errors", "number"], ["Took effect", "number"], ["Dropped", "number"], ["Last result", "wide"]];
const MOVING = { Enabled: "ok", Disabled: "off" };

export function mappings(overview) {
  const nothing =
    overview.owner === "looking on"
      ? "Mappings run in the process that owns the directory; how far each has come is its consumer's lag above."
      : "No mappings run here: kit.start(EventSourceMapping(...)) starts one.";
  fill($("mappings-list"), overview.mappings, mappingRow, MAPPING, nothing);
}

function mappingRow() {
  const { node, cells } = row(MAPPING);
  const pill = make("span", "pill");
  cells[2].append(pill);
  return {
    node,
    update(mapping) {
      const counts = mapping.counts;
      say(cells[0], mapping.name);
      say(cells[1], mapping.source);
      say(pill, mapping.state);
      look(pill, `pill ${MOVING[mapping.state] ?? "unsure"}`);
      const shown = [counts.polled, counts.filtered_out, counts.invocations, counts.errors, counts.written, counts.dropped];
      shown.forEach((n, i) => say(cells[3 + i], count(n)));
      cells[6].classList.toggle("bad", counts.errors > 0);
      cells[8].classList.toggle("bad", counts.dropped > 0);
      say(cells[9], mapping.last_processing_result);
    },
  };
}

// ---- alarms

const ALARM = [["Alarm", "name"], ["State", "state"], ["Since", "number"], ["Lately", "strip"], ["Reason", "wide"]];
const DAY_MS = 86400000;
const HOUR_MS = 3600000;
const PILL = { OK: "ok", ALARM: "alarm", INSUFFICIENT_DATA: "unsure" };
let changes = new Map();
let asOf = "";

export async function alarms(overview) {
  const now = overview.now_ms;
  const ranked = [...overview.alarms].sort((a, b) => (a.state === "ALARM" ? 0 : 1) - (b.state === "ALARM" ? 0 : 1));
  const show = () =>
    fill($("alarms-list"), ranked.map((alarm) => ({ ...alarm, now, from: since(now), changes: changes.get(alarm.name) ?? [] })), alarmRow, ALARM, "No alarms yet: kit.start(Alarm(...)) starts one.");
  show();
  const known = overview.alarms.map((alarm) => `${alarm.name} ${alarm.changed_ms} ${alarm.state}`).join("\n");
  if (known === asOf || overview.alarms.length === 0) return;
  changes = await changesSince(now - DAY_MS);
  asOf = known;
  show();
}

// All strips have one scale: a day, or as long as there is anything to tell.
function since(now) {
  const oldest = Math.min(...[...changes.values()].map((found) => found.at(-1).at_ms));
  return Math.max(now - DAY_MS, Math.min(now - HOUR_MS / 4, oldest - (now - oldest) * 0.05));
}

async function changesSince(since) {
  const found = new Map();
  let token = null;
  for (let pages = 0; pages < 5; pages++) {
    const page = await ask("api/alarms", { token });
    for (const item of page.items) {
      if (!found.has(item.alarm)) found.set(item.alarm, []);
      found.get(item.alarm).push(item);
    }
    token = page.next_token;
    if (token === null || page.items.at(-1).at_ms < since) break;
  }
  return found;
}

function alarmRow(first) {
  const part = row(ALARM, true);
  const [name, state, since, last, reason] = part.cells;
  const pill = make("span", "pill");
  state.append(pill);
  const day = strip();
  last.append(day.node);
  const full = make("p", "reason");
  const plot = steps();
  const history = make("ol", "history");
  const more = make("button", "", "Older");
  more.type = "button";
  part.body.append(full, plot.node, make("h3", "", "History"), history, more);
  let items = [];
  let token = null;
  let alarm = first;
  let asOf = null;

  async function load(older) {
    asOf = `${alarm.changed_ms} ${alarm.state}`;
    try {
      const page = await ask("api/alarms", { name: alarm.name, token: older ? token : null });
      items = older ? [...items, ...page.items] : page.items;
      token = page.next_token;
    } catch {
      asOf = null;
      return;
    }
    draw();
  }

  function draw() {
    const held = items.filter((item) => item.state !== null);
    const from = held.length ? Math.min(held.at(-1).at_ms, alarm.now - 60000) : alarm.now - 60000;
    const margin = (alarm.now - from) * 0.05;
    const way = spans(held, alarm.state, alarm.now);
    if (held.length && held.at(-1).previous) way.unshift([held.at(-1).previous, null, held.at(-1).at_ms]);
    plot.update(way, from - margin, alarm.now, `${alarm.name}: ${plural(held.length, "change")} since ${moment(from)}`);
    sync(history, items.map((item, i) => ({ ...item, key: `${item.at_ms} ${item.kind} ${item.summary} ${items.length - i}` })), (item) => item.key, happened);
    hide(more, token === null);
  }

  more.addEventListener("click", () => load(true));
  part.node.addEventListener("toggle", () => part.node.open && load(false));
  return {
    node: part.node,
    update(now) {
      alarm = now;
      say(name, alarm.name);
      say(pill, alarm.state === "INSUFFICIENT_DATA" ? "no data" : alarm.state);
      look(pill, `pill ${PILL[alarm.state]}`);
      say(since, age(Math.max(0, alarm.now - alarm.changed_ms)));
      since.title = moment(alarm.changed_ms);
      say(reason, alarm.reason);
      say(full, alarm.reason);
      const way = spans(alarm.changes, alarm.state, alarm.now);
      const before = alarm.changes.at(-1);
      if (before?.previous) way.unshift([before.previous, null, before.at_ms]);
      const shown = alarm.changes.filter((each) => each.at_ms >= alarm.from);
      day.update(way, alarm.from, alarm.now, `${alarm.name}: ${plural(shown.length, "change")} in the last ${age(alarm.now - alarm.from)}`);
      if (part.node.open && asOf !== `${alarm.changed_ms} ${alarm.state}`) load(false);
      else if (part.node.open && items.length) draw();
    },
  };
}

function happened(item) {
  const kind = { StateUpdate: "State", Action: "Action", ConfigurationUpdate: "Settings" }[item.kind] ?? item.kind;
  const node = make("li", "", make("time", "", moment(item.at_ms)), make("span", "kind", kind), make("b", "", item.summary), make("span", "why", item.reason));
  return { node, update() {} };
}

// ---- tables and services

const TABLE = [["Table", "name"], ["Key", ""], ["Indexes", "wide"], ["Expires by", ""]];
const SERVICE = [["Service", "name"], ["State", "state"], ["Error", "wide"]];
const OWN = "streamkit-";

function apart(id, items, isOwn, create, labels, nothing, what) {
  const ours = items.filter(isOwn);
  fill($(`${id}-list`), items.filter((item) => !isOwn(item)), create, labels, nothing);
  const own = $(`own-${id}`);
  hide(own, ours.length === 0);
  say(own.querySelector("summary"), `${plural(ours.length, what)} of streamkit's own`);
  sync(own.querySelector(".list"), ours, (item) => item.name, create);
}

export function tables(overview) {
  apart("tables", overview.tables, (table) => table.name.startsWith(OWN), tableRow, TABLE, "No tables yet: kit.create_table(...) makes one.", "table");
}

function tableRow() {
  const { node, cells } = row(TABLE);
  return {
    node,
    update(table) {
      say(cells[0], table.name);
      say(cells[1], table.sort_key === null ? table.partition_key : `${table.partition_key}, ${table.sort_key}`);
      say(cells[2], table.indexes.map((index) => (table.building.includes(index) ? `${index} (being built)` : index)).join(", ") || "–");
      say(cells[3], table.ttl ?? "–");
    },
  };
}

// What a kit runs by itself; one that failed is shown with all others.
const isOwnService = (service) => service.state !== "failed" && /^(streamkit-|table:|alarms$|dashboard:|metrics:)/.test(service.name);

export function services(overview) {
  const nothing = overview.owner === "looking on" ? "Services run in the process that owns the directory." : "Nothing was started here: kit.start(...) starts a worker, a mapping or any service.";
  apart("services", overview.services, isOwnService, serviceRow, SERVICE, nothing, "service");
}

function serviceRow() {
  const { node, cells } = row(SERVICE);
  const pill = make("span", "pill");
  cells[1].append(pill);
  return {
    node,
    update(service) {
      say(cells[0], service.name);
      say(pill, service.state);
      look(pill, `pill ${{ running: "ok", failed: "alarm" }[service.state] ?? "off"}`);
      say(cells[2], service.error ?? "–");
    },
  };
}

// ---- at a glance

export function tiles(overview) {
  const lags = overview.streams.flatMap((stream) => stream.consumers.map((consumer) => total(consumer.lag)));
  const behind = Math.max(0, ...lags.map((lag) => lag.records));
  const oldest = Math.max(0, ...lags.map((lag) => lag.millis));
  const plain = overview.queues.filter((queue) => !queue.dead_letters_of.length);
  const dead = sum(overview.queues.filter((queue) => queue.dead_letters_of.length), (queue) => queue.visible + queue.in_flight + queue.delayed);
  const alarmed = overview.alarms.filter((alarm) => alarm.state === "ALARM").length;
  const failed = overview.services.filter((service) => service.state === "failed").length;
  const perSecond = sum(overview.streams, (stream) => stream.records_per_second);
  const shown = [
    { name: "records a second", value: rate(perSecond), note: `${bytes(sum(overview.streams, (stream) => stream.bytes_per_second))}/s · ${plural(overview.streams.length, "stream")}`, to: "streams" },
    { name: "most behind", value: count(behind), note: behind ? `records, up to ${age(oldest)} old` : lags.length ? "all have caught up" : "nobody reads", to: "streams" },
    { name: "messages waiting", value: count(sum(plain, (queue) => queue.visible + queue.delayed)), note: `${count(sum(plain, (queue) => queue.in_flight))} in flight · ${plural(plain.length, "queue")}`, to: "queues" },
    { name: "dead letters", value: count(dead), note: dead ? "see why below" : "none", to: "letters", bad: dead > 0 },
    { name: "in alarm", value: count(alarmed), note: `of ${plural(overview.alarms.length, "alarm")}`, to: "alarms", bad: alarmed > 0 },
    { name: "failed services", value: count(failed), note: `of ${overview.services.length}`, to: "services", bad: failed > 0 },
  ];
  sync($("tiles"), shown, (tile) => tile.name, () => {
    const value = make("span", "big");
    const name = make("span", "what");
    const note = make("span", "note");
    const node = make("a", "tile", name, value, note);
    return {
      node,
      update(tile) {
        say(value, tile.value);
        say(name, tile.name);
        say(note, tile.note);
        look(node, tile.bad ? "tile bad" : "tile");
        node.setAttribute("href", `#${tile.to}`);
      },
    };
  });
  return alarmed;
}
