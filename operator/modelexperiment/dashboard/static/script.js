// Keeps a page up to date: asks every few seconds whether it has changed, and then changes only the
// parts that have. Without this script the pages show the same, as of when they were loaded.
"use strict";

const PAUSE = 3000;
const TYPING = 200;
const live = document.getElementById("live");

function say(text, tone) {
  if (live.textContent !== text) live.textContent = text;
  live.className = tone;
}

// "3d4h", as `kubectl get` has it.
function ago(then) {
  let seconds = Math.max(0, Math.round((Date.now() - then) / 1000));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const number = Math.floor(seconds / size);
    seconds -= number * size;
    if (number) parts.push(number + unit);
  }
  if (parts.length > 1 && parts[0].endsWith("d") && parseInt(parts[0], 10) >= 10) parts.length = 1;
  return parts.slice(0, 2).join("") || "0s";
}

function writeTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    const then = new Date(time.dateTime);
    time.textContent = ago(then);
    time.title = then.toISOString().replace("T", " ").slice(0, 19) + " UTC";
  }
}

// Asks `address()` again and again; `take` gets a page that has changed, `gone` is told of a 404.
class Poll {
  constructor(address, take, gone, method = "GET") {
    Object.assign(this, { address, take, gone, method, etag: "", timer: 0, asking: null });
  }

  start(first = PAUSE) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), first);
  }

  async ask() {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    clearTimeout(this.timer);
    try {
      const headers = this.etag ? { "If-None-Match": this.etag } : {};
      const signal = AbortSignal.any([asking.signal, AbortSignal.timeout(20000)]);
      const answer = await fetch(this.address(), {
        method: this.method, headers, signal, cache: "no-store",
      });
      if (answer.status === 200) {
        const text = await answer.text();
        this.etag = answer.headers.get("ETag") || "";
        this.take(new DOMParser().parseFromString(text, "text/html"));
      } else if (answer.status === 304) {
        this.same?.();
      } else if (answer.status === 404) {
        this.gone?.();
      } else {
        say(`Not up to date: the dashboard answers ${answer.status}`, "bad");
      }
    } catch (error) {
      if (asking.signal.aborted) return;
      say("Not up to date: the dashboard does not answer; trying again", "bad");
    }
    if (!document.hidden) this.start();
  }
}

function whenSeen(poll) {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) poll.ask();
  });
}

function replaceRows(fresh) {
  const rows = document.getElementById("rows");
  const there = new Map([...rows.rows].map((row) => [row.dataset.key, row]));
  const focused = document.activeElement?.closest?.("tr")?.dataset.key;
  let at = rows.firstElementChild;
  for (const row of [...fresh.getElementById("rows").rows]) {
    const known = there.get(row.dataset.key);
    there.delete(row.dataset.key);
    let placed = known;
    if (!known || known.dataset.rev !== row.dataset.rev) {
      placed = document.adoptNode(row);
      writeTimes(placed);
      if (known) {
        if (known === at) at = placed;
        known.replaceWith(placed);
      }
    }
    if (placed === at) at = at.nextElementSibling;
    else rows.insertBefore(placed, at);
  }
  for (const row of there.values()) row.remove();
  // A row that was moved or replaced loses the focus that was on its link.
  if (focused && document.activeElement === document.body) {
    [...rows.rows].find((row) => row.dataset.key === focused)?.querySelector("a").focus();
  }
}

function replaceText(fresh, id) {
  const here = document.getElementById(id);
  const there = fresh.getElementById(id);
  if (here.textContent !== there.textContent) here.textContent = there.textContent;
  here.className = there.className;
}

function replaceOptions(fresh, id) {
  const here = document.getElementById(id);
  const there = fresh.getElementById(id);
  const chosen = here.value;
  if (here.innerHTML === there.innerHTML) return;
  here.replaceChildren(...there.children);
  here.value = chosen;
}

function list() {
  const form = document.getElementById("filter");
  const main = document.querySelector("main");
  writeTimes(document);
  setInterval(() => writeTimes(document), 30000);

  const poll = new Poll(
    () => location.href,
    (fresh) => {
      replaceRows(fresh);
      for (const id of ["count", "live"]) replaceText(fresh, id);
      for (const id of ["namespace", "phase"]) replaceOptions(fresh, id);
      document.getElementById("nothing")?.remove();
      const nothing = fresh.getElementById("nothing");
      if (nothing) main.append(document.adoptNode(nothing));
      poll.said = live.textContent;
      poll.tone = live.className;
    },
  );
  poll.said = live.textContent;
  poll.tone = live.className;
  poll.same = () => say(poll.said, poll.tone);

  let typing = 0;
  function choose() {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value.trim()) query.set(name, value);
    const text = query.toString();
    history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
    poll.etag = "";
    poll.ask();
  }
  form.addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(choose, event.target.type === "search" ? TYPING : 0);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    choose();
  });
  whenSeen(poll);
  poll.start();
}

function experiment() {
  let frame = document.getElementById("report");
  // Back to the list as it was filtered.
  const back = document.getElementById("back");
  back.addEventListener("click", (event) => {
    if (new URL(document.referrer || "x:").origin === location.origin) {
      event.preventDefault();
      history.back();
    }
  });

  // The frame is as high as what is in it, so that only the page scrolls.
  const sizes = new ResizeObserver(() => fit(frame));
  function fit(one) {
    const page = one.contentDocument?.documentElement;
    if (page) one.style.height = `${page.offsetHeight}px`;
  }
  function show() {
    fit(frame);
    sizes.disconnect();
    const page = frame.contentDocument?.documentElement;
    if (page) sizes.observe(page);
  }
  frame.addEventListener("load", show);
  show();

  // The new report is loaded beside the old one, which stays to be read until then. Its own style
  // is allowed in its frame alone, and so it can't be put together here.
  function renew() {
    document.querySelector("iframe.next")?.remove();
    const next = frame.cloneNode();
    next.className = "next";
    next.addEventListener("load", () => {
      const open = [...frame.contentDocument.querySelectorAll("details")].map((part) => part.open);
      next.contentDocument.querySelectorAll("details").forEach((part, i) => {
        part.open = open[i] ?? part.open;
      });
      frame.remove();
      next.className = "";
      frame = next;
      show();
    }, { once: true });
    frame.after(next);
  }

  const poll = new Poll(
    () => frame.src,
    () => {
      // The first answer is of what the frame loads at the same time.
      if (poll.same) renew();
      poll.same = () => say("Up to date", "good");
      poll.same();
    },
    () => say("It is not there any more: it was deleted", "bad"),
    "HEAD",
  );
  whenSeen(poll);
  poll.ask();
}

({ list, experiment })[document.body.dataset.page]();
