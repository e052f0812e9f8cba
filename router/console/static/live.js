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
  const OVER = new Set(["failed", "cancelled", "refused", "ended"]);
  const ALERT_SECONDS = 15 * 60;
  let trial = null;
  let shownId = "";
  let spoken = "";

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // ---- words about a call ----

  const who = (call) => [call.name, call.number].filter(Boolean).join(" · ") || words.unknown_caller;

  function finer(call) {
    const parts = [];
    if (call.building) parts.push(`${words.building} ${call.building}`);
    if (call.floor) parts.push(`${words.floor} ${call.floor}`);
    if (call.room) parts.push(`${words.room} ${call.room}`);
    if (call.unit) parts.push(`${words.unit} ${call.unit}`);
    if (call.landmark) parts.push(call.landmark);
    return parts;
  }

  function place(call) {
    const name = sites[call.site] ? sites[call.site].name : call.site;
    const zone = call.zone ? zones[`${call.site} ${call.zone}`] || call.zone : "";
    return [name, zone].filter(Boolean).join(" · ");
  }

  function state(call) {
    const parts = [words[`state_${call.state}`] || call.state];
    if (call.route && call.state !== "refused") parts.push(call.route);
    if (call.is_basic) parts.push(`(${words.by_basic})`);
    if (call.reason) parts.push(`(${call.reason})`);
    return parts.join(" ");
  }

  function when(seconds) {
    return new Date(seconds * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  }

  function age(call) {
    const minutes = Math.floor((Date.now() / 1000 - call.started_at) / 60);
    return minutes < 1 ? words.just_now : fill(words.ago, { minutes });
  }

  function title(call) {
    if (call.is_trial) return words.trial;
    if (call.kind === "test") return words.alert_test;
    if (call.state === "failed") return words.alert_failed;
    if (call.state === "refused") return words.alert_refused;
    return words.alert_title;
  }

  // ---- sound: the two-tone of an alarm, made here ----

  let audio = null;
  let ringing = 0;

  function soundIsOn() { return audio !== null && audio.state === "running"; }

  async function turnSoundOn() {
    const Context = window.AudioContext || window.webkitAudioContext;
    if (!Context) return;
    audio = audio || new Context();
    await Promise.race([audio.resume(), new Promise((done) => setTimeout(done, 300))]);
    showSound();
  }

  function showSound() {
    soundButton.hidden = false;
    soundButton.textContent = soundIsOn() ? words.sound_is_on : words.sound_on;
    soundButton.setAttribute("aria-pressed", soundIsOn() ? "true" : "false");
    tryButton.hidden = false;
  }

  function beep() {
    if (!soundIsOn()) return;
    const volume = audio.createGain();
    volume.gain.value = 0.25;
    volume.connect(audio.destination);
    [880, 660, 880, 660].forEach((hertz, index) => {
      const tone = audio.createOscillator();
      tone.frequency.value = hertz;
      tone.connect(volume);
      tone.start(audio.currentTime + index * 0.2);
      tone.stop(audio.currentTime + index * 0.2 + 0.18);
    });
  }

  function ring(on) {
    if (on && !ringing) {
      beep();
      ringing = window.setInterval(beep, 1600);
      if (navigator.vibrate && navigator.userActivation && navigator.userActivation.hasBeenActive) navigator.vibrate([400, 200, 400]);
    } else if (!on && ringing) {
      window.clearInterval(ringing);
      ringing = 0;
    }
  }

  soundButton.addEventListener("click", () => { turnSoundOn().then(beep); });
  // A browser lets a page sound after the first touch of it.
  for (const kind of ["pointerdown", "keydown"]) window.addEventListener(kind, () => { if (!soundIsOn()) turnSoundOn(); }, { once: true });
  tryButton.addEventListener("click", () => {
    turnSoundOn();
    trial = {
      id: "", is_trial: true, kind: "emergency", state: "ringing", route: "", name: words.trial, number: "", site: "",
      zone: "", address: [], callback: "", started_at: Date.now() / 1000, location_sent: true, acknowledged_by: "",
    };
    show();
  });

  // ---- the alert that fills the screen ----

  function wanted() {
    const now = Date.now() / 1000;
    return [...calls.values()].filter((call) => {
      if (closed.has(call.id) || call.acknowledged_at) return false;
      if (now - Math.max(call.started_at, call.changed_at) > ALERT_SECONDS) return false;
      if (call.state === "ended" || call.state === "cancelled") return call.kind !== "test" && now - call.started_at < ALERT_SECONDS;
      return call.kind !== "test" || !OVER.has(call.state);
    }).sort((one, other) => (one.kind === "test") - (other.kind === "test") || (other.state === "failed") - (one.state === "failed") || other.started_at - one.started_at);
  }

  function rememberClosed(ids) {
    ids.forEach((id) => closed.add(id));
    sessionStorage.setItem("live-closed", JSON.stringify([...closed].slice(-500)));
  }

  async function acknowledge(list, button) {
    if (button) button.disabled = true;
    try {
      const answer = await fetch("/live/acknowledge", {
        method: "POST",
        headers: { Accept: "application/json", "X-CSRF-Token": root.dataset.csrf },
        body: new URLSearchParams({ calls: list.map((call) => call.id).join(" ") }),
      });
      if (!answer.ok) throw new Error(String(answer.status));
    } catch (error) {
      if (button) { button.disabled = false; button.textContent = words.failed_to_acknowledge; }
      return;
    }
    rememberClosed(list.map((call) => call.id));
    show();
  }

  function fact(list, name, value) {
    const box = element("div");
    box.append(element("dt", "", name), element("dd", "", value));
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
  const listOthers = lister((call) => element("li", "", `${when(call.started_at)}  ${who(call)} — ${[place(call), ...finer(call)].filter(Boolean).join(", ") || words.no_location} — ${state(call)}`));

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
    const where = element("div");
    where.id = "alert-where";
    const parts = finer(call);
    if (parts.length) {
      const large = element("p", "finer");
      parts.forEach((part) => large.append(element("span", "", part)));
      where.append(large);
    }
    const lines = [place(call), ...(call.address || [])].filter(Boolean);
    where.append(element("p", "address", lines.length || parts.length ? lines.join("\n") : call.is_trial ? "" : words.no_location));
    put(where);
    if (call.address && (call.address.length || parts.length) && !call.location_sent && call.kind !== "test") {
      put(element("p", "warning", words.not_sent));
    }
    const facts = element("dl");
    fact(facts, words.who, who(call));
    if (!call.is_trial) fact(facts, words.callback, call.callback || words.no_callback);
    if (!call.is_trial) fact(facts, words.state, state(call));
    fact(facts, words.when, `${when(call.started_at)} · ${age(call)}`);
    put(facts);
    if (call.callback_at) put(element("p", "warning", words.called_back));
    const picture = plan(call, "map");
    if (picture) put(picture);
    if (list.length > 1) {
      listOthers(others, list.slice(1));
      if (others.parentNode !== alertBox) alertBox.insertBefore(others, actions.parentNode === alertBox ? actions : null);
    }
    if (actions.parentNode !== alertBox) alertBox.append(actions);
    alertBox.hidden = false;
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
    if (parts.length) text.append(element("p", "finer", parts.join("   ")));
    text.append(element("p", "", [place(call), (call.address || []).join(", ")].filter(Boolean).join(" — ") || words.no_location));
    if (call.latitude !== null && call.latitude !== undefined) {
      const point = element("a", "small", `${call.latitude.toFixed(5)}, ${call.longitude.toFixed(5)}`);
      point.href = `geo:${call.latitude},${call.longitude}`;
      text.append(point);
    }
    text.append(element("p", "", `${words.callback}: ${call.callback || words.no_callback}`));
    text.append(element("p", "muted", `${state(call)} · ${when(call.started_at)}`));
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
    const text = `${title(call)}. ${who(call)}. ${[...finer(call), place(call)].filter(Boolean).join(", ") || words.no_location}. ${state(call)}.`;
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
    listOver(document.getElementById("live-over"), all.filter((call) => OVER.has(call.state)));
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
      spoken = "";
      document.getElementById("live-say").textContent = "";
      document.title = `${open.length ? `(${open.length}) ` : ""}edge911`;
      if (shownId) document.getElementById("content").focus();
      shownId = "";
    }
    ring(list.length > 0);
  }

  // In a storm the page is drawn a few times a second, not for each change.
  let due = 0;
  function showSoon() { if (!due) due = window.setTimeout(() => { due = 0; show(); }, calls.size > 50 ? 250 : 60); }

  window.addEventListener("keydown", (event) => {
    if (alertBox.hidden) return;
    if (event.key === "Escape") document.getElementById("alert-close").click();
    if (event.key === "Tab") {
      const stops = [...alertBox.querySelectorAll("button, a"), ...(others.parentNode ? [others] : [])];
      const index = stops.indexOf(document.activeElement);
      event.preventDefault();
      stops[(index + (event.shiftKey ? stops.length - 1 : 1)) % stops.length].focus();
    }
  });

  // ---- the stream ----

  const stateTag = document.getElementById("live-state");
  function connection(text, kind) { stateTag.textContent = text; stateTag.className = `tag ${kind}`; }

  const MOST_CALLS = 500;
  function forgetOld() {
    for (const [id, call] of calls) {
      if (calls.size <= MOST_CALLS) return;
      if (OVER.has(call.state)) calls.delete(id);
    }
  }

  const source = new EventSource("/live/events");
  source.addEventListener("calls", (event) => {
    calls.clear();
    JSON.parse(event.data).forEach((call) => calls.set(call.id, call));
    connection(words.connected, "good");
    show();
  });
  source.addEventListener("call", (event) => {
    const call = JSON.parse(event.data);
    const known = calls.get(call.id);
    // A call that fails after all is worth a second alert.
    if (known && known.state !== "failed" && call.state === "failed") closed.delete(call.id);
    calls.set(call.id, call);
    forgetOld();
    showSoon();
  });
  source.addEventListener("ended", () => { source.close(); connection(words.signed_out, "bad"); window.location.assign("/login?next=/live"); });
  source.addEventListener("error", () => {
    connection(words.lost, "bad");
    if (source.readyState === EventSource.CLOSED) window.setTimeout(() => window.location.reload(), 3000 + Math.random() * 7000);
  });
  window.setInterval(() => { if (!alertBox.hidden || calls.size) show(); }, 20000);
  showSound();
})();
