// <shot-progress source="…">: the shots of a film that is being made. It is read again when the film moves on, at most
// once a second. A finished shot plays, and only tiles whose state has changed are replaced, so that it plays on.

const EVERY_MS = 1000;

class ShotProgress extends HTMLElement {
  connectedCallback() {
    this.listener = () => this.readSoon();
    document.addEventListener("film-moved", this.listener);
    this.begin(this);
  }

  disconnectedCallback() {
    document.removeEventListener("film-moved", this.listener);
    clearTimeout(this.timer);
  }

  readSoon() {
    this.timer ??= setTimeout(async () => {
      const response = await fetch(this.getAttribute("source")).catch(() => null);
      if (response?.ok) this.redraw(await response.text());
      this.timer = null;
    }, EVERY_MS);
  }

  redraw(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    for (const fresh of template.content.querySelectorAll(".shot-tile")) {
      const tile = this.querySelector(`[data-shot="${fresh.dataset.shot}"]`);
      if (!tile) continue;
      if (tile.dataset.state === "done" && fresh.dataset.state === "done") continue;
      tile.replaceWith(fresh);
      this.begin(fresh);
    }
  }

  // A shot of several segments plays them in turn.
  begin(root) {
    for (const video of root.querySelectorAll("video[data-clips]")) {
      const count = Number(video.dataset.clips);
      if (count < 2) continue;
      const base = video.getAttribute("src").replace(/0$/, "");
      let position = 0;
      video.loop = false;
      video.addEventListener("ended", () => {
        position = (position + 1) % count;
        video.src = base + position;
        video.play().catch(() => {});
      });
    }
  }
}

customElements.define("shot-progress", ShotProgress);
