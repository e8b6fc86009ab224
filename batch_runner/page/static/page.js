"use strict";

// A sheet that is dropped anywhere on the form is the file of that form.
for (const form of document.querySelectorAll("form.drop")) {
  const field = form.querySelector("input[type=file]");
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files.length) { field.files = event.dataTransfer.files; form.submit(); }
  });
  field.addEventListener("change", () => { if (field.files.length) form.submit(); });
}

// Another task has other params: the screen is made anew as soon as one is chosen.
document.getElementById("task")?.addEventListener("change", (event) => event.target.form.submit());

// A plan is that of what was chosen when it was made. Once something else is chosen, nothing can be started from it.
document.getElementById("choose")?.addEventListener("input", (event) => {
  if (event.target.id === "task") return;
  document.getElementById("live").classList.add("stale");
  document.getElementById("changed").hidden = false;
});

// A part of the screen is fetched again: while a batch runs, when something of it has changed; while a large sheet is
// read, each second until that is done.
const live = document.getElementById("live");
const swap = (text) => {
  const focused = live.contains(document.activeElement) ? document.activeElement : null;
  const path = focused && [...live.querySelectorAll("a, button, [tabindex]")].indexOf(focused);
  const scrolled = [...live.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  live.innerHTML = text;
  live.querySelectorAll(".wide").forEach((each, place) => { each.scrollLeft = scrolled[place] ?? 0; });
  if (focused) live.querySelectorAll("a, button, [tabindex]")[path]?.focus({ preventScroll: true });
};
const isThere = (is) => { document.getElementById("gone").hidden = is; };
const part = async () => {
  try {
    const answer = await fetch(live.dataset.part, { credentials: "same-origin" });
    isThere(true);
    return answer.ok ? await answer.text() : "";
  } catch {
    isThere(false);
    return "";
  }
};
const waitForMore = async () => {
  const mark = live.querySelector("[data-again]")?.dataset.again;
  if (!mark) return;
  await new Promise((done) => { setTimeout(done, 1000); });
  const text = await part();
  if (text && mark === "reload" && !text.includes('data-again="reload"')) { location.reload(); return; }
  if (text && !live.dataset.events) swap(text);
  waitForMore();
};
if (live) waitForMore();
if (live?.dataset.events) {
  let isBusy = false, again = false;
  const refresh = async () => {
    if (isBusy) { again = true; return; }
    isBusy = true;
    const text = await part();
    if (text) swap(text);
    isBusy = false;
    if (again) { again = false; refresh(); }
  };
  const source = new EventSource(live.dataset.events);
  source.onopen = () => isThere(true);
  source.onerror = () => isThere(false);
  source.onmessage = (event) => {
    if (JSON.parse(event.data).running) { refresh(); } else { source.close(); location.reload(); }
  };
}
