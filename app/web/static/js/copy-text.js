// <copy-text for="id">: a button that copies the text of another element. Without scripts the text can be selected.

import { say } from "./texts.js";

class CopyText extends HTMLElement {
  connectedCallback() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.textContent = say("Copy");
    button.addEventListener("click", async () => {
      const source = document.getElementById(this.getAttribute("for"));
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = say("Copied");
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = say("Selected");
      }
      setTimeout(() => (button.textContent = say("Copy")), 2000);
    });
    this.replaceChildren(button);
  }
}

customElements.define("copy-text", CopyText);
