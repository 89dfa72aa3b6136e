// What every page has: the custom elements, each in a module of its own. Pages work without any of them.
import "./shot-board.js";
import "./frame-drop.js";
import "./live-reel.js";
import "./film-player.js";
import "./copy-text.js";

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
