// Dead letters: why each is one, and its way back.

import { ask, change, tell } from "./asking.js";
import { aboutIt, age, count, hide, make, moment, plural, pretty, say, shownAs, sync } from "./parts.js";

const $ = (id) => document.getElementById(id);
const AGAIN_MS = 10000;
const MOST = 500;
const LOOKS_ON = "This page only looks on: redrive in the process that owns the directory.";

let refresh = () => {};

export function letters(overview, moves, again) {
  refresh = again;
  const queues = overview.queues.filter((queue) => queue.dead_letters_of.length);
  const list = $("letters-list");
  let nothing = list.parentNode.querySelector(".nothing");
  if (!nothing) list.after((nothing = make("p", "nothing", "No queue has a dead-letter queue: RedrivePolicy(...) gives it one.")));
  hide(nothing, queues.length > 0);
  const looksOn = overview.owner === "looking on";
  sync(list, queues.map((queue) => ({ ...queue, looksOn, now: overview.now_ms, moving: Object.hasOwn(moves, queue.name) ? moves[queue.name] : undefined })), (queue) => queue.name, panel);
}

function button(text, className = "") {
  const node = make("button", className, text);
  node.type = "button";
  return node;
}

function panel(first) {
  const title = make("h3");
  const from = make("span", "muted");
  const all = button("Redrive all…");
  const progress = make("progress");
  const how = make("span", "muted");
  const cancel = button("Stop");
  const moving = make("div", "moving", progress, how, cancel);
  const list = make("div", "letters");
  const more = button("Show more");
  const note = make("p", "muted");
  const node = make("article", "panel", make("header", "", title, from, make("span", "gap"), all), moving, note, list, more);
  let queue = first;
  let found = [];
  let after = null;
  let asOf = null;
  let askedAt = 0;
  let loading = false;

  async function load(pages) {
    if (loading) return;
    loading = true;
    askedAt = performance.now();
    asOf = signature(queue);
    try {
      let letters = [];
      let next = "0";
      // As many as are shown, so that nobody is taken back to the first page.
      while (next !== null && letters.length < pages) {
        const page = await ask("api/letters", { queue: queue.name, after: next });
        letters = [...letters, ...page.letters];
        next = page.after;
      }
      found = letters;
      after = next;
    } catch {
      asOf = null; // Asked again with the next overview.
    } finally {
      loading = false;
    }
    draw();
  }

  function draw() {
    // A queue that was deleted and made again has the same numbers again.
    sync(list, found.map((letter) => ({ letter, queue, taken: remove })), (item) => `${item.letter.number} ${item.letter.message_id}`, row);
    hide(more, after === null || found.length >= MOST);
    const hidden = queue.in_flight + queue.delayed;
    const text = queue.visible + hidden === 0 ? "None: all is well." : hidden ? `${plural(hidden, "more letter")} in flight or delayed cannot be seen now.` : "";
    say(note, text);
    hide(note, text === "");
  }

  function remove(gone) {
    found = found.filter((letter) => letter.message_id !== gone.message_id);
    draw();
    refresh();
  }

  async function act(path, content, done) {
    try {
      const answer = await change(path, content);
      done?.(answer);
    } catch (error) {
      tell(error.message, true);
    }
    refresh();
  }

  more.addEventListener("click", () => load(found.length + 1));
  cancel.addEventListener("click", () => act("api/move/cancel", { queue: queue.name }));
  all.addEventListener("click", async () => {
    const chosen = await confirmed(
      `Redrive ${plural(queue.visible, "message")} of ${queue.name}?`,
      `Each goes back to the queue it came from (${queue.dead_letters_of.join(", ")}) and is received afresh, as if it had just been sent.`,
    );
    if (chosen) await act("api/move", { queue: queue.name, rate: chosen.rate });
  });
  return {
    node,
    update(now) {
      queue = now;
      say(title, queue.name);
      say(from, `${plural(queue.visible + queue.in_flight + queue.delayed, "letter")} of ${queue.dead_letters_of.join(", ")}`);
      const task = queue.moving;
      const isMoving = task && ["CREATED", "RUNNING", "CANCELLING"].includes(task.status);
      all.disabled = queue.looksOn || queue.visible === 0 || Boolean(isMoving);
      all.title = queue.looksOn ? LOOKS_ON : "";
      hide(moving, !task);
      if (task) {
        hide(progress, !isMoving);
        hide(cancel, !isMoving);
        progress.max = Math.max(1, task.to_move ?? 1);
        progress.value = task.moved;
        const ended = { COMPLETED: "The last redrive is done", CANCELLED: "The last redrive was stopped", FAILED: "The last redrive failed" }[task.status] ?? "Redriving";
        const why = task.failure_reason ? ` (${task.failure_reason})` : "";
        say(how, `${ended}: ${count(task.moved)} of ${task.to_move === null ? "?" : count(task.to_move)} moved back${why}`);
        how.className = task.status === "FAILED" ? "bad" : "muted";
      }
      if (asOf !== signature(queue) || (found.length && performance.now() - askedAt > AGAIN_MS)) load(Math.max(1, found.length));
      else draw();
    },
  };
}

const signature = (queue) => `${queue.visible} ${queue.in_flight} ${queue.delayed} ${queue.moving?.moved}`;

function row({ letter, queue, taken }) {
  const reason = make("b", letter.reason === null ? "why unknown" : "why", letter.reason ?? "No reason is known: a worker of streamkit's would have told it.");
  const facts = make("span", "facts muted");
  const back = button("Redrive");
  const about = make("span", "muted", aboutIt(letter.body));
  const body = make("pre", "payload", shownAs(letter.body));
  const attributes = Object.entries(letter.attributes).map(([name, value]) => make("div", "attribute", make("b", "", name), " ", value));
  const details = make("details", "body", make("summary", "", make("code", "", letter.body.text.slice(0, 200)), about), body, ...attributes);
  details.addEventListener("toggle", () => {
    if (details.open) say(body, letter.body.is_text && letter.body.is_whole ? pretty(letter.body.text) : shownAs(letter.body));
  });
  const node = make("div", "letter", make("div", "letter-head", reason, back), facts, details);
  node.id = `letter-${letter.message_id}`;
  back.addEventListener("click", async () => {
    back.disabled = true;
    say(back, "Redriving…");
    try {
      const done = await change("api/redrive", { queue: queue.name, letters: [{ message_id: letter.message_id, number: letter.number }] });
      tell(done.moved ? `It is back in ${letter.source}.` : "It was not there any more: received, moved or deleted meanwhile.");
      taken(letter);
    } catch (error) {
      tell(error.message, true);
      say(back, "Redrive");
      back.disabled = false;
    }
  });
  return {
    node,
    update({ queue: now }) {
      const group = letter.group_id === null ? "" : ` · group ${letter.group_id}`;
      const received = letter.receive_count ? ` · received ${plural(letter.receive_count, "time")}` : "";
      say(facts, `from ${letter.source ?? "nowhere: it was sent here"} · sent ${age(Math.max(0, now.now - letter.sent_ms))} ago${received}${group} · ${letter.message_id}`);
      facts.title = moment(letter.sent_ms);
      if (back.textContent !== "Redrive") return;
      back.disabled = now.looksOn || letter.source === null;
      back.title = now.looksOn ? LOOKS_ON : letter.source === null ? "It was sent here and has no queue to go back to: queue.redrive(messages, to=...) moves it." : "";
    },
  };
}

// What somebody says to a question; null: no.
function confirmed(title, text) {
  const dialog = $("confirm");
  const rate = $("confirm-rate");
  say($("confirm-title"), title);
  say($("confirm-text"), text);
  rate.value = "";
  return new Promise((answer) => {
    const asked = new AbortController();
    const end = (chosen) => {
      asked.abort();
      dialog.close();
      answer(chosen);
    };
    const { signal } = asked;
    $("confirm-yes").addEventListener("click", () => end({ rate: rate.value === "" ? null : Number(rate.value) }), { signal });
    $("confirm-no").addEventListener("click", () => end(null), { signal });
    dialog.addEventListener("cancel", () => end(null), { signal });
    dialog.showModal();
  });
}
