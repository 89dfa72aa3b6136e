// A form with `data-keep` is kept in this tab while it is filled in: a reload, another page or a new sign-in does not
// lose it. The server draws the storyboard again from what was kept; what is ordered is kept no longer.

// What belongs to the page that was sent, and not to what somebody typed.
const PASSING = ["csrf", "nonce", "max_price", "action"];

const form = document.querySelector("form[data-keep]");
const place = `draft of ${form?.dataset.keep}`;
let restoring = false;

function keep() {
  if (restoring) return;
  const fields = [...new FormData(form)].filter(([name, value]) => typeof value === "string" && !PASSING.includes(name));
  sessionStorage.setItem(place, JSON.stringify({ search: location.search, fields }));
}

async function restore(fields) {
  restoring = true;
  const values = { action: "redraw" };
  for (const [name, value] of fields) {
    if (name.startsWith("shot_")) (values[name] ??= []).push(value);
    else choose(form.elements[name], value);
  }
  try {
    await window.htmx.ajax("POST", "/studio/draft", { source: form, target: "#board", swap: "innerHTML", values });
  } finally {
    restoring = false;
  }
}

// A choice that the page no longer has leaves the one that it starts with.
function choose(field, value) {
  if (!field) return;
  const before = field.value;
  field.value = value;
  if (field.value !== value) field.value = before;
  if (value && field.closest) field.closest("details")?.setAttribute("open", "");
}

if (form) {
  const kept = JSON.parse(sessionStorage.getItem(place) ?? "null");
  // Typed at this very address, it goes on here. The studio's own address goes on with whatever was typed last; the
  // address of another film begins with that film, and the one after an order begins anew.
  const isHere = kept && "fresh" in form.dataset && (kept.search === location.search || !location.search);
  if (isHere) document.addEventListener("DOMContentLoaded", () => restore(kept.fields));
  else if ("ordered" in form.dataset) sessionStorage.removeItem(place);
  for (const kind of ["input", "change", "shots"]) form.addEventListener(kind, keep);
}
