// <film-player>: a strip of thumbnails under the film. Hovering enlarges one, a click seeks to it; the video element's
// own controls stay, so keyboards and screen readers lose nothing.

import { say } from "./texts.js";

// Storage that is blocked or full throws; the player works without it.
function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It is forgotten when the page is left.
  }
}

class FilmPlayer extends HTMLElement {
  connectedCallback() {
    this.video = this.querySelector("video");
    this.offerLoop();
    if (!this.hasAttribute("sprites")) return;
    this.geometry = JSON.parse(this.getAttribute("geometry"));
    this.fps = Number(this.getAttribute("fps"));
    this.sheet = new Image();
    this.sheet.addEventListener("load", () => this.draw(), { once: true });
    this.sheet.src = this.getAttribute("sprites");
  }

  // Whether films loop is remembered in this browser.
  offerLoop() {
    const label = document.createElement("label");
    label.className = "check loop";
    label.innerHTML = '<input type="checkbox">';
    label.append(` ${say("Loop")}`);
    const box = label.firstElementChild;
    box.checked = remembered("loop films") === "yes";
    this.video.loop = box.checked;
    box.addEventListener("change", () => {
      this.video.loop = box.checked;
      remember("loop films", box.checked ? "yes" : "no");
    });
    this.append(label);
  }

  draw() {
    this.wrap = document.createElement("div");
    this.wrap.className = "strip-wrap";
    this.wrap.innerHTML = '<button class="strip" type="button" tabindex="-1" aria-hidden="true"><canvas></canvas><span class="needle"></span></button><span class="peek" hidden></span>';
    // Under the film and above its wave.
    this.querySelector(".screen").after(this.wrap);
    const strip = this.wrap.querySelector(".strip");
    this.needle = this.wrap.querySelector(".needle");
    this.peek = this.wrap.querySelector(".peek");
    this.paint(strip);
    new ResizeObserver(() => this.paint(strip)).observe(strip);
    strip.addEventListener("pointermove", (event) => this.show(event, strip));
    strip.addEventListener("pointerleave", () => (this.peek.hidden = true));
    strip.addEventListener("click", (event) => (this.video.currentTime = this.position(event, strip) * this.video.duration));
    this.video.addEventListener("timeupdate", () => {
      this.needle.style.insetInlineStart = `${(100 * this.video.currentTime) / (this.video.duration || 1)}%`;
    });
  }

  paint(strip) {
    const canvas = strip.querySelector("canvas");
    const { tile_width: width, tile_height: height, columns } = this.geometry;
    const scale = devicePixelRatio || 1;
    canvas.width = strip.clientWidth * scale;
    canvas.height = strip.clientHeight * scale;
    const context = canvas.getContext("2d");
    const count = Math.max(1, Math.round(canvas.width / ((canvas.height * width) / height)));
    for (let index = 0; index < count; index += 1) {
      const tile = this.tile((index + 0.5) / count);
      const x = Math.round((index * canvas.width) / count);
      const tileWidth = Math.ceil(canvas.width / count);
      context.drawImage(this.sheet, (tile % columns) * width, Math.floor(tile / columns) * height, width, height, x, 0, tileWidth, canvas.height);
    }
  }

  // The last tile whose frame is at or before this fraction of the film.
  tile(part) {
    const frames = this.geometry.tile_frames;
    const frame = part * (this.video.duration || frames.at(-1) / this.fps) * this.fps;
    return Math.max(0, frames.findLastIndex((each) => each <= frame));
  }

  position(event, strip) {
    const box = strip.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }

  show(event, strip) {
    const part = this.position(event, strip);
    const { tile_width: width, tile_height: height, columns } = this.geometry;
    const tile = this.tile(part);
    Object.assign(this.peek.style, {
      width: `${width / 2}px`,
      height: `${height / 2}px`,
      backgroundImage: `url("${this.sheet.src}")`,
      backgroundSize: `${(width * columns) / 2}px auto`,
      backgroundPosition: `-${((tile % columns) * width) / 2}px -${(Math.floor(tile / columns) * height) / 2}px`,
      left: `${100 * part}%`,
    });
    this.peek.hidden = false;
  }
}

customElements.define("film-player", FilmPlayer);
