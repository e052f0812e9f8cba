// The stream of calls, kept up: in a page, or in a worker that all pages of a browser share.
"use strict";

// Tells `tell(kind, data)`: `calls`, `call` and `alive` as the router sends them, `lost` where nothing comes any more,
// `ended` where the login is over. It goes on by itself until it is closed.
function liveStream(tell) {
  const SILENT_MS = 15000; // the router says every 5 s that it is there
  const LOOK_MS = 2000;
  let source = null;
  let heardAt = 0;
  let again = 0;
  let isClosed = false;

  function open() {
    if (isClosed) return;
    if (source) source.close();
    clearTimeout(again);
    again = 0;
    heardAt = Date.now();
    const opened = source = new EventSource("/live/events");
    for (const kind of ["alive", "calls", "call"]) {
      opened.addEventListener(kind, (event) => { heardAt = Date.now(); tell(kind, event.data); });
    }
    opened.addEventListener("ended", end);
    opened.addEventListener("error", () => {
      if (opened !== source) return;
      tell("lost", "");
      if (opened.readyState === EventSource.CLOSED) refused();
    });
  }

  // An answer that is no stream: of a proxy whose router is away, of a full house, or the login page.
  async function refused() {
    try {
      const answer = await fetch("/account", { redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") {
        end();
        return;
      }
    } catch {
      // Nobody is there at all.
    }
    if (!again) again = setTimeout(open, 2000 + Math.random() * 4000);
  }

  function end() {
    close();
    tell("ended", "");
  }

  function close() {
    isClosed = true;
    clearTimeout(again);
    clearInterval(watching);
    if (source) source.close();
  }

  // A connection whose other end is gone says nothing: neither an error nor a call.
  const watching = setInterval(() => {
    if (again || Date.now() - heardAt < SILENT_MS) return;
    tell("lost", "");
    open();
  }, LOOK_MS);

  open();
  return { close, reopen: open };
}

// The same for a page: by the worker where the browser has such, else, or where the worker is dead, its own stream.
function liveCalls(tell) {
  const DEAD_MS = 40000;
  const BEGINS_MS = 10000;
  const LOOK_MS = 5000;
  let worker = null;
  try {
    worker = new SharedWorker("/static/live-worker.js");
  } catch {
    liveStream(tell); // none here, or not for pages that may store nothing
    return;
  }
  let heardAt = Date.now();
  let hasBegun = false;
  let late = 0;
  const looking = setInterval(() => {
    late = Date.now() - heardAt > (hasBegun ? DEAD_MS : BEGINS_MS) ? late + 1 : 0;
    if (late > 1 || (late && !hasBegun)) instead(); // once: this machine may have slept
  }, LOOK_MS);

  function instead() {
    if (!worker) return;
    clearInterval(looking);
    worker = null;
    liveStream(tell);
  }

  worker.addEventListener("error", instead);
  worker.port.addEventListener("message", (event) => {
    if (!worker) return;
    heardAt = Date.now();
    hasBegun = true;
    tell(event.data.kind, event.data.data);
  });
  worker.port.start();
  window.addEventListener("pagehide", () => { if (worker) worker.port.postMessage("gone"); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) window.location.reload(); });
}
