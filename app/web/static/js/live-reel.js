// <live-reel source="…">: updates the unfinished films among its children. One stream of server-sent events serves all
// of them, because a browser opens only six connections per host. Where streams are blocked, it polls.

import { say } from "./texts.js";

const POLL_MS = 3000;
const FAILURES_MAX = 3;

// As `span` of film_card.py says it: `20–40 s`, `3–5 min`.
function span(low, high) {
  if (high < 90) return `${low === high ? low : `${low}–${high}`} ${say("s")}`;
  const [least, most] = [low, high].map((seconds) => Math.max(1, Math.round(seconds / 60)));
  return `${least === most ? least : `${least}–${most}`} ${say("min")}`;
}

// An estimate counts down until the server sends a new one.
setInterval(() => {
  for (const outlook of document.querySelectorAll(".outlook[data-low]")) {
    outlook.since ??= Date.now();
    const elapsed = Math.round((Date.now() - outlook.since) / 1000);
    const left = [outlook.dataset.low, outlook.dataset.high].map((seconds) => Math.max(1, seconds - elapsed));
    outlook.textContent = outlook.textContent.replace(/\d+(–\d+)? \S+$/, span(...left));
  }
}, 1000);

class LiveReel extends HTMLElement {
  connectedCallback() {
    this.failures = 0;
    this.open();
  }

  disconnectedCallback() {
    this.close();
  }

  get ids() {
    return [...this.querySelectorAll("[data-live]")].map((film) => film.id);
  }

  get query() {
    return this.ids.map((id) => `id=${encodeURIComponent(id)}`).join("&");
  }

  open() {
    this.close();
    if (!this.ids.length) return;
    this.stream = new EventSource(`${this.getAttribute("source")}?${this.query}`);
    this.stream.addEventListener("progress", (event) => this.move(JSON.parse(event.data)));
    this.stream.addEventListener("card", (event) => this.redraw(JSON.parse(event.data)));
    this.stream.addEventListener("done", () => this.close());
    this.stream.addEventListener("open", () => (this.failures = 0));
    this.stream.addEventListener("error", () => {
      this.failures += 1;
      if (this.failures >= FAILURES_MAX || this.stream.readyState === EventSource.CLOSED) this.poll();
    });
  }

  close() {
    this.stream?.close();
    this.stream = null;
    clearTimeout(this.timer);
  }

  poll() {
    this.close();
    this.timer = setTimeout(async () => {
      for (const id of this.ids) {
        const response = await fetch(`/films/${encodeURIComponent(id)}/card`).catch(() => null);
        if (response?.ok) this.redraw({ id, html: await response.text() });
      }
      if (this.isConnected && this.ids.length) this.poll();
    }, POLL_MS);
  }

  move({ id, progress, preview }) {
    const film = document.getElementById(id);
    if (!film) return;
    document.dispatchEvent(new CustomEvent("film-moved"));
    const bar = film.querySelector("progress");
    if (bar && progress != null && progress >= bar.value) {
      bar.value = progress;
      const percent = film.querySelector(".percent");
      if (percent) percent.textContent = `${progress} %`;
    }
    if (preview) this.preview(film, preview);
  }

  preview(film, source) {
    let picture = film.querySelector("img.live");
    if (!picture) {
      const placeholder = film.querySelector(".preview");
      if (!placeholder) return;
      picture = new Image();
      picture.className = "live";
      picture.alt = say("Preview of the rendering");
      placeholder.replaceWith(picture);
    }
    picture.src = source;
  }

  redraw({ id, html, ended }) {
    const film = document.getElementById(id);
    if (!film) return;
    if (!html.trim()) return film.remove();
    const template = document.createElement("template");
    template.innerHTML = html.trim();
    const fresh = template.content.firstElementChild;
    if (this.hasAttribute("reload")) {
      // The film's own page shows more than a card, so it is reloaded once the film has ended.
      if (ended || !html.includes("data-live")) return window.location.reload();
      document.dispatchEvent(new CustomEvent("film-moved"));
      for (const part of [".state", ".outlook"]) {
        const element = film.querySelector(part);
        const now = fresh.querySelector(part);
        if (!element) continue;
        element.textContent = now?.textContent ?? "";
        // The estimate counts down from the new one.
        delete element.since;
        for (const name of ["low", "high"]) {
          if (now?.dataset[name]) element.dataset[name] = now.dataset[name];
          else delete element.dataset[name];
        }
      }
      return;
    }
    const picture = film.querySelector("img.live");
    const placeholder = picture && fresh.querySelector(".preview");
    if (placeholder) placeholder.replaceWith(picture);
    const focused = film.contains(document.activeElement) && document.activeElement.tagName;
    film.replaceWith(fresh);
    if (focused) fresh.querySelector(focused.toLowerCase())?.focus();
    window.htmx?.process(fresh);
    if (!fresh.hasAttribute("data-live")) this.announce(fresh);
    if (!this.ids.length) this.close();
  }

  // Screen readers announce that a film has ended; announcing its progress would be too much.
  announce(film) {
    const title = film.querySelector(".film-title").textContent.trim();
    document.getElementById("announcement").textContent = `${title}: ${film.querySelector(".state").textContent}`;
  }
}

customElements.define("live-reel", LiveReel);
