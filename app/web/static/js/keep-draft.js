// A form with `data-keep` is stored in this tab's session storage while it is filled in, so that a reload, another page
// or a new sign-in does not lose it. The server redraws the storyboard from the stored draft; an order deletes the draft.

// Fields of the page, as opposed to what somebody typed.
const PAGE_FIELDS = ["csrf", "nonce", "max_price", "action"];

const form = document.querySelector("form[data-keep]");
const key = `draft of ${form?.dataset.keep}`;
let restoring = false;

function keep() {
  if (restoring) return;
  const fields = [...new FormData(form)].filter(([name, value]) => typeof value === "string" && !PAGE_FIELDS.includes(name));
  sessionStorage.setItem(key, JSON.stringify({ search: location.search, fields }));
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

// A stored option that the page no longer has leaves the default selected.
function choose(field, value) {
  if (!field) return;
  if (field.type === "checkbox") {
    field.checked = value === field.value;
    return;
  }
  const before = field.value;
  field.value = value;
  if (field.value !== value) field.value = before;
  if (value && field.closest) field.closest("details")?.setAttribute("open", "");
}

if (form) {
  const draft = JSON.parse(sessionStorage.getItem(key) ?? "null");
  // A draft is restored at the URL where it was typed, and at the plain studio URL. The URL for reusing a film starts
  // with that film, and the one after an order starts empty.
  const isHere = draft && "fresh" in form.dataset && (draft.search === location.search || !location.search);
  if (isHere) document.addEventListener("DOMContentLoaded", () => restore(draft.fields));
  else if ("ordered" in form.dataset) sessionStorage.removeItem(key);
  for (const kind of ["input", "change", "shots"]) form.addEventListener(kind, keep);
}
