// <shot-board>: the storyboard. The server renders and changes it; this adds drag and drop of shots, a timeline whose
// blocks are proportional to their shots, and focus management after a change.

import { say } from "./texts.js";

class ShotBoard extends HTMLElement {
  connectedCallback() {
    this.measure();
    this.addEventListener("input", () => this.measure());
    this.addEventListener("pointerdown", (event) => this.allowDrag(event));
    this.addEventListener("dragstart", (event) => this.lift(event));
    this.addEventListener("dragover", (event) => this.hover(event));
    this.addEventListener("drop", (event) => this.drop(event));
    this.addEventListener("dragend", () => this.settle());
    this.addEventListener("htmx:beforeRequest", (event) => (this.isWaiting() ? event.preventDefault() : this.remember(event)));
    // After htmx, which restores the focus to the button that was pressed.
    requestAnimationFrame(() => this.focusAgain());
  }

  get shots() {
    return [...this.querySelectorAll(".shot")];
  }

  // Redrawing the board would lose a picture that is still uploading, so it is blocked, with a message at the picture.
  isWaiting() {
    const busy = this.querySelector("frame-drop[state=busy] input[type=file]");
    busy?.reportValidity();
    return busy !== null;
  }

  measure() {
    const blocks = this.querySelectorAll(".timeline a");
    this.shots.forEach((shot, index) => {
      const seconds = shot.querySelector("[name=shot_seconds]").valueAsNumber || 1;
      const block = blocks[index];
      if (!block) return;
      block.style.flexGrow = seconds;
      block.textContent = `${seconds} ${say("s")}`;
      block.title = `${say("Shot")} ${index + 1}, ${seconds} ${say("s")}`;
    });
  }

  // Text stays selectable: a shot is draggable only by its number.
  allowDrag(event) {
    const shot = event.target.closest(".shot");
    if (shot) shot.draggable = event.target.closest(".shot-number") !== null;
  }

  lift(event) {
    this.lifted = event.target.closest(".shot");
    if (!this.lifted) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", "");
    this.lifted.classList.add("lifted");
  }

  hover(event) {
    if (!this.lifted) return;
    event.preventDefault();
    const over = event.target.closest(".shot");
    for (const shot of this.shots) shot.classList.toggle("target", shot === over && over !== this.lifted);
  }

  drop(event) {
    const over = event.target.closest(".shot");
    if (!this.lifted || !over || over === this.lifted) return;
    event.preventDefault();
    if (this.isWaiting()) return;
    const later = this.shots.indexOf(over) > this.shots.indexOf(this.lifted);
    over[later ? "after" : "before"](this.lifted);
    // The server renders the board in its new order, with the right numbers, labels and buttons.
    window.htmx.ajax("POST", "/studio/draft", { source: this, target: "#board", values: { action: "redraw" } });
  }

  settle() {
    for (const shot of this.shots) shot.classList.remove("target", "lifted");
    this.lifted = null;
  }

  // The element to focus after the server has rendered the board again.
  remember(event) {
    const action = event.detail.requestConfig.parameters.get?.("action") ?? event.detail.requestConfig.parameters.action;
    const [verb, row] = String(action ?? "").split(":");
    const at = Number(row);
    const next = { add: `shot-${this.shots.length + 1}-prompt`, up: `up-${at}`, down: `down-${at + 2}`, remove: "restore-shot", restore: "add-shot" };
    ShotBoard.focus = next[verb];
  }

  focusAgain() {
    // The price meter listens to this: the request may have changed although no field did. The first board of a page
    // comes with its price.
    if (ShotBoard.wasDrawn) this.dispatchEvent(new CustomEvent("shots", { bubbles: true }));
    ShotBoard.wasDrawn = true;
    const wanted = ShotBoard.focus && document.getElementById(ShotBoard.focus);
    ShotBoard.focus = undefined;
    if (!wanted) return;
    const other = wanted.disabled && wanted.parentElement.querySelector("button:not([disabled])");
    (other || wanted).focus();
  }
}

customElements.define("shot-board", ShotBoard);
