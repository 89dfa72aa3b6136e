// <frame-drop>: a start or end frame of a shot. With scripts the picture is uploaded as soon as it is dropped or chosen,
// and the form submits the asset's id; without scripts the file is submitted with the form.

import { say } from "./texts.js";

class FrameDrop extends HTMLElement {
  connectedCallback() {
    this.file = this.querySelector("input[type=file]");
    this.id_ = this.querySelector("input[type=hidden]");
    this.label = this.querySelector(".frame-label");
    this.plain = this.label.dataset.plain;
    this.file.removeAttribute("name");
    this.file.addEventListener("change", () => this.send(this.file.files[0]));
    this.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      this.classList.add("over");
    });
    this.addEventListener("dragleave", () => this.classList.remove("over"));
    this.addEventListener("drop", (event) => {
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      this.classList.remove("over");
      this.send(event.dataTransfer.files[0]);
    });
    if (this.id_.value) this.show(`/studio/pictures/${encodeURIComponent(this.id_.value)}`);
  }

  async send(file) {
    if (!file) return;
    // Only the newest upload counts: an earlier one may still be in progress.
    const upload = (this.upload = Symbol("upload"));
    this.setAttribute("state", "busy");
    this.label.textContent = say("Uploading…");
    // The form must not be submitted without its picture, so it is invalid until the upload has ended.
    this.file.setCustomValidity(say("The picture is still uploading."));
    const body = new FormData();
    body.append("file", file);
    body.append("csrf", this.closest("form").elements.csrf.value);
    try {
      const response = await fetch("/studio/pictures", { method: "POST", body, headers: { Accept: "application/json" } });
      const result = await response.json();
      if (!response.ok) throw new Error(result.detail);
      if (upload !== this.upload) return;
      this.id_.value = result.id;
      this.show(URL.createObjectURL(file));
      this.notifyForm();
    } catch (error) {
      if (upload === this.upload) this.clear(error.message || say("The upload failed."));
    }
  }

  show(url) {
    const picture = new Image();
    picture.alt = "";
    picture.src = url;
    this.querySelector(".ghost, img").replaceWith(picture);
    this.label.textContent = this.plain;
    this.file.setCustomValidity("");
    this.setAttribute("state", "full");
    if (this.querySelector(".clear")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button plain small square clear";
    button.ariaLabel = `${say("Remove")}: ${this.plain}`;
    button.textContent = "×";
    button.addEventListener("click", () => {
      this.clear();
      this.notifyForm();
      this.file.focus();
    });
    this.append(button);
  }

  clear(message) {
    this.id_.value = "";
    this.file.value = "";
    this.file.setCustomValidity("");
    const ghost = document.createElement("span");
    ghost.className = "ghost";
    this.querySelector(".ghost, img").replaceWith(ghost);
    this.querySelector(".clear")?.remove();
    this.label.textContent = message || this.plain;
    this.setAttribute("state", "empty");
  }

  notifyForm() {
    this.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

customElements.define("frame-drop", FrameDrop);
