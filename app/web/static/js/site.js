// Scripts of every page: the custom elements, each in a module of its own. Pages work without any of them. What a single
// page needs, it loads itself.
import "./texts.js";
import "./frame-drop.js";
import "./live-reel.js";
import "./film-hover.js";
import "./copy-text.js";
import "./confirm-first.js";

// A menu closes on a click elsewhere and on Escape.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// On a narrow screen the section navigation scrolls sideways; it starts at the current page.
const rail = document.querySelector(".rail");
const here = rail?.querySelector("[aria-current]");
if (here) rail.scrollLeft = here.offsetLeft - (rail.clientWidth - here.offsetWidth) / 2;

// The browser would open a file that is dropped elsewhere on the page, and what was typed would be lost.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (event.dataTransfer?.types.includes("Files") && !event.target.closest?.("frame-drop")) event.preventDefault();
  });
}

// The field that a refusal names is marked and focused. The studio's form is marked by the server.
const refusal = document.querySelector(".notice[data-field]");
if (refusal && !document.querySelector("[aria-invalid=true]")) {
  const fields = [...document.getElementsByName(refusal.dataset.field)].filter((field) => field.type !== "hidden");
  const wrong = fields.find((field) => field.value === refusal.dataset.value) ?? fields[0];
  wrong?.setAttribute("aria-invalid", "true");
  wrong?.focus();
}
