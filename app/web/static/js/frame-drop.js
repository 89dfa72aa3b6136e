// <frame-drop>: a picture for a shot. With scripts it is sent as soon as it is dropped or chosen, and the form carries
// the asset's id; without them the file goes with the form.

class FrameDrop extends HTMLElement {
  connectedCallback() {
    this.file = this.querySelector("input[type=file]");
    this.id_ = this.querySelector("input[type=hidden]");
    this.word = this.querySelector(".frame-word");
    this.plain = this.word.textContent.replace(/ chosen$/, "");
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
    // Only the newest picture counts: an earlier one may still be on its way.
    const mine = (this.sending = Symbol("picture"));
    this.setAttribute("state", "busy");
    this.word.textContent = "Sending…";
    // An order must not leave without its picture, so the form is not valid until the picture is here.
    this.file.setCustomValidity("The picture is still being sent.");
    const body = new FormData();
    body.append("file", file);
    body.append("csrf", this.closest("form").elements.csrf.value);
    try {
      const answer = await fetch("/studio/pictures", { method: "POST", body, headers: { Accept: "application/json" } });
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.detail);
      if (mine !== this.sending) return;
      this.id_.value = told.id;
      this.show(URL.createObjectURL(file));
      this.tell();
    } catch (error) {
      if (mine === this.sending) this.clear(error.message || "This picture could not be sent.");
    }
  }

  show(address) {
    const picture = new Image();
    picture.alt = "";
    picture.src = address;
    this.querySelector(".ghost, img").replaceWith(picture);
    this.word.textContent = this.plain;
    this.file.setCustomValidity("");
    this.setAttribute("state", "full");
    if (this.querySelector(".clear")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button plain small square clear";
    button.ariaLabel = `Remove: ${this.plain}`;
    button.textContent = "×";
    button.addEventListener("click", () => {
      this.clear();
      this.tell();
      this.file.focus();
    });
    this.append(button);
  }

  clear(words) {
    this.id_.value = "";
    this.file.value = "";
    this.file.setCustomValidity("");
    const ghost = document.createElement("span");
    ghost.className = "ghost";
    this.querySelector(".ghost, img").replaceWith(ghost);
    this.querySelector(".clear")?.remove();
    this.word.textContent = words || this.plain;
    this.setAttribute("state", "empty");
  }

  tell() {
    this.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

customElements.define("frame-drop", FrameDrop);
