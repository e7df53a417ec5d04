// Asks for the overview again and again while somebody looks, and says so when nobody answers.

import { ask, Refused } from "./asking.js";
import { letters } from "./letters.js";
import { age, clock, hide, look, say } from "./parts.js";
import { alarms, mappings, queues, services, streams, tables, tiles } from "./sections.js";
import { begin, streamsOf } from "./tail.js";

const EVERY_MS = 2000;
const LONGEST_MS = 10000;
const $ = (id) => document.getElementById(id);

let timer = 0;
let asking = false;
let askAgain = false;
let failures = 0;
let answeredAt = null;

async function turn() {
  clearTimeout(timer);
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  askAgain = false;
  try {
    const { overview, throughput, moves } = await ask("api/overview");
    failures = 0;
    answeredAt = performance.now();
    await show(overview, throughput, moves);
  } catch (error) {
    failures += 1;
    lost(error);
  } finally {
    asking = false;
  }
  // Nobody looks: nothing is asked for.
  if (document.hidden) return;
  timer = setTimeout(turn, askAgain ? 0 : failures ? Math.min(LONGEST_MS, 1000 * 2 ** (failures - 1)) : EVERY_MS);
}

async function show(overview, throughput, moves) {
  say($("url"), overview.url);
  const looksOn = overview.owner === "looking on";
  say($("owner"), looksOn ? "looking on" : `own process · ${overview.durability}`);
  $("owner").title = looksOn ? "Opened read-only: what is shown is what its owner has made durable; nothing can be changed from here." : "This page is served by the process that owns the store.";
  const alarmed = tiles(overview);
  document.title = alarmed ? `(${alarmed}) streamkit` : "streamkit";
  streams(overview, throughput);
  queues(overview);
  letters(overview, moves, turn);
  mappings(overview);
  tables(overview);
  services(overview);
  streamsOf(overview);
  hide($("lost"), true);
  look(document.body, "");
  look($("connection"), "connection live");
  say($("connection"), `live · ${clock(overview.now_ms)}`);
  await alarms(overview);
}

function lost(error) {
  const since = answeredAt === null ? "" : ` What is shown is ${age(performance.now() - answeredAt)} old.`;
  const text = error instanceof Refused ? `The dashboard refuses: ${error.message}.` : "The connection to streamkit is lost; trying again.";
  say($("lost"), text + since);
  hide($("lost"), false);
  look(document.body, "stale");
  look($("connection"), "connection lost");
  say($("connection"), error instanceof Refused ? "refused" : "connection lost");
  if (!(error instanceof Refused) && error.name !== "Error") console.warn(error);
}

document.addEventListener("visibilitychange", () => document.hidden || turn());
begin();
turn();
