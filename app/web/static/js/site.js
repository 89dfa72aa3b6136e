// What every page has: the custom elements, each in a module of its own. Pages work without any of them.
import "./shot-board.js";
import "./frame-drop.js";
import "./live-reel.js";
import "./film-player.js";
import "./copy-text.js";
import "./confirm-first.js";

// A menu closes when one clicks elsewhere or presses Escape.
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

// On a narrow screen the list of pages is moved sideways; it begins where one is.
const rail = document.querySelector(".rail");
const here = rail?.querySelector("[aria-current]");
if (here) rail.scrollLeft = here.offsetLeft - (rail.clientWidth - here.offsetWidth) / 2;

// A file that misses its place would be opened instead of the page, and what was typed would be gone.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (event.dataTransfer?.types.includes("Files") && !event.target.closest?.("frame-drop")) event.preventDefault();
  });
}
