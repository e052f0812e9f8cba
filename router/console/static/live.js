// 911 calls as they happen. Everything that people or phones typed goes in as text, never as markup.
"use strict";

(() => {
  const root = document.getElementById("live");
  if (!root) return;
  const words = JSON.parse(document.getElementById("live-words").textContent);
  const { sites, zones } = JSON.parse(document.getElementById("live-sites").textContent);
  const mayAcknowledge = root.dataset.mayAcknowledge === "yes";
  const language = document.documentElement.lang;
  const calls = new Map();
  const closed = new Set(JSON.parse(sessionStorage.getItem("live-closed") || "[]"));
  const alertBox = document.getElementById("live-alert");
  const soundButton = document.getElementById("live-sound");
  const tryButton = document.getElementById("live-try");
  const NAMES_ROUTE = new Set(["calling", "ringing", "answered"]);
  const OVER = new Set(["failed", "cancelled", "refused", "ended"]);
  const ALERT_SECONDS = 15 * 60;
  let trial = null;
  let shownId = "";
  let spoken = "";
  let lostAt = 0;
  let unheard = 0;
  const isRouterDown = () => unheard >= 2; // twice: it may just be restarting
  // The clock of this machine may be wrong by hours: what counts is the router's.
  let clockOff = 0;
  const now = () => Date.now() / 1000 + clockOff;

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // ---- words about a call ----

  const who = (call) => [call.name, call.number].filter(Boolean).join(" · ") || words.unknown_caller;

  // What is it, and which: the second is read across the room.
  function finerPairs(call) {
    return [["building", call.building], ["floor", call.floor], ["room", call.room], ["unit", call.unit], ["", call.landmark]]
      .filter(([, value]) => value).map(([name, value]) => [name ? words[name] : "", value]);
  }

  const finer = (call) => finerPairs(call).map(([name, value]) => (name ? `${name} ${value}` : value));

  function finerLine(call) {
    const line = element("p", "finer");
    finerPairs(call).forEach(([name, value]) => {
      const part = element("span");
      if (name) part.append(element("small", "", name), " ");
      part.append(value);
      line.append(part, " ");
    });
    return line;
  }

  const noPlace = (call) => (call.state === "locating" ? words.locating_place : words.no_location);

  function place(call) {
    const name = sites[call.site] ? sites[call.site].name : call.site;
    const zone = call.zone ? zones[`${call.site} ${call.zone}`] || call.zone : "";
    return [name, zone].filter(Boolean).join(" · ");
  }

  function state(call) {
    const isBy = call.state === "answered" && call.route;
    const parts = [isBy ? words.answered_by : words[`state_${call.state}`] || call.state];
    if (call.route && call.state !== "refused") parts.push(NAMES_ROUTE.has(call.state) ? call.route : `· ${call.route}`);
    if (call.is_basic) parts.push(`(${words.by_basic})`);
    if (call.reason) parts.push(`(${call.reason})`);
    return parts.join(" ");
  }

  function when(seconds) {
    return new Date(seconds * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  }

  function age(call) {
    const minutes = Math.floor((now() - call.started_at) / 60);
    return minutes < 1 ? words.just_now : fill(words.ago, { minutes });
  }

  function calledBack(call) {
    return fill(words.called_back, { when: when(call.callback_at), state: words[`callback_${call.callback_outcome}`] || call.callback_outcome });
  }

  function title(call) {
    if (call.is_trial) return words.trial;
    if (call.kind === "test") return words.alert_test;
    if (call.state === "failed") return words.alert_failed;
    if (call.state === "refused") return words.alert_refused;
    return words.alert_title;
  }

  // ---- sound: the two-tone of an alarm, made here ----

  // It is played in a loop by the browser itself: timers of a page in the background come late.
  const RINGING = [[880, 0, 0.18], [660, 0.2, 0.18], [880, 0.4, 0.18], [660, 0.6, 0.18]];
  const LOST = [[330, 0, 0.3], [220, 0.35, 0.5]];
  const ROUND_SECONDS = 1.6;
  let audio = null;
  let ringing = null;
  let isRinging = false;

  function soundIsOn() { return audio !== null && audio.state === "running"; }

  function play(tones, isForLong) {
    const samples = audio.createBuffer(1, ROUND_SECONDS * audio.sampleRate, audio.sampleRate);
    const wave = samples.getChannelData(0);
    for (const [hertz, from, seconds] of tones) {
      const first = Math.round(from * audio.sampleRate);
      const count = Math.round(seconds * audio.sampleRate);
      for (let index = 0; index < count; index += 1) {
        const edge = Math.min(1, index / 200, (count - index) / 200);
        wave[first + index] = 0.3 * edge * Math.sin((2 * Math.PI * hertz * index) / audio.sampleRate);
      }
    }
    const source = audio.createBufferSource();
    source.buffer = samples;
    source.loop = isForLong;
    source.connect(audio.destination);
    source.start();
    return source;
  }

  async function turnSoundOn() {
    const Context = window.AudioContext || window.webkitAudioContext;
    if (!Context) return;
    if (!audio) {
      audio = new Context();
      audio.addEventListener("statechange", heard);
    }
    await Promise.race([audio.resume(), new Promise((done) => setTimeout(done, 300))]).catch(() => {});
    heard();
  }

  // What the browser lets through may change at any time: after the first click, or when it falls asleep.
  function heard() {
    if (isRinging && !ringing && soundIsOn()) ringing = play(RINGING, true);
    showSound();
  }

  function showSound() {
    const isOn = soundIsOn();
    soundButton.textContent = isOn ? words.sound_is_on : words.sound_on;
    soundButton.setAttribute("aria-pressed", isOn ? "true" : "false");
    soundButton.className = isOn ? "quiet" : "primary";
    soundButton.hidden = false;
    tryButton.hidden = false;
    document.getElementById("live-silent").hidden = isOn;
    root.dataset.sound = isOn ? (ringing ? "rings" : "on") : "off";
    const silent = alertBox.querySelector("#alert-silent");
    if (silent) silent.hidden = isOn;
  }

  function ring(on) {
    isRinging = on;
    if (on && !ringing) {
      if (navigator.vibrate && navigator.userActivation && navigator.userActivation.hasBeenActive) navigator.vibrate([400, 200, 400]);
      heard();
    } else if (!on && ringing) {
      ringing.stop();
      ringing = null;
      showSound();
    }
  }

  soundButton.addEventListener("click", () => { turnSoundOn().then(() => { if (soundIsOn() && !ringing) play(RINGING, false); }); });
  // A browser may keep a page silent until it is touched: this is tried at once, and at every touch until it works.
  for (const kind of ["pointerdown", "pointerup", "keydown"]) window.addEventListener(kind, () => { if (!soundIsOn()) turnSoundOn(); });
  tryButton.addEventListener("click", () => {
    turnSoundOn();
    trial = {
      id: "", is_trial: true, kind: "emergency", state: "ringing", route: "", name: words.trial, number: "", site: "",
      zone: "", address: [], callback: "", started_at: now(), location_sent: true, acknowledged_by: "",
    };
    show();
  });

  // ---- the alert that fills the screen ----

  // While it is up, nothing behind it can be reached, by the keyboard or by a screen reader; what is said is still heard.
  const behind = [];
  for (let box = alertBox; box !== document.body; box = box.parentNode) {
    for (const other of box.parentNode.children) if (other !== box && other.id !== "live-say" && other.tagName !== "SCRIPT") behind.push(other);
  }
  function coverPage(isCovered) { for (const other of behind) other.inert = isCovered; }

  function wanted() {
    const at = now();
    return [...calls.values()].filter((call) => {
      if (closed.has(call.id) || call.acknowledged_at) return false;
      if (at - Math.max(call.started_at, call.changed_at) > ALERT_SECONDS) return false;
      if (call.state === "ended" || call.state === "cancelled") return call.kind !== "test" && at - call.started_at < ALERT_SECONDS;
      return call.kind !== "test" || !OVER.has(call.state);
    }).sort((one, other) => (one.kind === "test") - (other.kind === "test") || (other.state === "failed") - (one.state === "failed") || other.started_at - one.started_at);
  }

  function rememberClosed(ids) {
    ids.forEach((id) => closed.add(id));
    sessionStorage.setItem("live-closed", JSON.stringify([...closed].slice(-500)));
  }

  const LONGEST_MS = 10000;
  async function acknowledge(list, button) {
    if (button) button.disabled = true;
    const giveUp = new AbortController();
    const due = window.setTimeout(() => giveUp.abort(), LONGEST_MS);
    try {
      const answer = await fetch("/live/acknowledge", {
        method: "POST",
        signal: giveUp.signal,
        headers: { Accept: "application/json", "X-CSRF-Token": root.dataset.csrf },
        body: new URLSearchParams({ calls: list.map((call) => call.id).join(" ") }),
      });
      if (!answer.ok) throw new Error(String(answer.status));
    } catch (error) {
      if (button) { button.disabled = false; button.textContent = words.failed_to_acknowledge; button.focus(); }
      return;
    } finally {
      window.clearTimeout(due);
    }
    rememberClosed(list.map((call) => call.id));
    show();
  }

  function fact(list, name, value, className) {
    const box = element("div");
    box.append(element("dt", "", name), element("dd", className, value));
    list.append(box);
  }

  // What shows many calls is changed where a call changed, and nowhere else: it neither jumps nor loses the focus, and
  // a storm costs no more than its changes.
  function lister(make) {
    const made = new Map();
    return (box, list) => {
      const wantedIds = new Set();
      list.forEach((call, index) => {
        const key = JSON.stringify(call);
        let known = made.get(call.id);
        if (!known || known.key !== key) {
          const node = make(call);
          if (known) known.node.replaceWith(node);
          known = { key, node };
          made.set(call.id, known);
        }
        wantedIds.add(call.id);
        if (box.children[index] !== known.node) box.insertBefore(known.node, box.children[index] || null);
      });
      while (box.children.length > list.length) box.lastElementChild.remove();
      for (const id of made.keys()) if (!wantedIds.has(id)) made.delete(id);
    };
  }

  // The buttons stay while what is around them changes: nobody shall press one that is just being replaced.
  let buttons = { key: "", box: null };
  let alerted = [];

  function actionsFor(list) {
    alerted = list;
    const key = `${list[0].is_trial ? "trial" : list[0].id} ${list.length > 1}`;
    if (buttons.key !== key) buttons = { key, box: actionButtons(list) };
    const all = buttons.box.querySelector("#alert-all");
    const link = buttons.box.querySelector("a");
    if (link) link.hidden = list[0].state === "locating"; // there is nothing to read of it yet
    if (all) all.textContent = fill(words.acknowledge_all, { count: list.length });
    return buttons.box;
  }

  function actionButtons(list) {
    const call = list[0];
    const actions = element("div", "actions");
    if (call.is_trial) {
      actions.append(button("alert-close", "main", words.close, () => { trial = null; show(); }));
      return actions;
    }
    if (mayAcknowledge) actions.append(button("alert-acknowledge", "main", words.acknowledge, (self) => acknowledge([call], self)));
    if (mayAcknowledge && list.length > 1) actions.append(button("alert-all", "", fill(words.acknowledge_all, { count: list.length }), (self) => acknowledge(alerted, self)));
    const link = element("a", "button", words.open_call);
    link.href = `/calls/${encodeURIComponent(call.id)}`;
    actions.append(link, button("alert-close", "", words.close, () => { rememberClosed(alerted.map((one) => one.id)); show(); }));
    return actions;
  }

  const others = element("ul", "others");
  others.tabIndex = 0;
  others.setAttribute("aria-label", words.others);
  const listOthers = lister((call) => element("li", "", `${when(call.started_at)}  ${who(call)} — ${[place(call), ...finer(call)].filter(Boolean).join(", ") || noPlace(call)} — ${state(call)}`));

  function drawAlert(list) {
    const call = list[0];
    const actions = actionsFor(list);
    const focused = document.activeElement && alertBox.contains(document.activeElement) ? document.activeElement.id : "";
    alertBox.className = `alert${call.kind === "test" ? " test" : ""}${call.is_trial ? " calm" : ""}${list.length > 1 ? " many" : ""}`;
    for (const child of [...alertBox.children]) if (child !== actions && child !== others) child.remove();
    if (list.length < 2) others.remove();
    const first = [others, actions].find((child) => child.parentNode === alertBox) || null;
    const put = (child) => alertBox.insertBefore(child, first);
    const heading = element("h1", "", list.length > 1 ? `${title(call)} — ${fill(words.alert_many, { count: list.length })}` : title(call));
    heading.id = "alert-title";
    put(heading);
    if (lostAt && !call.is_trial) put(element("p", "warning", words.lost_alert));
    if (isRouterDown() && !call.is_trial) put(element("p", "warning", words.router_down));
    const silent = element("p", "warning", words.silent_alert);
    silent.id = "alert-silent";
    silent.hidden = soundIsOn();
    put(silent);
    const where = element("div");
    where.id = "alert-where";
    const parts = finer(call);
    if (parts.length) where.append(finerLine(call));
    const lines = [place(call), ...(call.address || [])].filter(Boolean);
    where.append(element("p", "address", lines.length || parts.length ? lines.join("\n") : call.is_trial ? "" : noPlace(call)));
    if (lines.length && call.state === "locating") where.append(element("p", "address", noPlace(call)));
    put(where);
    if (call.address && (call.address.length || parts.length) && !call.location_sent && call.kind !== "test") {
      put(element("p", "warning", words.not_sent));
    }
    const facts = element("dl");
    fact(facts, words.who, who(call));
    if (!call.is_trial) fact(facts, words.callback, call.callback || words.no_callback, call.callback ? "number" : "");
    if (!call.is_trial) fact(facts, words.state, state(call));
    fact(facts, words.when, `${when(call.started_at)} · ${age(call)}`);
    put(facts);
    if (call.callback_at) put(element("p", "warning", calledBack(call)));
    const picture = plan(call, "map");
    if (picture) put(picture);
    if (list.length > 1) {
      listOthers(others, list.slice(1));
      if (others.parentNode !== alertBox) alertBox.insertBefore(others, actions.parentNode === alertBox ? actions : null);
    }
    if (actions.parentNode !== alertBox) alertBox.append(actions);
    alertBox.hidden = false;
    coverPage(true);
    const next = (focused && document.getElementById(focused)) || alertBox.querySelector("button");
    if (next) next.focus();
  }

  function button(id, className, text, action) {
    const made = element("button", className, text);
    made.type = "button";
    made.id = id;
    made.addEventListener("click", () => action(made));
    return made;
  }

  function plan(call, className) {
    if (!call.site || !call.zone) return null;
    const picture = element("img", className);
    picture.alt = `${words.plan} ${place(call)}`;
    picture.hidden = true;
    picture.addEventListener("load", () => { picture.hidden = false; });
    picture.addEventListener("error", () => { picture.remove(); });
    picture.src = `/sites/${encodeURIComponent(call.site)}/zones/${encodeURIComponent(call.zone)}/plan`;
    return picture;
  }

  // ---- the lists ----

  function card(call) {
    const box = element("article", `card live-call${call.kind === "test" ? " test" : ""}${call.acknowledged_at ? " acknowledged" : ""}`);
    const text = element("div");
    const heading = element("h3");
    const link = element("a", "", `${title(call)} — ${who(call)}`);
    link.href = `/calls/${encodeURIComponent(call.id)}`;
    heading.append(link);
    text.append(heading);
    const parts = finer(call);
    if (parts.length) text.append(finerLine(call));
    text.append(element("p", "", [place(call), (call.address || []).join(", ")].filter(Boolean).join(" — ") || noPlace(call)));
    if (call.latitude !== null && call.latitude !== undefined) {
      const point = element("a", "small", `${call.latitude.toFixed(5)}, ${call.longitude.toFixed(5)}`);
      point.href = `geo:${call.latitude},${call.longitude}`;
      text.append(point);
    }
    text.append(element("p", "", `${words.callback}: ${call.callback || words.no_callback}`));
    text.append(element("p", "muted", `${state(call)} · ${when(call.started_at)}`));
    if (call.callback_at) text.append(element("p", "small", calledBack(call)));
    text.append(element("p", "small", call.acknowledged_at ? fill(words.acknowledged, { by: call.acknowledged_by }) : words.not_acknowledged));
    const actions = element("div", "actions");
    if (mayAcknowledge && !call.acknowledged_at) actions.append(button("", "", words.acknowledge, (self) => acknowledge([call], self)));
    box.append(text, actions);
    return box;
  }

  function row(call) {
    const line = element("tr");
    const first = element("td");
    const link = element("a", "cell", new Date(call.started_at * 1000).toLocaleString(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }));
    link.href = `/calls/${encodeURIComponent(call.id)}`;
    first.append(link);
    const last = element("td");
    last.append(element("span", `tag ${call.state === "failed" ? "bad" : call.state === "ended" || call.state === "answered" ? "good" : "plain"}`, state(call)));
    if (call.callback_at) last.append(element("span", "small", ` ${calledBack(call)}`));
    if (call.acknowledged_at) last.append(element("span", "small muted", ` ${fill(words.acknowledged, { by: call.acknowledged_by })}`));
    line.append(first, element("td", "", (call.kind === "test" ? "933 · " : "") + who(call)), element("td", "", [place(call), ...finer(call)].filter(Boolean).join(", ")), last);
    return line;
  }

  const listOpen = lister(card);
  const listOver = lister(row);

  // A screen reader hears each new state of the call that is shown, and now and then how many there are.
  let spokenCount = 0;
  let countDue = 0;
  const COUNT_MS = 3000;
  function speak(list) {
    const call = list[0];
    const box = document.getElementById("live-say");
    const counted = list.length > 1 ? ` ${fill(words.alert_many, { count: list.length })}.` : "";
    const trouble = call.is_trial ? "" : `${lostAt ? ` ${words.lost_alert}.` : ""}${isRouterDown() ? ` ${words.router_down}` : ""}`;
    const text = `${title(call)}. ${who(call)}. ${[...finer(call), place(call)].filter(Boolean).join(", ") || noPlace(call)}. ${state(call)}.${trouble}`;
    if (text !== spoken) {
      spoken = text;
      spokenCount = list.length;
      box.textContent = text + counted;
    } else if (list.length !== spokenCount && !countDue) {
      countDue = window.setTimeout(() => {
        countDue = 0;
        if (alertBox.hidden) return;
        spokenCount = alerted.length;
        box.textContent = fill(words.alert_many, { count: alerted.length });
      }, COUNT_MS);
    }
  }

  function show() {
    const all = [...calls.values()].sort((one, other) => other.started_at - one.started_at);
    const open = all.filter((call) => !OVER.has(call.state));
    const openBox = document.getElementById("live-open");
    if (open.length) listOpen(openBox, open);
    else if (!openBox.querySelector(".empty")) openBox.replaceChildren(element("p", "empty card", words.quiet));
    const over = all.filter((call) => OVER.has(call.state));
    listOver(document.getElementById("live-over"), over);
    document.getElementById("live-none").hidden = over.length > 0;
    const list = trial ? [trial] : wanted();
    // The call that is shown stays until somebody has said something to it; further ones make the alert grow.
    const shown = list.findIndex((call) => call.id === shownId);
    const isMoreUrgent = list.length > 0 && list[0].state === "failed";
    if (shown > 0 && !isMoreUrgent) list.unshift(...list.splice(shown, 1));
    if (list.length) {
      drawAlert(list);
      speak(list);
      document.title = `● ${title(list[0])}`;
      shownId = list[0].id;
    } else {
      alertBox.hidden = true;
      alertBox.replaceChildren();
      coverPage(false);
      spoken = "";
      document.getElementById("live-say").textContent = "";
      document.title = `${lostAt ? `⚠ ${words.not_connected} · ` : ""}${open.length ? `(${open.length}) ` : ""}edge911`;
      if (shownId) document.getElementById("content").focus();
      shownId = "";
    }
    ring(list.length > 0);
  }

  // In a storm the page is drawn a few times a second, not for each change.
  let due = 0;
  function showSoon() { if (!due) due = window.setTimeout(() => { due = 0; show(); }, calls.size > 50 ? 250 : 20); }

  // A click beside the buttons takes the keyboard away from none of them.
  alertBox.addEventListener("click", (event) => {
    const first = alertBox.querySelector("button");
    if (first && !event.target.closest("button, a, .others") && window.getSelection().isCollapsed) first.focus();
  });

  window.addEventListener("keydown", (event) => {
    if (alertBox.hidden) return;
    if (event.key === "Escape") document.getElementById("alert-close").click();
    if (event.key === "Tab") {
      const stops = [...alertBox.querySelectorAll("button, a:not([hidden])"), ...(others.parentNode ? [others] : [])];
      const index = stops.indexOf(document.activeElement);
      event.preventDefault();
      stops[(index + (event.shiftKey ? stops.length - 1 : 1)) % stops.length].focus();
    }
  });

  // ---- the stream ----

  const stateTag = document.getElementById("live-state");
  const lostBox = document.getElementById("live-lost");
  const LOST_SHOWN_MS = 3000;
  let saying = 0;
  function connection(text, kind) { if (stateTag.textContent !== text) stateTag.textContent = text; stateTag.className = `tag ${kind}`; }

  // Large and heard, unless it is back at once: who trusts an empty page believes that nobody called.
  function lose() {
    connection(words.lost, "bad");
    if (lostAt || saying) return;
    saying = window.setTimeout(() => {
      saying = 0;
      lostAt = now();
      lostBox.textContent = fill(words.lost_since, { when: when(lostAt) });
      lostBox.hidden = false;
      if (soundIsOn() && !ringing) play(LOST, false);
      show();
    }, LOST_SHOWN_MS);
  }

  function found() {
    window.clearTimeout(saying);
    saying = lostAt = 0;
    lostBox.hidden = true;
    connection(words.connected, "good");
  }

  const MOST_CALLS = 500;
  function forgetOld() {
    for (const [id, call] of calls) {
      if (calls.size <= MOST_CALLS) return;
      if (OVER.has(call.state)) calls.delete(id);
    }
  }

  liveCalls((kind, data) => {
    if (kind === "lost") {
      lose();
      return;
    }
    if (kind === "ended") {
      connection(words.signed_out, "bad");
      calls.clear();
      show();
      if (soundIsOn()) play(LOST, false);
      window.setTimeout(() => window.location.assign("/login?next=/live"), 1000);
      return;
    }
    const said = JSON.parse(data);
    if (kind === "alive") {
      clockOff = said.now - Date.now() / 1000;
      const wasDown = isRouterDown();
      unheard = said.is_router_heard ? 0 : unheard + 1;
      document.getElementById("live-down").hidden = !isRouterDown();
      if (isRouterDown() !== wasDown) show();
      return;
    }
    if (kind === "calls") {
      calls.clear();
      said.forEach((call) => calls.set(call.id, call));
      found();
      show();
      return;
    }
    const known = calls.get(said.id);
    // A call that fails after all is worth a second alert.
    if (known && known.state !== "failed" && said.state === "failed") closed.delete(said.id);
    // So is one that was closed before anybody knew where it is.
    if (known && known.state === "locating" && said.state !== "locating" && !said.acknowledged_at) closed.delete(said.id);
    calls.set(said.id, said);
    forgetOld();
    showSoon();
  });
  window.setInterval(() => { if (!alertBox.hidden || calls.size) show(); }, 20000);
  showSound();
  turnSoundOn();
})();
