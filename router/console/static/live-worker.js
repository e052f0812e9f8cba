// One stream for all pages of a browser: it opens six connections to a host at most, and a seventh page, or the button
// "I take care" of any of them, would wait for ever.
"use strict";

importScripts("/static/live-stream.js");

const ports = new Set();
let stream = null;

function tellAll(kind, data) {
  for (const port of ports) port.postMessage({ kind, data });
  if (kind === "ended") {
    ports.clear();
    stream = null;
  }
}

self.addEventListener("connect", (event) => {
  const port = event.ports[0];
  ports.add(port);
  port.addEventListener("message", () => {
    ports.delete(port); // the page says that it goes
    if (!ports.size && stream) {
      stream.close();
      stream = null;
    }
  });
  port.start();
  // A new stream begins with all calls, for the new page as for the others.
  if (stream) stream.reopen();
  else stream = liveStream(tellAll);
});
