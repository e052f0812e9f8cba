// Everything works without this; it shows times as they are here, asks before what cannot be undone, shows
// that a file is under way, and opens the menu.
"use strict";

for (const shown of document.querySelectorAll("time[datetime]")) {
  const at = new Date(shown.dateTime);
  if (!Number.isNaN(at.getTime())) {
    shown.title = shown.textContent;
    shown.textContent = at.toLocaleString(document.documentElement.lang, {
      year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    });
  }
}

for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!window.confirm(form.dataset.confirm)) event.preventDefault();
  });
}

for (const form of document.querySelectorAll("form[data-busy]")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector("button");
    button.disabled = true;
    button.textContent = form.dataset.busy;
  });
}

for (const chosen of document.querySelectorAll("select[data-submit]")) {
  chosen.addEventListener("change", () => chosen.form.requestSubmit());
}

const menu = document.querySelector(".menu details");
if (menu) menu.open = window.matchMedia("(min-width: 861px)").matches;
